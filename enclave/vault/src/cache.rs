//! Masters that stay open for a while because their settings ask for it. Without that a master is opened for one use.

use crate::store::{Backing, Master, Records, StoreError};
use crate::vault::lock;
use blindferry_proto::name::CredentialName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Open masters by name. Each is wiped when nobody used it for as long as its settings say.
#[derive(Debug, Default)]
pub struct MasterCache(Mutex<HashMap<CredentialName, Cached>>);

#[derive(Debug)]
struct Cached {
    master: Arc<Master>,
    idle: u32,
    used: u64,
}

impl MasterCache {
    /// The master of that name: the open one, or one that is opened now. Who drops the last copy wipes it.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read or does not verify.
    pub async fn master<B: Backing>(
        &self,
        name: &CredentialName,
        records: &Records<B>,
        now: u64,
    ) -> Result<Option<Arc<Master>>, StoreError> {
        if let Some(cached) = lock(&self.0).get_mut(name) {
            cached.used = now;
            return Ok(Some(Arc::clone(&cached.master)));
        }
        let Some(master) = records.master(name).await?.map(Arc::new) else { return Ok(None) };
        if let Some(idle) = master.settings.cache_idle {
            lock(&self.0).insert(name.clone(), Cached { master: Arc::clone(&master), idle, used: now });
        }
        Ok(Some(master))
    }

    /// Wipes a master that was replaced or removed.
    pub fn forget(&self, name: &CredentialName) {
        lock(&self.0).remove(name);
    }

    /// Wipes what nobody used for its time, and says which.
    pub fn evict(&self, now: u64) -> Vec<CredentialName> {
        let mut cached = lock(&self.0);
        let idle: Vec<CredentialName> = cached
            .iter()
            .filter(|(_, cached)| now.saturating_sub(cached.used) >= u64::from(cached.idle))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &idle {
            cached.remove(name);
        }
        idle
    }
}
