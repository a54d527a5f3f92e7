//! A program that the kernel hands every core of the machine to, and settings that are put back whatever happens.

use crate::account::is_root;
use crate::process::{eventually, within};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A handler of cores, until it is dropped, or this process ends in whichever way.
#[derive(Debug)]
pub struct CoreHandler {
    directory: PathBuf,
    restorer: Child,
}

/// A core that the handler got.
#[derive(Debug)]
pub struct Core {
    /// What the kernel told of it (`%d`): 1 of an ordinary process, 2 of one that is `fs.suid_dumpable`'s.
    pub mode: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl CoreHandler {
    /// Makes one. Nothing, and a line that says why, where this machine does not let the tests do so; one at a time.
    #[must_use]
    pub fn install() -> Option<Self> {
        if let Err(why) = allowed() {
            println!("skipped: {why}");
            return None;
        }
        let lock = File::create(std::env::temp_dir().join("blindferry-core-handler.lock")).unwrap();
        eventually("another test's settings", || lock.try_lock().ok());
        let directory = std::env::temp_dir().join(format!("blindferry-cores-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        let program = directory.join("handler");
        // The kernel waits for its end.
        fs::write(&program, format!("#!/bin/sh\ncat > {}/$1.$2\n", directory.display())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let handler = Self { directory, restorer: restorer(lock) };
        set(SUID_DUMPABLE, "0");
        set(PIPE_LIMIT, "64");
        Some(handler)
    }

    /// What becomes of programs that nobody can read and that are executed from now on.
    pub fn suid_dumpable(&self, value: &str) {
        set(SUID_DUMPABLE, value);
    }

    /// Lets cores come here, for as long as this takes.
    pub fn while_it_takes_cores<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = fs::read(PATTERN).unwrap();
        set(PATTERN, &format!("|{}/handler %p %d", self.directory.display()));
        let got = work();
        fs::write(PATTERN, before).unwrap();
        got
    }

    /// What it got of a process that has ended.
    #[must_use]
    pub fn core_of(&self, process: u32) -> Option<Core> {
        let mut names = fs::read_dir(&self.directory).unwrap().flatten().map(|entry| entry.path());
        let path = names.find(|path| path.file_stem().is_some_and(|stem| stem == process.to_string().as_str()))?;
        let mode = path.extension()?.to_str()?.to_owned();
        Some(Core { mode, bytes: fs::read(path).unwrap() })
    }

    /// Whether the kernel finds the handler: where tests run in a mount namespace of their own it may not.
    #[must_use]
    pub fn is_found(&self) -> bool {
        let status = Command::new("sh").args(["-c", "kill -ABRT $$"]).stdin(Stdio::null()).spawn();
        let mut process = status.unwrap();
        let id = process.id();
        process.wait().unwrap();
        let found = within(Duration::from_secs(2), || self.core_of(id)).is_some();
        if !found {
            println!("skipped: the kernel does not find a core handler where the tests are");
        }
        found
    }
}

impl Drop for CoreHandler {
    fn drop(&mut self) {
        drop(self.restorer.stdin.take());
        let _restored = self.restorer.wait();
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

/// Whether the tests may do so here.
fn allowed() -> Result<(), String> {
    if !is_root() {
        return Err("only root can set fs.suid_dumpable and kernel.core_pattern".to_owned());
    }
    // What is there is written, which changes nothing.
    [SUID_DUMPABLE, PATTERN, PIPE_LIMIT].iter().try_for_each(|setting| {
        let write = |value: Vec<u8>| File::options().write(true).open(setting)?.write_all(&value);
        fs::read(setting).and_then(write).map_err(|error| format!("{setting} cannot be set: {error}"))
    })
}

/// A process of its own that puts everything back once this one has no more hold of its input, that is, also when this one
/// is killed. It has the lock until then.
fn restorer(lock: File) -> Child {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg("cat > /dev/null; while [ $# -gt 0 ]; do printf '%s\\n' \"$2\" > \"$1\"; shift 2; done")
        .arg("sh");
    for setting in [SUID_DUMPABLE, PATTERN, PIPE_LIMIT] {
        command.arg(setting).arg(fs::read_to_string(setting).unwrap().trim_end());
    }
    // Not in the group that a runner of tests kills.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::from(lock)).stderr(Stdio::null()).spawn().unwrap()
}

fn set(setting: &str, value: &str) {
    fs::write(Path::new(setting), value).unwrap();
}

const SUID_DUMPABLE: &str = "/proc/sys/fs/suid_dumpable";
const PATTERN: &str = "/proc/sys/kernel/core_pattern";
/// With a limit the kernel lets a process end when its handler has.
const PIPE_LIMIT: &str = "/proc/sys/kernel/core_pipe_limit";
