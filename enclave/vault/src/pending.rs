//! Asks that wait for a person: bounded, in memory alone, each decided at most once and spent at most once.
//!
//! ```text
//!   reserve ─▶ Unrecorded ─ open ─▶ Waiting ─ begin ─▶ Deciding ─ settle ─▶ Approved ─ collect ─▶ (a grant)
//!                                     │  ▲                │ ╰───────────▶ Denied   ─ collect ─▶ (a refusal)
//!                                     │  ╰──── reopen ────╯
//!                                     ╰── lapse ─▶ TimedOut ─ collect ─▶ (a refusal)
//! ```
//!
//! Each step that has to be in the audit before it counts has a state of its own, so that nothing else happens to the
//! ask meanwhile. From every state an ask can be withdrawn, or end with its session; then it is gone.

use crate::host::Pin;
use crate::policy::Approver;
use blindferry_proto::identifier::{AskId, Digest, SessionId};
use blindferry_proto::name::HostName;
use blindferry_proto::waiting::{ASKS_A_PAGE, AskEnd, Reason, WaitingAsk};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Asks that wait in all.
pub const ASKS: usize = 256;
/// Of these, of one host.
pub const ASKS_OF_HOST: usize = 32;
/// Of these, of one user of it.
pub const ASKS_OF_USER: usize = 8;
/// Seconds after which an ask that nobody decided about is refused; a vault can be told otherwise.
pub const APPROVAL_WAIT: u32 = 300;
/// Seconds that a decision is kept for whoever asked. Brokers come for it every second.
pub const COLLECT_TIME: u64 = 30;

/// All asks that wait, or whose decision nobody has come for.
#[derive(Debug, Default)]
pub struct Pending(BTreeMap<AskId, Entry>);

#[derive(Debug)]
struct Entry {
    shown: WaitingAsk,
    digest: Digest,
    session: SessionId,
    /// The hardware that asks.
    asker: Pin,
    state: State,
}

#[derive(Debug)]
enum State {
    Unrecorded,
    Waiting,
    Deciding,
    Approved { by: Approver, until: u64 },
    Denied { by: HostName, reason: Option<Reason>, until: u64 },
    TimedOut { until: u64 },
}

/// An ask on its way into the table.
#[derive(Debug)]
pub struct Held {
    /// What operators will be shown.
    pub shown: WaitingAsk,
    /// SHA-256 over that.
    pub digest: Digest,
    /// The session that it came over, and that alone may collect it.
    pub session: SessionId,
    /// The hardware at the other end.
    pub asker: Pin,
}

/// One operator decides, and nobody else can meanwhile. Only [`Pending::begin`] makes one; [`Pending::settle`] or
/// [`Pending::reopen`] spends it.
#[derive(Debug)]
#[must_use = "nobody else can decide until this is settled"]
pub struct Deciding {
    shown: WaitingAsk,
    by: Approver,
}

impl Deciding {
    /// What is decided about.
    #[must_use]
    pub fn shown(&self) -> &WaitingAsk {
        &self.shown
    }
}

/// A person approved this ask, and the ask has left the table: it buys one grant. Only [`Pending::collect`] makes one.
///
/// ```compile_fail,E0382
/// fn spend(_: blindferry_vault::pending::Approved) {}
/// fn twice(approved: blindferry_vault::pending::Approved) {
///     spend(approved);
///     spend(approved);
/// }
/// ```
#[derive(Debug)]
#[must_use = "an approval that nobody spends is lost"]
pub struct Approved {
    shown: WaitingAsk,
    by: Approver,
}

impl Approved {
    /// Spends it: what was shown, and who approved.
    #[must_use]
    pub fn spend(self) -> (WaitingAsk, Approver) {
        (self.shown, self.by)
    }
}

/// What an operator said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Yes.
    Yes,
    /// No.
    No {
        /// Which operator's machine.
        by: HostName,
        /// Why not.
        reason: Option<Reason>,
    },
}

/// What became of an ask.
#[derive(Debug)]
pub enum Collected {
    /// Nobody decided yet; so many seconds are left.
    Waiting(u32),
    /// It is approved. The ask is gone.
    Approved(Box<Approved>),
    /// It is denied. The ask is gone.
    Denied {
        /// Which operator's machine.
        by: HostName,
        /// Why.
        reason: Option<Reason>,
    },
    /// Its time is over. The ask is gone.
    TimedOut,
    /// It is not, or not any more, an ask of this session.
    Unknown,
}

