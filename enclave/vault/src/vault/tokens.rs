//! From a verdict to a token: policy is asked, the master is opened, traded and wiped; and tokens are revoked.

use super::{Minted, NotMinted, Revocable, SessionEntry, Vault, lock};
use crate::crossing::Wanted;
use crate::figures::Kind as Step;
use crate::ledger::Failure;
use crate::log;
use crate::mint::{self, MintError, Order};
use crate::policy::{Action, Allowed, Approver, Denied, Question, Reason};
use crate::store::Credential;
use crate::upstream::UpstreamError;
use blindferry_proto::audit::{Event, Sight};
use blindferry_proto::causes::with_causes;
use blindferry_proto::credential::Kind;
use blindferry_proto::name::{CredentialName, HostName};
use blindferry_proto::protection::ProtectionLevel;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use std::sync::Arc;
use std::time::Instant;

/// A permission and the very record that it was given for: what is minted is what was judged.
pub(crate) struct Permit {
    allowed: Allowed,
    credential: Arc<Credential>,
}

impl Permit {
    /// The version of the policy that permitted it.
    pub(crate) fn policy_version(&self) -> u64 {
        self.allowed.version()
    }

    /// The version of the record that it was given for.
    pub(crate) fn credential_version(&self) -> u64 {
        self.credential.version()
    }
}

/// Why there is no permit.
pub(crate) enum NotPermitted {
    /// It is refused.
    Refused(Refusal),
    /// A person has to approve it first.
    Unapproved(Demand),
}

/// What a person would have to approve, as policy and store have it.
pub(crate) struct Demand {
    pub(crate) approver: Approver,
    /// The policies that demand it.
    pub(crate) by: Vec<String>,
    pub(crate) policy_version: u64,
    /// Kind and version of the credential's record.
    pub(crate) kind: &'static str,
    pub(crate) version: u64,
    why: String,
}

impl From<Refusal> for NotPermitted {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<NotPermitted> for Refusal {
    fn from(not: NotPermitted) -> Self {
        match not {
            NotPermitted::Refused(refusal) => refusal,
            NotPermitted::Unapproved(demand) => Self::new(RefusalCode::ApprovalRequired, &demand.why),
        }
    }
}

impl Vault {
    /// Asks the policy about a session's host as it was last attested. The credential's record is read here, once.
    pub(crate) async fn decide(
        &self,
        session: &SessionEntry,
        action: Action,
        wanted: &Wanted<'_>,
    ) -> Result<Permit, NotPermitted> {
        let credential = match self.records.credential(wanted.credential).await {
            Ok(Some(credential)) => credential,
            Ok(None) => return Err(Refusal::new(RefusalCode::Unknown, "no such credential").into()),
            Err(error) => return Err(self.store_failed(&error).await.into()),
        };
        let policy = Arc::clone(&lock(&self.documents).policy);
        let now = self.clock.now();
        let believed = lock(&session.believed);
        let believed = believed.as_ref().ok_or_else(|| Refusal::from(RefusalCode::NotAttested))?;
        let question = Question {
            action,
            host: &session.host,
            worker: &wanted.worker,
            inherited: wanted.inherited,
            parent: &wanted.parent,
            credential: wanted.credential,
            kind: kind_of(&credential.settings().kind),
            audience: wanted.audience,
            claims: &believed.claims,
            session_age: now.saturating_sub(session.since),
            attestation_age: now.saturating_sub(believed.at),
            approval: wanted.approval,
        };
        let denied = match policy.decide(&question) {
            Ok(allowed) => return Ok(Permit { allowed, credential }),
            Err(denied) => denied,
        };
        let why = denied.to_string();
        Err(match denied.reason() {
            Reason::Unapproved(approver) => NotPermitted::Unapproved(Demand {
                approver,
                by: denied.by().to_vec(),
                policy_version: denied.version(),
                kind: question.kind,
                version: credential.version(),
                why,
            }),
            Reason::NothingPermits | Reason::Forbidden | Reason::Evaluation | Reason::Question => {
                match policy.stronger_level_wanted(&question) {
                    Some(level) => protection_too_low(wanted, level, &denied).into(),
                    None => Refusal::new(RefusalCode::Denied, &why).into(),
                }
            }
        })
    }

