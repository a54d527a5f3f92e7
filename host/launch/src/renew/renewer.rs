//! The process beside the program: renews each lease before its token is over, and empties what cannot be renewed.

use crate::confine::say;
use crate::deliver::Outlets;
use crate::renew::notice::Notice;
use blindferry_proto::causes::with_causes;
use blindferry_worker::hand_on::{HandOnError, HandedOn};
use blindferry_worker::{Leased, Token, WorkerError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::chdir;
use rustix::rand::{GetRandomFlags, getrandom};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::process::exit;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Everything that the renewer holds.
pub(super) struct Renewer<'l> {
    program: &'l OwnedFd,
    outlets: &'l Outlets,
    notice: &'l Notice,
    /// In the order of the credentials.
    kept: Vec<Kept>,
    /// Those that are not renewed any more.
    over: BTreeSet<usize>,
}

struct Kept {
    leased: Leased,
    next: Instant,
    failures: u32,
    /// The broker hung up; only the next request finds out whether it is there again.
    unheard: bool,
}

impl<'l> Renewer<'l> {
    pub(super) fn take_up(
        program: &'l OwnedFd,
        handed: &[HandedOn],
        outlets: &'l Outlets,
        notice: &'l Notice,
    ) -> Result<Self, HandOnError> {
        // So that no file system is kept busy. Every path that matters is absolute.
        let _left = chdir("/");
        let kept = handed.iter().map(|handed| {
            let leased = handed.take_up()?;
            let next = Instant::now() + until_due(leased.token());
            Ok(Kept { leased, next, failures: 0, unheard: false })
        });
        Ok(Self { program, outlets, notice, kept: kept.collect::<Result<_, _>>()?, over: BTreeSet::new() })
    }

    /// Until the program has ended, or nothing is left to renew. Does not return while the program lives and something is.
    pub(super) fn keep(mut self) {
        thread::scope(|scope| {
            // A request to the broker may wait; the end of the program may not.
            let (program, outlets, notice) = (self.program, self.outlets, self.notice);
            scope.spawn(move || end_with(program, outlets, notice));
            while self.over.len() < self.kept.len() {
                self.wait();
                for index in 0..self.kept.len() {
                    if !self.over.contains(&index) {
                        self.look_after(index);
                    }
                }
            }
            drop(self.kept); // wipes keys and tokens here
            // The thread that waits for the program would go on.
            exit(0);
        });
    }

    /// Until something is due, or the broker says something.
    fn wait(&self) {
        let living =
            || self.kept.iter().enumerate().filter(|(index, _)| !self.over.contains(index)).map(|(_, kept)| kept);
        let next = living().map(|kept| kept.next).min().unwrap_or_else(Instant::now);
        let left = Timespec::try_from(next.saturating_duration_since(Instant::now())).unwrap_or_default();
        let heard = living().filter(|kept| !kept.unheard);
        let mut sockets: Vec<_> = heard.map(|kept| PollFd::new(&kept.leased, PollFlags::IN)).collect();
        // An interruption is as good as anything else that ends the wait.
        let _woken = poll(&mut sockets, Some(&left));
    }

    fn look_after(&mut self, index: usize) {
        let Some(kept) = self.kept.get_mut(index) else { return };
        if !kept.unheard {
            match kept.leased.lease_end() {
                Ok(None) => {}
                Ok(Some(why)) => return self.give_up(index, &format!("the lease is over: {why:?}")),
                Err(_) => {
                    kept.unheard = true;
                    // A broker that was started again keeps no lease before somebody renews it.
                    let soon = SHORTEST_PAUSE.saturating_add(SHORTEST_PAUSE.mul_f64(chance()));
                    kept.next = kept.next.min(Instant::now() + soon);
                }
            }
        }
        if kept.next > Instant::now() {
            return;
        }
        match kept.leased.renew().map(until_due) {
            Ok(left) => {
                kept.next = Instant::now() + left;
                (kept.failures, kept.unheard) = (0, false);
                self.pass_on(index);
            }
            Err(error) if error.is_passing() && !is_over(kept.leased.token()) => {
                kept.failures = kept.failures.saturating_add(1);
                let pause = LONGEST_PAUSE.min(SHORTEST_PAUSE.saturating_mul(1 << kept.failures.min(10)));
                kept.next = Instant::now() + part(pause, 2) + part(pause, 2).mul_f64(chance());
            }
            Err(error) => self.refused(index, &error),
        }
    }

    /// The new token, to where the program reads it.
    fn pass_on(&mut self, index: usize) {
        let tokens: Vec<&Token> = self.kept.iter().map(|kept| kept.leased.token()).collect();
        let name = self.name(index);
        if let Err(error) = self.outlets.refresh(index, &tokens, &self.over) {
            say(&format!("{name}: the new token could not be delivered: {}", with_causes(&error)));
            return;
        }
        if let Err(error) = self.notice.give(self.program) {
            say(&format!("{name}: renewed, but the program was not told: {}", with_causes(&error)));
        }
    }

    fn refused(&mut self, index: usize, error: &WorkerError) {
        self.give_up(index, &format!("not renewed: {}", with_causes(error)));
    }

    fn give_up(&mut self, index: usize, why: &str) {
        self.over.insert(index);
        self.outlets.empty(index);
        say(&format!("{}: {why}; its files are empty from here on", self.name(index)));
    }

    fn name(&self, index: usize) -> String {
        self.outlets.credentials().get(index).map(|name| name.as_str().to_owned()).unwrap_or_default()
    }
}

/// Ends this process with the program: what the program left running finds its files empty, as the lease is over.
fn end_with(program: &OwnedFd, outlets: &Outlets, notice: &Notice) {
    while !matches!(poll(&mut [PollFd::new(program, PollFlags::IN)], None), Ok(1..)) {}
    notice.stop();
    for index in 0..outlets.credentials().len() {
        outlets.empty(index);
    }
    // With all threads: secret pages go back to the kernel, which clears them.
    exit(0);
}

/// Two thirds of what is left of its life, and a little less by chance, so that a fleet does not come all at once.
fn until_due(token: &Token) -> Duration {
    let life = Duration::from_secs(token.expires().saturating_sub(now())).min(LONGEST_LIFE);
    let two_thirds = part(life, 3).saturating_mul(2);
    two_thirds.saturating_sub(part(life, 10).mul_f64(chance())).max(SHORTEST_PAUSE)
}

fn is_over(token: &Token) -> bool {
    token.expires() <= now()
}

fn part(whole: Duration, of: u32) -> Duration {
    whole.checked_div(of).unwrap_or_default()
}

/// From 0 to 1.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without chance it is a little late: no harm in it.
    let _drawn = getrandom(&mut bytes, GetRandomFlags::NONBLOCK);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the launcher is a shell: it compares a token's end with the machine's clock"
)]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A token of longer life is renewed as if it had this one.
const LONGEST_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
