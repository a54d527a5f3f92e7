//! Grants: opaque, single-use rights to one token, encrypted under keys that live and die with this running vault.
//!
//! ```text
//! byte 0   version, 1
//!      1   replica id, 8      which running vault issued it
//!      9   epoch, 4           which of its keys
//!     13   nonce, 12          random
//!     25   ciphertext, 608    number and body padded to one length for all, and their tag
//! ```
//!
//! The first 13 bytes are associated data. ChaCha20-Poly1305 (RFC 8439). A key encrypts for an hour at most, so random
//! nonces stay far from their bound. To whoever carries it a grant is noise: not even the credential's name shows.

use crate::policy::Approver;
use blindferry_proto::identifier::{GrantId, ReplicaId};
use blindferry_proto::name::{Audience, CredentialName, HostName};
use blindferry_proto::session::{ProcessFacts, WorkerConstraint};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A grant that nobody redeems is over after this many seconds; a vault can be told to issue shorter ones.
pub const GRANT_LIFE: u32 = 120;
/// A grant key encrypts for this many seconds, then the next one does.
pub const EPOCH_LIFE: u64 = 3600;
/// Length of every opaque grant, in bytes.
pub const GRANT_LEN: usize = HEADER + NONCE_LEN + PADDED + TAG;

/// What a grant says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantBody {
    /// Its identity.
    pub id: GrantId,
    /// Which credential it is for.
    pub credential: CredentialName,
    /// The one host that may bring it.
    pub host: HostName,
    /// Whom the token shall be for.
    pub audience: Option<Audience>,
    /// Who may redeem it.
    pub worker: WorkerConstraint,
    /// Who asked for it.
    pub parent: ProcessFacts,
    /// When it is over, in seconds since the epoch.
    pub expires: u64,
    /// Who approved it, where a person had to.
    pub approval: Option<Approver>,
}

/// The number of a grant among those of this running vault, from 0 without a gap: nobody outside sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Serial(pub(crate) u64);

/// A grant that this running vault issued, whose time is not over, brought by the host it was made for. Only
/// [`GrantKeys::open`] makes one; the ledger spends it.
#[derive(Debug)]
#[must_use = "an opened grant is there to be spent"]
pub struct OpenedGrant {
    serial: Serial,
    body: GrantBody,
}

impl OpenedGrant {
    /// What it says.
    #[must_use]
    pub fn body(&self) -> &GrantBody {
        &self.body
    }

    /// Its number.
    pub(crate) fn serial(&self) -> Serial {
        self.serial
    }

    /// Gives up the proof for what it says.
    #[must_use]
    pub fn into_body(self) -> GrantBody {
        self.body
    }
}

/// The keys of the current epoch and of the one before, in memory alone: a restart makes all grants worthless.
#[expect(missing_debug_implementations, reason = "holds keys")]
pub struct GrantKeys {
    replica: ReplicaId,
    current: Epoch,
    previous: Option<Epoch>,
    next: Serial,
}

struct Epoch {
    number: u32,
    since: u64,
    key: LessSafeKey,
}

impl GrantKeys {
    /// The first epoch's key of a vault that starts.
    ///
    /// # Errors
    /// [`GrantError::Random`].
    pub fn new(replica: ReplicaId, now: u64, random: &dyn SecureRandom) -> Result<Self, GrantError> {
        Ok(Self { replica, current: Epoch::new(0, now, random)?, previous: None, next: Serial(0) })
    }

