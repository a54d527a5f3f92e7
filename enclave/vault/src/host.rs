//! Hosts: who may enrol, who is enrolled, and who knocked without being known.
//!
//! A host is enrolled once. From then on its name and its hardware belong together for good, which is a TPM's endorsement
//! key and attestation key, or the processor under an SEV-SNP guest: other hardware that claims the name is an alarm, and
//! the only way to other hardware is that an operator removes the host first.

use blindferry_attest::attested::{Attested, Pinned, PinnedGuest, PinnedMachine};
use blindferry_attest::endorsement::Enrolled;
use blindferry_attest::snp::{self, ReportId};
use blindferry_attest::tpm::{AkName, QuoteClock};
use blindferry_proto::identifier::{ChipId, EkDigest, KeyName, Machine};
use blindferry_proto::name::HostName;
use blindferry_proto::operator::{HostEntry, Standing};
use blindferry_proto::role::Role;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

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
    /// This hardware may enrol.
    Allowed(Machine),
    /// The first TPM with an acceptable certificate may enrol.
    AllowedByCertificate,
    /// Enrolled with a TPM: these keys and no others.
    Enrolled {
        /// Its endorsement key.
        ek: EkDigest,
        /// The Name of its attestation key.
        ak: Vec<u8>,
    },
    /// Enrolled as an SEV-SNP guest: on this processor and no other.
    EnrolledGuest(ChipId),
    /// Enrolled as a confidential machine of Azure: with this key in its vTPM and no other.
    EnrolledVtpm(KeyName),
}

/// By what a peer is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// The Name of its TPM's attestation key.
    Ak(AkName),
    /// The processor under its guest.
    Chip(snp::ChipId),
    /// The Name of the attestation key of Azure's vTPM, for which a report has to vouch each time.
    Vtpm(AkName),
}

impl Pin {
    /// The processor of this id.
    #[must_use]
    pub fn chip(chip: &ChipId) -> Self {
        Self::Chip(snp::ChipId::new(chip.0))
    }

    /// A peer whose evidence brings all that vouches for this hardware; `None` for a TPM, which has to activate a credential
    /// first.
    #[must_use]
    pub fn vouched(machine: Machine) -> Option<Self> {
        match machine {
            Machine::Chip(chip) => Some(Self::chip(&chip)),
            Machine::Vtpm(key) => AkName::from_bytes(&key.0).ok().map(Self::Vtpm),
            Machine::Ek(_) => None,
        }
    }

    /// What evidence must show: of a TPM, that its clock did not go back; of a guest, that it is the one of the session's
    /// first report, by certificates that are valid `now`.
    #[must_use]
    pub fn pinned<'a>(
        &'a self,
        earlier: Option<&'a QuoteClock>,
        report_id: Option<&'a ReportId>,
        now: u64,
    ) -> Pinned<'a> {
        match self {
            Self::Ak(name) => Pinned::Ak { name, earlier },
            Self::Chip(chip) => {
                let machine = PinnedMachine::Chip(chip);
                Pinned::Guest(PinnedGuest { machine, report_id, now, crls: &[], endorsed: None })
            }
            // A machine that was stopped may start on another processor; the key stays.
            Self::Vtpm(name) => {
                let machine = PinnedMachine::ByReference;
                let guest = PinnedGuest { machine, report_id, now, crls: &[], endorsed: None };
                Pinned::Vtpm { name: Some(name), earlier, guest }
            }
        }
    }
}

/// The kind of key and the key, for people.
impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ak(name) => write!(f, "AK {name}"),
            Self::Chip(chip) => write!(f, "chip {chip}"),
            Self::Vtpm(name) => write!(f, "vTPM {name}"),
        }
    }
}

impl HostRecord {
    /// The record of a host that has just shown that its AK lives in the TPM of its EK.
    #[must_use]
    pub fn enrolled(role: Role, enrolled: Enrolled, now: u64) -> Self {
        let ek = EkDigest(*enrolled.ek_hash().as_bytes());
        let ak = enrolled.ak_name().as_bytes().to_vec();
        Self { role, place: Place::Enrolled { ek, ak }, since: now }
    }

