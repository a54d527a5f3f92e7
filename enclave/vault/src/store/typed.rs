//! Masters, hosts and documents: the records by their types.

use blindferry_handle::secret::{RestingSecret, SecretBytes};
use blindferry_proto::bounded::{Bytes, Text, decode, encode};
use blindferry_proto::credential::CredentialSettings;
use blindferry_proto::front::Table;
use blindferry_proto::limits::{MAX_DOCUMENT, MAX_MASTER, MAX_PAGE, MAX_STORED};
use blindferry_proto::name::{CredentialName, HostName};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::time::Instant;

use super::manifest::Place;
use super::{Backing, Records, StoreError, Stored, Tampering};
use crate::host::HostRecord;
use crate::sealed::SealError;
use crate::sealed::record::OVERHEAD;

/// Bytes of a record in the clear.
const MAX_RECORD: usize = MAX_STORED - OVERHEAD;

/// What to do when there is one of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfPresent {
    /// Leave it and say so.
    Refuse,
    /// Put the new one in its place.
    Replace,
}

/// What a removal found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It was there and is gone.
    Gone,
    /// There was none.
    WasNotThere,
}

/// A credential's record as it was read once, its master still encrypted: what is judged by its settings is minted from
/// its master, whatever is stored in its place meanwhile.
#[derive(Debug)]
pub struct Credential {
    name: CredentialName,
    version: u64,
    record: StoredMaster,
}

impl Credential {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &CredentialName {
        &self.name
    }

    /// How tokens come from it.
    #[must_use]
    pub fn settings(&self) -> &CredentialSettings {
        &self.record.settings
    }

    /// The version of its record: another one means that it was replaced.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Bytes of the encrypted master.
    pub(super) fn sealed_len(&self) -> usize {
        self.record.sealed.as_slice().len()
    }
}

/// A master, opened, with its settings.
#[derive(Debug)]
pub struct Master {
    /// How tokens come from it.
    pub settings: CredentialSettings,
    /// The master itself, which nobody can read but while it is used.
    pub secret: RestingSecret,
    /// The version of its record: another one means that it was replaced.
    pub version: u64,
}

/// A document by what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// The Cedar policy.
    Policy,
    /// The reference values for worker hosts.
    BrokerReference,
    /// The reference values for operators' machines.
    OperatorReference,
    /// The certificates of the CAs whose EK certificates are accepted.
    EndorsementRoots,
    /// The reference values for the vault's next guest.
    SuccessorReference,
    /// The public keys of JWT signers that were replaced.
    ReplacedKeys,
}

/// A document and its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredDocument {
    /// The first one has version 1, each later one the next.
    pub version: u64,
    /// Its text.
    pub text: Text<MAX_DOCUMENT>,
}

/// A master beside its settings. The settings are read by what lists credentials; the master is encrypted once more,
/// under another key.
#[derive(Debug, Serialize, Deserialize)]
struct StoredMaster {
    settings: CredentialSettings,
    sealed: Bytes<{ MAX_MASTER + OVERHEAD }>,
}

impl<B: Backing> Records<B> {
    /// Stores a master.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when there is one and it was not to be replaced; [`StoreError::RecordTooLong`].
    pub async fn put_master(
        &self,
        name: &CredentialName,
        settings: CredentialSettings,
        master: &SecretBytes,
        present: IfPresent,
    ) -> Result<(), StoreError> {
        let place = master_place(name);
        let mut turn = self.turn().await?;
        if present == IfPresent::Refuse && turn.holds(&place) {
            return Err(StoreError::Exists { key: place.name() });
        }
        turn.write(&place, |version| {
            let sealed = self.keys().masters.seal_secret(&self.random, place.table, &place.key, version, master);
            let sealed = Bytes::new(sealed.map_err(StoreError::Seal)?).map_err(StoreError::RecordTooLong)?;
            plain(&StoredMaster { settings, sealed })
        })
        .await
    }

    /// A credential, its master not opened. One that was read a moment ago is not asked of the store again, unless it has
    /// been changed.
    ///
    /// # Errors
    /// [`StoreError::Tampered`].
    pub async fn credential(&self, name: &CredentialName) -> Result<Option<Arc<Credential>>, StoreError> {
        let place = master_place(name);
        let known = self.manifest().entry(&place);
        if let Some(held) = self.held.get(name, known, Instant::now()) {
            return Ok(Some(held));
        }
        let Some((version, record)) = self.read_as::<StoredMaster>(&place).await? else {
            return Ok(None);
        };
        let credential = Arc::new(Credential { name: name.clone(), version, record });
        if let Some(entry) = known.filter(|_| self.manifest().entry(&place) == known) {
            self.held.keep(entry, &credential, Instant::now());
        }
        Ok(Some(credential))
    }

    /// Opens the master of a record that was read, into secret pages. Asks the store for nothing.
    ///
    /// # Errors
    /// [`StoreError::Tampered`], [`StoreError::Seal`] when there is no room for a secret.
    pub fn open_master(&self, credential: &Credential) -> Result<Master, StoreError> {
        let Credential { name, version, record } = credential;
        let place = master_place(name);
        let sealed = record.sealed.as_slice();
        let (inner, secret) = self.keys().open_master(place.table, &place.key, sealed).map_err(StoreError::Seal)?;
        if inner != *version {
            return Err(place.tampered(Tampering::Changed));
        }
        let secret = RestingSecret::lay_down(secret).map_err(|source| StoreError::Seal(SealError::Secret(source)))?;
        Ok(Master { settings: record.settings.clone(), secret, version: *version })
    }

    /// A master as it is now, opened into secret pages.
    ///
    /// # Errors
    /// As [`Self::credential`] and [`Self::open_master`].
    pub async fn master(&self, name: &CredentialName) -> Result<Option<Master>, StoreError> {
        self.credential(name).await?.map(|credential| self.open_master(&credential)).transpose()
    }

