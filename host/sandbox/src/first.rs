//! The stage beside the program: the first process of the namespaces, or without them a process that all others come down
//! from. Starts the program, and buries whatever loses its parent.

use crate::arguments::{Arguments, Stage};
use crate::failure::Failure;
use crate::layout::enter;
use crate::outside::{itself, stage_command};
use crate::surroundings;
use blindferry_handle::power::{forgo_bounding_set, give_up_all};
use blindferry_terminal::{FromKeeper, Kept, Link, PseudoTerminal, Signals, keep, lead};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, set_dumpable_behavior,
    set_parent_process_death_signal, wait,
};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// In namespaces, whose first process this is: what is left ends with it.
    Inside,
    /// Among all other processes.
    Beside,
}

/// Runs until the program has ended, or nobody wants it any longer.
///
/// # Errors
/// [`Failure`], for the stage in the caller's session to be told.
pub(crate) fn run(arguments: &Arguments, link: &Link, place: Where) -> Result<(), Failure> {
    let power = |doing| move |error: rustix::io::Errno| Failure::Power { doing, source: error.into() };
    match place {
        Where::Inside => {
            set_parent_process_death_signal(Some(Signal::KILL)).map_err(power("end with the stage before"))?;
            enter(&surroundings::directory()?)?;
            // And the right to get any back: who is root in here is root in name.
            forgo_bounding_set().and_then(|()| give_up_all()).map_err(power("give up capabilities"))?;
        }
        // Not killed when the stage before is: it notices by the link, and then has others to end.
        Where::Beside => set_child_subreaper(Some(getpid())).map_err(power("become a reaper of children"))?,
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(power("become unreadable"))?;
    let children = Signals::of_children().map_err(Failure::Signals)?;
    let terminal = if arguments.on_terminal.is_empty() {
        None
    } else {
        Some(PseudoTerminal::open(Path::new("/dev/ptmx")).map_err(Failure::Terminal)?)
    };
    lead(terminal.as_ref().map(|terminal| &terminal.slave))?;
    let (master, slave) = terminal.map(|terminal| (terminal.master, terminal.slave)).unzip();
    link.report(&FromKeeper::Ready(master))?;
    let stage = match place {
        Where::Inside => Stage::Inside,
        Where::Beside => Stage::Fenced,
    };
    let mut command = stage_command(&itself(), arguments, stage, &arguments.on_terminal);
    if let Some(slave) = &slave {
        let own = |slave: &OwnedFd| slave.try_clone().map(Stdio::from).map_err(Failure::Terminal);
        if arguments.is_on_terminal(0) {
            command.stdin(own(slave)?);
        }
        if arguments.is_on_terminal(1) {
            command.stdout(own(slave)?);
        }
        if arguments.is_on_terminal(2) {
            command.stderr(own(slave)?);
        }
    }
    let kept = keep(link, children, &mut command, slave.as_ref().map(AsFd::as_fd));
    if place == Where::Beside {
        end_descendants();
    }
    match kept? {
        Kept::Ended(_) | Kept::Abandoned => Ok(()),
    }
}

/// Kills whatever came down from the program, in rounds: who loses its parent becomes a child of this process.
fn end_descendants() {
    for _ in 0..MOST_ROUNDS {
        for child in children() {
            let _killed = kill_process(child, Signal::KILL);
        }
        // Until the first has ended, then all that have.
        match wait(WaitOptions::empty()) {
            Ok(_) => while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {},
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// proc_pid_stat(5): the fourth field is the parent.
fn children() -> Vec<Pid> {
    let own = getpid().as_raw_nonzero().to_string();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let processes = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes
        .filter(|process: &i32| {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)) == Some(own.as_str())
        })
        .filter_map(Pid::from_raw)
        .collect()
}

/// Each ends a generation at least. More generations than that are made only by a program that flees, and it cannot flee
/// from a PID namespace.
const MOST_ROUNDS: usize = 10_000;