    /// The record of a host whose evidence was judged and found to be of this hardware.
    #[must_use]
    pub fn enrolled_judged(role: Role, machine: Machine, now: u64) -> Self {
        let place = match machine {
            Machine::Chip(chip) => Place::EnrolledGuest(chip),
            Machine::Vtpm(key) => Place::EnrolledVtpm(key),
            // Not enrolled by being judged.
            Machine::Ek(_) => Place::Allowed(machine),
        };
        Self { role, place, since: now }
    }

    /// Its hardware, where it is fixed.
    #[must_use]
    pub fn machine(&self) -> Option<Machine> {
        match &self.place {
            Place::Allowed(machine) => Some(*machine),
            Place::Enrolled { ek, .. } => Some(Machine::Ek(*ek)),
            Place::EnrolledGuest(chip) => Some(Machine::Chip(*chip)),
            Place::EnrolledVtpm(key) => Some(Machine::Vtpm(*key)),
            Place::AllowedByCertificate => None,
        }
    }

    /// Whether its hardware has shown itself.
    #[must_use]
    pub fn is_enrolled(&self) -> bool {
        matches!(self.place, Place::Enrolled { .. } | Place::EnrolledGuest(_) | Place::EnrolledVtpm(_))
    }

    /// The host as an operator sees it.
    #[must_use]
    pub fn entry(&self, name: HostName, connected: bool) -> HostEntry {
        let standing = match (self.is_enrolled(), connected) {
            (true, true) => Standing::Connected,
            (true, false) => Standing::Enrolled,
            (false, _) => Standing::Allowed,
        };
        HostEntry { name, machine: self.machine(), role: self.role, standing, since: self.since }
    }
}

/// What to do with a peer that claims a name, a role and its hardware.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is enrolled: judge it by this.
    Pinned(Pin),
    /// It may enrol with the hardware that it claims.
    Enrol,
    /// It may enrol if its certificate is acceptable.
    EnrolByCertificate,
    /// It has to wait for an operator.
    Wait,
    /// The name belongs to other hardware, or to another role: an alarm.
    Conflict,
}

