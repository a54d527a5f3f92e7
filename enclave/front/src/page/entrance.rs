//! Who may look: tickets that the vault told of, each good once, and the passes of those who brought one. Pure: time and
//! randomness are arguments.
//!
//! A pass has two parts, a room and a cookie. Cookies know no ports: a browser sends one to every server of the same
//! address, other users' servers too. But it sends one only below the path for which it was set, and that path is the
//! room: 128 random bits that no other server knows, and so none can have the browser ask for.
//!
//! Neither ticket nor pass is kept, only the SHA-256 of each: who reads this process's memory or its dump enters by none
//! of them. They are compared in constant time; ticket and cookie are 256 random bits long, so that nobody tries them out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use blindferry_proto::report::{LOOKING, TICKET_LIFE};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// Tickets that wait at once; the oldest gives way.
pub const TICKETS: usize = 8;
/// Browsers that look at once; the one that came first gives way.
pub const LOOKERS: usize = 16;
/// Wrong tickets in a minute; further ones are not looked at closely, and not logged.
pub const WRONG_A_MINUTE: u32 = 10;

/// Tickets and cookies.
#[derive(Debug, Default)]
pub struct Entrance {
    tickets: VecDeque<Kept>,
    lookers: VecDeque<Kept>,
    /// Wrong tickets since then.
    wrong: Option<(Instant, u32)>,
}

#[derive(Debug)]
struct Kept {
    hash: [u8; 32],
    until: Instant,
}

/// Somebody who brought a ticket and has its pass still. Only [`Entrance::looker`] makes one.
#[derive(Debug)]
pub struct Looker {
    hash: [u8; 32],
}

/// What a browser gets for a ticket.
#[derive(PartialEq, Eq)]
#[expect(missing_debug_implementations, reason = "opens the page")]
pub struct Pass {
    room: String,
    cookie: String,
}

/// Why a ticket does not open the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotEntered {
    /// It is none, was used, or is too old.
    #[error("this ticket is not good, or not any more")]
    Wrong,
    /// Many wrong ones came before it.
    #[error("too many wrong tickets")]
    TooMany,
}

impl Pass {
    /// Random bytes that make one.
    pub const RANDOM: usize = 48;

    /// Where its bearer looks, 32 hexadecimal digits of the page's path.
    #[must_use]
    pub fn room(&self) -> &str {
        &self.room
    }

    /// The value of the cookie that the browser sends there, 64 hexadecimal digits.
    #[must_use]
    pub fn cookie(&self) -> &str {
        &self.cookie
    }
}

impl Entrance {
    /// A ticket whose text has this hash is good for a while.
    pub fn announce(&mut self, hash: [u8; 32], now: Instant) {
        push(&mut self.tickets, TICKETS, Kept { hash, until: now + Duration::from_secs(TICKET_LIFE) }, now);
    }

    /// Spends a ticket; `random` becomes the pass.
    ///
    /// # Errors
    /// [`NotEntered`]. A good ticket opens the page however many wrong ones came before it: nobody locks an operator out.
    pub fn enter(&mut self, ticket: &str, random: [u8; Pass::RANDOM], now: Instant) -> Result<Pass, NotEntered> {
        self.tickets.retain(|kept| kept.until > now);
        let Some(place) = place(&self.tickets, &hash(ticket)) else { return Err(self.wrong(now)) };
        self.tickets.remove(place);
        let (room, cookie) = random.split_at(Pass::RANDOM / 3);
        let pass = Pass { room: hexadecimal(room), cookie: hexadecimal(cookie) };
        let kept = Kept { hash: of_pass(&pass.room, &pass.cookie), until: now + Duration::from_secs(LOOKING) };
        push(&mut self.lookers, LOOKERS, kept, now);
        Ok(pass)
    }

    /// Who brings this cookie to this room.
    #[must_use]
    pub fn looker(&self, room: &str, cookie: &str, now: Instant) -> Option<Looker> {
        let hash = of_pass(room, cookie);
        let kept = self.lookers.get(place(&self.lookers, &hash)?)?;
        (kept.until > now).then_some(Looker { hash })
    }

    /// Has a pass open nothing any more.
    pub fn leave(&mut self, looker: Looker) {
        self.lookers.retain(|kept| kept.hash != looker.hash);
    }

    /// Has no pass open anything any more: the vault reports no longer.
    pub fn close(&mut self) {
        self.lookers.clear();
    }

    fn wrong(&mut self, now: Instant) -> NotEntered {
        let (since, count) = match self.wrong {
            Some((since, count)) if now.saturating_duration_since(since) < Duration::from_secs(60) => (since, count),
            _ => (now, 0),
        };
        self.wrong = Some((since, count.saturating_add(1)));
        if count < WRONG_A_MINUTE { NotEntered::Wrong } else { NotEntered::TooMany }
    }
}

/// Looks at all of them, whichever it is.
fn place(kept: &VecDeque<Kept>, hash: &[u8; 32]) -> Option<usize> {
    let mut found = None;
    for (place, kept) in kept.iter().enumerate() {
        if bool::from(kept.hash.ct_eq(hash)) {
            found = Some(place);
        }
    }
    found
}

