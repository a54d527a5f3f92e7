//! Listens for callers: a thread for each, and no more of them than the bounds say.

use crate::attend::attend;
use crate::caller::Caller;
use crate::log;
use crate::request::Wanted;
use crate::start::Running;
use blindferry_handle::packet::{PacketListener, PacketSocket, SocketError};
use blindferry_proto::causes::with_causes;
use blindferry_proto::local::encode;
use blindferry_proto::start::{DEFAULT_STARTER, StartCode, StartRefusal, StartReply};
use blindferry_service::{ConnectError, Passed, PassedError, ServiceManager};
use blindferry_watch::line::Level;
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::HashMap;
use std::convert::Infallible;
use std::env::var_os;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Starts programs for `blindferry run --via broker`.
///
/// It needs CAP_SETUID, CAP_SETGID and CAP_SETFCAP, and a user of its own or root. A socket that a service manager
/// listens on already (LISTEN_FDS) is taken over.
#[derive(Debug, Parser)]
#[command(name = "blindferry-starter", version)]
pub(crate) struct Listen {
    /// Where callers connect; only trusted users may write to its directory
    #[arg(long, value_name = "SOCKET", default_value = DEFAULT_STARTER)]
    socket: PathBuf,
    /// Permission bits of the socket, in octal: whoever may write may call
    #[arg(long, value_name = "MODE", default_value = "0666", value_parser = octal)]
    mode: u32,
    /// The launcher's executable, which none of the callers may be able to change
    #[arg(long, value_name = "FILE", default_value = "/usr/libexec/blindferry/blindferry-launch")]
    launcher: PathBuf,
    /// Programs at a time
    #[arg(long, value_name = "N", default_value_t = 512)]
    programs: usize,
    /// Of these, of one user
    #[arg(long, value_name = "N", default_value_t = 64)]
    per_user: usize,
}

/// Why nobody is listened to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("cannot take over the service manager's socket")]
    Passed(#[from] PassedError),
    #[error("the service manager would never hear that the starter is ready")]
    Notify(#[from] ConnectError),
    #[error("cannot listen")]
    Listen(#[source] SocketError),
}

/// Listens until it is ended; every program ends with it.
///
/// # Errors
/// [`ListenError`].
pub(crate) fn listen(arguments: &Listen) -> Result<Infallible, ListenError> {
    let variable = |name: &str| var_os(name);
    let listener = match Passed::find(variable, std::process::id())? {
        Some(mut passed) => {
            let socket = passed.take("starter")?;
            passed.nothing_else()?;
            PacketListener::from_fd(socket)
        }
        None => PacketListener::bind(&arguments.socket, arguments.mode),
    };
    let listener = listener.map_err(ListenError::Listen)?;
    allow_descriptors();
    let admission = Admission::default();
    // No watchdog: whoever ends a starter ends every program that it started, which are none the worse for one that hangs.
    ServiceManager::connect(variable)?.ready("listening");
    log(Level::Info, "listening", &format!("listening, for {}", arguments.launcher.display()));
    loop {
        match listener.accept() {
            Ok(socket) => receive(socket, arguments, &admission),
            Err(error) => {
                log(Level::Warning, "accept-failed", &with_causes(&error));
                // Out of descriptors, most likely: until some are closed.
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Whoever is about to say what he wants may have two dozen descriptors here, and shall not use up those of others. Programs
/// have the limit of their caller, below the one that cannot be raised again.
fn allow_descriptors() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        log(Level::Warning, "few-descriptors", &format!("cannot have more descriptors: {error}"));
    }
}

/// Identifies and admits who connected, and leaves the rest to a thread, so that a caller who is slow hinders nobody.
fn receive(socket: PacketSocket, arguments: &Listen, admission: &Admission) {
    let caller = match Caller::of(&socket) {
        Ok(caller) => caller,
        Err(error) => {
            log(Level::Info, "caller-refused", &format!("refused: {}", with_causes(&error)));
            return refuse(&socket, error.refusal());
        }
    };
    let Some(admitted) = admission.admit(caller.uid, arguments) else {
        log(Level::Info, "caller-refused", &format!("refused: too many programs, for user {}", caller.uid));
        return refuse(&socket, StartRefusal::new(StartCode::Busy, "too many programs run here; try again later"));
    };
    let launcher = arguments.launcher.clone();
    let serve = move || {
        let _admitted = admitted;
        let failed = |error: &dyn std::error::Error, refusal| {
            log(Level::Warning, "program-not-started", &format!("user {}: {}", caller.uid, with_causes(error)));
            refuse(&socket, refusal);
        };
        match Wanted::receive(&socket) {
            Err(error) => failed(&error, error.refusal()),
            Ok(wanted) => match Running::start(&launcher, &caller, wanted) {
                Err(error) => failed(&error, error.refusal()),
                Ok(running) => {
                    tell(&socket, &StartReply::Prepared);
                    if let Err(error) = attend(&socket, running) {
                        log(
                            Level::Warning,
                            "program-not-attended",
                            &format!("user {}: cannot attend a program: {error}", caller.uid),
                        );
                    }
                }
            },
        }
    };
    // The keeper's parent is this thread, which lives as long as it does.
    if let Err(error) = thread::Builder::new().name("program".to_owned()).spawn(serve) {
        log(Level::Error, "no-thread", &format!("cannot make a thread: {error}"));
    }
}

fn refuse(socket: &PacketSocket, refusal: StartRefusal) {
    tell(socket, &StartReply::Refused(refusal));
}

fn tell(socket: &PacketSocket, reply: &StartReply) {
    // Who went in the meantime needs no answer.
    let _told = encode(reply).map(|bytes| socket.send(&bytes, &[]));
}

/// How many programs each user has.
#[derive(Clone, Debug, Default)]
struct Admission(Arc<Mutex<HashMap<u32, usize>>>);

/// A place, until it is dropped.
#[derive(Debug)]
struct Admitted {
    uid: u32,
    admission: Admission,
}

impl Admission {
    fn admit(&self, uid: u32, bounds: &Listen) -> Option<Admitted> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = users.get(&uid).copied().unwrap_or(0);
        if own >= bounds.per_user || users.values().sum::<usize>() >= bounds.programs {
            return None;
        }
        users.insert(uid, own + 1);
        Some(Admitted { uid, admission: self.clone() })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut users = self.admission.0.lock().unwrap_or_else(PoisonError::into_inner);
        match users.get_mut(&self.uid) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(users.remove(&self.uid)),
        }
    }
}

fn octal(text: &str) -> Result<u32, std::num::ParseIntError> {
    u32::from_str_radix(text, 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_gets_no_more_places_than_his_and_they_come_back() {
        let bounds = Listen::parse_from(["blindferry-starter", "--programs", "3", "--per-user", "2"]);
        let admission = Admission::default();
        let held = [admission.admit(7, &bounds).unwrap(), admission.admit(7, &bounds).unwrap()];
        assert!(admission.admit(7, &bounds).is_none(), "his are taken");
        let other = admission.admit(8, &bounds).unwrap();
        assert!(admission.admit(9, &bounds).is_none(), "all are taken");
        drop(held);
        assert!(admission.admit(7, &bounds).is_some());
        drop(other);
        assert!(admission.0.lock().unwrap().is_empty(), "nobody is remembered");
    }
}