    /// Encrypts a grant, under a new key where the old one's time is over.
    ///
    /// # Errors
    /// [`GrantError`] when there are no random bytes, or the body does not fit, which names' bounds rule out.
    pub fn seal(&mut self, body: &GrantBody, now: u64, random: &dyn SecureRandom) -> Result<Vec<u8>, GrantError> {
        if now.saturating_sub(self.current.since) >= EPOCH_LIFE {
            let next = Epoch::new(self.current.number.wrapping_add(1), now, random)?;
            self.previous = Some(std::mem::replace(&mut self.current, next));
        }
        let mut padded = postcard::to_stdvec(&(self.next, body)).map_err(|_| GrantError::TooLong)?;
        if padded.len() > PADDED {
            return Err(GrantError::TooLong);
        }
        padded.resize(PADDED, 0);
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce).map_err(|_| GrantError::Random)?;
        let header = header(self.replica, self.current.number);
        let sealed = self.current.key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(header),
            &mut padded,
        );
        sealed.map_err(|_| GrantError::TooLong)?;
        self.next = Serial(self.next.0 + 1);
        Ok([header.as_slice(), &nonce, &padded].concat())
    }

    /// Decrypts what claims to be a grant, and checks that it is for this host and that its time is not over.
    ///
    /// # Errors
    /// [`GrantError`] says which of these it is not.
    pub fn open(&self, bytes: &[u8], host: &HostName, now: u64) -> Result<OpenedGrant, GrantError> {
        if bytes.len() != GRANT_LEN {
            return Err(GrantError::NotOurs);
        }
        let (head, rest) = bytes.split_first_chunk::<HEADER>().ok_or(GrantError::NotOurs)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or(GrantError::NotOurs)?;
        let epoch = [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|epoch| header(self.replica, epoch.number) == *head)
            .ok_or(GrantError::NotOurs)?;
        let mut plain = ciphertext.to_vec();
        let plain = epoch
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(*head), &mut plain)
            .map_err(|_| GrantError::NotOurs)?;
        let said = postcard::take_from_bytes::<(Serial, GrantBody)>(plain).map_err(|_| GrantError::NotOurs)?;
        let ((serial, body), _padding) = said;
        if body.host != *host {
            return Err(GrantError::Astray { id: body.id });
        }
        if now >= body.expires {
            return Err(GrantError::Expired { id: body.id, credential: body.credential });
        }
        Ok(OpenedGrant { serial, body })
    }
}

impl Epoch {
    fn new(number: u32, since: u64, random: &dyn SecureRandom) -> Result<Self, GrantError> {
        let mut key = Zeroizing::new([0; 32]);
        random.fill(key.as_mut()).map_err(|_| GrantError::Random)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).map_err(|_| GrantError::Random)?;
        Ok(Self { number, since, key: LessSafeKey::new(key) })
    }
}

/// Why there is no grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Not issued by this running vault, or not a grant.
    #[error("not a grant of this running vault")]
    NotOurs,
    /// Made for another host.
    #[error("the grant was made for another host")]
    Astray {
        /// Which grant.
        id: GrantId,
    },
    /// Its time is over.
    #[error("the grant's time is over")]
    Expired {
        /// Which grant.
        id: GrantId,
        /// Of which credential.
        credential: CredentialName,
    },
    /// Its names are too long together.
    #[error("the grant does not fit its length")]
    TooLong,
    /// No random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

fn header(replica: ReplicaId, epoch: u32) -> [u8; HEADER] {
    let mut header = [VERSION; HEADER];
    let (_, rest) = header.split_at_mut(1);
    let (name, number) = rest.split_at_mut(ReplicaId::LEN);
    name.copy_from_slice(replica.as_bytes());
    number.copy_from_slice(&epoch.to_be_bytes());
    header
}