/// Decides what to do with a peer, from what is stored about the name that it claims.
#[must_use]
pub fn admit(record: Option<&HostRecord>, role: Role, machine: Machine) -> Admission {
    let Some(record) = record else { return Admission::Wait };
    if record.role != role {
        return Admission::Conflict;
    }
    match (&record.place, machine) {
        (Place::Allowed(allowed), machine) if *allowed == machine => Admission::Enrol,
        (Place::AllowedByCertificate, Machine::Ek(_)) => Admission::EnrolByCertificate,
        (Place::Enrolled { ek: pinned, ak }, Machine::Ek(ek)) if *pinned == ek => match AkName::from_bytes(ak) {
            Ok(ak) => Admission::Pinned(Pin::Ak(ak)),
            Err(_) => Admission::Conflict,
        },
        (Place::EnrolledGuest(pinned), Machine::Chip(chip)) if *pinned == chip => Admission::Pinned(Pin::chip(&chip)),
        (Place::EnrolledVtpm(pinned), Machine::Vtpm(key)) if *pinned == key => match AkName::from_bytes(&key.0) {
            Ok(name) => Admission::Pinned(Pin::Vtpm(name)),
            Err(_) => Admission::Conflict,
        },
        (
            Place::Allowed(_)
            | Place::AllowedByCertificate
            | Place::Enrolled { .. }
            | Place::EnrolledGuest(_)
            | Place::EnrolledVtpm(_),
            Machine::Ek(_) | Machine::Chip(_) | Machine::Vtpm(_),
        ) => Admission::Conflict,
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
    pub fn remember(&mut self, name: HostName, machine: Machine, role: Role, now: u64) {
        self.waiting.retain(|entry| entry.name != name || entry.machine != Some(machine) || entry.role != role);
        if self.waiting.len() >= WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(HostEntry {
            name,
            machine: Some(machine),
            role,
            standing: Standing::Waiting,
            since: now,
        });
    }

    /// Those that wait.
    pub fn waiting(&self) -> impl Iterator<Item = &HostEntry> {
        self.waiting.iter()
    }

    /// The one TPM that waits under this name for this role; `None` when there is none, or more than one.
    #[must_use]
    pub fn only(&self, name: &HostName, role: Role) -> Option<Machine> {
        let mut of_name = self.waiting.iter().filter(|entry| entry.name == *name && entry.role == role);
        match (of_name.next(), of_name.next()) {
            (Some(entry), None) => entry.machine,
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

    const EK: Machine = Machine::Ek(EkDigest([1; 32]));
    const OTHER: Machine = Machine::Ek(EkDigest([2; 32]));
    const CHIP: Machine = Machine::Chip(ChipId([3; 64]));
    const OTHER_CHIP: Machine = Machine::Chip(ChipId([4; 64]));

    const VTPM: Machine = {
        let mut name = [7; 34];
        (name[0], name[1]) = (0x00, 0x0b);
        Machine::Vtpm(KeyName(name))
    };

    fn record(place: Place) -> HostRecord {
        HostRecord { role: Role::Broker, place, since: 0 }
    }

    fn ak() -> Vec<u8> {
        [&[0x00, 0x0b][..], &[7; 32]].concat()
    }

    #[test]
    fn each_place_admits_as_it_must() {
        let enrolled = record(Place::Enrolled { ek: EkDigest([1; 32]), ak: ak() });
        let allowed = record(Place::Allowed(EK));
        let certified = record(Place::AllowedByCertificate);
        let pinned = Admission::Pinned(Pin::Ak(AkName::from_bytes(&ak()).unwrap()));
        let allowed_guest = record(Place::Allowed(CHIP));
        let key = KeyName(ak().try_into().unwrap());
        let (allowed_vtpm, vtpm) = (record(Place::Allowed(VTPM)), record(Place::EnrolledVtpm(key)));
        let guest = record(Place::EnrolledGuest(ChipId([3; 64])));
        for (record, role, machine, admission) in [
            (None, Role::Broker, EK, Admission::Wait),
            (Some(&allowed), Role::Broker, EK, Admission::Enrol),
            (Some(&allowed), Role::Broker, OTHER, Admission::Conflict),
            (Some(&allowed), Role::Operator, EK, Admission::Conflict),
            (Some(&certified), Role::Broker, OTHER, Admission::EnrolByCertificate),
            (Some(&certified), Role::Operator, OTHER, Admission::Conflict),
            (Some(&enrolled), Role::Broker, EK, pinned),
            (Some(&enrolled), Role::Broker, OTHER, Admission::Conflict),
            (Some(&enrolled), Role::Operator, EK, Admission::Conflict),
            (Some(&enrolled), Role::Broker, CHIP, Admission::Conflict),
            (Some(&certified), Role::Broker, CHIP, Admission::Conflict),
            (None, Role::Broker, CHIP, Admission::Wait),
            (Some(&allowed_guest), Role::Broker, CHIP, Admission::Enrol),
            (Some(&allowed_guest), Role::Broker, OTHER_CHIP, Admission::Conflict),
            (Some(&guest), Role::Broker, CHIP, Admission::Pinned(Pin::chip(&ChipId([3; 64])))),
            (Some(&guest), Role::Broker, OTHER_CHIP, Admission::Conflict),
            (Some(&guest), Role::Broker, EK, Admission::Conflict),
            (Some(&guest), Role::Operator, CHIP, Admission::Conflict),
            (None, Role::Broker, VTPM, Admission::Wait),
            (Some(&allowed_vtpm), Role::Broker, VTPM, Admission::Enrol),
            (Some(&vtpm), Role::Broker, VTPM, Admission::Pinned(Pin::Vtpm(AkName::from_bytes(&ak()).unwrap()))),
            (Some(&vtpm), Role::Broker, EK, Admission::Conflict),
            (Some(&vtpm), Role::Broker, CHIP, Admission::Conflict),
            (Some(&enrolled), Role::Broker, VTPM, Admission::Conflict),
            (Some(&guest), Role::Broker, VTPM, Admission::Conflict),
            (Some(&certified), Role::Broker, VTPM, Admission::Conflict),
        ] {
            assert_eq!(admit(record, role, machine), admission, "{record:?} {role:?} {machine:?}");
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
    fn two_machines_under_one_name_are_not_approved_by_name() {
        let mut knocks = Knocks::default();
        let name: HostName = "h".parse().unwrap();
        knocks.remember(name.clone(), EK, Role::Broker, 0);
        knocks.remember(name.clone(), OTHER, Role::Broker, 0);
        assert_eq!(knocks.only(&name, Role::Broker), None);
    }
}
