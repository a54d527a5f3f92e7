//! Stopping as the program stopped, if somebody is there who would let us go on.

use rustix::process::{Pid, Signal, getpgrp, getpid, getsid, kill_current_process_group, kill_process};
use std::fs;

/// Whether this process stopped, and goes on now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It did.
    Resumed,
    /// It did not: nobody would have continued it, and the kernel would not have stopped the program either.
    Orphaned,
}

/// Stops this process for the reason that stopped the program, until it is continued.
///
/// What the terminal sends it sends to a whole group, so the rest of ours is told as well: other commands of a pipeline,
/// or the script that started us. SIGTSTP, which this process catches, comes back to it and is to be dropped once.
pub(crate) fn stop(reason: Signal) -> Stop {
    let of_terminal = [Signal::TSTP, Signal::TTIN, Signal::TTOU].contains(&reason);
    if of_terminal {
        if is_orphaned() {
            return Stop::Orphaned;
        }
        // The other two stop this process at once; it is back when somebody continues it.
        let _sent = kill_current_process_group(reason);
    }
    if !of_terminal || reason == Signal::TSTP {
        let _stopped = kill_process(getpid(), Signal::STOP);
    }
    Stop::Resumed
}

/// POSIX.1-2024, 3.246: no member of the group has a parent that is outside the group and in its session. Looked at from
/// this process upwards, which is where a shell would be.
fn is_orphaned() -> bool {
    let (Ok(session), group) = (getsid(None), getpgrp()) else { return true };
    let mut process = getpid();
    for _ in 0..MOST_ANCESTORS {
        let Some((parent, _)) = parent_and_group(process) else { return true };
        match (getsid(Some(parent)), parent_and_group(parent)) {
            (Ok(its), Some((_, its_group))) if its == session => {
                if its_group != group {
                    return false;
                }
            }
            _ => return true,
        }
        process = parent;
    }
    true
}

/// proc_pid_stat(5): behind the name, which may hold anything, come state, parent and group.
fn parent_and_group(process: Pid) -> Option<(Pid, Pid)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields =
        stat.rsplit_once(") ")?.1.split(' ').skip(1).map(|field| field.parse().ok().and_then(Pid::from_raw));
    Some((fields.next()??, fields.next()??))
}

const MOST_ANCESTORS: usize = 64;
