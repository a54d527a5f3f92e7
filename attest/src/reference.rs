//! Reference values: which software and firmware a peer may run. Written by an operator, in TOML, and strict.
//!
//! ```toml
//! version = 1
//! role = "broker"                       # or "vault", "operator", "successor": whose evidence this judges
//!
//! [[tpm]]
//! name = "debian 12, kernel 6.1.0-28"   # appears in claims, audit and errors
//! firmware = "any"                      # or versions: ["0007000200000000"]
//!
//! [tpm.pcrs]                            # SHA-256 bank; any listed value is accepted for its index
//! 4 = ["d4…"]
//! 7 = ["65…", "9f…"]
//! ```
//!
//! Beside or instead of `[tpm.pcrs]`, `[tpm.events]`, in files of version 2, says what a machine's event log must show, and stays true when its
//! firmware is updated: see [`tpm::events`](crate::tpm::events). Where both are, both must hold.
//!
//! Every `[[tpm]]` lists the same PCRs, since a quote covers one selection, fixed before it is made. A peer is accepted
//! when one set matches in all its PCRs and in its firmware. A quote does not name the TPM's manufacturer; which
//! manufacturers may enrol is for [`EndorsementPolicy`](crate::endorsement::EndorsementPolicy) to say.
//!
//! The one way to have no PCR values is to write, in a file with a single `[[tpm]]`,
//! `dangerously_accept_any_pcrs = "the reason"` in their place. Quotes are then of PCRs 0 to 7.
//!
//! Guests of AMD SEV-SNP have `[[snp]]`, in files of version 2:
//!
//! ```
//! # let text = r#"
//! version = 2
//! role = "vault"
//!
//! [[snp]]
//! name = "vault image 2026.11"
//! products = ["genoa", "turin"]         # "milan" only with dangerously_trust_milan = "the reason"
//! signed_by = "vcek"                    # or "vlek", with providers = ["the csp_id"] in place of chips
//! chips = "any"                         # or a list of chip ids
//! vmpl = [0]
//! measurements = ["5feee30d6d7e1a29f403d70a4198237ddfb13051a2d6976439487c609388ed7f98189887920ab2fa0096903a0c23fca1"]
//! crl = "optional"                      # or "required": a current revocation list has to be there
//!
//! [snp.floor.genoa]                     # the least of each; launch_floor is the same unless it is there too
//! bootloader = 10
//! tee = 0
//! snp = 23
//! microcode = 84
//!
//! [snp.floor.turin]
//! fmc = 1
//! bootloader = 1
//! tee = 1
//! snp = 4
//! microcode = 81
//!
//! [snp.guest]                           # bits of the guest's policy; those that are not here are not judged
//! abi = "1.51"
//! smt = true
//!
//! [snp.platform]                        # bits of the machine's setup; the alias check is required in any case
//! ecc = true
//! # "#;
//! # let values = blindferry_attest::reference::ReferenceValues::parse(text).unwrap();
//! # assert_eq!(values.guests()[0].name(), "vault image 2026.11");
//! ```
//!
//! In place of measurements, or beside them, stand `id_keys` and `author_keys` (digests of the keys that signed the guest's
//! id block), and with these `guest_svn` (the least), `family_id` and `image_id`. `host_data` lists what the host may have
//! said; `[snp.mitigation]` (`launch`, `current`: 16 hexadecimal digits) the mitigations that have to be active.
//!
//! Debugging and migration are refused whatever stands here. Keys that start with `dangerously` take a reason, and are
//! told by [`ReferenceValues::dangers`] to whoever shows status. `[[dangerously_trusted_root]]` (`product`, `reason`,
//! `certificate` in PEM) trusts a root that is not AMD's: whoever holds its key can forge every report.

use std::collections::{BTreeMap, BTreeSet};

use blindferry_proto::{logs::WantedLogs, role::Role};

use crate::{
    evidence::TpmEvidence,
    refusal::AppraisalError,
    snp::{
        Anchors, Authentic, SnpRefusal,
        ask::{Case, Wanted},
    },
    tpm::{
        PcrSelection, PcrValues,
        events::{CaptureError, EventPolicy, Logs},
        pcr::PcrError,
    },
};

mod difference;
mod document;
mod guest;
mod guest_table;
mod machine;
mod refusal;
mod signature;

pub use difference::{Change, Difference};
pub use guest::GuestSet;
use machine::AcceptedPcrs;
pub use machine::{Firmware, ReferenceSet};
pub use refusal::ReferenceError;
pub use signature::{KeyId, MAX_SIGNATURE, Signature, SignatureError, Signed, SigningKey};

/// The largest file of reference values that is parsed, in bytes.
pub const MAX_REFERENCE: usize = 256 * 1024;

/// Which software and firmware peers of one role may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceValues {
    role: Role,
    selection: Option<PcrSelection>,
    sets: Vec<ReferenceSet>,
    guests: Vec<GuestSet>,
    anchors: Anchors,
}

