//! Somebody who asks the broker for grants, or crosses, for as long as a test does something else.

use crate::fleet::Fleet;
use crate::process::eventually;
use blindferry_handle::memfd::Handle;
use blindferry_parent::{Ask, Parent};
use blindferry_worker::Worker;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};

/// The load, until it is ended.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    refused: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Grants of this credential, one after the other.
    #[must_use]
    pub fn of_grants(fleet: &Fleet, credential: &str) -> Self {
        let (path, ask) = (fleet.host.parents(), Ask::for_credential(credential.parse().unwrap()));
        let mut parent = Parent::connect(&path).unwrap();
        Self::of(move || parent.ask(&ask).map(drop).map_err(|error| error.to_string()))
    }

    /// Whatever this does, again and again.
    #[must_use]
    pub fn of(mut once: impl FnMut() -> Result<(), String> + Send + 'static) -> Self {
        let (stop, done, refused) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (ends, counts, refusals) = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(&refused));
        let thread = spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                match once() {
                    Ok(()) => drop(counts.fetch_add(1, Ordering::Relaxed)),
                    Err(why) => refusals.lock().unwrap().push(why),
                }
            }
        });
        Self { stop, done, refused, thread: Some(thread) }
    }

    /// Waits until so many more were done.
    pub fn wait_for(&self, more: u64) {
        let until = self.done.load(Ordering::Relaxed) + more;
        eventually("the load to go on", || {
            let refused = self.refused.lock().unwrap();
            assert!(refused.is_empty(), "{:?}", refused.first());
            (self.done.load(Ordering::Relaxed) >= until).then_some(())
        });
    }

    /// How many were done so far.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Crossings of this credential, each with a worker of its own that gives its lease back.
    #[must_use]
    pub fn of_crossings(fleet: &Fleet, credential: &str) -> Self {
        let (parents, workers) = (fleet.host.parents(), fleet.host.workers());
        let ask = Ask::for_credential(credential.parse().unwrap());
        let mut parent = Parent::connect(&parents).unwrap();
        Self::of(move || {
            let grant = parent.ask(&ask).map_err(|error| error.to_string())?.into_descriptor();
            let worker = Worker::connect(&workers).map_err(|error| error.to_string())?;
            let leased = worker.redeem(Handle::from_fd(grant).unwrap()).map_err(|error| error.to_string())?;
            leased.end().map_err(|error| error.to_string())
        })
    }

    /// Ends it; gives how many were done.
    ///
    /// # Panics
    /// When one was refused.
    pub fn end_without_a_refusal(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        let refused = self.refused.lock().unwrap();
        assert!(refused.is_empty(), "{:?}, and so on {} times", refused.first(), refused.len());
        self.done.load(Ordering::Relaxed)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
