//! Who may have a session: from a connection to a peer that is enrolled, pinned and judged.
//!
//! ```text
//!  heard ──our evidence──▶ challenged ──its evidence──▶ claimed ─┬─ pinned ──────────────────▶ judged ──▶ stands
//!                                                                ├─ may enrol ──▶ activated ──▶ ┘
//!                                                                └─ unknown, or a conflict: refused
//! ```

use crate::figures::Kind;
use crate::host::{Admission, HostRecord, Pin, admit};
use crate::session::{HEAR_TIME, LATE};
use crate::vault::{NewSession, Vault};
use blindferry_attest::attested::AppraisalError;
use blindferry_attest::endorsement::{
    ActivationSecret, EkClaim, EkHash, EndorsementPolicy, Enrolled, Manufacturers, RandomError, endorse,
};
use blindferry_attest::evidence::Evidence;
use blindferry_attest::snp::Report;
use blindferry_attest::tpm::AkName;
use blindferry_attest::tpm::public::Public;
use blindferry_proto::audit::{Alarm, Event};
use blindferry_proto::bounded::Bytes;
use blindferry_proto::causes::with_causes;
use blindferry_proto::identifier::{ChipId, EkDigest, KeyName, Machine};
use blindferry_proto::name::HostName;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::Role;
use blindferry_proto::session::{Activate, Endorsement, Welcome};
use blindferry_session::channel::Stream;
use blindferry_session::server::{Claimed, ServerError, Standing, hear};
use ring::rand::SecureRandom;
use std::collections::BTreeSet;
use std::time::Instant;
use tokio::time::timeout;

/// A session that stands, and who it is.
pub(crate) struct Admitted<S> {
    pub(crate) standing: Standing<S>,
    pub(crate) new: NewSession,
}

/// Takes a connection through the handshake; whoever is refused has been told so, and it is in the audit.
pub(crate) async fn admit_peer<S: Stream>(vault: &Vault, stream: S) -> Option<Admitted<S>> {
    let heard = match timeout(HEAR_TIME, hear(stream, &vault.tls, &vault.identity)).await {
        Ok(Ok(heard)) => heard,
        Ok(Err(error)) => {
            vault.figures.count("handshakes_refused_total", Some(error.code()));
            return None;
        }
        Err(_) => {
            vault.figures.count("handshakes_refused_total", Some(LATE));
            return None;
        }
    };
    let (host, role) = (heard.name().clone(), heard.role());
    let admitted = async {
        let claimed = {
            let vouch = |message: &[u8]| vault.auditor.signer().vouch(message).ok();
            let logs = vault.wanted_logs(role);
            heard.prove(&vault.platform, vouch, logs, &vault.random).await?.claim().await?
        };
        let (claimed, known) = pin(vault, claimed).await?;
        judge(vault, claimed, known).await
    };
    match admitted.await {
        Ok(admitted) => Some(admitted),
        Err(Turned::Failed(error)) => {
            if let ServerError::Appraisal { source } = &error
                && matches!(**source, AppraisalError::AkName { .. })
            {
                vault.alarm(Alarm::IdentityChanged { host: host.clone(), claimed: None }).await;
            }
            vault.figures.count("handshakes_refused_total", Some(error.code()));
            // A peer that never got as far as evidence has made no claim worth a durable record.
            if matches!(error, ServerError::Appraisal { .. } | ServerError::Evidence { .. }) {
                vault.not_attested(&host, role, error.code(), &error).await;
            }
            None
        }
        Err(Turned::Away { code, why }) => {
            vault.figures.count("handshakes_refused_total", Some(code));
            if let Some(why) = why {
                vault.not_attested_because(&host, role, code, &why).await;
            }
            None
        }
    }
}