impl Pending {
    /// A place for an ask, which nobody sees yet.
    ///
    /// # Errors
    /// [`Full`] says which bound is reached.
    pub fn reserve(&mut self, held: Held) -> Result<(), Full> {
        let Held { shown, digest, session, asker } = held;
        let host = |entry: &&Entry| entry.shown.host.name == shown.host.name;
        let of_host = self.0.values().filter(host).count();
        let of_user = self.0.values().filter(host).filter(|entry| entry.shown.parent.uid == shown.parent.uid).count();
        if of_user >= ASKS_OF_USER {
            return Err(Full::User { uid: shown.parent.uid });
        }
        if of_host >= ASKS_OF_HOST {
            return Err(Full::Host);
        }
        if self.0.len() >= ASKS {
            return Err(Full::All);
        }
        let entry = Entry { digest, session, asker, state: State::Unrecorded, shown };
        match self.0.entry(entry.shown.ask) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(entry);
                Ok(())
            }
            // Of 64 random bits, nobody will see this; and a name must not stand for two asks.
            std::collections::btree_map::Entry::Occupied(_) => Err(Full::All),
        }
    }

    /// Operators see it from now on. False when it has gone meanwhile.
    pub fn open(&mut self, ask: AskId) -> bool {
        let entry = self.0.get_mut(&ask).filter(|entry| matches!(entry.state, State::Unrecorded));
        entry.map(|entry| entry.state = State::Waiting).is_some()
    }

    /// Takes an ask out that could not be recorded.
    pub fn forget(&mut self, ask: AskId) {
        self.0.remove(&ask);
    }

    /// A page of those that an operator can decide about, in the order of their names.
    #[must_use]
    pub fn page(&self, after: Option<AskId>) -> Vec<WaitingAsk> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let waiting = self.0.range((from, Bound::Unbounded)).filter(|(_, entry)| matches!(entry.state, State::Waiting));
        waiting.take(ASKS_A_PAGE).map(|(_, entry)| entry.shown.clone()).collect()
    }

    /// How many an operator can decide about.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.values().filter(|entry| matches!(entry.state, State::Waiting)).count()
    }

    /// An operator wants to decide about what has this digest.
    ///
    /// # Errors
    /// [`NotDecided`].
    pub fn begin(
        &mut self,
        ask: AskId,
        shown: Digest,
        operator: &Pin,
        said: &Said,
        now: u64,
    ) -> Result<Deciding, NotDecided> {
        let entry = self.0.get_mut(&ask).ok_or(NotDecided::Unknown)?;
        match entry.state {
            State::Waiting => {}
            State::Unrecorded => return Err(NotDecided::Unknown),
            State::Deciding | State::Approved { .. } | State::Denied { .. } | State::TimedOut { .. } => {
                return Err(NotDecided::Decided);
            }
        }
        if entry.digest != shown {
            return Err(NotDecided::OtherShown);
        }
        if now >= entry.shown.until {
            return Err(NotDecided::Decided);
        }
        let by = if entry.asker == *operator { Approver::AnyMachine } else { Approver::OtherMachine };
        if *said == Said::Yes && entry.shown.other_machine && by < Approver::OtherMachine {
            return Err(NotDecided::SameMachine);
        }
        entry.state = State::Deciding;
        Ok(Deciding { shown: entry.shown.clone(), by })
    }

    /// The decision counts from now on. False when the ask has gone meanwhile.
    pub fn settle(&mut self, deciding: Deciding, said: Said, now: u64) -> bool {
        let Deciding { shown, by } = deciding;
        let until = now.saturating_add(COLLECT_TIME);
        let Some(entry) = self.deciding(shown.ask) else { return false };
        entry.state = match said {
            Said::Yes => State::Approved { by, until },
            Said::No { by, reason } => State::Denied { by, reason, until },
        };
        true
    }

    /// The decision could not be recorded: it was none.
    pub fn reopen(&mut self, deciding: Deciding) {
        if let Some(entry) = self.deciding(deciding.shown.ask) {
            entry.state = State::Waiting;
        }
    }

    /// What became of an ask of this session; whatever it is but waiting, it is told once.
    #[must_use]
    pub fn collect(&mut self, ask: AskId, session: SessionId, now: u64) -> Collected {
        let Some(entry) = self.0.get(&ask).filter(|entry| entry.session == session) else {
            return Collected::Unknown;
        };
        match entry.state {
            State::Unrecorded | State::Waiting | State::Deciding => {
                return Collected::Waiting(seconds(entry.shown.until.saturating_sub(now)));
            }
            // No approval outlives its time; it stays for `lapse`, which says so in the audit.
            State::Approved { until, .. } if now >= until => return Collected::TimedOut,
            State::Approved { .. } | State::Denied { .. } | State::TimedOut { .. } => {}
        }
        let Some(Entry { shown, state, .. }) = self.0.remove(&ask) else { return Collected::Unknown };
        match state {
            State::Approved { by, .. } => Collected::Approved(Box::new(Approved { shown, by })),
            State::Denied { by, reason, .. } => Collected::Denied { by, reason },
            State::TimedOut { .. } => Collected::TimedOut,
            State::Unrecorded | State::Waiting | State::Deciding => Collected::Unknown,
        }
    }

    /// The asker of this session has gone. What was withdrawn, unless its end is in the audit already.
    pub fn withdraw(&mut self, ask: AskId, session: SessionId) -> Option<WaitingAsk> {
        self.0.get(&ask).filter(|entry| entry.session == session)?;
        self.0.remove(&ask).and_then(Entry::unfinished)
    }

    /// A session is over. What waited in it, unless its end is in the audit already.
    #[must_use]
    pub fn end_session(&mut self, session: SessionId) -> Vec<WaitingAsk> {
        let of_session = self.0.extract_if(.., |_, entry| entry.session == session);
        of_session.filter_map(|(_, entry)| entry.unfinished()).collect()
    }

    /// Refuses what nobody decided about in time, and forgets decisions that nobody came for.
    #[must_use]
    pub fn lapse(&mut self, now: u64) -> Vec<(WaitingAsk, AskEnd)> {
        let mut ended = Vec::new();
        self.0.retain(|_, entry| match entry.state {
            State::Waiting if now >= entry.shown.until => {
                entry.state = State::TimedOut { until: now.saturating_add(COLLECT_TIME) };
                ended.push((entry.shown.clone(), AskEnd::TimedOut));
                true
            }
            State::Approved { until, .. } if now >= until => {
                ended.push((entry.shown.clone(), AskEnd::NotCollected));
                false
            }
            State::Denied { until, .. } | State::TimedOut { until } => now < until,
            State::Unrecorded | State::Waiting | State::Deciding | State::Approved { .. } => true,
        });
        ended
    }

    fn deciding(&mut self, ask: AskId) -> Option<&mut Entry> {
        self.0.get_mut(&ask).filter(|entry| matches!(entry.state, State::Deciding))
    }
}

