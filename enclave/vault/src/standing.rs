//! How the vault is and who is there, as operators are told: the one source of it. Nothing here decides anything.

use crate::platform::SealedBy;
use crate::rotate;
use crate::vault::{Vault, lock};
use blindferry_proto::bounded::Text;
use blindferry_proto::identifier::SessionId;
use blindferry_proto::operator::{ENDING_LEASES, EndingLease, OperatorReply, SESSIONS_A_PAGE, Status};
use blindferry_proto::role::Role;

/// How the vault is.
pub(crate) fn status(vault: &Vault) -> Status {
    let documents = lock(&vault.documents);
    let reference_version = documents.references.get(&Role::Broker).map_or(0, |(version, _)| *version);
    let policy_version = documents.policy.version();
    let broker_reference_missing = !documents.references.contains_key(&Role::Broker);
    drop(documents);
    let mut warnings: Vec<Text<256>> = vault.confined.notes().iter().map(|note| Text::cut(note)).collect();
    warnings.extend(vault.auditor.dangers().iter().map(|danger| Text::cut(danger.as_str())));
    if vault.sealed_by == SealedBy::SoftwareTpm {
        warnings.push(Text::cut("the platform is a software TPM: its keys are worth what guards its files"));
    }
    if lock(&vault.guests).other {
        warnings.push(Text::cut("another guest opens the store too; `blindferry enclave revoke-old` withdraws it"));
    }
    warnings.extend(rotate::warning(vault));
    warnings.extend(vault.made_of_backup.map(|backup| Text::cut(&backup.warning())));
    if policy_version == 0 {
        warnings.push(Text::cut("there is no policy yet: nothing is allowed"));
    }
    if broker_reference_missing {
        warnings.push(Text::cut("there are no reference values for brokers yet: no host is let in"));
    }
    Status {
        replica: vault.replica,
        version: Text::cut(env!("CARGO_PKG_VERSION")),
        uptime: vault.clock.uptime(),
        memory: Text::cut(&vault.confined.memory().to_string()),
        policy_version,
        reference_version,
        platform: Text::cut(vault.sealed_by.words()),
        software_tpm: vault.sealed_by == SealedBy::SoftwareTpm,
        dangers: vault.auditor.dangers(),
        sessions: count(lock(&vault.sessions).len()),
        leases: count(lock(&vault.leases).len()),
        asks_waiting: count(lock(&vault.pending).waiting()),
        figures: vault.figures.all(),
        audit_key: vault.auditor.key(),
        warnings,
    }
}

/// The sessions after `after`, in the order of their identities.
pub(crate) fn sessions(vault: &Vault, after: Option<SessionId>) -> OperatorReply {
    let mut sessions = vault.session_reports();
    sessions.sort_by_key(|report| report.session.0);
    sessions.retain(|report| after.is_none_or(|after| report.session.0 > after.0));
    sessions.truncate(SESSIONS_A_PAGE);
    OperatorReply::Sessions { now: vault.clock.now(), reattest_every: vault.reattest_every(), sessions }
}

/// The leases that end soonest.
pub(crate) fn ending_leases(vault: &Vault) -> OperatorReply {
    let leases = lock(&vault.leases);
    let ending = leases.ending(ENDING_LEASES).into_iter().map(|lease| EndingLease {
        lease: lease.id,
        credential: lease.terms.credential.clone(),
        host: lease.terms.host.clone(),
        ends: lease.ends(),
    });
    OperatorReply::EndingLeases(ending.collect())
}

pub(crate) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
