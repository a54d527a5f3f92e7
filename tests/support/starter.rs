//! A starter with the rights that its service gives it, a broker's socket for parents, and callers of them.

use crate::account::{Account, USER};
use crate::process::{Running, children, eventually};
use crate::program::ours;
use blindferry_handle::memfd::Handle;
use blindferry_handle::packet::PacketListener;
use blindferry_proto::identifier::GrantId;
use blindferry_proto::local::{ParentReply, ParentRequest, decode, encode};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// A starter, ended when dropped, and everything that it started with it.
#[derive(Debug)]
pub struct Starter {
    directory: PathBuf,
    workers: PathBuf,
    process: Running,
}

impl Starter {
    /// Starts one, under a user of its own with the capabilities that it needs and no others, whose callers' grants are
    /// redeemed at this socket.
    #[must_use]
    pub fn start(name: &str, workers: &Path, options: &[&str]) -> Self {
        let directory = std::env::temp_dir().join(format!("blindferry-via-{}-{name}", std::process::id()));
        let _left_over = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
        chown(&directory, Some(STARTER), Some(STARTER)).unwrap();
        USER.make_directory(&directory.join("users"));
        serve_parents(&directory.join("parents.sock"));
        let socket = directory.join("starter.sock");
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={STARTER}"), format!("--regid={STARTER}"), "--clear-groups".to_owned()]);
        for set in ["inh", "ambient"] {
            command.arg(format!("--{set}-caps=-all,+setuid,+setgid,+setfcap,+kill"));
        }
        // By way of env: setpriv itself still holds what reads every file.
        command.args(["--", "env"]).arg(ours("blindferry-starter")).arg("--socket").arg(&socket);
        command.arg("--launcher").arg(ours("blindferry-launch")).args(options);
        let process = Running::start(command, &directory.join("log"));
        eventually("the starter", || process.log().contains("listening").then_some(()));
        Self { directory, workers: workers.to_owned(), process }
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.join("starter.sock")
    }

    /// A directory of the callers' user.
    #[must_use]
    pub fn users(&self) -> PathBuf {
        self.directory.join("users")
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Running {
        &mut self.process
    }

    /// What it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The keepers that it has.
    #[must_use]
    pub fn keepers(&self) -> Vec<u32> {
        children(self.process.id(), "blindferry-starter")
    }

    /// `blindferry run --via broker` with these words, by a user, in a directory of his.
    #[must_use]
    pub fn run(&self, words: &[&str]) -> Command {
        self.run_by(USER.command(&ours("blindferry")), words)
    }

    /// The same, at the end of another command.
    #[must_use]
    pub fn run_by(&self, mut command: Command, words: &[&str]) -> Command {
        command.args(["run", "--via", "broker", "--credential", "secret"]).args(words);
        self.told(&mut command);
        command
    }

    /// Tells a command where everything is.
    pub fn told(&self, command: &mut Command) {
        command.env("BLINDFERRY_STARTER", self.socket()).env("BLINDFERRY_WORKERS", &self.workers);
        command.env("BLINDFERRY_PARENTS", self.directory.join("parents.sock")).current_dir(self.users());
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        self.process.kill();
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

/// A command line that runs what follows as this account, with these supplementary groups, by way of `setpriv`.
#[must_use]
pub fn with_groups(account: Account, groups: &[u32]) -> Command {
    let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
    let mut command = Command::new("setpriv");
    let id = account.uid();
    command.args([format!("--reuid={id}"), format!("--regid={id}"), format!("--groups={}", groups.join(","))]);
    command.args(["--", "env"]);
    command
}

/// Grants, to whoever asks, that are the names of their credentials.
fn serve_parents(path: &Path) {
    let listener = PacketListener::bind(path, 0o666).unwrap();
    thread::spawn(move || {
        while let Ok(parent) = listener.accept() {
            let Ok(asked) = parent.receive() else { continue };
            let Ok(ParentRequest::Ask { credential, .. }) = decode(&asked.bytes) else { continue };
            let granted = encode(&ParentReply::Granted { grant: GrantId([3; 16]), expires: u64::MAX }).unwrap();
            let grant = Handle::seal("grant", credential.as_str().as_bytes()).unwrap();
            // Who went in the meantime wants none.
            let _sent = parent.send(&granted, &[grant.as_fd()]);
        }
    });
}

/// The starter's user.
const STARTER: u32 = 64_213;
