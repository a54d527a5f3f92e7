//! The places for handshakes: how many there are at once, and who gives way when all are taken.
//!
//! Whoever asks before he is attested has nothing to show but his address. So an address may have all places while nobody
//! else wants one, and loses those that it has over its share to addresses that have fewer. The newest gives way, so that
//! what is under way is finished.

use crate::vault::lock;
use blindferry_proto::source::Source;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// All places.
#[derive(Debug)]
pub(crate) struct Handshakes {
    places: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// In the order in which they were taken; as short as there are places.
    by: Vec<(u64, Option<Source>, Arc<Notify>)>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    of: &'a Handshakes,
    number: u64,
    gives_way: Arc<Notify>,
}

impl Handshakes {
    pub(crate) fn new(places: usize) -> Self {
        Self { places, taken: Mutex::default() }
    }

    /// A place for a peer from there; `None` means from nowhere that is known, which counts as one source.
    ///
    /// When all are taken, the newest of the source that has the most gives way, if that source would still have no fewer
    /// than this one. Otherwise there is no place.
    pub(crate) fn take(&self, from: Option<Source>) -> Option<Place<'_>> {
        let mut taken = lock(&self.taken);
        if taken.by.len() >= self.places {
            let at = taken.gives_way_to(from)?;
            let (_, _, gives_way) = taken.by.remove(at);
            gives_way.notify_one();
        }
        let number = taken.next;
        taken.next += 1;
        let gives_way = Arc::new(Notify::new());
        taken.by.push((number, from, Arc::clone(&gives_way)));
        Some(Place { of: self, number, gives_way })
    }
}

impl Taken {
    /// Which place is given to `from`.
    fn gives_way_to(&self, from: Option<Source>) -> Option<usize> {
        let mut count = HashMap::<Option<Source>, usize>::new();
        self.by.iter().for_each(|(_, source, _)| *count.entry(*source).or_default() += 1);
        let own = count.get(&from).copied().unwrap_or_default();
        let at = (0..self.by.len()).max_by_key(|at| self.by.get(*at).and_then(|(_, source, _)| count.get(source)))?;
        let (_, most, _) = self.by.get(at)?;
        (count.get(most).copied().unwrap_or_default() > own + 1).then_some(at)
    }
}

impl Place<'_> {
    /// Waits until this place was given to somebody else. To be heard of once.
    pub(crate) async fn given_away(&self) {
        self.gives_way.notified().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(&self.of.taken).by.retain(|(number, _, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    fn from(last: u8) -> Option<Source> {
        Some(Source::of([192, 0, 2, last].into()))
    }

    async fn is_given_away(place: &Place<'_>) -> bool {
        timeout(Duration::ZERO, place.given_away()).await.is_ok()
    }

    #[tokio::test]
    async fn one_source_may_have_all_places_until_another_wants_one_and_its_newest_gives_way() {
        let handshakes = Handshakes::new(4);
        let mut held: Vec<_> = (0..4).map(|_| handshakes.take(from(1)).unwrap()).collect();
        assert!(handshakes.take(from(1)).is_none(), "it does not displace itself");
        let others = [handshakes.take(from(2)).unwrap(), handshakes.take(from(2)).unwrap()];
        assert!(handshakes.take(from(2)).is_none(), "no more than its share");
        assert!(is_given_away(&held.pop().unwrap()).await && is_given_away(&held.pop().unwrap()).await);
        for place in held.iter().chain(&others) {
            assert!(!is_given_away(place).await, "{place:?}");
        }
        drop(held);
        assert!(handshakes.take(from(2)).is_some(), "a place that is free is anybody's");
    }

    #[tokio::test]
    async fn a_source_with_one_place_keeps_it_whoever_comes() {
        let handshakes = Handshakes::new(3);
        let held: Vec<_> = (1..=3).map(|last| handshakes.take(from(last)).unwrap()).collect();
        assert!(handshakes.take(from(4)).is_none() && handshakes.take(None).is_none());
        for place in &held {
            assert!(!is_given_away(place).await);
        }
    }

    #[test]
    fn a_place_that_was_given_away_is_not_freed_a_second_time() {
        let handshakes = Handshakes::new(2);
        let displaced = [handshakes.take(from(1)).unwrap(), handshakes.take(from(1)).unwrap()];
        let _other = handshakes.take(from(2)).unwrap();
        let [first, second] = displaced;
        drop(second);
        assert_eq!(lock(&handshakes.taken).by.len(), 2);
        drop(first);
        assert_eq!(lock(&handshakes.taken).by.len(), 1);
    }
}
