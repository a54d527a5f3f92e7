//! The stage that leaves the caller's namespaces: lays out what the program will see, and starts their first process.

use crate::arguments::{Arguments, Stage};
use crate::failure::Failure;
use crate::layout::lay_out;
use crate::loopback;
use crate::outside::{hand_over, itself, stage_command};
use crate::surroundings;
use blindferry_handle::namespace::{Namespace, leave};
use blindferry_terminal::{FromKeeper, Link};
use rustix::process::{
    DumpableBehavior, Signal, getegid, geteuid, set_dumpable_behavior, set_parent_process_death_signal,
};
use rustix::thread::{CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities};
use std::fs;
use std::io;

/// Runs until the first process of the namespaces has ended.
///
/// # Errors
/// [`Failure`], for the stage before to be told.
pub(crate) fn run(arguments: &Arguments, link: &mut Option<Link>) -> Result<(), Failure> {
    let shown = surroundings::view(arguments)?;
    let told = shown.notes.len();
    let view = shown.searched();
    if arguments.require
        && let Some(note) = view.notes.get(told)
    {
        return Err(Failure::Required { lacking: note.clone() });
    }
    if let Some(link) = &*link {
        // What the search brought up; the rest has been told by the stage before.
        view.notes.iter().skip(told).try_for_each(|note| link.report(&FromKeeper::Note(note.clone())))?;
    }
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let mut namespaces = vec![Namespace::User, Namespace::Mount, Namespace::Process, Namespace::Ipc];
    namespaces.extend(arguments.no_network.then_some(Namespace::Network));
    leave(&namespaces).map_err(Failure::Namespaces)?;
    let power = |doing| move |error: rustix::io::Errno| Failure::Power { doing, source: error.into() };
    // Only then are the files of this process its own. It holds no secret.
    set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(power("become readable"))?;
    // After the change of namespaces, which takes it back.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(power("end with the stage before"))?;
    // user_namespaces(7): a group can be mapped without privilege only where groups can no longer be changed.
    fs::write("/proc/self/setgroups", "deny").map_err(Failure::Map)?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1")).map_err(Failure::Map)?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1")).map_err(Failure::Map)?;
    if arguments.no_network {
        // Its own loopback, for programs that speak to themselves.
        loopback::switch_on().map_err(|source| Failure::Power { doing: "switch loopback on", source })?;
    }
    lay_out(&view)?;
    keep_over_exec(CapabilitySet::SYS_ADMIN | CapabilitySet::SETPCAP)
        .map_err(|source| Failure::Power { doing: "hand capabilities on", source })?;
    let Some(link) = link.take() else { return Err(Failure::NoExecutable) };
    let mut command = stage_command(&itself(), arguments, Stage::First, &arguments.on_terminal);
    hand_over(&mut command, link)?;
    let mut first = command.spawn().map_err(Failure::Stage)?;
    // The end of the link that was handed over is the first process's alone from here on.
    drop(command);
    let _ended = first.wait().map_err(Failure::Stage)?;
    Ok(())
}

/// Who has a user of its own that is not root loses all by execve(2), but for ambient ones (capabilities(7)).
fn keep_over_exec(kept: CapabilitySet) -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.inheritable |= kept;
    set_capabilities(None, sets)?;
    for capability in kept.iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}
