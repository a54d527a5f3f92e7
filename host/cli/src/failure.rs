//! Why the command did not do what it was asked: what was being done, why not, and what to try next.

use crate::attest::input::InputError;
use crate::audit::AuditError;
use crate::backup::CopyError;
use crate::check_config::CheckError;
use crate::deposit::DepositError;
use crate::document::DocumentError;
use crate::enclave::ApprovalError;
use crate::exit::Exit;
use crate::fixes::fix;
use crate::generate::GenerateError;
use crate::kind::KindError;
use crate::read::ReadError;
use crate::reference::FirmwareError;
use crate::reference::compute::ComputeError;
use crate::reference::sign::SigningError;
use crate::reserve::ReserveError;
use crate::rotate::RecoveryKeyError;
use crate::secret_input::SecretInputError;
use crate::setup::SetupError;
use crate::via::ViaError;
use blindferry_attest::reference::ReferenceError;
use blindferry_attest::snp::SnpRefusal;
use blindferry_attest::tpm::Malformed;
use blindferry_attest::tpm::events::CaptureError;
use blindferry_attest::tpm::pcr::PcrError;
use blindferry_calls::DenyError;
use blindferry_configuration::Faults;
use blindferry_device::client::DeviceError;
use blindferry_device::protocol::DeviceRefusal;
use blindferry_handle::entry::EntryError;
use blindferry_parent::ParentError;
use blindferry_proto::causes::with_causes;
use blindferry_proto::identifier::{AskId, Digest};
use blindferry_proto::platform::NoPlatform;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::Role;
use blindferry_proto::shown::visible;
use blindferry_session::PlatformError;
use blindferry_session::client::{CallError, ConnectError, SessionOver, VaultReferenceError};
use blindferry_worker::WorkerError;
use std::io;
use std::path::PathBuf;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot make this process unreadable")]
    Enter(#[source] EntryError),
    /// No filter of system calls.
    #[error("cannot give up io_uring")]
    Calls(#[source] DenyError),
    #[error("cannot use the configuration")]
    Configuration(#[source] Faults),
    #[error("cannot check a configuration")]
    Check(#[from] CheckError),
    #[error("cannot find {name} beside this executable")]
    NoNeighbour { name: &'static str },
    #[error("cannot set up the runtime")]
    Runtime { source: io::Error },
    #[error("cannot use a file")]
    Document(#[from] DocumentError),
    #[error("cannot read the vault's reference")]
    NoVaultReference { source: DocumentError },
    #[error("{path} is not a vault's reference", path = path.display())]
    VaultReference { path: PathBuf, source: Box<VaultReferenceError> },
    #[error("{path} is not reference values", path = path.display())]
    Reference { path: PathBuf, source: Box<ReferenceError> },
    #[error("{path} has reference values for {found}, wanted are those for {wanted}", path = path.display())]
    ReferenceRole { path: PathBuf, found: Role, wanted: Role },
    #[error("cannot write what this machine runs as reference values")]
    Capture { source: Box<ReferenceError> },
    #[error("cannot write the events of this machine's boot as reference values")]
    CaptureEvents { source: Box<CaptureError> },
    #[error("an SEV-SNP guest has no event log of a TPM: leave --events out")]
    NoEvents,
    #[error("cannot name the PCRs that events are judged by")]
    EventPcrs { source: PcrError },
    #[error("cannot tell the firmware version of this machine's TPM")]
    Firmware { source: FirmwareError },
    #[error("cannot compute reference values")]
    Compute(#[from] ComputeError),
    #[error("cannot rely on a signature")]
    Signing(#[from] SigningError),
    #[error("cannot approve these values{of}", of = path.as_ref().map(|path| format!(" of {}", path.display())).unwrap_or_default())]
    Approval { path: Option<PathBuf>, source: ApprovalError },
    #[error("{path} has {count} problem(s)", path = path.display())]
    Problems { path: PathBuf, count: usize },

    #[error("cannot start the device process {executable}", executable = executable.display())]
    SpawnDevice { executable: PathBuf, source: io::Error },
    #[error("cannot {doing}")]
    Device { doing: &'static str, source: DeviceError },
    #[error("cannot tell this machine's platform")]
    NoPlatform(#[from] NoPlatform),
    #[error("the TPM's endorsement key cannot be read")]
    EndorsementKey { source: Malformed },
    #[error("the guest's report cannot be read")]
    Report { source: Box<SnpRefusal> },

    #[error("cannot reach the vault at {address}")]
    Dial { address: String, source: io::Error },
    #[error("cannot open a session with the vault")]
    Connect { source: Box<ConnectError> },
    #[error("cannot {doing}")]
    Call { doing: &'static str, source: CallError },
    #[error("cannot {doing}: the session is over, and whether it was done is not known")]
    SessionOver { doing: &'static str, source: Box<SessionOver> },
    #[error("cannot {doing}: the vault gave an answer to another question")]
    Unexpected { doing: &'static str },

    #[error("that is not a credential's name; it is not repeated here, since it may be a secret")]
    NotAName,
    #[error(
        "a secret does not belong on the command line, where every process of this machine and the shell's history \
         have it; it is read from standard input"
    )]
    SecretOnCommandLine,
    #[error("the options do not fit")]
    Kind(#[from] KindError),
    #[error("cannot take {what}")]
    Secret { what: &'static str, source: SecretInputError },
    #[error("cannot make a key")]
    Generate(#[source] GenerateError),
    #[error("cannot encrypt the master to the vault")]
    Deposit(#[source] DepositError),

    #[error("cannot set up the enclave")]
    Setup(#[from] SetupError),
    #[error("cannot write a file")]
    Reserve(#[from] ReserveError),
    #[error("{path} exists and is something else than a vault's reference", path = path.display())]
    InTheWay { path: PathBuf },
    #[error("the recovery key is shown once, and standard output is no terminal")]
    NowhereForRecoveryKey,
    #[error("not confirmed, nothing was changed")]
    NotConfirmed,
    #[error("no ask {ask} waits: its asker went away, its time is over, or it was decided")]
    NoSuchAsk { ask: AskId },
    #[error("what waits is not what was named: its hash is {found}, named was {named}; nothing was decided")]
    OtherAsk { named: Digest, found: Digest },

    #[error("cannot take the new recovery key")]
    RecoveryKey(#[from] RecoveryKeyError),
    #[error("cannot use the backup")]
    Copy(#[from] CopyError),
    #[error("the audit cannot be relied on")]
    Audit(#[from] AuditError),

    #[error("cannot judge this evidence")]
    Attest(#[source] InputError),

    #[error("cannot get a grant from the broker")]
    Grant { source: ParentError },
    #[error("standard output is a terminal, where the token would be shown")]
    TokenOnTerminal,
    #[error("no token")]
    Read(#[from] ReadError),
    #[error("the broker does not run the program")]
    Via(#[from] ViaError),
    #[error("cannot execute {program}", program = program.display())]
    Execute { program: PathBuf, source: io::Error },

    #[error("cannot make the program's environment")]
    Environment { source: blindferry_environment::Refusal },
    #[error("cannot execute {program}", program = program.display())]
    Program { program: PathBuf, source: io::Error },

    #[error("cannot write the result")]
    Json { source: serde_json::Error },
    #[error("cannot write to standard output")]
    Output { source: io::Error },
    #[error("cannot write manual pages into {directory}", directory = directory.display())]
    Man { directory: PathBuf, source: io::Error },
}

impl Failure {
    /// A failed connection.
    pub(crate) fn connect(source: ConnectError) -> Self {
        Self::Connect { source: Box::new(source) }
    }

    /// The number that the command ends with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Dial { .. } => Exit::Unreachable,
            Self::NoSuchAsk { .. } | Self::OtherAsk { .. } => Exit::Refused,
            Self::Environment { .. } => Exit::Usage,
            Self::Program { source, .. } if source.kind() == io::ErrorKind::NotFound => Exit::NotFound,
            Self::Program { .. } => Exit::CannotExecute,
            Self::Connect { source } => match source.as_ref() {
                ConnectError::Evidence { .. } | ConnectError::VaultRefused { .. } | ConnectError::AnotherVault => {
                    Exit::Evidence
                }
                ConnectError::Refused { refusal } => of_refusal(refusal),
                ConnectError::OwnEvidence { .. }
                | ConnectError::Identity { .. }
                | ConnectError::Settings { .. }
                | ConnectError::Name => Exit::Local,
                ConnectError::Tls { .. }
                | ConnectError::Channel(_)
                | ConnectError::ActivateTwice
                | ConnectError::Late => Exit::Unreachable,
            },
            Self::Call { source: CallError::Refused(refusal), .. }
            | Self::Setup(SetupError::Refused(refusal))
            | Self::Grant { source: ParentError::Refused(refusal) } => of_refusal(refusal),
            Self::SessionOver { source, .. } => match source.as_ref() {
                SessionOver::Refused { .. } => Exit::Evidence,
                SessionOver::OwnEvidence { .. } => Exit::Local,
                SessionOver::Ended | SessionOver::Closed | SessionOver::Pressed | SessionOver::Failed { .. } => {
                    Exit::Unreachable
                }
            },
            Self::Call { .. } | Self::Unexpected { .. } | Self::Grant { .. } => Exit::Unreachable,
            Self::NotAName
            | Self::SecretOnCommandLine
            | Self::Kind(_)
            | Self::NowhereForRecoveryKey
            | Self::NotConfirmed
            | Self::TokenOnTerminal
            | Self::Approval { path: None, .. } => Exit::Usage,
            Self::Read(error) => error.exit(),
            Self::Via(error) => error.exit(),
            Self::Attest(_) => Exit::Unjudged,
            Self::Audit(error) => error.exit(),
            Self::Check(error) => error.exit(),
            Self::Compute(error) => error.exit(),
            Self::Problems { .. } => Exit::Policy,
            Self::Enter(_)
            | Self::Calls(_)
            | Self::Configuration(_)
            | Self::NoNeighbour { .. }
            | Self::Runtime { .. }
            | Self::Document(_)
            | Self::NoVaultReference { .. }
            | Self::VaultReference { .. }
            | Self::Reference { .. }
            | Self::ReferenceRole { .. }
            | Self::Capture { .. }
            | Self::CaptureEvents { .. }
            | Self::NoEvents
            | Self::EventPcrs { .. }
            | Self::Firmware { .. }
            | Self::Signing(_)
            | Self::Approval { .. }
            | Self::SpawnDevice { .. }
            | Self::Device { .. }
            | Self::NoPlatform(_)
            | Self::EndorsementKey { .. }
            | Self::Report { .. }
            | Self::Secret { .. }
            | Self::Generate(_)
            | Self::Deposit(_)
            | Self::Setup(_)
            | Self::Reserve(_)
            | Self::InTheWay { .. }
            | Self::Copy(_)
            | Self::RecoveryKey(_)
            | Self::Execute { .. }
            | Self::Json { .. }
            | Self::Output { .. }
            | Self::Man { .. } => Exit::Local,
        }
    }

    /// The next step, where there is an obvious one.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Configuration(_) => Some(
                "mend what is named, then `blindferry check-config`; without a file, write operator.toml with name, vault, \
                 vault_reference and the platform, or name it with --config",
            ),
            Self::NoNeighbour { .. } | Self::SpawnDevice { .. } | Self::Execute { .. } => {
                Some("install the executables of Blindferry in one directory, or name the missing one")
            }
            Self::Setup(SetupError::Start { .. }) => Some("name the enclave's executable with --enclave-program"),
            Self::Device { source: DeviceError::Refused(refusal), .. } => of_device(refusal),
            Self::Dial { .. } => Some("see whether the enclave runs, and whether `vault` names its address"),
            Self::Connect { source } => match source.as_ref() {
                ConnectError::Refused { refusal } => Some(fix(refusal.code)),
                ConnectError::AnotherVault => Some(
                    "its hardware and software are those of the reference, and its store is not: if the vault was made anew \
                     with `init`, get its new reference from whoever runs it; otherwise this is not your vault",
                ),
                ConnectError::VaultRefused { .. } => Some(
                    "do not go on before you know why: either the vault's software changed, then get its new reference \
                     from whoever runs it, or this is not your vault",
                ),
                ConnectError::OwnEvidence {
                    source: PlatformError::Device { source: DeviceError::Refused(refusal), .. },
                } => of_device(refusal),
                ConnectError::Tls { .. } | ConnectError::Channel(_) | ConnectError::Late => {
                    Some("see whether the enclave is ready, and whether `vault` names its port for sessions")
                }
                _ => None,
            },
            Self::Setup(SetupError::Refused(refusal)) if refusal.code == RefusalCode::Exists => {
                Some("nothing was changed; start the enclave, or start over with --force, which loses what is stored")
            }
            Self::Call { source: CallError::Refused(refusal), .. }
            | Self::Setup(SetupError::Refused(refusal))
            | Self::Grant { source: ParentError::Refused(refusal) } => Some(fix(refusal.code)),
            Self::Call { .. } | Self::SessionOver { .. } => Some("look whether it was done before doing it again"),
            Self::SecretOnCommandLine | Self::NotAName => Some("blindferry put NAME --kind KIND < FILE"),
            Self::NowhereForRecoveryKey => Some("name a new file for it with --recovery-out"),
            Self::NotConfirmed => Some("answer yes on a terminal, or say --yes"),
            Self::InTheWay { .. } => Some("name another file with --reference-out"),
            Self::Read(ReadError::Redeem(WorkerError::Refused(refusal))) => Some(fix(refusal.code)),
            Self::Read(error) => error.hint(),
            Self::Via(error) => error.hint(),
            Self::Attest(error) => Some(error.hint()),
            Self::Audit(error) => error.hint(),
            Self::Check(error) => Some(error.hint()),
            Self::Compute(error) => error.hint(),
            Self::NoSuchAsk { .. } => Some("see what waits: `blindferry approve`"),
            Self::OtherAsk { .. } => Some("look at it again: `blindferry approve show ASK`"),
            Self::TokenOnTerminal => Some("write it into a pipe, or say --force"),
            Self::Grant { source: ParentError::Connect { .. } } => {
                Some("see whether blindferryd runs, and whether BLINDFERRY_PARENTS names its socket")
            }
            Self::Man { .. } => Some("name a directory that this user may write into"),
            Self::Enter(_) | Self::Calls(_) => Some("`blindferry doctor` tells what this machine lacks"),
            Self::Unexpected { .. } => Some("install the version of the vault on this machine"),
            Self::NoPlatform(_) => Some("give `tcti` and `pins`, or run it in an SEV-SNP guest"),
            Self::Document(_) => Some("name a file of text that this user may read"),
            Self::Reserve(_) => Some("name a new file, in a directory that this user may write into"),
            Self::Reference { .. } => {
                Some("mend what is named; `blindferry reference capture` writes what is accepted")
            }
            Self::NoVaultReference { .. } | Self::VaultReference { .. } => {
                Some("use the file that `blindferry init` wrote as --reference-out")
            }
            _ => None,
        }
    }

    /// What is told on standard error: what was being done and why not, from the outside in; then what to try.
    pub(crate) fn told(&self) -> String {
        let line = format!("blindferry: {}", with_causes(self));
        // Parsers point into the text over several lines; anything else that steers a terminal is shown as it is.
        let lines: Vec<String> = line.lines().map(visible).collect();
        let mut told = lines.join("\n");
        if let Some(hint) = self.hint() {
            told.push_str("\ntry: ");
            told.push_str(hint);
        }
        told
    }
}

fn of_refusal(refusal: &Refusal) -> Exit {
    match refusal.code {
        RefusalCode::NotAttested => Exit::Evidence,
        RefusalCode::ApprovalRequired | RefusalCode::ApprovalDenied | RefusalCode::ApprovalTimedOut => {
            Exit::NotApproved
        }
        _ => Exit::Refused,
    }
}

fn of_device(refusal: &DeviceRefusal) -> Option<&'static str> {
    match refusal {
        DeviceRefusal::NotProvisioned { .. } => Some("blindferry-device provision --tcti TCTI --pins FILE"),
        DeviceRefusal::Unreachable { .. } => Some("see whether `tcti` is right and whether this user may open the TPM"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: RefusalCode) -> Failure {
        Failure::Call { doing: "store the credential", source: CallError::Refused(Refusal::new(code, "it is there")) }
    }

    #[test]
    fn what_was_done_why_not_and_what_to_try() {
        let told = refused(RefusalCode::Exists).told();
        assert_eq!(
            told,
            "blindferry: cannot store the credential: exists: it is there\ntry: remove it first, or say --replace where \
             there is such an option"
        );
    }

    #[test]
    fn ends_tell_refusals_evidence_and_connections_apart() {
        assert_eq!(refused(RefusalCode::Denied).exit(), Exit::Refused);
        assert_eq!(refused(RefusalCode::NotAttested).exit(), Exit::Evidence);
        let dial = Failure::Dial { address: "a:1".to_owned(), source: io::ErrorKind::ConnectionRefused.into() };
        assert_eq!(dial.exit(), Exit::Unreachable);
        assert_eq!(Failure::SecretOnCommandLine.exit(), Exit::Usage);
        assert_eq!(Failure::connect(ConnectError::Late).exit(), Exit::Unreachable);
        let problems = Failure::Problems { path: "a".into(), count: 1 };
        assert_eq!(problems.exit(), Exit::Policy);
    }

    #[test]
    fn what_a_peer_said_cannot_steer_the_terminal() {
        let refusal = Refusal::new(RefusalCode::Denied, "\u{1b}[2Jgone");
        let told = Failure::Call { doing: "x", source: CallError::Refused(refusal) }.told();
        assert!(!told.contains('\u{1b}'), "{told}");
    }
}
