//! How many of something there may be, in all and for one user: so that a flood costs bounded memory, and one user's
//! flood leaves room for the others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts places and gives them out.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Counts>);

/// One place, taken until it is dropped.
#[derive(Debug)]
pub struct Place {
    counts: Arc<Counts>,
    uid: u32,
}

/// Which of the two bounds is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// No more for anybody.
    #[error("all {most} places are taken")]
    All {
        /// How many there are.
        most: usize,
    },
    /// No more for this user.
    #[error("user {uid} has taken all {most} places that one user may have")]
    User {
        /// Which user.
        uid: u32,
        /// How many places one user may have.
        most: usize,
    },
}

impl Admission {
    /// At most `total` places, at most `per_uid` of them for one user.
    #[must_use]
    pub fn new(total: usize, per_uid: usize) -> Self {
        Self(Arc::new(Counts { total, per_uid, taken: Mutex::default(), refused: AtomicU64::new(0) }))
    }

    /// A place for a user.
    ///
    /// # Errors
    /// [`Full`] says which bound is reached.
    pub fn admit(&self, uid: u32) -> Result<Place, Full> {
        let admitted = self.place(uid);
        if admitted.is_err() {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// Places that are taken now.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// How many found no place.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    fn place(&self, uid: u32) -> Result<Place, Full> {
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        // No user stays in the map without a place, so summing costs no more than there are places.
        if taken.values().sum::<usize>() >= self.0.total {
            return Err(Full::All { most: self.0.total });
        }
        let theirs = taken.entry(uid).or_default();
        if *theirs >= self.0.per_uid {
            return Err(Full::User { uid, most: self.0.per_uid });
        }
        *theirs += 1;
        Ok(Place { counts: Arc::clone(&self.0), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.counts.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(theirs) = taken.get_mut(&self.uid) {
            *theirs -= 1;
            if *theirs == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

#[derive(Debug)]
struct Counts {
    total: usize,
    per_uid: usize,
    taken: Mutex<BTreeMap<u32, usize>>,
    refused: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_the_places_of_the_others() {
        let admission = Admission::new(4, 2);
        let _first = admission.admit(7).unwrap();
        let _second = admission.admit(7).unwrap();
        assert_eq!(admission.admit(7).unwrap_err(), Full::User { uid: 7, most: 2 });
        assert!(admission.admit(8).is_ok());
    }

    #[test]
    fn all_users_together_stay_below_the_total() {
        let admission = Admission::new(3, 2);
        let _places: Vec<Place> = [1, 2, 3].map(|uid| admission.admit(uid).unwrap()).into();
        assert_eq!(admission.admit(4).unwrap_err(), Full::All { most: 3 });
    }

    #[test]
    fn a_dropped_place_is_free_again_and_its_user_forgotten() {
        let admission = Admission::new(1, 1);
        for uid in 0..100 {
            drop(admission.admit(uid).unwrap());
        }
        assert!(admission.0.taken.lock().unwrap().is_empty());
        assert!(admission.admit(100).is_ok());
    }
}
