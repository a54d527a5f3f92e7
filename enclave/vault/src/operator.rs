//! What operators ask. Every change is in the audit before it is answered.

use crate::deposit;
use crate::host::{HostRecord, Place};
use crate::log;
use crate::mint;
use crate::platform::SealedBy;
use crate::policy::Policy;
use crate::publish::replaced;
use crate::session::Over;
use crate::store::{Document, IfPresent, Removed, StoreError};
use crate::vault::{SessionEntry, Vault, lock};
use crate::{approvals, backup, hand_over, report, rotate, standing, waiting};
use blindferry_attest::endorsement;
use blindferry_attest::reference::ReferenceValues;
use blindferry_proto::audit::Event;
use blindferry_proto::bounded::{Bytes, Text};
use blindferry_proto::causes::with_causes;
use blindferry_proto::credential::CredentialSettings;
use blindferry_proto::identifier::{Digest, Machine};
use blindferry_proto::limits::{MAX_DOCUMENT, MAX_MASTER};
use blindferry_proto::name::{CredentialName, HostName};
use blindferry_proto::operator::{Approvee, HostEntry, OperatorReply, OperatorRequest};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::Role;
use blindferry_proto::session::{Answer, LeaseEnd};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::sync::Arc;

/// Answers an operator.
pub(crate) async fn answer(
    vault: &Arc<Vault>,
    session: &SessionEntry,
    request: OperatorRequest,
) -> Result<Answer, Refusal> {
    let reply = match request {
        OperatorRequest::Put { name, settings, encapsulated, ciphertext, replace } => {
            let deposit = Deposit { name, settings: *settings, encapsulated, ciphertext, replace };
            put(vault, session, deposit).await
        }
        OperatorRequest::List { after } => list(vault, after.as_ref()).await,
        OperatorRequest::Remove { name } => remove(vault, session, name).await,
        OperatorRequest::Hosts { after } => hosts(vault, after.as_ref()).await,
        OperatorRequest::HostApprove { host, whom, role } => approve(vault, session, host, whom, role).await,
        OperatorRequest::HostRemove { host } => remove_host(vault, session, host).await,
        OperatorRequest::EndorsementRoots { text } => roots(vault, session, text).await,
        OperatorRequest::EndorsementRootsShow => show(vault, Document::EndorsementRoots).await,
        OperatorRequest::Policy { text, apply } => policy(vault, session, text, apply).await,
        OperatorRequest::PolicyShow => show(vault, Document::Policy).await,
        OperatorRequest::Reference { text } => reference(vault, session, text).await,
        OperatorRequest::ReferenceShow { role } => show(vault, reference_of(role)?).await,
        OperatorRequest::ApproveEnclave { pcrs } => approve_enclave(vault, session, &pcrs).await,
        OperatorRequest::RevokeOldApprovals => revoke_old_approvals(vault, session).await,
        OperatorRequest::Status => Ok(OperatorReply::Status(Box::new(standing::status(vault)))),
        OperatorRequest::Audit { from } => audit(vault, from).await,
        OperatorRequest::Asks { after } => Ok(waiting::page(vault, after)),
        OperatorRequest::PrepareKey { key } => rotate::prepare(vault, session, &key).await,
        OperatorRequest::ChangeKey { prepared } => rotate::change(vault, session, prepared).await,
        OperatorRequest::ChangeAuthority => rotate::change_authority(vault, session).await,
        OperatorRequest::BackUp => backup::begin(vault, session).await,
        OperatorRequest::BackupPieces { snapshot, after } => backup::go_on(vault, snapshot, after).await,
        OperatorRequest::Decide { ask, shown, decision } => waiting::decide(vault, session, ask, shown, decision).await,
        OperatorRequest::Sessions { after } => Ok(standing::sessions(vault, after)),
        OperatorRequest::EndingLeases => Ok(standing::ending_leases(vault)),
        OperatorRequest::Page => report::open(vault, session).await,
    };
    reply.map(|reply| Answer::Operator(Box::new(reply)))
}

struct Deposit {
    name: CredentialName,
    settings: CredentialSettings,
    encapsulated: Digest,
    ciphertext: Bytes<{ MAX_MASTER + 16 }>,
    replace: bool,
}

