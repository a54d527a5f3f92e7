//! Attends a program from its start to its end: signals in, its end out, and its end when the caller is gone.

use crate::start::Running;
use blindferry_handle::packet::PacketSocket;
use blindferry_proto::local::{decode, encode};
use blindferry_proto::start::{End, Forwarded, StartReply, StartRequest};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// Until the program has ended, and all of its group too where the caller went first.
pub(crate) fn attend(socket: &PacketSocket, running: &mut Running) {
    let program = Pid::from_child(&running.program);
    let started = StartReply::Started { process: running.program.id() };
    let mut caller = if reply(socket, &started) { Caller::There } else { gone(program) };
    // A child that was not reaped has a pidfd; where that fails, the program is ended.
    let Ok(ended) = pidfd_open(program, PidfdFlags::empty()) else { return };
    let mut outsider = pidfd_open(Pid::from_child(&running.outsider), PidfdFlags::empty()).ok();
    loop {
        match wait(socket, &ended, outsider.as_ref(), &caller) {
            Event::Program => break,
            Event::Outsider => {
                outsider = None;
                let _reaped = running.outsider.wait();
            }
            Event::Caller => match next(socket) {
                Some(signal) => send(program, kernels(signal)),
                None => caller = gone(program),
            },
            Event::Patience => {
                // Its group as well; it is not reaped, so the number is still its own.
                send(program, Signal::KILL);
                caller = Caller::Waited;
            }
            Event::Again => {}
        }
    }
    if !matches!(caller, Caller::There) {
        send(program, Signal::KILL);
    }
    let end = running.program.wait().map_or(End::Killed(9), how);
    reply(socket, &StartReply::Ended(end));
}

/// What becomes of the one who called.
enum Caller {
    There,
    /// Its program is given until then.
    Gone(Instant),
    /// That was over.
    Waited,
}

enum Event {
    Program,
    Outsider,
    Caller,
    Patience,
    Again,
}

fn wait(socket: &PacketSocket, ended: &OwnedFd, outsider: Option<&OwnedFd>, caller: &Caller) -> Event {
    let watch = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    let mut watched = vec![watch(ended.as_fd())];
    watched.extend(outsider.map(|outsider| watch(outsider.as_fd())));
    if matches!(caller, Caller::There) {
        watched.push(watch(socket.as_fd()));
    }
    let left = match caller {
        Caller::Gone(until) => Timespec::try_from(until.saturating_duration_since(Instant::now())).ok(),
        Caller::There | Caller::Waited => None,
    };
    match poll(&mut watched, left.as_ref()) {
        Ok(0) => return Event::Patience,
        Ok(_) => {}
        Err(_) => return Event::Again,
    }
    let ready: Vec<bool> = watched.iter().map(|one| !one.revents().is_empty()).collect();
    match (ready.as_slice(), outsider) {
        ([true, ..], _) => Event::Program,
        ([_, true, ..], Some(_)) => Event::Outsider,
        _ => Event::Caller,
    }
}

/// The next signal; nothing when the caller went, or says something else.
fn next(socket: &PacketSocket) -> Option<Forwarded> {
    match decode(&socket.receive().ok()?.bytes) {
        Ok(StartRequest::Signal(signal)) => Some(signal),
        Ok(StartRequest::Start { .. } | StartRequest::Streams) | Err(_) => None,
    }
}

/// As when a terminal is closed; what does not end by it is ended a little later.
fn gone(program: Pid) -> Caller {
    send(program, Signal::HUP);
    send(program, Signal::CONT);
    Caller::Gone(Instant::now() + PATIENCE)
}

fn send(program: Pid, signal: Signal) {
    match kill_process_group(program, signal) {
        // It has ended, with all of its group.
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => crate::log(&format!("cannot signal the group of process {program:?}: {error}")),
    }
}

/// Whether the caller could be told.
fn reply(socket: &PacketSocket, reply: &StartReply) -> bool {
    encode(reply).is_ok_and(|bytes| socket.send(&bytes, &[]).is_ok())
}

fn how(status: ExitStatus) -> End {
    let byte = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    match status.signal() {
        Some(signal) => End::Killed(byte(signal)),
        None => End::Exited(status.code().map_or(u8::MAX, byte)),
    }
}

fn kernels(signal: Forwarded) -> Signal {
    match signal {
        Forwarded::Hup => Signal::HUP,
        Forwarded::Int => Signal::INT,
        Forwarded::Quit => Signal::QUIT,
        Forwarded::Term => Signal::TERM,
        Forwarded::Usr1 => Signal::USR1,
        Forwarded::Usr2 => Signal::USR2,
        Forwarded::Winch => Signal::WINCH,
        Forwarded::Stop => Signal::STOP,
        Forwarded::Cont => Signal::CONT,
    }
}

/// Between the caller's end and that of a program that does not end by `SIGHUP`.
const PATIENCE: Duration = Duration::from_secs(5);