/// Why a peer got no session.
enum Turned {
    /// A stage of the handshake failed; that stage told the peer.
    Failed(ServerError),
    /// It was told to go; what the audit shall say, if anything.
    Away { code: &'static str, why: Option<String> },
}

impl From<ServerError> for Turned {
    fn from(error: ServerError) -> Self {
        Self::Failed(error)
    }
}

/// Finds by what the peer is to be judged: from its enrolment, now or earlier.
async fn pin<S: Stream>(vault: &Vault, claimed: Claimed<S>) -> Result<(Claimed<S>, Known), Turned> {
    let (host, role) = (claimed.name().clone(), claimed.role());
    let machine = match machine(&claimed) {
        Ok(machine) => machine,
        Err((code, why)) => return Err(turn_away(claimed, code, Some(why)).await),
    };
    if role == Role::Successor && !matches!(machine, Machine::Chip(_)) {
        let why = "a successor is an SEV-SNP guest".to_owned();
        return Err(turn_away(claimed, "successor-not-a-guest", Some(why)).await);
    }
    let record = match vault.records.host(&host).await {
        Ok(record) => record,
        Err(error) => {
            claimed.refuse(RefusalCode::NotReady.into()).await;
            vault.store_failed(&error).await;
            return Err(Turned::Away { code: "store", why: None });
        }
    };
    match (admit(record.as_ref(), role, machine), machine) {
        (Admission::Pinned(pin), _) => Ok((claimed, Known::Enrolled(pin))),
        (Admission::Enrol, Machine::Ek(ek)) => enrol(vault, claimed, allowing(ek), role).await,
        // A report is by the chip's own key, and vouches for that of a vTPM: the judgement itself shows what an activation
        // shows of a TPM.
        (Admission::Enrol, machine) => match Pin::vouched(machine) {
            Some(pin) => Ok((claimed, Known::Allowed(machine, pin))),
            None => Err(turn_away(claimed, "identity-changed", None).await),
        },
        (Admission::EnrolByCertificate, _) => {
            let policy = EndorsementPolicy {
                allowed: BTreeSet::new(),
                denied: BTreeSet::new(),
                roots: vault.endorsement_roots(),
                manufacturers: Manufacturers::Any,
            };
            enrol(vault, claimed, policy, role).await
        }
        (Admission::Wait, machine) => {
            vault.knocked(host, machine, role);
            claimed.refuse(Refusal::new(RefusalCode::HostPending, "an operator has to approve this host")).await;
            Err(Turned::Away { code: "host-pending", why: None })
        }
        (Admission::Conflict, machine) => {
            vault.alarm(Alarm::IdentityChanged { host, claimed: Some(machine) }).await;
            Err(turn_away(claimed, "identity-changed", None).await)
        }
    }
}

/// A peer that may be judged.
enum Known {
    /// It was enrolled.
    Enrolled(Pin),
    /// It is enrolled if it turns out to be of this hardware.
    Allowed(Machine, Pin),
}

/// The hardware that the peer claims.
fn machine<S: Stream>(claimed: &Claimed<S>) -> Result<Machine, (&'static str, String)> {
    match claimed.evidence() {
        Evidence::Tpm(_) => {
            let endorsement = claimed.endorsement();
            let endorsement =
                endorsement.ok_or_else(|| ("no-endorsement", "evidence of a TPM without its EK".to_owned()))?;
            let ek = EkHash::of_public(endorsement.ek_public.as_slice());
            ek.map(|ek| Machine::Ek(EkDigest(*ek.as_bytes()))).map_err(|error| (error.code(), with_causes(&error)))
        }
        Evidence::Snp(evidence) => {
            let report = Report::parse(evidence.report()).map_err(|error| (error.code(), with_causes(&error)))?;
            let chip = report.body().chip_id;
            if chip.is_zero() {
                let why = "the report hides its chip: such guests cannot be told from one another".to_owned();
                return Err(("snp-chip-hidden", why));
            }
            Ok(Machine::Chip(ChipId(*chip.as_bytes())))
        }
        Evidence::Azure(evidence) => {
            let unusable = |why| ("tpm-ak-public", why);
            let ak = Public::parse(evidence.tpm().ak_public()).map_err(|error| unusable(with_causes(&error)))?;
            let name = ak.name().as_bytes().try_into();
            name.map(|name| Machine::Vtpm(KeyName(name)))
                .map_err(|_| unusable("the vTPM's key is not named by SHA-256".to_owned()))
        }
    }
}

fn allowing(ek: EkDigest) -> EndorsementPolicy {
    EndorsementPolicy {
        allowed: BTreeSet::from([EkHash::from_bytes(ek.0)]),
        denied: BTreeSet::new(),
        roots: Vec::new(),
        manufacturers: Manufacturers::Any,
    }
}

/// Credential activation: shows that the AK lives in the TPM of the EK, and pins both under the host's name.
async fn enrol<S: Stream>(
    vault: &Vault,
    claimed: Claimed<S>,
    policy: EndorsementPolicy,
    role: Role,
) -> Result<(Claimed<S>, Known), Turned> {
    let host = claimed.name().clone();
    let Some(endorsement) = claimed.endorsement() else {
        return Err(turn_away(claimed, "no-endorsement", None).await);
    };
    let endorsed = match endorse(claim(endorsement), &policy, vault.clock.now()) {
        Ok(endorsed) => endorsed,
        Err(error) => return Err(turn_away(claimed, error.code(), Some(with_causes(&error))).await),
    };
    let mut random = |bytes: &mut [u8]| vault.random.fill(bytes).map_err(|_| RandomError);
    let challenge = ActivationSecret::draw(&mut random)
        .map_err(|error| with_causes(&error))
        .and_then(|secret| endorsed.challenge(secret, &mut random).map_err(|error| with_causes(&error)));
    let (blob, activation) = match challenge {
        Ok(challenge) => challenge,
        Err(why) => return Err(turn_away(claimed, "ek-challenge", Some(why)).await),
    };
    let (Ok(credential), Ok(encrypted_secret)) = (Bytes::new(blob.credential), Bytes::new(blob.encrypted_secret))
    else {
        return Err(turn_away(claimed, "ek-challenge", None).await);
    };
    let (claimed, activated) = claimed.activate(Activate { credential, encrypted_secret }).await?;
    let enrolled = match activation.answer(activated.secret.as_bytes()) {
        Ok(enrolled) => enrolled,
        Err(error) => return Err(turn_away(claimed, error.code(), Some(with_causes(&error))).await),
    };
    match record(vault, &host, role, enrolled).await {
        Ok(ak) => Ok((claimed, Known::Enrolled(Pin::Ak(ak)))),
        Err(refusal) => {
            claimed.refuse(refusal).await;
            Err(Turned::Away { code: "store", why: None })
        }
    }
}

async fn record(vault: &Vault, host: &HostName, role: Role, enrolled: Enrolled) -> Result<AkName, Refusal> {
    let ek = EkDigest(*enrolled.ek_hash().as_bytes());
    let ak = enrolled.ak_name();
    let record = HostRecord::enrolled(role, enrolled, vault.clock.now());
    if let Err(error) = vault.records.put_host(host, &record).await {
        vault.store_failed(&error).await;
        return Err(RefusalCode::NotReady.into());
    }
    vault.audit(Event::Enrolled { host: host.clone(), machine: Machine::Ek(ek) }).await?;
    Ok(ak)
}

/// Pins hardware whose evidence was judged under the host's name.
async fn record_judged(vault: &Vault, host: &HostName, role: Role, machine: Machine) -> Result<(), Refusal> {
    let record = HostRecord::enrolled_judged(role, machine, vault.clock.now());
    if let Err(error) = vault.records.put_host(host, &record).await {
        vault.store_failed(&error).await;
        return Err(RefusalCode::NotReady.into());
    }
    vault.audit(Event::Enrolled { host: host.clone(), machine }).await
}

async fn judge<S: Stream>(vault: &Vault, claimed: Claimed<S>, known: Known) -> Result<Admitted<S>, Turned> {
    let (host, role) = (claimed.name().clone(), claimed.role());
    let Some(reference) = vault.reference(role) else {
        let why = format!("there are no reference values for {role}: an operator has to apply some");
        return Err(turn_away(claimed, "no-reference-values", Some(why)).await);
    };
    if !claimed.asked().cover(reference.wanted_logs()) {
        claimed
            .refuse(Refusal::new(RefusalCode::NotReady, "what peers are judged by was just replaced; dial again"))
            .await;
        return Err(Turned::Away { code: "reference-replaced", why: None });
    }
    let earlier = vault.clock_of(&host);
    let (pin, first) = match known {
        Known::Enrolled(pin) => (pin, None),
        Known::Allowed(machine, pin) => (pin, Some(machine)),
    };
    let since = Instant::now();
    let judged = claimed.judge(pin.pinned(earlier.as_ref(), None, vault.clock.now()), &reference).await;
    vault.link.steps().observe(Kind::Evidence, since.elapsed());
    let proven = judged?;
    vault.keep_clock(&host, proven.attested());
    if let Some(machine) = first
        && let Err(refusal) = record_judged(vault, &host, role, machine).await
    {
        proven.refuse(refusal).await;
        return Err(Turned::Away { code: "store", why: None });
    }
    let new = match vault.new_session(host.clone(), role, pin) {
        Ok(new) => new,
        Err(refusal) => {
            proven.refuse(refusal).await;
            return Err(Turned::Away { code: "busy", why: None });
        }
    };
    let event = Event::SessionOpened { session: new.entry.id, role, host };
    if let Err(refusal) = vault.audit(event).await {
        vault.forget_session(&new.entry);
        proven.refuse(refusal).await;
        return Err(Turned::Away { code: "audit", why: None });
    }
    let welcome = Welcome {
        session: new.entry.id,
        replica: vault.replica,
        parcel_key: vault.parcel_keys.public(),
        deposit_key: vault.deposit_keys.public(),
        reattest_every: vault.reattest_every(),
    };
    match proven.welcome(welcome).await {
        Ok(standing) => Ok(Admitted { standing, new }),
        Err(error) => {
            vault.forget_session(&new.entry);
            Err(error.into())
        }
    }
}

fn claim(endorsement: &Endorsement) -> EkClaim {
    EkClaim {
        ek_public: endorsement.ek_public.as_slice().to_vec(),
        certificates: endorsement.certificates.iter().map(|der| der.as_slice().to_vec()).collect(),
        ak_public: endorsement.ak_public.as_slice().to_vec(),
    }
}

async fn turn_away<S: Stream>(claimed: Claimed<S>, code: &'static str, why: Option<String>) -> Turned {
    claimed.refuse(RefusalCode::NotAttested.into()).await;
    Turned::Away { code, why: Some(why.unwrap_or_default()) }
}
