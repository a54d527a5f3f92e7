//! A policy that speaks of events: which images, which command line, Secure Boot on. Unlike PCR values, it outlives an
//! update of the firmware.
//!
//! No digest covers the type of an event, and a log is written by whoever is to be judged. So each rule accounts for every
//! digest of its PCR, or of the part before the firmware's separator, and a digest that no rule knows is a refusal:
//!
//! | PCR | rule |
//! |---|---|
//! | 0 to 7 | one separator each, none of which tells of an error |
//! | 4 | between texts of the firmware, only images on the list, and at least one |
//! | 5 | boot services were left in order |
//! | 7 | before the separator, variables alone; Secure Boot is on, `db` and `dbx` are on their lists, where the policy has these |
//! | 9 | where the policy lists command lines: one of them, and nothing else but files on the list |
//! | 10 | where the policy has rules for files (IMA): each file is on the list or signed |
//! | 12 | nothing, unless `[tpm.pcrs]` has values for it: systemd-stub measures there what overrides the image's own command line |
//!
//! With Secure Boot off, a command line that replaces that of a unified kernel image is seen in PCRs 9 and 12 alone. So a
//! policy without command lines must demand Secure Boot.

mod capture;
mod document;
mod files;
mod refusal;
mod rules;

use std::collections::BTreeSet;

pub use capture::CaptureError;
pub use document::EventPolicyError;
pub(crate) use document::Table;
pub use files::FileRules;
pub use refusal::EventRefusal;

use super::{
    PcrSelection, PcrValues,
    event_log::{Compared, EventLogError, Log},
    ima::{self, ImaError},
    quoted::QuotedPcrs,
};

/// What the events of a machine must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPolicy {
    secure_boot: SecureBoot,
    images: BTreeSet<[u8; 32]>,
    command_lines: BTreeSet<CommandLine>,
    files: BTreeSet<[u8; 32]>,
    db: BTreeSet<[u8; 32]>,
    dbx: BTreeSet<[u8; 32]>,
    ima: Option<FileRules>,
}

/// Whether Secure Boot must be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecureBoot {
    /// It must.
    On,
    /// Either will do.
    Any,
}

/// A command line of the kernel that is accepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommandLine {
    /// Its text.
    Text(String),
    /// SHA-256 of its text in UTF-16, little-endian, with a zero at the end: what Linux measures.
    Digest([u8; 32]),
}

/// The logs of evidence, beside the values that were quoted. A log that is missing or does not parse is told to who needs it.
#[derive(Debug)]
pub struct Logs<'a> {
    quoted: &'a QuotedPcrs,
    events: Result<Compared<'a>, EventRefusal>,
    files: Result<ima::Log, EventRefusal>,
}

/// One rule: its name, what it wants, and what it finds wrong.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) wanted: fn(&EventPolicy) -> String,
    pub(crate) refusals: fn(&EventPolicy, &Facts<'_, '_>) -> Vec<EventRefusal>,
}

/// A rule, asked: for the list that a person reads.
pub(crate) struct Answer {
    pub(crate) name: &'static str,
    pub(crate) wanted: String,
    pub(crate) refusals: Vec<EventRefusal>,
}

/// What the rules look at.
pub(crate) struct Facts<'f, 'a> {
    pub(crate) events: super::event_log::Replayed<'f, 'a>,
    pub(crate) logs: &'f Logs<'a>,
}

impl EventPolicy {
    /// The PCRs that a quote must cover for this policy; at least 0 to 7 and 12.
    #[must_use]
    pub fn pcrs(&self) -> Vec<u8> {
        let files = self.ima.as_ref().map(|_| ima::PCR);
        self.replayed().into_iter().chain(files).chain([OVERRIDES]).collect()
    }

    /// Whether it judges the files that a machine measured (IMA).
    #[must_use]
    pub fn judges_files(&self) -> bool {
        self.ima.is_some()
    }

    /// Everything that is wrong with a machine; nothing when it is as the policy wants it. `listed` says which PCRs have
    /// values of their own in the reference values.
    pub(crate) fn refusals(&self, logs: &Logs<'_>, listed: impl Fn(u8) -> bool) -> Vec<EventRefusal> {
        match self.facts(logs) {
            Ok(facts) => self.rules(listed).flat_map(|rule| (rule.refusals)(self, &facts)).collect(),
            Err(refusal) => vec![refusal],
        }
    }

