//! Attends a program until it has ended, and sees to it that it ends when the caller is gone. What caller and program have
//! to say to each other goes past the starter.

use crate::start::Running;
use blindferry_handle::packet::PacketSocket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Until the program's keeper has ended. Dropping `running` ends it, and by that the program, wherever this returns.
///
/// # Errors
/// What the kernel said.
pub(crate) fn attend(socket: &PacketSocket, mut running: Running) -> Result<(), Errno> {
    // A child that was not reaped keeps its process id.
    let keeper = pidfd_open(Pid::from_child(&running.keeper), PidfdFlags::empty())?;
    let mut outsider = Some(pidfd_open(Pid::from_child(&running.outsider), PidfdFlags::empty())?);
    let mut until = None;
    loop {
        match wait(socket, &keeper, outsider.as_ref(), until)? {
            Event::Keeper | Event::Late => return Ok(()),
            Event::Outsider => {
                outsider = None;
                let _reaped = running.outsider.wait();
            }
            // The caller has nothing to say any more: it went, and the keeper knows.
            Event::Caller => until = Some(Instant::now() + PATIENCE),
            Event::Again => {}
        }
    }
}

enum Event {
    Keeper,
    Outsider,
    Caller,
    Late,
    Again,
}

fn wait(
    socket: &PacketSocket,
    keeper: &OwnedFd,
    outsider: Option<&OwnedFd>,
    until: Option<Instant>,
) -> Result<Event, Errno> {
    let mut watched = vec![(keeper.as_fd(), Event::Keeper)];
    watched.extend(outsider.map(|outsider| (outsider.as_fd(), Event::Outsider)));
    watched.extend(until.is_none().then_some((socket.as_fd(), Event::Caller)));
    let mut asked: Vec<_> = watched.iter().map(|(fd, _)| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let left = left.map(|left| Timespec::try_from(left).unwrap_or_default());
    match poll(&mut asked, left.as_ref()) {
        Ok(0) => return Ok(Event::Late),
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(Event::Again),
        Err(error) => return Err(error),
    }
    let ready: Vec<bool> = asked.iter().map(|one| !one.revents().is_empty()).collect();
    let first = watched.into_iter().zip(ready).find_map(|((_, event), ready)| ready.then_some(event));
    Ok(first.unwrap_or(Event::Again))
}

/// Longer than a keeper gives a program whose caller went.
const PATIENCE: Duration = Duration::from_secs(10);
