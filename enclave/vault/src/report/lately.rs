//! What happened in the last hour, minute by minute, and the last verdict about each host. Pure: time is an argument.
//!
//! Fed with every event on its way to the audit; bounded, whoever it is that knocks.

use blindferry_proto::audit::Event;
use blindferry_proto::bounded::Text;
use blindferry_proto::name::HostName;
use blindferry_proto::report::{MAX_CODES, MINUTES, Minute, Verdict};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Hosts of which the last verdict is remembered. Beyond it the oldest refusal is forgotten first: strangers come under
/// names of their own invention.
const VERDICTS: usize = 4096;

/// The last hour.
#[derive(Debug, Default)]
pub struct Lately {
    /// Oldest first; minutes in which nothing happened are left out.
    minutes: VecDeque<Counted>,
    verdicts: HashMap<HostName, Verdict>,
}

#[derive(Debug)]
struct Counted {
    /// Minutes since the epoch.
    at: u64,
    counts: Minute,
    codes: BTreeMap<Text<64>, u32>,
}

impl Lately {
    /// Notes what happened, at this time in seconds since the epoch.
    pub fn note(&mut self, event: &Event, now: u64) {
        match event {
            Event::Granted { .. } => self.counted(now).counts.granted += 1,
            Event::Redeemed { .. } => self.counted(now).counts.redeemed += 1,
            Event::Denied { code, .. } => self.refused(code.as_str(), now),
            Event::NotAttested { host, code, .. } => {
                self.refused(code.as_str(), now);
                self.judged(host, Some(code.clone()), now);
            }
            Event::SessionOpened { host, .. } | Event::Reattested { host, .. } => self.judged(host, None, now),
            Event::Alarm(_) => self.counted(now).counts.alarms += 1,
            _ => {}
        }
    }

    /// The last [`MINUTES`], oldest first; the last one is that of `now`.
    #[must_use]
    pub fn minutes(&self, now: u64) -> Vec<Minute> {
        let first = first(now);
        let mut minutes = vec![Minute::default(); MINUTES];
        for counted in &self.minutes {
            let place = counted.at.checked_sub(first).and_then(|place| usize::try_from(place).ok());
            if let Some(minute) = place.and_then(|place| minutes.get_mut(place)) {
                *minute = counted.counts;
            }
        }
        minutes
    }

    /// How often something was refused in these minutes, by code, the most frequent first; at most [`MAX_CODES`].
    #[must_use]
    pub fn refusals(&self, now: u64) -> Vec<(Text<64>, u32)> {
        let mut sums: BTreeMap<&Text<64>, u32> = BTreeMap::new();
        for counted in self.minutes.iter().filter(|counted| counted.at >= first(now)) {
            for (code, count) in &counted.codes {
                let sum = sums.entry(code).or_default();
                *sum = sum.saturating_add(*count);
            }
        }
        let mut sums: Vec<_> = sums.into_iter().map(|(code, count)| (code.clone(), count)).collect();
        sums.sort_by(|(_, one), (_, other)| other.cmp(one));
        sums.truncate(MAX_CODES);
        sums
    }

    /// The last verdict about a host.
    #[must_use]
    pub fn verdict(&self, host: &HostName) -> Option<Verdict> {
        self.verdicts.get(host).cloned()
    }

    fn refused(&mut self, code: &str, now: u64) {
        let counted = self.counted(now);
        counted.counts.refused += 1;
        // Codes are stable words of ours; should there ever be more, they are counted in the sum alone.
        if counted.codes.len() < MAX_CODES || counted.codes.contains_key(&Text::cut(code)) {
            *counted.codes.entry(Text::cut(code)).or_default() += 1;
        }
    }

    fn judged(&mut self, host: &HostName, refused: Option<Text<64>>, now: u64) {
        if self.verdicts.len() >= VERDICTS && !self.verdicts.contains_key(host) {
            let oldest = self.verdicts.iter().min_by_key(|(_, verdict)| (verdict.refused.is_none(), verdict.at));
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.verdicts.remove(&oldest);
            }
        }
        self.verdicts.insert(host.clone(), Verdict { at: now, refused });
    }

    /// The minute of `now`; the vault's clock does not go back.
    fn counted(&mut self, now: u64) -> &mut Counted {
        let at = now / 60;
        while self.minutes.front().is_some_and(|oldest| oldest.at < first(now)) {
            self.minutes.pop_front();
        }
        let newest = match self.minutes.pop_back() {
            Some(newest) if newest.at == at => newest,
            other => {
                self.minutes.extend(other);
                Counted { at, counts: Minute::default(), codes: BTreeMap::new() }
            }
        };
        self.minutes.push_back_mut(newest)
    }
}

/// The first minute that is still remembered.
fn first(now: u64) -> u64 {
    (now / 60).saturating_sub(MINUTES as u64 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_proto::identifier::SessionId;
    use blindferry_proto::refusal::RefusalCode;
    use blindferry_proto::role::Role;

    const NOW: u64 = 1_800_000_000;

    fn denied() -> Event {
        let (credential, host) = ("c".parse().unwrap(), "h".parse().unwrap());
        Event::Denied { credential, host, code: RefusalCode::Denied, detail: Text::cut("") }
    }

    fn not_attested(host: &str) -> Event {
        let (host, role) = (host.parse().unwrap(), Role::Broker);
        Event::NotAttested { host, role, code: Text::cut("pcr"), detail: Text::cut("") }
    }

    fn opened(host: &str) -> Event {
        Event::SessionOpened { session: SessionId([1; 16]), role: Role::Broker, host: host.parse().unwrap() }
    }

    #[test]
    fn an_hour_is_remembered_and_no_longer() {
        let mut lately = Lately::default();
        lately.note(&denied(), NOW);
        lately.note(&denied(), NOW + 59 * 60);
        let minutes = lately.minutes(NOW + 59 * 60);
        assert_eq!((minutes.len(), minutes[0].refused, minutes[59].refused), (60, 1, 1));
        assert_eq!(lately.refusals(NOW + 59 * 60), [(Text::cut("denied"), 2)]);
        let minutes = lately.minutes(NOW + 60 * 60);
        assert_eq!(minutes.iter().map(|minute| minute.refused).sum::<u32>(), 1);
        assert_eq!(lately.refusals(NOW + 60 * 60), [(Text::cut("denied"), 1)]);
        for minute in 0..10_000 {
            lately.note(&denied(), NOW + minute * 60);
        }
        assert_eq!(lately.minutes.len(), MINUTES);
    }

    #[test]
    fn the_last_verdict_about_a_host_counts() {
        let mut lately = Lately::default();
        let verdict = |lately: &Lately| lately.verdict(&"h".parse().unwrap()).map(|verdict| verdict.refused);
        assert_eq!(verdict(&lately), None);
        lately.note(&opened("h"), NOW);
        assert_eq!(verdict(&lately), Some(None));
        lately.note(&not_attested("h"), NOW + 1);
        assert_eq!(verdict(&lately), Some(Some(Text::cut("pcr"))));
    }

    #[test]
    fn strangers_under_invented_names_push_no_attested_host_out() {
        let mut lately = Lately::default();
        lately.note(&opened("ours"), NOW);
        for stranger in 0..VERDICTS as u64 + 10 {
            lately.note(&not_attested(&format!("stranger-{stranger}")), NOW + 1 + stranger);
        }
        assert_eq!(lately.verdicts.len(), VERDICTS);
        assert!(lately.verdict(&"ours".parse().unwrap()).is_some());
        assert!(lately.verdict(&"stranger-0".parse().unwrap()).is_none());
    }
}
