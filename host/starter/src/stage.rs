//! The starter's other half: a process that becomes the caller's, in one list of steps, and then the keeper of the caller's
//! program, or the outsider.
//!
//! Between its steps it holds more than the caller does; so it reads nothing of the caller's before the last of them, and
//! no variable of the caller's is in its environment, where a loader would look.

use crate::keeper::{KeepError, keep_launcher};
use crate::limits::apply;
use crate::order::{CONTROL, Control, GoOn, OUTSIDER, Order, Role, Said, TalkError};
use blindferry_handle::inherit::{InheritError, close_on_exec_all_but, take_inherited};
use blindferry_handle::namespace::{Namespace, leave};
use blindferry_handle::packet::{PacketSocket, SocketError};
use blindferry_handle::power::{forgo_bounding_set, give_up_all};
use blindferry_proto::causes::with_causes;
use rustix::fs::{Access, AtFlags, CWD, Mode, accessat};
use rustix::process::{
    DumpableBehavior, Gid, Signal, Uid, set_dumpable_behavior, set_parent_process_death_signal, umask,
};
use rustix::thread::{set_name, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Why the stage does not do what it is there for.
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
    Step { doing: &'static str, source: io::Error },
    #[error(transparent)]
    Keep(#[from] KeepError),
    #[error("cannot pass the descriptors on")]
    Pass(#[source] io::Error),
    #[error("cannot execute the launcher as an outsider")]
    Execute(#[source] io::Error),
}

/// Takes its order and does what it is there for. The starter has been told when that fails before it begins.
pub(crate) fn obey() -> Result<(), StageError> {
    let socket = take_inherited(CONTROL).map_err(StageError::Alone)?;
    let control = Control(PacketSocket::from_fd(socket).map_err(StageError::Control)?);
    let order = control.hear::<Order>()?.ok_or(StageError::StarterGone)?;
    if let Err(failure) = prepare(&control, &order) {
        // Who does not hear it has ended.
        let _told = control.say(&Said::Failed { why: with_causes(&failure) });
        return Err(failure);
    }
    // What ps(1) shows; it began as `exe`. That it cannot be shown matters to nobody.
    let _named = set_name(c"starter-stage");
    drop(control); // by which the starter knows that it is not needed any more
    match &order.role {
        Role::Outsider => look_on(&order),
        Role::Keeper { grants, terminal } => Ok(keep_launcher(&order.launcher, grants, *terminal)?),
    }
}

fn prepare(control: &Control, order: &Order) -> Result<(), StageError> {
    if order.role != Role::Outsider {
        enter_namespace(control)?;
    }
    become_caller(order)?;
    // From here on nothing is done that the caller could not do.
    accessat(CWD, &order.launcher, Access::EXEC_OK, AtFlags::EACCESS).map_err(step("execute the launcher"))?;
    control.say(&Said::Ready)?;
    expect(control, |go_on| matches!(go_on, GoOn::Begin))
}

/// Becomes a launcher that attacks what another asks it to attack.
fn look_on(order: &Order) -> Result<(), StageError> {
    let socket = take_inherited(OUTSIDER).map_err(StageError::Alone)?;
    close_on_exec_all_but(&[socket.as_fd()]).map_err(StageError::Pass)?;
    let mut command = Command::new(&order.launcher);
    let error = command.env_clear().args(["--outsider", &OUTSIDER.to_string()]).exec();
    Err(StageError::Execute(error))
}

/// A namespace that belongs to the starter's user, in which every number means what it means outside.
fn enter_namespace(control: &Control) -> Result<(), StageError> {
    leave(&[Namespace::User]).map_err(step("make a user namespace"))?;
    // Else the files by which the starter gives the numbers would belong to root. There is nothing to read here yet.
    set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(step("let the starter give numbers to users"))?;
    control.say(&Said::Unshared)?;
    expect(control, |go_on| matches!(go_on, GoOn::Mapped))
}

/// The order matters: each step needs what a later one gives up.
fn become_caller(order: &Order) -> Result<(), StageError> {
    apply(&order.limits).map_err(step("take the caller's limits"))?;
    umask(Mode::from_raw_mode(order.umask.into()));
    let groups: Vec<Gid> = order.groups.iter().copied().map(Gid::from_raw).collect();
    set_thread_groups(&groups).map_err(step("take the caller's groups"))?;
    let (uid, gid) = (Uid::from_raw(order.uid), Gid::from_raw(order.gid));
    set_thread_res_gid(gid, gid, gid).map_err(step("take the caller's group"))?;
    if order.role != Role::Outsider {
        // Within the namespace; outside, the starter may lack what this takes. It holds none of them after all.
        forgo_bounding_set().map_err(step("forgo capabilities"))?;
    }
    set_thread_res_uid(uid, uid, uid).map_err(step("become the caller's user"))?;
    give_up_all().map_err(step("give capabilities up"))?;
    set_no_new_privs(true).map_err(step("give new privileges up"))?;
    // A change of the user makes that what fs.suid_dumpable says, which may be as good as dumpable for a core handler.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(step("become unreadable again"))?;
    // After the last change of the user, which undoes it.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(step("end with the starter"))
}

fn expect(control: &Control, right: impl FnOnce(&GoOn) -> bool) -> Result<(), StageError> {
    control.hear::<GoOn>()?.filter(right).map(|_| ()).ok_or(StageError::StarterGone)
}

fn step<E: Into<io::Error>>(doing: &'static str) -> impl Fn(E) -> StageError {
    move |source| StageError::Step { doing, source: source.into() }
}