async fn put(vault: &Vault, session: &SessionEntry, deposit: Deposit) -> Result<OperatorReply, Refusal> {
    let Deposit { name, settings, encapsulated, ciphertext, replace } = deposit;
    let master = deposit::open(&encapsulated, ciphertext.as_slice(), &name, &vault.deposit_keys)
        .map_err(|error| Refusal::new(RefusalCode::Malformed, &with_causes(&error)))?;
    let _usable =
        mint::check(&master, &settings).map_err(|error| Refusal::new(RefusalCode::Malformed, &with_causes(&error)))?;
    note(vault, session, "put", name.as_str()).await?;
    replaced::keep(vault, &name).await?;
    vault.note_signer(&name, &settings.kind);
    let present = if replace { IfPresent::Replace } else { IfPresent::Refuse };
    match vault.records.put_master(&name, settings, &master, present).await {
        Ok(()) => {}
        Err(StoreError::Exists { .. }) => {
            return Err(Refusal::new(RefusalCode::Exists, "a credential of that name exists; say so to replace it"));
        }
        Err(error) => return Err(vault.store_failed(&error).await),
    }
    vault.cache.forget(&name);
    vault.publish_if_signer(&name).await?;
    Ok(OperatorReply::Done)
}

async fn list(vault: &Vault, after: Option<&CredentialName>) -> Result<OperatorReply, Refusal> {
    match vault.records.masters(after).await {
        Ok(mut page) => {
            // Settings with certificates are long: a page is what fits a frame.
            page.truncate(CREDENTIALS_A_PAGE);
            Ok(OperatorReply::Credentials(page))
        }
        Err(error) => Err(vault.store_failed(&error).await),
    }
}

async fn remove(vault: &Vault, session: &SessionEntry, name: CredentialName) -> Result<OperatorReply, Refusal> {
    note(vault, session, "remove", name.as_str()).await?;
    // Leases first: revoking their tokens needs the master.
    vault.end_leases(LeaseEnd::Removed, |lease| lease.terms.credential == name).await;
    match vault.records.remove_master(&name).await {
        Ok(Removed::Gone) => {}
        Ok(Removed::WasNotThere) => return Err(Refusal::new(RefusalCode::Unknown, "no such credential")),
        Err(error) => return Err(vault.store_failed(&error).await),
    }
    vault.cache.forget(&name);
    // Keys may be withdrawn of what has signed nothing since this vault started.
    if replaced::withdraw(vault, &name).await? {
        vault.publish().await?;
    } else {
        vault.publish_if_signer(&name).await?;
    }
    Ok(OperatorReply::Done)
}

async fn hosts(vault: &Vault, after: Option<&HostName>) -> Result<OperatorReply, Refusal> {
    let stored = match vault.records.hosts(after).await {
        Ok(stored) => stored,
        Err(error) => return Err(vault.store_failed(&error).await),
    };
    let more = !stored.is_empty();
    let mut page: Vec<HostEntry> = stored
        .into_iter()
        .map(|(name, record)| {
            let connected = vault.is_connected(&name);
            record.entry(name, connected)
        })
        .collect();
    // Those that wait come with the first page; pages go by the names of those that are stored.
    if after.is_none() {
        page.extend(lock(&vault.knocks).waiting().take(WAITING_A_PAGE).cloned());
    } else if !more {
        page.clear();
    }
    Ok(OperatorReply::Hosts(page))
}

