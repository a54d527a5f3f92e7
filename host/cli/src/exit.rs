//! How the command ends, as a number: stable, so that scripts can tell one end from another.

use std::process::ExitCode;

/// Every end that this command has. `run` becomes another program and ends as that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The vault said no; its code is in the error.
    Refused,
    /// The command line makes no sense.
    Usage,
    /// `attest`: there was nothing to judge, or not enough. The same number as for wrong usage, since either way nothing
    /// was found out.
    Unjudged,
    /// The vault, or the broker, cannot be reached, or the connection was lost.
    Unreachable,
    /// Evidence was refused: the vault's by us, or ours by the vault.
    Evidence,
    /// Something on this machine is not as it must be: a file, the TPM, the configuration.
    Local,
    /// The audit does not verify.
    Audit,
    /// The policy has problems.
    Policy,
    /// A person has to approve, and nobody did: denied, too late, or not waited for.
    NotApproved,
    /// `doctor`: this machine lacks something that is needed.
    Unfit,
    /// `doctor`: of something that is needed it could not be found out. The same number as for wrong usage, as with
    /// [`Exit::Unjudged`].
    Unclear,
    /// `status --check`: it serves, and somebody should look.
    Degraded,
    /// `status --check`: it does not do what it is for.
    Failing,
    /// `env`: the program cannot be executed.
    CannotExecute,
    /// `env`: the program is not found.
    NotFound,
}

impl Exit {
    /// The number.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Refused | Self::Unfit | Self::Degraded => 1,
            Self::Usage | Self::Unjudged | Self::Unclear | Self::Failing => 2,
            Self::Unreachable => 3,
            Self::Evidence => 4,
            Self::Local => 5,
            Self::Audit => 6,
            Self::Policy => 7,
            Self::NotApproved => 8,
            Self::CannotExecute => 126,
            Self::NotFound => 127,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// The same for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit status: 0 done, 1 refused by the vault, 2 wrong usage, 3 vault or broker not reachable, 4 evidence refused,
5 a problem on this machine, 6 the audit does not verify, 7 the policy has problems, 8 no person approved. Of their own:
`attest verify` has 0 accepted, 1 refused, 2 could not be judged; `doctor` 0 fit, 1 something needed is lacking, 2 could
not be found out; `status --check` 0 healthy, 1 degraded, 2 failing.";