    /// The same for a person: each rule's name, what it wants, and what is wrong.
    ///
    /// # Errors
    ///
    /// When no rule can be asked, since the log is missing or is not what was quoted.
    pub(crate) fn answers(&self, logs: &Logs<'_>, listed: impl Fn(u8) -> bool) -> Result<Vec<Answer>, EventRefusal> {
        let facts = self.facts(logs)?;
        let answer = |rule: &Rule| Answer {
            name: rule.name,
            wanted: (rule.wanted)(self),
            refusals: (rule.refusals)(self, &facts),
        };
        Ok(self.rules(listed).map(answer).collect())
    }

    /// Whether Secure Boot and the kernel's command line are told: how the machine is configured.
    pub(crate) fn names_configuration(&self) -> bool {
        self.secure_boot == SecureBoot::On && !self.command_lines.is_empty()
    }

    /// Whether the boot applications are told.
    pub(crate) fn names_images(&self) -> bool {
        !self.images.is_empty()
    }

    fn facts<'f, 'a>(&self, logs: &'f Logs<'a>) -> Result<Facts<'f, 'a>, EventRefusal> {
        let compared = logs.events.as_ref().map_err(EventRefusal::clone)?;
        let pcrs = PcrSelection::new(self.replayed()).map_err(|_| EventRefusal::NoEventLog)?;
        let events = compared.replayed(pcrs).map_err(EventRefusal::EventLog)?;
        Ok(Facts { events, logs })
    }

    fn rules(&self, listed: impl Fn(u8) -> bool) -> impl Iterator<Item = &'static Rule> {
        let exempt = listed(OVERRIDES);
        rules::RULES.iter().filter(move |rule| !(exempt && rule.name == rules::OVERRIDES_RULE))
    }

    /// The PCRs that the firmware's log must give.
    fn replayed(&self) -> Vec<u8> {
        let command_line = (!self.command_lines.is_empty()).then_some(COMMAND_LINE);
        (0..=7).chain(command_line).collect()
    }
}

impl CommandLine {
    /// What Linux extends for it (EFI stub, `efi_load_options`).
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        match self {
            Self::Digest(digest) => *digest,
            Self::Text(text) => {
                let wide: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
                super::algorithm::sha256(&[&wide])
            }
        }
    }
}

impl<'a> Logs<'a> {
    /// Parses the logs that came with a quote, and compares them with it.
    pub fn new(quoted: &'a QuotedPcrs, event_log: Option<&'a [u8]>, ima_log: Option<&[u8]>) -> Self {
        let events = event_log.ok_or(EventRefusal::NoEventLog);
        let compare = |bytes| -> Result<Compared<'a>, EventLogError> { Log::parse(bytes)?.compare(quoted) };
        let events = events.and_then(|bytes| compare(bytes).map_err(EventRefusal::EventLog));
        let files = ima_log.ok_or(EventRefusal::NoImaLog);
        let files = files.and_then(|bytes| ima::Log::parse(bytes).map_err(EventRefusal::ImaLog));
        Self { quoted, events, files }
    }

    /// What was quoted.
    #[must_use]
    pub fn values(&self) -> &PcrValues {
        self.quoted.values()
    }

    /// The PCRs whose quoted value the event log gives, and the first of those up to 7 that it does not give. Later ones are
    /// extended by the running system too, which the firmware's log does not know.
    pub(crate) fn agreeing(&self) -> Result<(Vec<u8>, Option<EventRefusal>), EventRefusal> {
        let compared = self.events.as_ref().map_err(EventRefusal::clone)?;
        let agrees = |pcr| PcrSelection::new([pcr]).ok().map(|one| compared.replayed(one).map(|_| pcr));
        let quoted: Vec<_> = self.values().iter().filter_map(|(pcr, _)| Some((pcr, agrees(pcr)?))).collect();
        let differs = quoted.iter().find_map(|(pcr, outcome)| outcome.as_ref().err().filter(|_| *pcr <= 7).cloned());
        let agreeing = quoted.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(pcr, _)| *pcr).collect();
        Ok((agreeing, differs.map(EventRefusal::EventLog)))
    }

    pub(crate) fn files(&self) -> Result<ima::Replayed<'_>, EventRefusal> {
        let log = self.files.as_ref().map_err(EventRefusal::clone)?;
        log.replay(self.quoted).map_err(|error: ImaError| EventRefusal::ImaLog(error))
    }
}

/// Where the kernel's EFI stub measures its command line and initrd.
const COMMAND_LINE: u8 = 9;
/// Where systemd-stub measures command lines and credentials that are not of the image.
const OVERRIDES: u8 = 12;
