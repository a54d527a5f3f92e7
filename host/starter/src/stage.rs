//! The starter's other half: a process that becomes the caller's, in one list of steps, and executes the launcher.
//!
//! Between its steps it holds more than the caller does; so it reads the caller's strings only after the last of them,
//! and no variable of the caller's is in its environment, where a loader would look.

use crate::limits::apply;
use crate::order::{
    CONTROL, Control, DIRECTORY, ENVIRONMENT, GRANT, GoOn, OUTSIDER, Order, Role, Said, TalkError, WORDS,
};
use blindferry_handle::inherit::{InheritError, close_on_exec_all_but, take_inherited};
use blindferry_handle::memfd::{Handle, HandleError};
use blindferry_handle::packet::{PacketSocket, SocketError};
use blindferry_proto::start::{BadStrings, MAX_STRINGS, split};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Gid, Signal, Uid, fchdir, ioctl_tiocsctty, set_dumpable_behavior,
    set_parent_process_death_signal, setsid, umask,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Why the launcher is not executed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    #[error("not started by the starter")]
    Alone(#[source] InheritError),
    #[error("cannot take the socket to the starter")]
    Control(#[source] SocketError),
    #[error(transparent)]
    Talk(#[from] TalkError),
    #[error("the starter has ended")]
    StarterGone,
    #[error("cannot {doing}")]
    Step { doing: &'static str, source: Errno },
    #[error("descriptor {number} is missing")]
    Missing { number: RawFd, source: InheritError },
    #[error("cannot read the words")]
    Words(#[source] HandleError),
    #[error("the words are none")]
    Strings(#[source] BadStrings),
    #[error("cannot pass the descriptors on")]
    Pass(#[source] io::Error),
    #[error("cannot execute the launcher")]
    Execute(#[source] io::Error),
}

/// Takes its order and becomes the launcher. Returns only when that fails; the starter has been told then.
pub(crate) fn become_the_launcher() -> Result<Infallible, StageError> {
    let socket = take_inherited(CONTROL).map_err(StageError::Alone)?;
    let control = Control(PacketSocket::from_fd(socket).map_err(StageError::Control)?);
    let failure = match control.hear::<Order>() {
        Ok(Some(order)) => match launcher(&control, &order) {
            Err(failure) => failure,
        },
        Ok(None) => StageError::StarterGone,
        Err(error) => error.into(),
    };
    // Who does not hear it has ended.
    let _told = control.say(&Said::Failed { why: crate::whole(&failure) });
    Err(failure)
}

fn launcher(control: &Control, order: &Order) -> Result<Infallible, StageError> {
    if order.role != Role::Outsider {
        enter_namespace(control)?;
    }
    become_caller(order)?;
    // From here on nothing is done that the caller could not do.
    control.say(&Said::Ready)?;
    expect(control, |go_on| matches!(go_on, GoOn::Execute))?;
    let mut command = Command::new(&order.launcher);
    command.env_clear();
    let outsider = inherited(OUTSIDER)?;
    match order.role {
        Role::Outsider => {
            pass_on(&[&outsider])?;
            command.args(["--outsider", &OUTSIDER.to_string()]);
        }
        Role::Program { grant, terminal } => {
            let environment = inherited(ENVIRONMENT)?;
            let grant = if grant { Some(inherited(GRANT)?) } else { None };
            fchdir(inherited(DIRECTORY)?).map_err(step("enter the working directory"))?;
            if terminal {
                ioctl_tiocsctty(rustix::stdio::stdin()).map_err(step("take the terminal"))?;
            }
            let words = Handle::from_fd_within(inherited(WORDS)?, MAX_STRINGS).and_then(|words| words.read());
            let words = words.map_err(StageError::Words)?;
            pass_on(&[&outsider, &environment].into_iter().chain(&grant).collect::<Vec<_>>())?;
            command.args(["--protection", "own-namespace", "--outsider-fd", &OUTSIDER.to_string()]);
            command.args(["--environment-fd", &ENVIRONMENT.to_string()]);
            command.args(grant.iter().flat_map(|_| ["--grant-fd".to_owned(), GRANT.to_string()]));
            command.args(split(&words).map_err(StageError::Strings)?.into_iter().map(OsStr::from_bytes));
        }
    }
    command.arg0(OsString::from("blindferry-launch"));
    Err(StageError::Execute(command.exec()))
}

/// A namespace that belongs to the starter's user, in which every number means what it means outside.
fn enter_namespace(control: &Control) -> Result<(), StageError> {
    #[expect(deprecated, reason = "its successor is unsafe for the sake of UnshareFlags::FILES alone")]
    rustix::thread::unshare(UnshareFlags::NEWUSER).map_err(step("make a user namespace"))?;
    // Else the files by which the starter gives the numbers would belong to root. There is nothing to read here yet.
    set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(step("let the starter give numbers to users"))?;
    control.say(&Said::Unshared)?;
    expect(control, |go_on| matches!(go_on, GoOn::Mapped))
}

/// The order matters: each step needs what a later one gives up.
fn become_caller(order: &Order) -> Result<(), StageError> {
    setsid().map_err(step("lead a session"))?;
    apply(&order.limits).map_err(step("take the caller's limits"))?;
    umask(Mode::from_raw_mode(order.umask.into()));
    let groups: Vec<Gid> = order.groups.iter().copied().map(Gid::from_raw).collect();
    set_thread_groups(&groups).map_err(step("take the caller's groups"))?;
    let (uid, gid) = (Uid::from_raw(order.uid), Gid::from_raw(order.gid));
    set_thread_res_gid(gid, gid, gid).map_err(step("take the caller's group"))?;
    if order.role != Role::Outsider {
        // Within the namespace; outside, the starter may lack what this takes. It holds none of them after all.
        forgo_capabilities()?;
    }
    set_thread_res_uid(uid, uid, uid).map_err(step("become the caller's user"))?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    clear_ambient_capability_set().map_err(step("give capabilities up"))?;
    set_capabilities(None, sets).map_err(step("give capabilities up"))?;
    set_no_new_privs(true).map_err(step("give new privileges up"))?;
    // After the last change of the user, which undoes it.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(step("end with the starter"))
}

/// Takes every capability that this kernel knows out of what a program could get by its file.
fn forgo_capabilities() -> Result<(), StageError> {
    for number in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            Err(Errno::INVAL) if number > 0 => break,
            Err(error) => return Err(step("forgo capabilities")(error)),
        }
    }
    Ok(())
}

fn expect(control: &Control, right: impl FnOnce(&GoOn) -> bool) -> Result<(), StageError> {
    control.hear::<GoOn>()?.filter(right).map(|_| ()).ok_or(StageError::StarterGone)
}

fn inherited(number: RawFd) -> Result<OwnedFd, StageError> {
    take_inherited(number).map_err(|source| StageError::Missing { number, source })
}

fn pass_on(descriptors: &[&OwnedFd]) -> Result<(), StageError> {
    let borrowed: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
    close_on_exec_all_but(&borrowed).map_err(StageError::Pass)
}

fn step(doing: &'static str) -> impl Fn(Errno) -> StageError {
    move |source| StageError::Step { doing, source }
}