    /// The version of a credential's record as it is now; `None` when there is none. Asks the store for nothing.
    #[must_use]
    pub fn version_of(&self, name: &CredentialName) -> Option<u64> {
        self.manifest().entry(&master_place(name)).map(|entry| entry.version)
    }

    /// Names and settings in order, those after `after`, at most [`MAX_PAGE`].
    ///
    /// # Errors
    /// [`StoreError::Tampered`].
    pub async fn masters(
        &self,
        after: Option<&CredentialName>,
    ) -> Result<Vec<(CredentialName, CredentialSettings)>, StoreError> {
        let places = self.manifest().page(Table::Masters, after.map(CredentialName::as_str), MAX_PAGE);
        let mut page = Vec::with_capacity(places.len());
        for place in places {
            if let (Some((_, record)), Ok(name)) = (self.read_as::<StoredMaster>(&place).await?, place.name().parse()) {
                page.push((name, record.settings));
            }
        }
        Ok(page)
    }

    /// Removes a master.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`], [`StoreError::Refused`].
    pub async fn remove_master(&self, name: &CredentialName) -> Result<Removed, StoreError> {
        self.remove(&master_place(name)).await
    }

    /// Remembers a host, in place of what was known of it.
    ///
    /// # Errors
    /// [`StoreError::Full`] and those of the store.
    pub async fn put_host(&self, name: &HostName, host: &HostRecord) -> Result<(), StoreError> {
        let record = plain(host)?;
        self.turn().await?.write(&host_place(name), |_| Ok(record)).await
    }

    /// A host.
    ///
    /// # Errors
    /// [`StoreError::Tampered`].
    pub async fn host(&self, name: &HostName) -> Result<Option<HostRecord>, StoreError> {
        Ok(self.read_as(&host_place(name)).await?.map(|(_, host)| host))
    }

    /// Hosts in order, those after `after`, at most [`MAX_PAGE`].
    ///
    /// # Errors
    /// [`StoreError::Tampered`].
    pub async fn hosts(&self, after: Option<&HostName>) -> Result<Vec<(HostName, HostRecord)>, StoreError> {
        let places = self.manifest().page(Table::Hosts, after.map(HostName::as_str), MAX_PAGE);
        let mut page = Vec::with_capacity(places.len());
        for place in places {
            if let (Some((_, host)), Ok(name)) = (self.read_as(&place).await?, place.name().parse()) {
                page.push((name, host));
            }
        }
        Ok(page)
    }

    /// Forgets a host.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`], [`StoreError::Refused`].
    pub async fn remove_host(&self, name: &HostName) -> Result<Removed, StoreError> {
        self.remove(&host_place(name)).await
    }

    /// A document, if there was ever one.
    ///
    /// # Errors
    /// [`StoreError::Tampered`].
    pub async fn document(&self, document: Document) -> Result<Option<StoredDocument>, StoreError> {
        Ok(self.read_as(&document.place()).await?.map(|(_, stored)| stored))
    }

    /// Replaces a document; returns the version that it now has.
    ///
    /// # Errors
    /// [`StoreError::Tampered`] when the one before is not what was stored.
    pub async fn put_document(&self, document: Document, text: Text<MAX_DOCUMENT>) -> Result<u64, StoreError> {
        let place = document.place();
        let mut turn = self.turn().await?;
        let before = turn.read(&place).await?.map(|stored| parse::<StoredDocument>(&stored)).transpose()?;
        let version = before.map_or(0, |before| before.version).saturating_add(1);
        let record = plain(&StoredDocument { version, text })?;
        turn.write(&place, |_| Ok(record)).await?;
        Ok(version)
    }

    async fn remove(&self, place: &Place) -> Result<Removed, StoreError> {
        let mut turn = self.turn().await?;
        if !turn.holds(place) {
            return Ok(Removed::WasNotThere);
        }
        turn.remove(place).await?;
        Ok(Removed::Gone)
    }

    async fn read_as<T: DeserializeOwned>(&self, place: &Place) -> Result<Option<(u64, T)>, StoreError> {
        let found = self.read(place).await?;
        found.map(|stored| Ok((stored.version, parse(&stored)?))).transpose()
    }
}

impl Document {
    /// What it is called, in the store and in the audit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::BrokerReference => "broker-reference",
            Self::OperatorReference => "operator-reference",
            Self::EndorsementRoots => "endorsement-roots",
            Self::SuccessorReference => "successor-reference",
            Self::ReplacedKeys => "replaced-keys",
        }
    }

    fn place(self) -> Place {
        Place::new(Table::Documents, self.name())
    }
}

/// The record of a master, in which the encrypted master was replaced.
pub(super) fn with_master(
    stored: &Stored,
    renew: impl FnOnce(&[u8]) -> Result<Bytes<{ MAX_MASTER + OVERHEAD }>, StoreError>,
) -> Result<Vec<u8>, StoreError> {
    let StoredMaster { settings, sealed } = parse(stored)?;
    plain(&StoredMaster { settings, sealed: renew(sealed.as_slice())? })
}

fn master_place(name: &CredentialName) -> Place {
    Place::new(Table::Masters, name.as_str())
}

fn host_place(name: &HostName) -> Place {
    Place::new(Table::Hosts, name.as_str())
}

fn plain<T: Serialize>(record: &T) -> Result<Vec<u8>, StoreError> {
    encode(record, MAX_RECORD).map_err(StoreError::Codec)
}

fn parse<T: DeserializeOwned>(stored: &Stored) -> Result<T, StoreError> {
    decode(&stored.plaintext, MAX_RECORD).map_err(StoreError::Codec)
}
