//! The half in the caller's session: relays, passes signals on, stops when the program stops, and learns how it ended.

use crate::end::End;
use crate::flow::Flow;
use crate::job::{Stop, stop};
use crate::link::{FromKeeper, Link, LinkError, ToKeeper};
use crate::pseudo::{imitate, prepare, resize};
use crate::signals::Signals;
use crate::terminal::Terminal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use thiserror::Error;

/// What may end a program before it ends by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// How long it may run.
    pub time: Option<TimedOut>,
}

/// When and how a program that runs for too long is ended.
#[derive(Clone, Copy, Debug)]
pub struct TimedOut {
    /// From its start; then it gets SIGTERM.
    pub after: Duration,
    /// From then on; then it is to be killed, which is for whoever called [`accompany`].
    pub grace: Duration,
}

/// How it came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// The program ended.
    Ended(End),
    /// It was told to, since it ran for too long; whether it has ended is for whoever drops the link to see to.
    TimedOut,
}

/// The program cannot be accompanied any longer. Dropping the link ends it.
#[derive(Debug, Error)]
pub enum Accompany {
    /// The half beside it is gone, or does not keep to the protocol.
    #[error("the program is out of reach")]
    Link(#[from] LinkError),
    /// What a terminal needs could not be done.
    #[error("cannot relay the terminal")]
    Terminal(#[source] io::Error),
    /// poll(2) failed.
    #[error("cannot wait for the program")]
    Wait(#[source] io::Error),
}

/// Lets the program start and stays with it until it ends. To be called once [`FromKeeper::Ready`] was heard; `master` is
/// what came with it.
///
/// `in_pipeline` says that only part of the program's standard streams are its terminal. Then, and when this process is in
/// the background, nothing is typed to the program, and the user's terminal is left alone, until it wants to read: another
/// command of a pipeline, such as a pager, may be reading from the same terminal.
///
/// The terminal is as it was when this returns.
///
/// # Errors
/// [`Accompany`].
pub fn accompany(
    link: &Link,
    mut signals: Signals,
    terminal: Option<Terminal>,
    master: Option<OwnedFd>,
    in_pipeline: bool,
    limits: Limits,
) -> Result<Finished, Accompany> {
    let relay = match (terminal, master) {
        (Some(terminal), Some(master)) => {
            prepare(master.as_fd(), &terminal).map_err(Accompany::Terminal)?;
            Some(Relay { terminal, master, typed: Flow::new(), shown: Flow::new(), likeness: Likeness::OfSize })
        }
        _ => None,
    };
    let mut companion = Companion { link, relay, dropped_stop: false };
    let in_front = companion.relay.is_some() && !in_pipeline && companion.take_front()?;
    link.tell(ToKeeper::Start { in_front })?;
    let started = Instant::now();
    let mut deadline = limits.time.map(|limit| (started + limit.after, Some(limit.grace)));
    loop {
        let left = deadline.map(|(moment, _)| moment.saturating_duration_since(Instant::now()));
        let left = if companion.is_behind() { Some(left.map_or(A_LOOK, |left| left.min(A_LOOK))) } else { left };
        let heard = companion.wait(&signals, left)?;
        if companion.is_behind() {
            companion.take_front()?;
        }
        for signal in signals.pending() {
            companion.pass_on(signal)?;
        }
        if heard {
            match link.reported()? {
                FromKeeper::Stopped(reason) => companion.program_stopped(reason)?,
                FromKeeper::Ended(end) => {
                    companion.show_the_rest()?;
                    let timed_out = matches!(deadline, Some((_, None)));
                    return Ok(if timed_out { Finished::TimedOut } else { Finished::Ended(end) });
                }
                FromKeeper::Ready(_) | FromKeeper::Unfit(_) | FromKeeper::Note(_) => {
                    return Err(LinkError::Unknown.into());
                }
            }
        }
        match deadline {
            Some((moment, grace)) if moment <= Instant::now() => match grace {
                Some(grace) => {
                    link.tell(ToKeeper::SignalGroup(Signal::TERM))?;
                    // It may be stopped.
                    link.tell(ToKeeper::SignalGroup(Signal::CONT))?;
                    deadline = Some((moment + grace, None));
                }
                None => return Ok(Finished::TimedOut),
            },
            _ => {}
        }
    }
}

struct Companion<'link> {
    link: &'link Link,
    relay: Option<Relay>,
    /// A SIGTSTP that this process sent to its own group is still to come back.
    dropped_stop: bool,
}

struct Relay {
    terminal: Terminal,
    master: OwnedFd,
    typed: Flow,
    shown: Flow,
    likeness: Likeness,
}

/// What the program's terminal has of the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Likeness {
    /// Its size: in the background the settings are those of whoever is in front, such as a shell that edits a line.
    OfSize,
    /// Its settings too. From then on they are the program's.
    Whole,
}

impl Companion<'_> {
    /// Takes the terminal over, if it is this process's turn.
    fn take_front(&mut self) -> Result<bool, Accompany> {
        let Some(relay) = &mut self.relay else { return Ok(false) };
        if !relay.terminal.is_ours() {
            return Ok(false);
        }
        relay.terminal.become_raw().map_err(Accompany::Terminal)?;
        if relay.likeness == Likeness::OfSize {
            imitate(relay.master.as_fd(), &relay.terminal).map_err(Accompany::Terminal)?;
            relay.likeness = Likeness::Whole;
        }
        // It may have been another size meanwhile.
        resize(relay.master.as_fd(), &relay.terminal).map_err(Accompany::Terminal)?;
        Ok(true)
    }