async fn approve(
    vault: &Vault,
    session: &SessionEntry,
    host: HostName,
    whom: Approvee,
    role: Role,
) -> Result<OperatorReply, Refusal> {
    if role == Role::Vault {
        return Err(Refusal::new(RefusalCode::Malformed, "a host is a broker, an operator or a successor"));
    }
    if role == Role::Successor && matches!(whom, Approvee::Ek(_) | Approvee::Vtpm(_)) {
        return Err(Refusal::new(RefusalCode::Malformed, "a successor is an SEV-SNP guest: approve it by its chip"));
    }
    let place = match whom {
        Approvee::Ek(ek) => Place::Allowed(Machine::Ek(ek)),
        Approvee::Chip(chip) => Place::Allowed(Machine::Chip(chip)),
        Approvee::Vtpm(key) => Place::Allowed(Machine::Vtpm(key)),
        Approvee::Certified if role == Role::Broker => Place::AllowedByCertificate,
        Approvee::Certified => {
            return Err(Refusal::new(RefusalCode::Denied, "only a worker host is approved by certificate"));
        }
        Approvee::Waiting => match lock(&vault.knocks).only(&host, role) {
            Some(machine) => Place::Allowed(machine),
            None => {
                return Err(Refusal::new(
                    RefusalCode::Unknown,
                    "not exactly one machine waits under that name and role",
                ));
            }
        },
    };
    match vault.records.host(&host).await {
        Ok(Some(record)) if record.is_enrolled() => {
            return Err(Refusal::new(
                RefusalCode::Exists,
                "the host is enrolled; remove it first to enrol other hardware",
            ));
        }
        Ok(_) => {}
        Err(error) => return Err(vault.store_failed(&error).await),
    }
    note(vault, session, "host approve", host.as_str()).await?;
    let record = HostRecord { role, place, since: vault.clock.now() };
    if let Err(error) = vault.records.put_host(&host, &record).await {
        return Err(vault.store_failed(&error).await);
    }
    lock(&vault.knocks).forget(&host);
    Ok(OperatorReply::Done)
}

async fn remove_host(vault: &Vault, session: &SessionEntry, host: HostName) -> Result<OperatorReply, Refusal> {
    if host == session.host {
        return Err(Refusal::new(RefusalCode::Denied, "an operator's machine does not remove itself"));
    }
    note(vault, session, "host remove", host.as_str()).await?;
    match vault.records.remove_host(&host).await {
        Ok(Removed::Gone) => {}
        Ok(Removed::WasNotThere) => return Err(Refusal::new(RefusalCode::Unknown, "no such host")),
        Err(error) => return Err(vault.store_failed(&error).await),
    }
    lock(&vault.knocks).forget(&host);
    vault.end_sessions(&host, &Over::with_leases("removed", LeaseEnd::Removed));
    vault.end_leases(LeaseEnd::Removed, |lease| lease.terms.host == host).await;
    Ok(OperatorReply::Done)
}

async fn roots(vault: &Vault, session: &SessionEntry, text: Text<MAX_DOCUMENT>) -> Result<OperatorReply, Refusal> {
    let roots = certificates(text.as_str())?;
    if roots.is_empty() && !text.as_str().trim().is_empty() {
        return Err(Refusal::new(RefusalCode::Malformed, "there is no certificate in PEM in it"));
    }
    let roots =
        endorsement::roots(roots).map_err(|error| Refusal::new(RefusalCode::Malformed, &with_causes(&error)))?;
    let version = store_document(vault, session, "roots apply", Document::EndorsementRoots, text).await?;
    lock(&vault.documents).endorsement_roots = roots;
    Ok(OperatorReply::Checked { problems: Vec::new(), applied: Some(version) })
}

/// The certificates of a PEM text.
pub(crate) fn certificates(text: &str) -> Result<Vec<Vec<u8>>, Refusal> {
    CertificateDer::pem_slice_iter(text.as_bytes())
        .map(|certificate| certificate.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|error| Refusal::new(RefusalCode::Malformed, &format!("not certificates in PEM: {error}")))
}

async fn policy(
    vault: &Vault,
    session: &SessionEntry,
    text: Text<MAX_DOCUMENT>,
    apply: bool,
) -> Result<OperatorReply, Refusal> {
    let version = lock(&vault.documents).policy.version() + 1;
    if let Err(problems) = Policy::parse(text.as_str(), version) {
        let problems = problems.iter().take(PROBLEMS).map(|problem| Text::cut(&problem.to_string())).collect();
        return Ok(OperatorReply::Checked { problems, applied: None });
    }
    if !apply {
        return Ok(OperatorReply::Checked { problems: Vec::new(), applied: None });
    }
    let version = store_document(vault, session, "policy apply", Document::Policy, text.clone()).await?;
    let parsed = Policy::parse(text.as_str(), version).map_err(|_| Refusal::from(RefusalCode::Internal))?;
    lock(&vault.documents).policy = Arc::new(parsed);
    Ok(OperatorReply::Checked { problems: Vec::new(), applied: Some(version) })
}

