//! Ways to start a program with a token: the columns of the table in docs/threats.md.

/// A way to start a program with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// fork and exec, with the token in a variable: what a shell, a container's runtime and most supervisors do.
    Plain,
    /// The program makes itself non-dumpable first thing in its `main`.
    Prctl,
    /// Within user, PID and mount namespaces of its user's own.
    Unshare,
    /// As a container's runtime does: root makes the namespaces and becomes the user, and the token is in a variable.
    Container,
    /// As with `LoadCredential=` of systemd: a file of mode 0400 in a tmpfs, and its directory in a variable.
    Credential,
    /// The launcher, `--protection none`.
    None,
    /// The launcher, `--protection exec-only`.
    ExecOnly,
    /// The launcher, `--protection own-group`.
    OwnGroup,
    /// `blindferry run --via broker`: by the starter, and so in a tree that is not its parent's.
    OwnNamespace,
}

impl Way {
    /// Those without us, then the levels.
    pub const ALL: [Self; 9] = [
        Self::Plain,
        Self::Prctl,
        Self::Unshare,
        Self::Container,
        Self::Credential,
        Self::None,
        Self::ExecOnly,
        Self::OwnGroup,
        Self::OwnNamespace,
    ];

    /// The column of the table.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Plain => "fork and exec",
            Self::Prctl => "`prctl` in main",
            Self::Unshare => "`unshare --user --pid --mount-proc`",
            Self::Container => "a container's variable",
            Self::Credential => "a file of 0400 (systemd's credentials)",
            Self::None => "`none`",
            Self::ExecOnly => "`exec-only`",
            Self::OwnGroup => "`own-group`",
            Self::OwnNamespace => "`own-namespace`",
        }
    }

    /// Whether a process of the same user shall get nothing, not even by looking without a pause.
    #[must_use]
    pub fn holds(self) -> bool {
        matches!(self, Self::ExecOnly | Self::OwnGroup | Self::OwnNamespace)
    }

    /// Whether a launcher of ours starts it.
    #[must_use]
    pub fn is_ours(self) -> bool {
        matches!(self, Self::None) || self.holds()
    }

    /// What the launcher is told; the starter tells it its own.
    pub(crate) fn level(self) -> Option<&'static str> {
        match self {
            Self::Plain | Self::Prctl | Self::Unshare | Self::Container | Self::Credential | Self::OwnNamespace => None,
            Self::None => Some("none"),
            Self::ExecOnly => Some("exec-only"),
            Self::OwnGroup => Some("own-group"),
        }
    }
}
