//! Who runs what: users without a home where the tests are root, all but one without a name, else the one that there is.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// A user and the group of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account(Option<u32>);

/// Whoever runs the tests.
pub const CALLER: Account = Account(None);
/// The enclave's side: front, vault and their device process.
pub const ENCLAVE: Account = Account(Some(64_210));
/// The broker's.
pub const BROKER: Account = Account(Some(64_211));
/// Parents and workers.
pub const USER: Account = Account(Some(64_212));
/// A user who has a name, for programs that ask for it.
pub const NAMED: Account = Account(Some(65_534));

/// Whether the tests may become others.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Account {
    /// The user id that a process of this account really has.
    #[must_use]
    pub fn uid(self) -> u32 {
        self.other().unwrap_or_else(|| rustix::process::geteuid().as_raw())
    }

    /// A command that will run as this account.
    #[must_use]
    pub fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(id) = self.other() {
            // The standard library drops supplementary groups when root changes the user.
            command.uid(id).gid(id);
        }
        command
    }

    /// Makes a directory of this account's own.
    pub fn make_directory(self, path: &Path) {
        std::fs::create_dir_all(path).unwrap();
        self.give(path);
    }

    /// Gives a file to this account.
    pub fn give(self, path: &Path) {
        if let Some(id) = self.other() {
            std::os::unix::fs::chown(path, Some(id), Some(id)).unwrap();
        }
    }

    fn other(self) -> Option<u32> {
        self.0.filter(|_| is_root())
    }
}
