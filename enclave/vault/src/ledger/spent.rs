//! Grants that are spent for good, in eight bytes each: what is left of an entry is a tag of the claim that spent it.
//!
//! Grants are numbered as they are issued, so a tag's place follows from its grant's number. Places come in chunks. A chunk
//! is made when the first of its grants is redeemed, and goes as a whole when none of those that were can buy anything any
//! more: then the time of the grant is what keeps it from being spent again. Grants that nobody redeems cost nothing where
//! there is no chunk, and an empty place where there is one.

use super::Claim;
use crate::grant::Serial;
use ring::hmac;
use std::collections::BTreeMap;
use std::num::NonZeroU64;

/// Places of a chunk: 2 KiB.
pub(super) const CHUNK: u64 = 256;

/// Where the tag of a redeemed grant will stand. Its chunk is there for as long as the grant's time lasts, so to spend the
/// grant needs no room.
#[derive(Debug)]
pub(super) struct Place(Serial);

/// Who brings a grant that is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The claim that spent it.
    Winner,
    /// Another one.
    Other,
}

/// The tags of the claims that spent grants.
///
/// A tag is the first 8 bytes of HMAC-SHA256 over number, worker's key and request, under a key that nobody outside has. So
/// another claim passes for the winner's once in 2^64 tries, each of which is a redemption; and what it gets by that is the
/// winner's refusal, without the alarm.
#[derive(Debug)]
pub(super) struct Spent {
    key: hmac::Key,
    chunks: BTreeMap<u64, Chunk>,
    most: usize,
    tags: usize,
}

#[derive(Debug)]
struct Chunk {
    /// When the last of its redeemed grants is over.
    until: u64,
    tags: Box<[Option<NonZeroU64>]>,
}

impl Spent {
    /// With room for so many chunks.
    pub(super) fn with_room_for(most: usize, key: hmac::Key) -> Self {
        Self { key, chunks: BTreeMap::new(), most, tags: 0 }
    }

    /// Who brings the grant, if it is spent.
    pub(super) fn who(&self, serial: Serial, claim: &Claim) -> Option<Who> {
        let (chunk, at) = split(serial);
        let tag = (*self.chunks.get(&chunk)?.tags.get(at)?)?;
        Some(if tag == self.tag(serial, claim) { Who::Winner } else { Who::Other })
    }

    /// A place for the tag of a grant, kept until the grant is over. `None`: there is no room.
    pub(super) fn reserve(&mut self, serial: Serial, until: u64) -> Option<Place> {
        let (number, _) = split(serial);
        let full = self.chunks.len() >= self.most;
        let chunk = match self.chunks.get_mut(&number) {
            Some(chunk) => chunk,
            None if full => return None,
            None => self.chunks.entry(number).or_insert_with(Chunk::empty),
        };
        chunk.until = chunk.until.max(until);
        Some(Place(serial))
    }

    /// The claim has spent the grant of that place for good.
    pub(super) fn put(&mut self, place: Place, claim: &Claim) {
        let Place(serial) = place;
        let tag = self.tag(serial, claim);
        let (chunk, at) = split(serial);
        // The chunk may be gone with the grant's time.
        if let Some(place) = self.chunks.get_mut(&chunk).and_then(|chunk| chunk.tags.get_mut(at))
            && place.replace(tag).is_none()
        {
            self.tags += 1;
        }
    }

    /// Forgets chunks whose time is over. Grants are over in the order of their numbers, but for a change of their life:
    /// then a chunk waits for those before it.
    pub(super) fn forget(&mut self, now: u64) {
        while let Some(first) = self.chunks.first_entry().filter(|first| first.get().until <= now) {
            self.tags -= first.remove().tags.iter().flatten().count();
        }
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.tags
    }

    fn tag(&self, Serial(serial): Serial, claim: &Claim) -> NonZeroU64 {
        let Claim { worker_key, request } = claim;
        let message = [&serial.to_be_bytes()[..], worker_key.as_bytes(), request.as_bytes()].concat();
        let tag = hmac::sign(&self.key, &message);
        let first = tag.as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        NonZeroU64::new(first).unwrap_or(NonZeroU64::MIN)
    }
}

impl Chunk {
    fn empty() -> Self {
        Self { until: 0, tags: (0..CHUNK).map(|_| None).collect() }
    }
}

/// A grant's chunk, and its place there.
fn split(Serial(serial): Serial) -> (u64, usize) {
    (serial / CHUNK, usize::try_from(serial % CHUNK).unwrap_or(usize::MAX))
}

#[cfg(test)]
impl Spent {
    /// Each chunk's end and its tags by number.
    pub(super) fn remembered(&self) -> Vec<(u64, Vec<(u64, u64)>)> {
        let tags = |(number, chunk): (&u64, &Chunk)| {
            let numbered = (number * CHUNK..).zip(&chunk.tags);
            (chunk.until, numbered.filter_map(|(serial, tag)| Some((serial, tag.as_ref()?.get()))).collect())
        };
        self.chunks.iter().map(tags).collect()
    }
}
