//! How well a program is kept from other processes of its user: the levels, what each takes, keeps out and costs.

use blindferry_proto::protection::ProtectionLevel;
use clap::ValueEnum;

/// A level of protection. What is asked for is what a program gets, or it is not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// PROGRAM is started as it is: any process of its user can read the token
    None,
    /// PROGRAM runs from a copy that cannot be read: kept from its user's processes, what it starts is not
    ExecOnly,
    /// PROGRAM and all that it starts run under another real group: needs the launcher installed set-group-ID
    OwnGroup,
    /// PROGRAM and all that it starts run in a user namespace of another user's: `blindferry run --via broker` alone
    OwnNamespace,
}

/// What is to be said of a level before somebody chooses it.
pub(crate) struct Terms {
    /// What it takes.
    pub(crate) needs: &'static str,
    /// Who is kept out, of what.
    pub(crate) stops: &'static str,
    /// Who is not.
    pub(crate) leaves: &'static str,
    /// What a program can no longer do.
    pub(crate) costs: &'static str,
}

impl Level {
    /// From the weakest to the strongest.
    pub(crate) const ALL: [Self; 4] = [Self::None, Self::ExecOnly, Self::OwnGroup, Self::OwnNamespace];

    /// Its word on the command line, and everywhere.
    pub(crate) fn name(self) -> &'static str {
        self.told().name()
    }

    /// The same, as the vault is told.
    pub(crate) fn told(self) -> ProtectionLevel {
        match self {
            Self::None => ProtectionLevel::None,
            Self::ExecOnly => ProtectionLevel::ExecOnly,
            Self::OwnGroup => ProtectionLevel::OwnGroup,
            Self::OwnNamespace => ProtectionLevel::OwnNamespace,
        }
    }

    pub(crate) fn terms(self) -> Terms {
        match self {
            Self::None => Terms {
                needs: "nothing",
                stops: "nobody of this user",
                leaves: "every process of this user reads the token in the program's memory, environment and descriptors, \
                         for as long as it runs; other users are kept out by the kernel",
                costs: "the token, to whoever gets a process under this user",
            },
            Self::ExecOnly => Terms {
                needs: "no privilege; vm.memfd_noexec below 2, or a program that its user can execute and not read",
                stops: "processes of this user, from the program's first instruction: memory, environment, descriptors, \
                        tracing, core files",
                leaves: "root; whatever the program starts in its turn; with fs.suid_dumpable=2, the core handler that \
                         gets a crash",
                costs: "no user namespaces of the program's own, no /proc/self/mem or environ; /proc/self/exe and \
                        $ORIGIN name a memfd",
            },
            Self::OwnGroup => Terms {
                needs: "blindferry-launch installed set-group-ID of a group that owns nothing (mode 2711), on a file \
                        system without nosuid, and started without no_new_privs",
                stops: "the same, also out of all that the program starts, over every later exec",
                leaves: "root; with fs.suid_dumpable=2, the core handler",
                costs: "as exec-only, for all that the program starts; the loader ignores LD_LIBRARY_PATH, LD_PRELOAD and \
                        TMPDIR as in any set-group-ID program, and Perl scripts start nothing by PATH; no user namespaces; groups cannot be changed",
            },
            Self::OwnNamespace => Terms {
                needs: "blindferry-starter on this machine, and `blindferry run --via broker`, by a user who is not root and \
                        by a process that is not confined",
                stops: "the same, out of all that the program starts, also programs that the same starter starts for others \
                        of this user; what is loaded into the caller, or traces it, does not reach the program",
                leaves: "root, the starter's user; core handlers that get a crash through a pipe",
                costs: "no set-user-ID programs, no capabilities by files; the control group, scheduling and audit identity \
                        of the starter's service",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_has_one_name_on_the_command_line_to_the_vault_and_in_what_is_said() {
        for level in Level::ALL {
            assert_eq!(level.to_possible_value().unwrap().get_name(), level.name());
            assert_eq!(level.told().name(), level.name());
        }
    }
}