    /// Opens the master that was judged, trades it for one token, and wipes it. The permit is spent here.
    pub(crate) async fn mint(&self, order: &Order<'_>, permit: Permit) -> Result<Minted, NotMinted> {
        let Permit { allowed, credential: record } = permit;
        let credential = record.name().clone();
        let master = match self.cache.master(&record, &self.records, self.clock.now()) {
            Ok(master) => master,
            Err(error) => return Err(self.store_failed(&error).await.into()),
        };
        let version = master.version;
        let event = Event::Fetched { credential: credential.clone(), version, sight: Sight::Plaintext };
        let mut fetched = Some(self.enter(event).await?);
        drop(allowed);
        // What an upstream has seen cannot be taken back. What is made here leaves with its parcel, which waits for its
        // own record and for this one.
        if let Kind::OauthClient(_) = master.settings.kind
            && let Some(fetched) = fetched.take()
        {
            self.durable(fetched).await?;
        }
        let (step, since) = (step_of(&master.settings.kind), Instant::now());
        let minted = match master.secret.wake() {
            Ok(secret) => mint::mint(&secret, &master.settings, order, &self.link, &self.random).await,
            Err(error) => Err(MintError::Memory(error)),
        };
        self.link.took(step, since.elapsed());
        match minted {
            Ok(token) => Ok(Minted { token, lease_idle: master.settings.lease_idle, fetched }),
            Err(error) => {
                if let Some(fetched) = fetched {
                    self.durable(fetched).await?;
                }
                let fields = [
                    ("credential", credential.to_string()),
                    ("code", error.code().to_owned()),
                    ("why", with_causes(&error)),
                ];
                log::error("mint-failed", "no token was minted", &fields);
                self.figures.count("mint_failures_total", Some(error.code()));
                Err(NotMinted { failure: failure_of(&error), refusal: Refusal::new(error.refusal(), error.code()) })
            }
        }
    }

    /// Revokes a token at its upstream. Whether that worked.
    pub(crate) async fn revoke(&self, revocable: Revocable) -> bool {
        let Revocable { credential, token } = revocable;
        let now = self.clock.now();
        let master = match self.cache.newest(&credential, &self.records, now).await {
            Ok(Some(master)) => master,
            Ok(None) | Err(_) => return false,
        };
        let revoked = match master.secret.wake() {
            Ok(secret) => mint::revoke(&secret, &master.settings, &token, &self.link, now, &self.random).await,
            Err(error) => Err(MintError::Memory(error)),
        };
        match revoked {
            Ok(_revoked) => true,
            Err(error) => {
                let fields = [
                    ("credential", credential.to_string()),
                    ("code", error.code().to_owned()),
                    ("why", with_causes(&error)),
                ];
                log::error("revocation-failed", "a token could not be revoked, and lives until it expires", &fields);
                self.figures.count("revocation_failures_total", Some(error.code()));
                false
            }
        }
    }

    pub(crate) async fn revoke_if(&self, revocable: Option<Revocable>) {
        if let Some(revocable) = revocable {
            self.revoke(revocable).await;
        }
    }

    /// What is answered when there is no token. Where the upstream may have made one, the audit says so.
    pub(crate) async fn not_minted(
        &self,
        credential: &CredentialName,
        host: &HostName,
        NotMinted { failure, refusal }: NotMinted,
    ) -> Refusal {
        if failure == Failure::Unknown {
            self.denied(credential, host, &refusal).await;
        }
        refusal
    }
}

/// A refusal that names the level to ask for.
fn protection_too_low(wanted: &Wanted<'_>, level: ProtectionLevel, denied: &Denied) -> Refusal {
    let found = wanted.worker.protection.map_or("no level", ProtectionLevel::name);
    let detail = format!("{} wants --protection {level}, here is {found}: {denied}", wanted.credential);
    Refusal::new(RefusalCode::ProtectionTooLow, &detail)
}

/// What minting for a kind is counted as.
fn step_of(kind: &Kind) -> Step {
    match kind {
        Kind::OauthClient(_) => Step::Upstream,
        Kind::Release | Kind::JwtSigner(_) => Step::Mint,
    }
}

/// How policies call a kind.
pub(crate) fn kind_of(kind: &Kind) -> &'static str {
    match kind {
        Kind::Release => "release",
        Kind::OauthClient(_) => "oauth-client",
        Kind::JwtSigner(_) => "jwt-signer",
    }
}

/// Whether a token may exist although minting failed: then its grant is spent.
fn failure_of(error: &MintError) -> Failure {
    match error {
        MintError::Upstream(
            UpstreamError::Request { .. }
            | UpstreamError::TlsSettings(_)
            | UpstreamError::Dial { .. }
            | UpstreamError::Untrusted { .. }
            | UpstreamError::Tls { .. },
        ) => Failure::NoToken,
        MintError::Refused { status, .. } if *status < 500 => Failure::NoToken,
        MintError::Upstream(_) | MintError::Answer { .. } | MintError::Refused { .. } | MintError::Memory(_) => {
            Failure::Unknown
        }
        MintError::Settings(_)
        | MintError::Key(_)
        | MintError::ClientSecret
        | MintError::MasterTooLong
        | MintError::Audience { .. }
        | MintError::Lifetime
        | MintError::Clock { .. }
        | MintError::Random
        | MintError::Sign
        | MintError::Claims(_)
        | MintError::NotRevocable => Failure::NoToken,
    }
}
