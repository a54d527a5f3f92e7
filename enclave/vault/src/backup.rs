//! Backups: an operator takes the store as it is, while it goes on.
//!
//! What he gets is ciphertext, which the front gives and the vault passes on; the digest over all of it is his command's.
//! That a store was made of a backup is found by its own audit, see [`crate::store::backup`]: it is recorded at the start,
//! and whoever puts an old backup in place of the store cannot leave that out.

use crate::store::{Backing, Records, StoreError};
use crate::vault::{SessionEntry, Vault};
use blindferry_proto::audit::Event;
use blindferry_proto::backup::{Manifest, Position};
use blindferry_proto::bounded::Text;
use blindferry_proto::causes::with_causes;
use blindferry_proto::operator::OperatorReply;
use blindferry_proto::refusal::{Refusal, RefusalCode};

/// A store that a vault started on, and that was made of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MadeOfBackup {
    record: u64,
    taken: u64,
}

impl MadeOfBackup {
    /// Looks at the newest record of the audit, so before anything is recorded.
    pub(crate) async fn find<B: Backing>(records: &Records<B>) -> Result<Option<Self>, StoreError> {
        Ok(records.taken_as_backup().await?.map(|(record, taken)| Self { record, taken }))
    }

    /// What the audit says of it.
    pub(crate) fn event(self) -> Event {
        Event::Restored { record: self.record, taken: self.taken }
    }

    /// What an operator should know.
    pub(crate) fn warning(self) -> String {
        format!(
            "the store was restored from the backup of audit record {}: changes since then are undone; look at hosts, \
             credentials, policy and reference values, and revoke again what was revoked",
            self.record
        )
    }
}

/// Begins a backup.
pub(crate) async fn begin(vault: &Vault, session: &SessionEntry) -> Result<OperatorReply, Refusal> {
    let event = Event::BackedUp { host: session.host.clone() };
    let (dangers, now) = (vault.auditor.dangers(), vault.clock.millis());
    let signer = vault.auditor.signer();
    let made = vault.records.snapshot_after(|head| {
        let mut chain = signer.chain(head).map_err(|error| with_causes(&error))?;
        let _number = chain.append(event, dangers, now).map_err(|error| with_causes(&error))?;
        let (rows, head) = chain.sign().map_err(|error| with_causes(&error))?;
        Ok::<_, String>((rows, head.ok_or_else(|| "the chain has no end".to_owned())?))
    });
    let snapshot = match made.await {
        Ok(Ok(snapshot)) => snapshot,
        Ok(Err(line)) => {
            eprintln!("blindferry-vault: cannot record a backup: {line}");
            return Err(Refusal::from(RefusalCode::Internal));
        }
        Err(error) => return Err(vault.store_failed(&error).await),
    };
    // In the store that goes on, something follows at once.
    let action = Event::Operator {
        host: session.host.clone(),
        action: Text::cut("backup"),
        subject: Text::cut(&format!("up to record {}", snapshot.head.number)),
    };
    vault.audit(action).await?;
    let manifest = Manifest {
        taken: vault.clock.now(),
        version: Text::cut(env!("CARGO_PKG_VERSION")),
        audit_key: vault.auditor.key(),
        record: snapshot.head.number,
        hash: snapshot.head.hash,
    };
    Ok(OperatorReply::BackupBegun { snapshot: snapshot.number, manifest })
}

/// Goes on with one.
pub(crate) async fn go_on(vault: &Vault, snapshot: u64, after: Option<Position>) -> Result<OperatorReply, Refusal> {
    match vault.records.pieces(snapshot, after).await {
        Ok(pieces) => Ok(OperatorReply::BackupPieces(pieces)),
        Err(StoreError::Refused { why }) => Err(Refusal::new(RefusalCode::Store, &why)),
        Err(error) => Err(vault.store_failed(&error).await),
    }
}
