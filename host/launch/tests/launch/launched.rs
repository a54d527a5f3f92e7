//! Starts the launcher as a parent would: the grant on an inherited descriptor, as a user without privileges.

use crate::fake_broker::FakeBroker;
use blindferry_handle::inherit::keep_over_exec;
use blindferry_handle::memfd::Handle;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Output};
use std::{env, fs};

/// The user as which launcher, programs and attackers run.
pub(crate) const NOBODY: u32 = 65534;

/// A command line that starts with the launcher, and the grant that it inherits.
pub(crate) struct Launch {
    pub(crate) command: Command,
    _grants: Vec<OwnedFd>,
}

impl Launch {
    pub(crate) fn of(broker: &FakeBroker) -> Self {
        Self::at(&broker.path(), Path::new(env!("CARGO_BIN_EXE_blindferry-launch")))
    }

    pub(crate) fn at(workers: &Path, launcher: &Path) -> Self {
        let grant = Handle::seal("grant", b"opaque grant").unwrap().into_fd();
        keep_over_exec(grant.as_fd()).unwrap();
        let mut command = as_nobody(launcher.to_str().unwrap());
        command.args(["--grant-fd", &grant.as_raw_fd().to_string(), "--workers", workers.to_str().unwrap()]);
        Self { command, _grants: vec![grant] }
    }

    /// With a grant for each of these credentials, whose content is the name.
    pub(crate) fn several(broker: &FakeBroker, names: &[&str]) -> Self {
        let mut command = as_nobody(env!("CARGO_BIN_EXE_blindferry-launch"));
        command.args(["--workers", broker.path().to_str().unwrap()]);
        let mut grants = Vec::new();
        for name in names {
            let grant = Handle::seal("grant", name.as_bytes()).unwrap().into_fd();
            keep_over_exec(grant.as_fd()).unwrap();
            command.args(["--grant-fd", &format!("{}={name}", grant.as_raw_fd())]);
            grants.push(grant);
        }
        Self { command, _grants: grants }
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn output(mut self) -> Output {
        self.command.output().unwrap()
    }

    /// What the program printed; the launch has to be without complaint.
    pub(crate) fn printed(self) -> String {
        let output = self.output();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && complaint.is_empty(), "{}: {complaint}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }
}

/// `program`, without privileges.
pub(crate) fn as_nobody(program: &str) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    // By way of env: setpriv itself still holds CAP_DAC_OVERRIDE when it executes, and an executable that cannot be read
    // protects only from those who cannot read it.
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "--", "env", program]);
    command
}

/// Waits until a process has become `name`, by its command line, which every user may read.
pub(crate) fn wait_until_it_is(pid: u32, name: &str) {
    for _ in 0..500 {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        if line.split(|byte| *byte == 0).next() == Some(name.as_bytes()) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("process {pid} did not become {name}");
}
