//! How the command ends, as a number: stable, so that scripts can tell one end from another.

use std::process::ExitCode;

/// Every end that this command has. `run` and `read` become another program and end as that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The vault said no; its code is in the error.
    Refused = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The vault, or the broker, cannot be reached, or the connection was lost.
    Unreachable = 3,
    /// Evidence was refused: the vault's by us, or ours by the vault.
    Evidence = 4,
    /// Something on this machine is not as it must be: a file, the TPM, the configuration.
    Local = 5,
    /// The audit does not verify.
    Audit = 6,
    /// The policy has problems.
    Policy = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Refused => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::Evidence => 4,
            Exit::Local => 5,
            Exit::Audit => 6,
            Exit::Policy => 7,
        })
    }
}

/// The same for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit status: 0 done, 1 refused by the vault, 2 wrong usage, 3 vault or broker not reachable, 4 evidence refused,
5 a problem on this machine, 6 the audit does not verify, 7 the policy has problems.";