fn push(all: &mut VecDeque<Kept>, most: usize, kept: Kept, now: Instant) {
    all.retain(|kept| kept.until > now);
    while all.len() >= most {
        all.pop_front();
    }
    all.push_back(kept);
}

fn of_pass(room: &str, cookie: &str) -> [u8; 32] {
    hash(&format!("{room}/{cookie}"))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKET: &str = "5f";

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn looks(entrance: &Entrance, pass: &Pass, now: Instant) -> bool {
        entrance.looker(pass.room(), pass.cookie(), now).is_some()
    }

    fn entered(entrance: &mut Entrance, number: u8, now: Instant) -> Pass {
        let ticket = format!("ticket {number}");
        entrance.announce(hash(&ticket), now);
        entrance.enter(&ticket, [number; 48], now).ok().unwrap()
    }

    #[test]
    fn a_ticket_opens_once() {
        let (mut entrance, now) = (Entrance::default(), Instant::now());
        entrance.announce(hash(TICKET), now);
        let pass = entrance.enter(TICKET, [7; 48], now).ok().unwrap();
        assert_eq!((pass.room(), pass.cookie()), ("07".repeat(16).as_str(), "07".repeat(32).as_str()));
        assert!(looks(&entrance, &pass, now));
        assert_eq!(entrance.enter(TICKET, [8; 48], now).err(), Some(NotEntered::Wrong));
        assert!(entrance.looker(&"08".repeat(16), &"08".repeat(32), now).is_none());
    }

    #[test]
    fn a_cookie_opens_its_own_room_alone() {
        let (mut entrance, now) = (Entrance::default(), Instant::now());
        let [first, second] = [1, 2].map(|number| entered(&mut entrance, number, now));
        assert!(looks(&entrance, &first, now) && looks(&entrance, &second, now));
        assert!(entrance.looker(first.room(), second.cookie(), now).is_none());
        assert!(entrance.looker("", &format!("{}/{}", first.room(), first.cookie()), now).is_none());
        assert!(entrance.looker("", first.cookie(), now).is_none());
    }

    #[test]
    fn a_late_ticket_and_a_wrong_one_open_nothing() {
        let (mut entrance, now) = (Entrance::default(), Instant::now());
        entrance.announce(hash(TICKET), now);
        for wrong in ["", "5e", "5F", &hash(TICKET).map(|byte| format!("{byte:02x}")).concat()] {
            assert_eq!(entrance.enter(wrong, [7; 48], now).err(), Some(NotEntered::Wrong), "{wrong}");
        }
        assert_eq!(entrance.enter(TICKET, [7; 48], now + seconds(TICKET_LIFE)).err(), Some(NotEntered::Wrong));
        entrance.announce(hash(TICKET), now);
        assert!(entrance.enter(TICKET, [7; 48], now + seconds(TICKET_LIFE - 1)).is_ok());
    }

    #[test]
    fn wrong_tickets_lock_nobody_out() {
        let (mut entrance, now) = (Entrance::default(), Instant::now());
        entrance.announce(hash(TICKET), now);
        let wrong: Vec<_> = (0..=WRONG_A_MINUTE).map(|_| entrance.enter("wrong", [1; 48], now).err()).collect();
        assert_eq!(wrong.first(), Some(&Some(NotEntered::Wrong)));
        assert_eq!(wrong.last(), Some(&Some(NotEntered::TooMany)));
        assert!(entrance.enter(TICKET, [7; 48], now).is_ok());
        assert_eq!(entrance.enter("wrong", [1; 48], now + seconds(60)).err(), Some(NotEntered::Wrong));
    }

    #[test]
    fn who_looks_leaves_by_himself_or_after_hours_or_when_the_vault_closes() {
        let (mut entrance, now) = (Entrance::default(), Instant::now());
        let [first, second, third] = [1, 2, 3].map(|number| entered(&mut entrance, number, now));
        let looker = entrance.looker(first.room(), first.cookie(), now).unwrap();
        entrance.leave(looker);
        assert!(!looks(&entrance, &first, now) && looks(&entrance, &second, now));
        assert!(!looks(&entrance, &second, now + seconds(LOOKING)));
        assert!(looks(&entrance, &third, now));
        entrance.close();
        assert!(!looks(&entrance, &third, now));
    }

    #[test]
    fn however_many_come_few_are_remembered() {
        let (mut entrance, now) = (Entrance::default(), Instant::now());
        let passes: Vec<_> = (0..=20).map(|number| entered(&mut entrance, number, now)).collect();
        assert_eq!(passes.iter().filter(|pass| looks(&entrance, pass, now)).count(), LOOKERS);
        assert!(looks(&entrance, &passes[20], now));
        (0..=20).for_each(|number| entrance.announce([number; 32], now));
        assert_eq!(entrance.tickets.len(), TICKETS);
    }
}
