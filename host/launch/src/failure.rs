//! Why the launcher did not become the program, and the exit status that says so.

use crate::confine::ConfineError;
use crate::deliver::DeliverError;
use crate::deliver::plan::BadPlan;
use crate::environment::{PresentError, Untellable};
use crate::outside::OutsideError;
use crate::program::ProgramError;
use crate::protect::ProtectError;
use crate::renew::RenewError;
use crate::renew::notice::NoticeUnusable;
use blindferry_environment::Refusal;
use blindferry_proto::name::CredentialName;
use blindferry_worker::WorkerError;

/// Any step that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the command line makes no sense")]
    Arguments(#[from] BadPlan),
    #[error("cannot make the program's environment")]
    Environment(#[from] Refusal),
    #[error("cannot use the environment that was handed over")]
    Present(#[from] PresentError),
    #[error("cannot try what others of this user can do")]
    Outside(#[from] OutsideError),
    #[error("cannot tell the vault of the credentials that the program would inherit")]
    Inherited(#[from] Untellable),
    #[error("--protection {level}: not available here")]
    NotHere { level: &'static str },
    #[error("not safe to go on")]
    Confine(#[from] ConfineError),
    #[error("cannot find the program")]
    Program(#[from] ProgramError),
    #[error("cannot execute the program")]
    Protect(#[from] ProtectError),
    #[error("cannot take the grant")]
    Grant(#[source] WorkerError),
    #[error("no token{}", of(credential.as_ref()))]
    Redeem { credential: Option<CredentialName>, source: WorkerError },
    #[error("--renew-command")]
    Notice(#[from] NoticeUnusable),
    #[error("cannot keep the tokens fresh")]
    Renew(#[from] RenewError),
    #[error("cannot deliver the token")]
    Deliver(#[from] DeliverError),
}

impl Failure {
    /// As env(1), nohup(1) and timeout(1) have it: 125 is the launcher's own failure, 126 a program that cannot be
    /// executed, 127 one that is not found. 124, timeout's word for "did not get to its end", says that there is no
    /// token because somebody decided so.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Redeem { source: WorkerError::Refused(_), .. } => 124,
            Self::Program(ProgramError::NotFound { .. }) => 127,
            Self::Protect(ProtectError::Probe { .. } | ProtectError::Group { .. }) | Self::NotHere { .. } => {
                OWN_FAILURE
            }
            Self::Program(_) | Self::Protect(_) => 126,
            Self::Arguments(_)
            | Self::Environment(_)
            | Self::Notice(_)
            | Self::Renew(_)
            | Self::Present(_)
            | Self::Outside(_)
            | Self::Inherited(_)
            | Self::Confine(_)
            | Self::Grant(_)
            | Self::Redeem { .. }
            | Self::Deliver(_) => OWN_FAILURE,
        }
    }
}

/// Which one, where there are several.
fn of(credential: Option<&CredentialName>) -> String {
    credential.map(|name| format!(" of {}", name.as_str())).unwrap_or_default()
}

/// The launcher itself failed.
pub(crate) const OWN_FAILURE: u8 = 125;
