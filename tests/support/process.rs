//! A process that a test started: its log in a file, and its end by its id, at the latest when it is dropped.

use rustix::process::{Pid, Signal, kill_process};
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A child whose standard error goes to a file.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a command; its standard error is added to the file `log`.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        let child = command.stderr(Stdio::from(file)).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// Its process id. It was not waited for, so the number is its own.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child, for its standard streams.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// What it has written to standard error so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.id(), signal);
    }

    /// SIGKILL, and waits.
    pub fn kill(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }

    /// SIGTERM, and waits.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end, for at most [`PATIENCE`].
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the end of a process", || self.ended())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process that is known to be there still.
pub fn send(id: u32, signal: Signal) {
    let id = Pid::from_raw(id.cast_signed()).unwrap();
    // Gone meanwhile, at worst: its id belongs to a child of ours that was not waited for, or to a child of such a one.
    let _gone = kill_process(id, signal);
}

/// The children of a process whose command line begins with `name`.
#[must_use]
pub fn children(parent: u32, name: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| parent_of(*id) == Some(parent) && first_word(*id).is_some_and(|word| word.ends_with(name)))
        .collect()
}

/// A process's descendants, the nearest first.
#[must_use]
pub fn below(process: u32) -> Vec<u32> {
    let mut all = children(process, "");
    let mut next = 0;
    while let Some(one) = all.get(next).copied() {
        all.extend(children(one, ""));
        next += 1;
    }
    all
}

/// The only child of that name.
#[must_use]
pub fn child(parent: u32, name: &str) -> u32 {
    eventually(name, || match children(parent, name).as_slice() {
        [one] => Some(*one),
        _ => None,
    })
}

/// Whether a process of this number still runs (one that ended and was not waited for does not).
#[must_use]
pub fn lives(id: u32) -> bool {
    stat(id).is_some_and(|after_name| !after_name.starts_with('Z'))
}

/// Holds a process by a signal; it is held when this returns.
pub fn hold(id: u32) {
    send(id, Signal::STOP);
    eventually("that the process is held", || stat(id).is_some_and(|fields| fields.starts_with('T')).then_some(()));
}

fn parent_of(id: u32) -> Option<u32> {
    stat(id)?.split(' ').nth(1)?.parse().ok()
}

/// The fields of `/proc/ID/stat` after the name: state, parent, …
fn stat(id: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.to_owned())
}

fn first_word(id: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{id}/cmdline")).ok()?;
    String::from_utf8(line.split(|byte| *byte == 0).next()?.to_vec()).ok()
}

/// Asks again until there is an answer.
///
/// # Panics
/// After [`PATIENCE`], or as many times that as `BLINDFERRY_PATIENCE` says, for runs in the background.
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    let times = env::var("BLINDFERRY_PATIENCE").map_or(1, |text| text.parse().unwrap());
    within(PATIENCE * times, ask).unwrap_or_else(|| panic!("waited in vain for {what}"))
}

/// Asks again until there is an answer, or the time is over.
pub fn within<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + time;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() > deadline {
            return None;
        }
        sleep(Duration::from_millis(10));
    }
}

/// Nothing in a fleet takes so long, also on two busy cores.
pub const PATIENCE: Duration = Duration::from_secs(30);
