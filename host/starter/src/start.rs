//! Starts the keeper of a program for a caller, and beside it the outsider: two stages, seen through to where they need the
//! starter no more.

use crate::caller::Caller;
use crate::order::{
    CONTROL, Control, DIRECTORY, ENVIRONMENT, GRANT, GoOn, LINK, OUTSIDER, Order, Role, STAGE, Said, TalkError, WORDS,
};
use crate::request::Wanted;
use blindferry_handle::packet::{PacketSocket, SocketError};
use blindferry_proto::causes::with_causes;
use blindferry_proto::start::{StartCode, StartRefusal};
use command_fds::{CommandFdExt, FdMapping, FdMappingCollision};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A keeper, which has the launcher, or what it became, as its child; and an outsider. Dropping it ends and reaps both.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) keeper: Child,
    pub(crate) outsider: Child,
}

/// Why nothing runs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot make sockets for the stage")]
    Socket(#[source] SocketError),
    #[error("two descriptors have one number")]
    Collision(#[source] FdMappingCollision),
    #[error("cannot execute the stage")]
    Spawn(#[source] io::Error),
    #[error(transparent)]
    Talk(#[from] TalkError),
    #[error("cannot give numbers to users: {file} of the stage")]
    Map { file: &'static str, source: io::Error },
    #[error("the stage ended without a word")]
    StageGone,
    #[error("the stage failed: {why}")]
    Stage { why: String },
}

impl StartError {
    /// What the caller is told.
    pub(crate) fn refusal(&self) -> StartRefusal {
        let code = match self {
            Self::Stage { .. } | Self::Map { .. } => StartCode::NotHere,
            _ => StartCode::Internal,
        };
        StartRefusal::new(code, &with_causes(self))
    }
}

impl Running {
    /// Starts both. What comes back has nothing of the starter's any more.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub(crate) fn start(launcher: &Path, caller: &Caller, wanted: Wanted) -> Result<Self, StartError> {
        let (inside, outside) = PacketSocket::pair().map_err(StartError::Socket)?;
        let Wanted { words, environment, directory, grants, streams, umask, terminal, link } = wanted;
        let (names, grants): (Vec<_>, Vec<_>) = grants.into_iter().unzip();
        let order = |role| Order {
            role,
            launcher: launcher.to_owned(),
            uid: caller.uid,
            gid: caller.gid,
            groups: caller.groups.clone(),
            limits: caller.limits.clone(),
            umask,
        };
        let outsider = Reaped(Some(stage(&order(Role::Outsider), None, vec![at(OUTSIDER, outside.into_fd())])?));
        let role = Role::Keeper { grants: names, terminal };
        let mut descriptors = vec![
            at(OUTSIDER, inside.into_fd()),
            at(WORDS, words.into_fd()),
            at(ENVIRONMENT, environment.into_fd()),
            at(DIRECTORY, directory),
            at(LINK, link),
        ];
        descriptors.extend((GRANT..).zip(grants).map(|(number, grant)| at(number, grant.into_fd())));
        let keeper = stage(&order(role), Some(streams), descriptors)?;
        Ok(Self { keeper, outsider: outsider.keep()? })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.keeper);
        end(&mut self.outsider);
    }
}

/// Starts a stage and leads it to where it goes its own way.
fn stage(order: &Order, streams: Option<[OwnedFd; 3]>, mut fds: Vec<FdMapping>) -> Result<Child, StartError> {
    let (ours, theirs) = PacketSocket::pair().map_err(StartError::Socket)?;
    fds.push(at(CONTROL, theirs.into_fd()));
    let [stdin, stdout, stderr] = match streams {
        Some(streams) => streams.map(Stdio::from),
        None => [Stdio::null(), Stdio::null(), Stdio::null()],
    };
    // The very file that runs here, whatever has its name by now.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("blindferry-starter").arg(STAGE).env_clear();
    command.stdin(stdin).stdout(stdout).stderr(stderr).fd_mappings(fds).map_err(StartError::Collision)?;
    let spawned = command.spawn();
    drop(command); // and with it the descriptors that went to the stage
    let child = Reaped(Some(spawned.map_err(StartError::Spawn)?));
    let control = Control(ours);
    control.say(order)?;
    if order.role != Role::Outsider {
        require(&control, |said| matches!(said, Said::Unshared))?;
        number_users(child.id())?;
        control.say(&GoOn::Mapped)?;
    }
    require(&control, |said| matches!(said, Said::Ready))?;
    control.say(&GoOn::Begin)?;
    match control.hear::<Said>()? {
        // It closed the socket, as it should, or it was ended, and that will be seen.
        None => child.keep(),
        Some(said) => Err(unexpected(said)),
    }
}

/// Gives every user and group in the namespace of this child the number that it has outside. A child that was not reaped
/// keeps its process id.
fn number_users(child: u32) -> Result<(), StartError> {
    for file in ["uid_map", "gid_map"] {
        let written = fs::write(format!("/proc/{child}/{file}"), "0 0 4294967295");
        written.map_err(|source| StartError::Map { file, source })?;
    }
    Ok(())
}

fn require(control: &Control, right: impl FnOnce(&Said) -> bool) -> Result<(), StartError> {
    match control.hear::<Said>()? {
        Some(said) if right(&said) => Ok(()),
        Some(said) => Err(unexpected(said)),
        None => Err(StartError::StageGone),
    }
}

fn unexpected(said: Said) -> StartError {
    match said {
        Said::Failed { why } => StartError::Stage { why },
        Said::Unshared | Said::Ready => StartError::StageGone,
    }
}

fn at(child_fd: i32, parent_fd: OwnedFd) -> FdMapping {
    FdMapping { parent_fd, child_fd }
}

/// A child that is ended and reaped unless it is kept.
struct Reaped(Option<Child>);

impl Reaped {
    fn id(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    fn keep(mut self) -> Result<Child, StartError> {
        self.0.take().ok_or(StartError::StageGone)
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(end);
    }
}

fn end(child: &mut Child) {
    // Both do nothing to a child that was reaped.
    let _gone = child.kill();
    let _reaped = child.wait();
}