impl Entry {
    /// What it was about, if nothing says yet how it ended.
    fn unfinished(self) -> Option<WaitingAsk> {
        match self.state {
            State::Unrecorded | State::Waiting | State::Deciding | State::Approved { .. } => Some(self.shown),
            State::Denied { .. } | State::TimedOut { .. } => None,
        }
    }
}

/// Which bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// No more for anybody.
    #[error("all {ASKS} places are taken")]
    All,
    /// No more for this host.
    #[error("the host has taken all {ASKS_OF_HOST} places that one host may have")]
    Host,
    /// No more for this user of the host.
    #[error("user {uid} has taken all {ASKS_OF_USER} places that one user of a host may have")]
    User {
        /// Which user.
        uid: u32,
    },
}

/// Why an operator cannot decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDecided {
    /// There is none of that name.
    #[error("no such ask waits: its asker went away, or it was decided")]
    Unknown,
    /// Somebody was faster, or its time is over.
    #[error("it is decided already, or its time is over")]
    Decided,
    /// It is not the one that was shown.
    #[error("what was shown is not what waits: look again")]
    OtherShown,
    /// It is asked on the machine that wants to approve.
    #[error("policy wants an approval from another machine than the one that asks")]
    SameMachine,
}

fn seconds(left: u64) -> u32 {
    u32::try_from(left).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
