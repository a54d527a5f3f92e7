//! One visit to the TPM: connect, prove that the salt key is ours, open a session salted to it, work, leave nothing behind.
//!
//! Each request is a transaction of its own. So swtpm, which serves one client, can be shared by processes; no handle
//! outlives its request; and the pin is compared every time, not once at start-up.
//!
//! The salt key is created anew from its template and compared by Name with the one of provisioning. Somebody on the bus
//! who answers with a key of his own is refused there, before anything is encrypted; somebody who answers with the right
//! public key does not have its private half, cannot know the salt, and so can neither read the parameters nor forge the
//! HMACs of what follows. Sessions that are not salted do not exist here.

use blindferry_device::protocol::DeviceRefusal;
use ring::digest;
use tss_esapi::Context;
use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::SessionType;
use tss_esapi::handles::{KeyHandle, ObjectHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{Public, SymmetricDefinition};
use tss_esapi::traits::Marshall;

use crate::failure::{During, Failure};
use crate::leftovers;
use crate::tcti::Tcti;
use crate::template;

/// A visit to the TPM. Dropping it flushes whatever it created.
pub(crate) struct Transaction {
    context: Context,
    salt_key: KeyHandle,
    salt_key_name: Vec<u8>,
    session: AuthSession,
}

/// Which salt key a transaction accepts.
#[derive(Clone, Copy)]
pub(crate) enum SaltKey<'a> {
    /// The one of provisioning.
    Pinned(&'a [u8]),
    /// Whichever the TPM has: only while it is provisioned, where nobody can know it yet.
    TrustOnFirstUse,
}

/// What the session does for a command beside authenticating it and its response.
#[derive(Clone, Copy)]
pub(crate) enum Protect {
    /// Encrypts the first parameter of the command.
    Command,
    /// Encrypts the first parameter of the response.
    Response,
    /// Encrypts both.
    Both,
    /// Neither has a parameter that can be encrypted, and the command authorises with the session.
    Authorisation,
    /// The command needs no authorisation: the session is there so that command and response carry an HMAC.
    Integrity,
}

impl Transaction {
    /// Runs `work` in a transaction. When the TPM's slots are full, which without a resource manager means that a client
    /// died, they are swept and `work` runs once more: a full TPM says so before it does anything.
    pub(crate) fn run<T>(
        tcti: &Tcti,
        salt_key: SaltKey<'_>,
        mut work: impl FnMut(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, DeviceRefusal> {
        let mut attempt = || Self::open(tcti, salt_key).and_then(|mut transaction| work(&mut transaction));
        let outcome = match attempt() {
            Err(failure) if failure.is_full() => {
                leftovers::sweep(tcti).map_err(|error| unreachable(tcti, &error))?;
                attempt()
            }
            outcome => outcome,
        };
        outcome.map_err(Failure::into_refusal)
    }

    fn open(tcti: &Tcti, accepted: SaltKey<'_>) -> Result<Self, Failure> {
        let mut context = tcti.to_conf().and_then(Context::new).map_err(|error| unreachable(tcti, &error))?;
        let template = template::salt_key().during("build the salt key's template")?;
        let (salt_key, public) = create_primary(&mut context, Hierarchy::Owner, template, "create the salt key")?;
        let salt_key_name = name(&public)?;
        if let SaltKey::Pinned(pinned) = accepted
            && pinned != salt_key_name
        {
            return Err(Failure::Refused(DeviceRefusal::SaltKeyChanged {
                pinned: hex::encode(pinned),
                found: hex::encode(salt_key_name),
            }));
        }
        let session = start_session(&mut context, salt_key, SessionType::Hmac)?;
        Ok(Self { context, salt_key, salt_key_name, session })
    }

    /// Runs one command with the transaction's session, which authorises it (every key of ours has an empty password)
    /// and protects its parameters.
    pub(crate) fn protected<T>(
        &mut self,
        protect: Protect,
        operation: &'static str,
        command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, Failure> {
        self.prepare(protect)?;
        self.context.execute_with_session(Some(self.session), command).during(operation)
    }

    /// Runs one command authorised by `policy` alone, its parameters protected by the transaction's session.
    pub(crate) fn by_policy<T>(
        &mut self,
        policy: PolicySession,
        protect: Protect,
        operation: &'static str,
        command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, Failure> {
        self.prepare(protect)?;
        let sessions = (Some(AuthSession::from(policy)), Some(self.session), None);
        self.context.execute_with_sessions(sessions, command).during(operation)
    }

    /// Runs one command on two objects: the first authorised and protected by the transaction's session, the second by
    /// `second`.
    pub(crate) fn with_second<T>(
        &mut self,
        second: AuthSession,
        protect: Protect,
        operation: &'static str,
        command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, Failure> {
        self.prepare(protect)?;
        self.context.execute_with_sessions((Some(self.session), Some(second), None), command).during(operation)
    }

    /// Runs one command that neither tells nor decides anything worth protecting.
    pub(crate) fn plain<T>(
        &mut self,
        operation: &'static str,
        command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, Failure> {
        self.context.execute_without_session(command).during(operation)
    }

    /// A policy session, salted like every other.
    pub(crate) fn policy_session(&mut self) -> Result<PolicySession, Failure> {
        let session = start_session(&mut self.context, self.salt_key, SessionType::Policy)?;
        PolicySession::try_from(session).during("use a policy session")
    }

    /// One more session like the transaction's own, for a command that authorises two objects.
    pub(crate) fn second_session(&mut self) -> Result<AuthSession, Failure> {
        start_session(&mut self.context, self.salt_key, SessionType::Hmac)
    }

    /// Creates a primary key with an empty password, from a template that leaves nothing to choose.
    pub(crate) fn primary(
        &mut self,
        hierarchy: Hierarchy,
        template: Public,
        operation: &'static str,
    ) -> Result<(KeyHandle, Public), Failure> {
        self.protected(Protect::Authorisation, operation, |context| {
            context.create_primary(hierarchy, template, None, None, None, None)
        })
        .map(|created| (created.key_handle, created.out_public))
    }

    /// Frees a slot before the transaction ends.
    pub(crate) fn flush(&mut self, object: impl Into<ObjectHandle>) -> Result<(), Failure> {
        self.plain("flush an object", |context| context.flush_context(object.into()))
    }

    /// The salt key, which is also the parent of what is sealed.
    pub(crate) fn salt_key(&self) -> KeyHandle {
        self.salt_key
    }

    /// Its Name.
    pub(crate) fn salt_key_name(&self) -> &[u8] {
        &self.salt_key_name
    }

    fn prepare(&mut self, protect: Protect) -> Result<(), Failure> {
        let (decrypt, encrypt, audit) = match protect {
            Protect::Command => (true, false, false),
            Protect::Response => (false, true, false),
            Protect::Both => (true, true, false),
            Protect::Authorisation => (false, false, false),
            Protect::Integrity => (false, false, true),
        };
        let (attributes, mask) = SessionAttributesBuilder::new()
            .with_continue_session(true)
            .with_decrypt(decrypt)
            .with_encrypt(encrypt)
            .with_audit(audit)
            .build();
        self.context.tr_sess_set_attributes(self.session, attributes, mask).during("set up the session")
    }
}

/// The Name of an object by its public area: `nameAlg ‖ H(TPMT_PUBLIC)`.
pub(crate) fn name(public: &Public) -> Result<Vec<u8>, Failure> {
    let marshalled = public.marshall().during("marshal a public area")?;
    let algorithm = match public.name_hashing_algorithm() {
        HashingAlgorithm::Sha384 => &digest::SHA384,
        _ => &digest::SHA256,
    };
    let id = marshalled.get(2..4).unwrap_or_default();
    Ok([id, digest::digest(algorithm, &marshalled).as_ref()].concat())
}

/// Before the first salted session there is nothing to protect a command with; and a template and a public key are no
/// secrets. What comes back is judged by its Name.
fn create_primary(
    context: &mut Context,
    hierarchy: Hierarchy,
    template: Public,
    operation: &'static str,
) -> Result<(KeyHandle, Public), Failure> {
    context
        .execute_with_session(Some(AuthSession::Password), |context| {
            context.create_primary(hierarchy, template, None, None, None, None)
        })
        .during(operation)
        .map(|created| (created.key_handle, created.out_public))
}

fn start_session(context: &mut Context, salt_key: KeyHandle, kind: SessionType) -> Result<AuthSession, Failure> {
    context
        .execute_without_session(|context| {
            context.start_auth_session(
                Some(salt_key),
                None,
                None,
                kind,
                SymmetricDefinition::AES_128_CFB,
                HashingAlgorithm::Sha256,
            )
        })
        .and_then(|session| session.ok_or(NO_SESSION))
        .during("start a salted session")
}

const NO_SESSION: tss_esapi::Error = tss_esapi::Error::WrapperError(tss_esapi::WrapperErrorKind::WrongValueFromTpm);

fn unreachable(tcti: &Tcti, error: &dyn std::error::Error) -> DeviceRefusal {
    DeviceRefusal::Unreachable { tcti: tcti.to_string(), reason: error.to_string() }
}
