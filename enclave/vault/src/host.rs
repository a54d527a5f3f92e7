//! Hosts: who may enrol, who is enrolled, and who knocked without being known.
//!
//! A host is enrolled once. From then on its name, its endorsement key and its attestation key belong together for
//! good: another TPM that claims the name is an alarm, and the only way to another TPM is that an operator removes the
//! host first.

use blindferry_attest::attested::Attested;
use blindferry_attest::endorsement::Enrolled;
use blindferry_attest::tpm::{AkName, QuoteClock};
use blindferry_proto::identifier::EkDigest;
use blindferry_proto::name::HostName;
use blindferry_proto::operator::{HostEntry, Standing};
use blindferry_proto::role::Role;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Unknown hosts that are remembered for `host list`; the oldest are forgotten first.
pub const WAITING: usize = 256;

/// A host as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// What it may be.
    pub role: Role,
    /// How far it got.
    pub place: Place,
    /// Seconds since the epoch when it got there.
    pub since: u64,
}

/// How far a host got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// This TPM may enrol.
    Allowed(EkDigest),
    /// The first TPM with an acceptable certificate may enrol.
    AllowedByCertificate,
    /// Enrolled: these keys and no others.
    Enrolled {
        /// Its endorsement key.
        ek: EkDigest,
        /// The Name of its attestation key.
        ak: Vec<u8>,
    },
}

impl HostRecord {
    /// The record of a host that has just shown that its AK lives in the TPM of its EK.
    #[must_use]
    pub fn enrolled(role: Role, enrolled: Enrolled, now: u64) -> Self {
        let ek = EkDigest(*enrolled.ek_hash().as_bytes());
        let ak = enrolled.ak_name().as_bytes().to_vec();
        Self { role, place: Place::Enrolled { ek, ak }, since: now }
    }

    /// Its endorsement key, where it is fixed.
    #[must_use]
    pub fn ek(&self) -> Option<EkDigest> {
        match &self.place {
            Place::Allowed(ek) | Place::Enrolled { ek, .. } => Some(*ek),
            Place::AllowedByCertificate => None,
        }
    }

    /// The host as an operator sees it.
    #[must_use]
    pub fn entry(&self, name: HostName, connected: bool) -> HostEntry {
        let standing = match &self.place {
            Place::Enrolled { .. } if connected => Standing::Connected,
            Place::Enrolled { .. } => Standing::Enrolled,
            Place::Allowed(_) | Place::AllowedByCertificate => Standing::Allowed,
        };
        HostEntry { name, ek: self.ek(), role: self.role, standing, since: self.since }
    }
}

/// What to do with a peer that claims a name, a role and an endorsement key.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is enrolled: judge it by this Name.
    Pinned(AkName),
    /// It may enrol with the key that it claims.
    Enrol,
    /// It may enrol if its certificate is acceptable.
    EnrolByCertificate,
    /// It has to wait for an operator.
    Wait,
    /// The name belongs to another TPM, or to another role: an alarm.
    Conflict,
}

/// Decides what to do with a peer, from what is stored about the name that it claims.
#[must_use]
pub fn admit(record: Option<&HostRecord>, role: Role, ek: EkDigest) -> Admission {
    let Some(record) = record else { return Admission::Wait };
    if record.role != role {
        return Admission::Conflict;
    }
    match &record.place {
        Place::Allowed(allowed) if *allowed == ek => Admission::Enrol,
        Place::AllowedByCertificate => Admission::EnrolByCertificate,
        Place::Enrolled { ek: pinned, ak } if *pinned == ek => match AkName::from_bytes(ak) {
            Ok(ak) => Admission::Pinned(ak),
            Err(_) => Admission::Conflict,
        },
        Place::Allowed(_) | Place::Enrolled { .. } => Admission::Conflict,
    }
}

/// Hosts that knocked without being known, and the clocks of those that were attested.
#[derive(Debug, Default)]
pub struct Knocks {
    waiting: VecDeque<HostEntry>,
    clocks: BTreeMap<HostName, QuoteClock>,
}