/// Something that reference values accept in words that start with `dangerously`: for status, metrics and audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Danger<'a> {
    /// The key.
    pub key: &'static str,
    /// The set that has it; for a root, its fingerprint.
    pub name: String,
    /// Why.
    pub reason: &'a str,
}

impl ReferenceValues {
    /// Parses reference values.
    ///
    /// # Errors
    ///
    /// On anything but exactly the form above: unknown or missing keys, empty sets, PCRs that differ between sets.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        document::parse(text)
    }

    /// Reference values that accept what a machine has now: the start of a file that an operator edits.
    ///
    /// # Errors
    ///
    /// When the name or the list of firmware versions could not be written in a file.
    pub fn capture(role: Role, name: &str, firmware: Firmware, now: &PcrValues) -> Result<Self, ReferenceError> {
        let pcrs = now.iter().map(|(index, value)| (index, BTreeSet::from([*value]))).collect();
        Self::computed(role, name, firmware, pcrs)
    }

    /// Reference values that accept the boot of a machine by its events, from a quote of
    /// [`EventPolicy::CAPTURED`] with the event log beside it. `command_line` is the kernel's, in words, if it is known.
    ///
    /// # Errors
    ///
    /// When the log is not behind the quote, or no policy of events would accept this boot.
    pub fn capture_events(
        role: Role,
        name: &str,
        firmware: Firmware,
        evidence: &TpmEvidence,
        command_line: Option<&str>,
    ) -> Result<Self, CaptureError> {
        let policy = EventPolicy::capture(evidence, command_line)?;
        let none = AcceptedPcrs::Only(BTreeMap::new());
        let set = ReferenceSet::new(name.to_owned(), firmware, none, Some(policy)).map_err(CaptureError::Reference)?;
        Self::new(role, vec![set], Vec::new(), Anchors::amd()).map_err(CaptureError::Reference)
    }

    /// Reference values that accept any of these values for each PCR, which somebody computed.
    ///
    /// # Errors
    ///
    /// When the name, the list of firmware versions or the PCRs could not be written in a file.
    pub fn computed(
        role: Role,
        name: &str,
        firmware: Firmware,
        pcrs: BTreeMap<u8, BTreeSet<[u8; 32]>>,
    ) -> Result<Self, ReferenceError> {
        let set = ReferenceSet::new(name.to_owned(), firmware, AcceptedPcrs::Only(pcrs), None)?;
        Self::new(role, vec![set], Vec::new(), Anchors::amd())
    }

    /// Reference values that accept guests like this one: the same image, on the same chip, under firmware no older.
    ///
    /// `milan` is the reason to trust a chip of that line.
    ///
    /// # Errors
    ///
    /// When the name could not be written in a file, or the chip is a Milan and there is no reason to trust it.
    pub fn capture_guest(
        role: Role,
        name: &str,
        guest: &Authentic<'_>,
        milan: Option<&str>,
    ) -> Result<Self, ReferenceError> {
        Self::new(role, Vec::new(), vec![GuestSet::capture(name, guest, milan)?], Anchors::amd())
    }

    /// Writes them in one canonical form, a value a line, so that two versions can be compared line by line.
    /// [`ReferenceValues::parse`] gives the same values back.
    #[must_use]
    pub fn to_toml(&self) -> String {
        document::write(self)
    }

    /// The role whose evidence these judge.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The PCRs that a quote must cover, exactly; none when no TPM is accepted.
    #[must_use]
    pub fn selection(&self) -> Option<PcrSelection> {
        self.selection
    }

    /// The accepted guests of SEV-SNP, in the order of the file.
    #[must_use]
    pub fn guests(&self) -> &[GuestSet] {
        &self.guests
    }

    /// The roots that chains of SEV-SNP may end in.
    #[must_use]
    pub fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    /// Everything that is accepted in words that start with `dangerously`.
    #[must_use]
    pub fn dangers(&self) -> Vec<Danger<'_>> {
        let pcrs = self.sets.iter().filter_map(|set| {
            let reason = set.dangerously_accepts_any_pcrs()?;
            Some(Danger { key: "dangerously_accept_any_pcrs", name: set.name.clone(), reason })
        });
        let guests = self.guests.iter().flat_map(|guest| {
            guest.dangers().map(|(key, reason)| Danger { key, name: guest.name().to_owned(), reason })
        });
        let roots = self.anchors.dangerous().iter().map(|root| Danger {
            key: "dangerously_trusted_root",
            name: hex::encode(root.fingerprint()),
            reason: root.reason(),
        });
        pcrs.chain(guests).chain(roots).collect()
    }

    /// The accepted TPM platforms, in the order of the file.
    #[must_use]
    pub fn sets(&self) -> &[ReferenceSet] {
        &self.sets
    }

    /// Whether a set judges events, so that evidence without logs is refused by it.
    #[must_use]
    pub fn needs_logs(&self) -> bool {
        self.sets.iter().any(|set| set.events.is_some())
    }

    /// The logs to ask a peer for: those that a set judges, and no other.
    #[must_use]
    pub fn wanted_logs(&self) -> WantedLogs {
        let ima = self.sets.iter().filter_map(|set| set.events.as_ref()).any(EventPolicy::judges_files);
        WantedLogs { events: self.needs_logs(), ima }
    }

    /// The first set that accepts these PCRs with their events, and this firmware.
    ///
    /// # Errors
    ///
    /// What differs from the set that comes closest.
    pub(crate) fn matching(&self, logs: &Logs<'_>, firmware: u64) -> Result<&ReferenceSet, AppraisalError> {
        let mut nearest: Option<(usize, AppraisalError)> = None;
        for set in &self.sets {
            let mut differences = set.differences(logs, firmware);
            let Some(first) = differences.next() else {
                return Ok(set);
            };
            let count = 1 + differences.count();
            if nearest.as_ref().is_none_or(|(least, _)| count < *least) {
                nearest = Some((count, first));
            }
        }
        // Callers ask for a selection first; were there no sets, nothing would be accepted.
        Err(nearest.map_or(AppraisalError::PcrValues(PcrError::Empty), |(_, first)| first))
    }

    /// The set that comes closest, with all that differs: the list of what [`ReferenceValues::matching`] tells the first of.
    pub(crate) fn nearest(&self, logs: &Logs<'_>, firmware: u64) -> Option<(&ReferenceSet, Vec<AppraisalError>)> {
        let all = self.sets.iter().map(|set| (set, set.differences(logs, firmware).collect::<Vec<_>>()));
        all.min_by_key(|(_, differences)| differences.len())
    }

    /// The first set of guests that accepts this one, or the one that got farthest, with its refusal. None where no guest
    /// is accepted at all.
    pub(crate) fn nearest_guest<'a>(
        &'a self,
        authentic: &'a Authentic<'a>,
        wanted: Wanted<'a>,
    ) -> Option<(&'a GuestSet, Option<SnpRefusal>)> {
        let case = |set: &'a GuestSet| Case { authentic, rules: set.rules(), wanted };
        let mut farthest: Option<(usize, &GuestSet)> = None;
        for set in &self.guests {
            let Some(passed) = case(set).passed_before_refusal() else {
                return Some((set, None));
            };
            if farthest.is_none_or(|(most, _)| passed > most) {
                farthest = Some((passed, set));
            }
        }
        farthest.map(|(_, set)| (set, case(set).first_refusal()))
    }

    /// The first set of guests that accepts this one.
    ///
    /// # Errors
    ///
    /// The refusal of the set that got farthest.
    pub(crate) fn accepting<'a>(
        &'a self,
        authentic: &'a Authentic<'a>,
        wanted: Wanted<'a>,
    ) -> Result<&'a GuestSet, AppraisalError> {
        match self.nearest_guest(authentic, wanted) {
            Some((set, None)) => Ok(set),
            Some((_, Some(refusal))) => Err(refusal.into()),
            None => Err(AppraisalError::NoReference { platform: "snp" }),
        }
    }

    /// The one constructor: whatever exists is consistent.
    fn new(
        role: Role,
        sets: Vec<ReferenceSet>,
        guests: Vec<GuestSet>,
        anchors: Anchors,
    ) -> Result<Self, ReferenceError> {
        let total = sets.len().saturating_add(guests.len());
        if total == 0 {
            return Err(ReferenceError::NoSets);
        }
        if total > MAX_SETS {
            return Err(ReferenceError::TooManySets { found: total });
        }
        if guests.is_empty() && !anchors.dangerous().is_empty() {
            return Err(ReferenceError::RootWithoutGuest);
        }
        let mut names = BTreeSet::new();
        for name in sets.iter().map(ReferenceSet::name).chain(guests.iter().map(GuestSet::name)) {
            if !names.insert(name) {
                return Err(ReferenceError::NameTwice { name: name.to_owned() });
            }
        }
        let selection = sets.first().map(ReferenceSet::selection).transpose()?;
        for set in &sets {
            if matches!(set.pcrs, AcceptedPcrs::DangerouslyAny(_)) && sets.len() > 1 {
                return Err(ReferenceError::AnyBesideOthers { name: set.name.clone() });
            }
            let found = set.selection()?;
            if let Some(wanted) = selection.filter(|wanted| *wanted != found) {
                return Err(ReferenceError::Selection { name: set.name.clone(), found, wanted });
            }
        }
        Ok(Self { role, selection, sets, guests, anchors })
    }
}

/// The most platforms in one file.
const MAX_SETS: usize = 256;

/// The most roots that are not AMD's.
const MAX_ROOTS: usize = 8;

/// The longest name or reason, in bytes.
const MAX_TEXT: usize = 200;