const VERSION: u8 = 1;
const HEADER: usize = 1 + ReplicaId::LEN + 4;
/// The longest body, with all names at their bounds, has 572 bytes, its number 10.
const PADDED: usize = 592;
const TAG: usize = 16;
const _: () = assert!(GRANT_LEN <= blindferry_proto::limits::MAX_GRANT);

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_proto::identifier::Digest;
    use blindferry_proto::protection::ProtectionLevel;
    use proptest::prelude::*;
    use ring::rand::SystemRandom;

    fn body(host: &str, expires: u64) -> GrantBody {
        GrantBody {
            id: GrantId([7; 16]),
            credential: "api-key".parse().unwrap(),
            host: host.parse().unwrap(),
            audience: None,
            worker: WorkerConstraint::default(),
            parent: ProcessFacts { uid: 1, gid: 2, pid: 3, executable: None, protection: None },
            expires,
            approval: None,
        }
    }

    fn keys() -> GrantKeys {
        GrantKeys::new(ReplicaId([1; 8]), 0, &SystemRandom::new()).unwrap()
    }

    #[test]
    fn a_grant_opens_for_its_host_in_its_time() {
        let mut keys = keys();
        let bytes = keys.seal(&body("h", 100), 0, &SystemRandom::new()).unwrap();
        assert_eq!(bytes.len(), GRANT_LEN);
        assert_eq!(keys.open(&bytes, &"h".parse().unwrap(), 99).unwrap().into_body(), body("h", 100));
    }

    #[test]
    fn the_longest_names_fit_and_all_grants_have_one_length() {
        let mut keys = keys();
        let long = GrantBody {
            credential: "c".repeat(CredentialName::MAX).parse().unwrap(),
            host: "h".repeat(HostName::MAX).parse().unwrap(),
            audience: Some("a".repeat(Audience::MAX).parse().unwrap()),
            worker: WorkerConstraint {
                uid: Some(u32::MAX),
                executable: Some(Digest([255; 32])),
                protection: Some(ProtectionLevel::OwnNamespace),
            },
            parent: ProcessFacts {
                uid: u32::MAX,
                gid: u32::MAX,
                pid: u32::MAX,
                executable: Some(Digest([255; 32])),
                protection: Some(ProtectionLevel::OwnNamespace),
            },
            expires: u64::MAX,
            approval: Some(Approver::OtherMachine),
            ..body("h", 0)
        };
        keys.next = Serial(u64::MAX - 1);
        assert_eq!(keys.seal(&long, 0, &SystemRandom::new()).unwrap().len(), GRANT_LEN);
    }

    #[test]
    fn grants_are_numbered_one_after_the_other_whatever_key_they_are_under() {
        let mut keys = keys();
        for (number, now) in [(0, 0), (1, 0), (2, EPOCH_LIFE)] {
            let bytes = keys.seal(&body("h", u64::MAX), now, &SystemRandom::new()).unwrap();
            for _ in 0..2 {
                assert_eq!(keys.open(&bytes, &"h".parse().unwrap(), 0).unwrap().serial(), Serial(number));
            }
        }
    }

    #[test]
    fn a_grant_of_another_host_is_astray() {
        let mut keys = keys();
        let bytes = keys.seal(&body("h", 100), 0, &SystemRandom::new()).unwrap();
        let astray = keys.open(&bytes, &"i".parse().unwrap(), 0).unwrap_err();
        assert_eq!(astray, GrantError::Astray { id: GrantId([7; 16]) });
    }

    #[test]
    fn a_late_grant_is_expired() {
        let mut keys = keys();
        let bytes = keys.seal(&body("h", 100), 0, &SystemRandom::new()).unwrap();
        let expired = keys.open(&bytes, &"h".parse().unwrap(), 100).unwrap_err();
        let body = body("h", 100);
        assert_eq!(expired, GrantError::Expired { id: body.id, credential: body.credential });
    }

    #[test]
    fn a_grant_of_another_running_vault_is_worthless() {
        let mut before = keys();
        let bytes = before.seal(&body("h", 100), 0, &SystemRandom::new()).unwrap();
        assert_eq!(keys().open(&bytes, &"h".parse().unwrap(), 0).unwrap_err(), GrantError::NotOurs);
    }

    #[test]
    fn a_grant_survives_one_rotation_of_keys_and_not_two() {
        let mut keys = keys();
        let bytes = keys.seal(&body("h", u64::MAX), 0, &SystemRandom::new()).unwrap();
        let _next = keys.seal(&body("h", 0), EPOCH_LIFE, &SystemRandom::new()).unwrap();
        assert!(keys.open(&bytes, &"h".parse().unwrap(), 0).is_ok());
        let _next = keys.seal(&body("h", 0), 2 * EPOCH_LIFE, &SystemRandom::new()).unwrap();
        assert_eq!(keys.open(&bytes, &"h".parse().unwrap(), 0).unwrap_err(), GrantError::NotOurs);
    }

    proptest! {
        #[test]
        fn no_changed_bit_opens(at in 0..GRANT_LEN * 8) {
            let mut keys = keys();
            let mut bytes = keys.seal(&body("h", 100), 0, &SystemRandom::new()).unwrap();
            bytes[at / 8] ^= 1 << (at % 8);
            prop_assert_eq!(keys.open(&bytes, &"h".parse().unwrap(), 0).unwrap_err(), GrantError::NotOurs);
        }

        #[test]
        fn noise_is_no_grant(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(keys().open(&bytes, &"h".parse().unwrap(), 0).unwrap_err(), GrantError::NotOurs);
        }
    }
}