async fn reference(vault: &Vault, session: &SessionEntry, text: Text<MAX_DOCUMENT>) -> Result<OperatorReply, Refusal> {
    let values = ReferenceValues::parse(text.as_str())
        .map_err(|error| Refusal::new(RefusalCode::Malformed, &with_causes(&error)))?;
    let role = values.role();
    let version = store_document(vault, session, "reference apply", reference_of(role)?, text).await?;
    lock(&vault.documents).references.insert(role, (version, Arc::new(values)));
    vault.note_dangers();
    vault.suspect(role);
    Ok(OperatorReply::Checked { problems: Vec::new(), applied: Some(version) })
}

fn reference_of(role: Role) -> Result<Document, Refusal> {
    match role {
        Role::Broker => Ok(Document::BrokerReference),
        Role::Operator => Ok(Document::OperatorReference),
        Role::Successor => Ok(Document::SuccessorReference),
        Role::Vault => Err(Refusal::new(
            RefusalCode::Malformed,
            "reference values for the vault go to its hosts and operators; to let it start on new values, approve them",
        )),
    }
}

async fn store_document(
    vault: &Vault,
    session: &SessionEntry,
    action: &'static str,
    document: Document,
    text: Text<MAX_DOCUMENT>,
) -> Result<u64, Refusal> {
    note(vault, session, action, document.name()).await?;
    match vault.records.put_document(document, text).await {
        Ok(version) => Ok(version),
        Err(error) => Err(vault.store_failed(&error).await),
    }
}

async fn show(vault: &Vault, document: Document) -> Result<OperatorReply, Refusal> {
    match vault.records.document(document).await {
        Ok(Some(stored)) => Ok(OperatorReply::Document { version: stored.version, text: stored.text }),
        Ok(None) => Err(Refusal::new(RefusalCode::Unknown, "there is none yet")),
        Err(error) => Err(vault.store_failed(&error).await),
    }
}

async fn approve_enclave(
    vault: &Vault,
    session: &SessionEntry,
    pcrs: &[(u8, Digest)],
) -> Result<OperatorReply, Refusal> {
    require_approvals(vault)?;
    let values = approvals::values_of(pcrs)?;
    note(vault, session, "enclave approve", &approvals::describe(&values)).await?;
    approvals::add(vault, values).await?;
    Ok(OperatorReply::Done)
}

/// Approvals are a TPM's: what is sealed to a guest opens on that guest, whatever anybody approves.
fn require_approvals(vault: &Vault) -> Result<(), Refusal> {
    match vault.sealed_by {
        SealedBy::Tpm | SealedBy::SoftwareTpm => Ok(()),
        SealedBy::Guest => Err(Refusal::new(
            RefusalCode::Malformed,
            "the vault's key is sealed to its SEV-SNP guest: there are no PCR values to approve; another image opens the \
             store once it was handed over (`blindferry succeed`), or with the recovery key",
        )),
    }
}

async fn revoke_old_approvals(vault: &Vault, session: &SessionEntry) -> Result<OperatorReply, Refusal> {
    note(vault, session, "enclave revoke-old", "").await?;
    match vault.sealed_by {
        SealedBy::Tpm | SealedBy::SoftwareTpm => approvals::keep_newest(vault).await?,
        SealedBy::Guest => hand_over::withdraw_other(vault).await?,
    }
    Ok(OperatorReply::Done)
}

async fn audit(vault: &Vault, from: u64) -> Result<OperatorReply, Refusal> {
    match vault.auditor.read(from, RECORDS_A_PAGE).await {
        Ok(records) => Ok(OperatorReply::Records {
            records,
            head: vault.auditor.head().map(|head| (head.number, head.hash)),
            key: vault.auditor.key(),
        }),
        Err(error) => {
            let line = with_causes(&error);
            log::error("audit-not-read", "the audit cannot be read", &[("why", line.clone())]);
            Err(Refusal::new(RefusalCode::Store, &line))
        }
    }
}

/// Has what an operator does in the audit before it is done.
pub(crate) async fn note(vault: &Vault, session: &SessionEntry, action: &str, subject: &str) -> Result<(), Refusal> {
    let event = Event::Operator { host: session.host.clone(), action: Text::cut(action), subject: Text::cut(subject) };
    vault.audit(event).await
}

/// A settings record is at most some 20 KiB, with a chain of certificates in it.
const CREDENTIALS_A_PAGE: usize = 3;
const WAITING_A_PAGE: usize = 64;
const PROBLEMS: usize = 32;
/// A record is at most 2.3 KiB.
const RECORDS_A_PAGE: usize = 24;