    /// Whether the program is in front of its terminal and we are not in front of the user's. A shell that brings a job
    /// to the front which runs already does not tell it, so that has to be looked for.
    fn is_behind(&self) -> bool {
        self.relay.as_ref().is_some_and(|relay| relay.likeness == Likeness::Whole && !relay.terminal.is_raw())
    }

    /// Moves what can be moved. Whether the keeper has said something.
    fn wait(&mut self, signals: &Signals, left: Option<Duration>) -> Result<bool, Accompany> {
        let left = left.map(|left| Timespec::try_from(left).unwrap_or(A_DAY));
        let Some(relay) = &mut self.relay else {
            let mut waiting = [PollFd::new(self.link, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
            poll_once(&mut waiting, left.as_ref())?;
            let [link, _] = &waiting;
            return Ok(!link.revents().is_empty());
        };
        let (from_terminal, to_terminal) = relay.terminal_events();
        let (from_master, to_master) = relay.master_events();
        let mut waiting = [
            PollFd::new(self.link, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(&relay.terminal, from_terminal | to_terminal),
            PollFd::new(&relay.master, from_master | to_master),
        ];
        // A descriptor that is asked for nothing still tells that it was hung up, again and again.
        let idle = |events: PollFlags| events.is_empty();
        let (terminal_idle, master_idle) = (idle(from_terminal | to_terminal), idle(from_master | to_master));
        let [_, _, terminal, master] = &mut waiting;
        if terminal_idle {
            *terminal = PollFd::new(signals, PollFlags::IN);
        }
        if master_idle {
            *master = PollFd::new(signals, PollFlags::IN);
        }
        poll_once(&mut waiting, left.as_ref())?;
        let [link, _, terminal, master] = waiting.map(|one| one.revents());
        relay.move_bytes(
            if terminal_idle { PollFlags::empty() } else { terminal },
            if master_idle { PollFlags::empty() } else { master },
        );
        Ok(!link.is_empty())
    }

    fn pass_on(&mut self, signal: Signal) -> Result<(), Accompany> {
        match signal {
            Signal::WINCH => {
                if let Some(relay) = &self.relay {
                    // The kernel tells the program.
                    let _gone = resize(relay.master.as_fd(), &relay.terminal);
                    return Ok(());
                }
                self.tell(ToKeeper::SignalGroup(signal))
            }
            Signal::TSTP if self.dropped_stop => {
                self.dropped_stop = false;
                Ok(())
            }
            Signal::CONT => {
                self.take_front()?;
                self.tell(ToKeeper::SignalGroup(signal))
            }
            // A terminal sends these to a group, people send the rest to a process.
            Signal::INT | Signal::QUIT | Signal::HUP | Signal::TSTP => self.tell(ToKeeper::SignalGroup(signal)),
            signal => self.tell(ToKeeper::Signal(signal)),
        }
    }

    fn tell(&self, message: ToKeeper) -> Result<(), Accompany> {
        match self.link.tell(message) {
            // It has ended, and said so: that is heard next.
            Err(error) if error.is_closed() => Ok(()),
            told => Ok(told?),
        }
    }

    fn program_stopped(&mut self, reason: Signal) -> Result<(), Accompany> {
        let wants_terminal = reason == Signal::TTIN || reason == Signal::TTOU;
        let relayed = self.relay.as_ref().is_some_and(|relay| relay.terminal.is_raw());
        if wants_terminal && self.relay.is_some() && !relayed && self.take_front()? {
            return self.tell(ToKeeper::InFront);
        }
        // What it showed before it stopped is shown before the shell says that it did.
        self.show_what_is_there()?;
        if let Some(relay) = &mut self.relay {
            relay.terminal.restore();
        }
        if stop(reason) == Stop::Resumed {
            self.dropped_stop = reason == Signal::TSTP;
        }
        if self.take_front()? {
            return self.tell(ToKeeper::InFront);
        }
        self.tell(ToKeeper::SignalGroup(Signal::CONT))
    }

    /// The program's terminal is shown to its end, or for as long as the user's takes it.
    fn show_the_rest(&mut self) -> Result<(), Accompany> {
        let Some(relay) = &mut self.relay else { return Ok(()) };
        let end = Instant::now() + LAST_WORDS;
        while !relay.shown.is_over() && Instant::now() < end && relay.show_once()? {}
        relay.terminal.restore();
        Ok(())
    }

    fn show_what_is_there(&mut self) -> Result<(), Accompany> {
        let Some(relay) = &mut self.relay else { return Ok(()) };
        for _ in 0..MOST_SHOWN {
            if !relay.show_once()? {
                break;
            }
        }
        Ok(())
    }
}

impl Relay {
    fn terminal_events(&self) -> (PollFlags, PollFlags) {
        let reads = self.terminal.is_raw() && self.typed.wants_bytes();
        (asks(reads, PollFlags::IN), asks(self.shown.has_bytes(), PollFlags::OUT))
    }

    fn master_events(&self) -> (PollFlags, PollFlags) {
        (asks(self.shown.wants_bytes(), PollFlags::IN), asks(self.typed.has_bytes(), PollFlags::OUT))
    }

    fn move_bytes(&mut self, terminal: PollFlags, master: PollFlags) {
        // Hung up: reading and writing say how.
        let either = |events: PollFlags, one| events.intersects(one | PollFlags::HUP | PollFlags::ERR);
        if self.shown.has_bytes() && either(terminal, PollFlags::OUT) {
            self.shown.drain(&self.terminal);
        }
        if self.typed.has_bytes() && either(master, PollFlags::OUT) {
            self.typed.drain(&self.master);
        }
        if self.terminal.is_raw() && self.typed.wants_bytes() && either(terminal, PollFlags::IN) {
            self.typed.fill(&self.terminal);
        }
        if self.shown.wants_bytes() && either(master, PollFlags::IN) {
            self.shown.fill(&self.master);
        }
    }

    /// Moves bytes from the program to the user, waiting for a moment at most. Whether there were any to move.
    fn show_once(&mut self) -> Result<bool, Accompany> {
        let mut waiting = if self.shown.has_bytes() {
            [PollFd::new(&self.terminal, PollFlags::OUT)]
        } else {
            [PollFd::new(&self.master, PollFlags::IN)]
        };
        poll_once(&mut waiting, Some(&A_MOMENT))?;
        let [ready] = waiting.map(|one| one.revents());
        if ready.is_empty() {
            return Ok(false);
        }
        if self.shown.has_bytes() {
            self.shown.drain(&self.terminal);
        } else {
            self.shown.fill(&self.master);
        }
        Ok(!self.shown.is_over())
    }
}

fn asks(wants: bool, events: PollFlags) -> PollFlags {
    if wants { events } else { PollFlags::empty() }
}

fn poll_once(waiting: &mut [PollFd<'_>], left: Option<&Timespec>) -> Result<(), Accompany> {
    match poll(waiting, left) {
        Ok(_) => Ok(()),
        Err(Errno::INTR) => {
            waiting.iter_mut().for_each(PollFd::clear_revents);
            Ok(())
        }
        Err(error) => Err(Accompany::Wait(error.into())),
    }
}

/// Longer than that nobody waits at once.
const A_DAY: Timespec = Timespec { tv_sec: 86_400, tv_nsec: 0 };

/// How often it is looked for.
const A_LOOK: Duration = Duration::from_millis(200);

/// What the program wrote is in the kernel already.
const A_MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// How long a user's terminal may take for what the program wrote last.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Pieces shown before this process stops; a program in the background may write for ever.
const MOST_SHOWN: usize = 64;
