//! A machine with a real systemd, booted from this one's root and thrown away: a container of systemd-nspawn.

use crate::account::is_root;
use crate::process::{PATIENCE, Running, below, within};
use crate::program::{missing, ours};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A machine that runs; ended, and everything in it, when dropped.
#[derive(Debug)]
pub struct Booted {
    running: Running,
    /// Its first process.
    first: u32,
    name: String,
    /// Where it is mounted, for itself alone.
    _directory: TempDir,
}

/// What a script did there.
#[derive(Debug)]
pub struct Done {
    /// Whether it ended well.
    pub well: bool,
    /// Both of its streams.
    pub said: String,
}

impl Booted {
    /// Boots one that sees this directory as `/mnt`. `None`, and a line says why, where this machine cannot.
    #[must_use]
    pub fn start(packages: &Path) -> Option<Self> {
        if !is_root() {
            println!("skipped: only root can boot a machine");
            return None;
        }
        if missing(&["systemd-nspawn", "unshare", "nsenter", "dpkg"]) {
            return None;
        }
        let name = format!("blindferry-package-{}", std::process::id());
        let directory = TempDir::with_prefix("blindferry-boot-").unwrap();
        let log = directory.path().with_extension("log");
        let mut command = Command::new("unshare");
        // When unshare ends, so does its child, and with that one all of its PID namespace.
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh"]);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/support/boot_machine.sh"));
        command.arg(directory.path()).arg(&name).arg(packages).stdin(Stdio::null()).stdout(Stdio::null());
        let mut running = Running::start(command, &log);
        let booted = within(PATIENCE, || match running.ended() {
            Some(_) => Some(None),
            None => first_of(running.id()).filter(|first| is_up(*first)).map(Some),
        });
        let log = (running.log(), fs::remove_file(&log)).0;
        match booted.flatten() {
            Some(first) => Some(Self { running, first, name, _directory: directory }),
            None => {
                println!("skipped: no machine boots here: {log}");
                None
            }
        }
    }

    /// Runs a script there, as root, to its end.
    pub fn try_run(&self, script: &str) -> Done {
        run(self.first, script)
    }

    /// The same, which must end well; gives what it said.
    pub fn run(&self, script: &str) -> String {
        let done = self.try_run(script);
        assert!(done.well, "{script}\n{}\n{}", done.said, self.journal());
        done.said.trim().to_owned()
    }

    /// Asks again and again until the script ends well.
    pub fn until(&self, script: &str) -> String {
        let answer = within(PATIENCE, || Some(self.try_run(script)).filter(|done| done.well));
        answer.unwrap_or_else(|| panic!("waited in vain for {script}\n{}", self.journal())).said.trim().to_owned()
    }

    /// What our services have logged lately.
    #[must_use]
    pub fn journal(&self) -> String {
        self.journal_of("blindferry*")
    }

    /// What a unit has logged lately, and what was said of it.
    #[must_use]
    pub fn journal_of(&self, unit: &str) -> String {
        run(self.first, &format!("journalctl --no-pager --lines 80 --output cat --unit '{unit}'")).said
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        self.running.kill();
        for hierarchy in ["systemd", "unified", "."] {
            let group = Path::new("/sys/fs/cgroup").join(hierarchy).join(&self.name);
            // Its processes are ended by the kernel, some moments after that of ours.
            let _left = within(PATIENCE, || (!group.exists() || remove_groups(&group)).then_some(()));
        }
    }
}

/// From the leaves on, as control groups want it.
fn remove_groups(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() && !remove_groups(&entry.path()) {
            return false;
        }
    }
    fs::remove_dir(group).is_ok()
}

/// systemd in there: the child of systemd-nspawn.
fn first_of(outermost: u32) -> Option<u32> {
    let is_systemd = |id: &u32| {
        let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        name.trim() == "systemd"
    };
    below(outermost).into_iter().find(is_systemd)
}

fn is_up(first: u32) -> bool {
    run(first, "systemctl is-system-running | grep -qE 'running|degraded'").well
}

fn run(first: u32, script: &str) -> Done {
    let mut command = Command::new("nsenter");
    command.arg("--target").arg(first.to_string());
    command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]);
    command.args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root"]);
    command.args(["DEBIAN_FRONTEND=noninteractive", "timeout", "60", "bash", "-c"]);
    command.arg(format!("exec 2>&1; set -euo pipefail; cd /; {script}")).stdin(Stdio::null());
    let output = command.output().unwrap();
    Done { well: output.status.success(), said: String::from_utf8_lossy(&output.stdout).into_owned() }
}

/// Makes packages of the executables under test, as this version, in a directory. `None`, and a line says why, where this
/// machine cannot.
#[must_use]
pub fn packages(version: &str, directory: &Path) -> Option<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/package");
    let mut command = Command::new(script);
    command.arg("--bin").arg(ours("blindferry").parent().unwrap());
    command.args(["--uncompressed", "--version", version, "--out"]).arg(directory).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("packages are missing") {
        println!("skipped: {said}");
        return None;
    }
    assert!(output.status.success(), "{said}");
    Some(())
}

/// The same packages as another version, as if it had been built.
pub fn as_version(packages: &Path, version: &str, new: &str, directory: &Path) {
    fs::create_dir(directory).unwrap();
    for package in fs::read_dir(packages).unwrap().map(|entry| entry.unwrap().path()) {
        let tree = TempDir::new().unwrap();
        let script = "dpkg-deb --raw-extract \"$1\" \"$2\" && sed -i \"s/$3/$4/\" \"$2/DEBIAN/control\" &&
            dpkg-deb -Znone --build \"$2\" \"$5\"";
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh"])
            .arg(package)
            .arg(tree.path().join("tree"))
            .args([version, new])
            .arg(directory);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