impl Knocks {
    /// Remembers that an unknown host knocked.
    pub fn remember(&mut self, name: HostName, ek: EkDigest, role: Role, now: u64) {
        self.waiting.retain(|entry| entry.name != name || entry.ek != Some(ek) || entry.role != role);
        if self.waiting.len() >= WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(HostEntry { name, ek: Some(ek), role, standing: Standing::Waiting, since: now });
    }

    /// Those that wait.
    pub fn waiting(&self) -> impl Iterator<Item = &HostEntry> {
        self.waiting.iter()
    }

    /// The one TPM that waits under this name for this role; `None` when there is none, or more than one.
    #[must_use]
    pub fn only(&self, name: &HostName, role: Role) -> Option<EkDigest> {
        let mut of_name = self.waiting.iter().filter(|entry| entry.name == *name && entry.role == role);
        match (of_name.next(), of_name.next()) {
            (Some(entry), None) => entry.ek,
            _ => None,
        }
    }

    /// Forgets who waited under this name.
    pub fn forget(&mut self, name: &HostName) {
        self.waiting.retain(|entry| entry.name != *name);
        self.clocks.remove(name);
    }

    /// The clock of the host's last accepted quote.
    #[must_use]
    pub fn clock(&self, name: &HostName) -> Option<&QuoteClock> {
        self.clocks.get(name)
    }

    /// Keeps the clock of an accepted quote, so that the next one cannot be older.
    pub fn keep_clock(&mut self, name: HostName, attested: &Attested) {
        if let Some(clock) = attested.clock() {
            self.clocks.insert(name, clock.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EK: EkDigest = EkDigest([1; 32]);
    const OTHER: EkDigest = EkDigest([2; 32]);

    fn record(place: Place) -> HostRecord {
        HostRecord { role: Role::Broker, place, since: 0 }
    }

    fn ak() -> Vec<u8> {
        [&[0x00, 0x0b][..], &[7; 32]].concat()
    }

    #[test]
    fn each_place_admits_as_it_must() {
        let enrolled = record(Place::Enrolled { ek: EK, ak: ak() });
        let allowed = record(Place::Allowed(EK));
        let certified = record(Place::AllowedByCertificate);
        let pinned = Admission::Pinned(AkName::from_bytes(&ak()).unwrap());
        for (record, role, ek, admission) in [
            (None, Role::Broker, EK, Admission::Wait),
            (Some(&allowed), Role::Broker, EK, Admission::Enrol),
            (Some(&allowed), Role::Broker, OTHER, Admission::Conflict),
            (Some(&allowed), Role::Operator, EK, Admission::Conflict),
            (Some(&certified), Role::Broker, OTHER, Admission::EnrolByCertificate),
            (Some(&certified), Role::Operator, OTHER, Admission::Conflict),
            (Some(&enrolled), Role::Broker, EK, pinned),
            (Some(&enrolled), Role::Broker, OTHER, Admission::Conflict),
            (Some(&enrolled), Role::Operator, EK, Admission::Conflict),
        ] {
            assert_eq!(admit(record, role, ek), admission, "{record:?} {role:?} {ek:?}");
        }
    }

    #[test]
    fn a_flood_of_unknown_hosts_is_bounded_and_forgets_the_oldest() {
        let mut knocks = Knocks::default();
        for i in 0..WAITING + 10 {
            knocks.remember(format!("h{i}").parse().unwrap(), EK, Role::Broker, 0);
        }
        assert_eq!(knocks.waiting().count(), WAITING);
        assert_eq!(knocks.only(&"h0".parse().unwrap(), Role::Broker), None);
        assert_eq!(knocks.only(&"h20".parse().unwrap(), Role::Broker), Some(EK));
    }

    #[test]
    fn two_tpms_under_one_name_are_not_approved_by_name() {
        let mut knocks = Knocks::default();
        let name: HostName = "h".parse().unwrap();
        knocks.remember(name.clone(), EK, Role::Broker, 0);
        knocks.remember(name.clone(), OTHER, Role::Broker, 0);
        assert_eq!(knocks.only(&name, Role::Broker), None);
    }
}
