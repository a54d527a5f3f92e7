//! A policy of events that a machine meets now, from its own log and quote: the start of a file that an operator edits.

use super::{CommandLine, EventPolicy, EventPolicyError, EventRefusal, Logs, SecureBoot, rules};
use crate::{
    evidence::TpmEvidence,
    reference::ReferenceError,
    refusal::AppraisalError,
    tpm::{
        PcrSelection,
        event_log::{Bank, Content, EventLogError, Log, variable::GLOBAL},
        public::Public,
        quoted::{AuthenticQuote, QuotedPcrs},
    },
};

/// Why nothing can be captured from a machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// Its quote does not hold.
    #[error("the quote of this machine does not hold")]
    Quote(#[source] AppraisalError),
    /// Its event log is missing, or is not what was quoted.
    #[error("the event log of this machine is not behind its quote")]
    Log(#[source] EventLogError),
    /// A policy of this boot would bind too little.
    #[error("no policy of events can be written for this boot")]
    Policy(#[source] EventPolicyError),
    /// No policy of events would accept this boot, whatever it lists.
    #[error("no policy of events would accept this boot")]
    Refused(#[source] EventRefusal),
    /// What was captured cannot be written in a file.
    #[error("what was captured cannot be written")]
    Reference(#[source] ReferenceError),
}

impl CaptureError {
    /// A stable name for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Quote(source) => source.code(),
            Self::Log(source) => source.code(),
            Self::Policy(source) => source.code(),
            Self::Refused(source) => source.code(),
            Self::Reference(source) => source.code(),
        }
    }
}

impl EventPolicy {
    /// The PCRs that a quote should cover which a policy is captured from.
    pub const CAPTURED: [u8; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 12];

    /// The policy that accepts the boot of this machine: its images, its command line and initrds where they were
    /// measured, Secure Boot if it is on. The log is believed about nothing but which digest is the command line; with the
    /// text of `command_line`, where it is the one that was measured, the policy has it in words.
    ///
    /// # Errors
    ///
    /// When the log is not behind the quote, or a policy of it would bind too little or refuse this very boot.
    pub fn capture(evidence: &TpmEvidence, command_line: Option<&str>) -> Result<Self, CaptureError> {
        let quoted = quoted(evidence).map_err(CaptureError::Quote)?;
        let bytes = evidence.event_log().ok_or(CaptureError::Refused(EventRefusal::NoEventLog))?;
        let log = Log::parse(bytes).map_err(CaptureError::Log)?;
        let policy = Self::of(&log, &quoted, command_line)?.bound().map_err(CaptureError::Policy)?;
        match policy.refusals(&Logs::new(&quoted, Some(bytes), None), |_| false).into_iter().next() {
            None => Ok(policy),
            Some(refusal) => Err(CaptureError::Refused(refusal)),
        }
    }

    fn of(log: &Log<'_>, quoted: &QuotedPcrs, command_line: Option<&str>) -> Result<Self, CaptureError> {
        let compared = log.compare(quoted).map_err(CaptureError::Log)?;
        let pcrs = PcrSelection::new((0..=7).chain([super::COMMAND_LINE]))
            .map_err(|_| CaptureError::Refused(EventRefusal::NoEventLog))?;
        let events = compared.replayed(pcrs).map_err(CaptureError::Log)?;
        let on = events.facts(7).iter().any(|fact| match fact.content() {
            Content::Variable(variable) => variable.is(GLOBAL, "SecureBoot") && variable.value() == [1],
            _ => false,
        });
        let images = events.facts(4).iter().filter(|fact| !rules::is_of_the_firmware(fact));
        let called: Vec<[u8; 32]> = log
            .events()
            .iter()
            .filter(|event| event.pcr() == u32::from(super::COMMAND_LINE) && says(event.data(), LOAD_OPTIONS))
            .filter_map(|event| event.digest(Bank::Sha256)?.try_into().ok())
            .collect();
        let text = command_line.map(|text| CommandLine::Text(text.to_owned()));
        let (mut command_lines, mut files) = (super::BTreeSet::new(), super::BTreeSet::new());
        for fact in events.facts(super::COMMAND_LINE) {
            match &text {
                Some(text) if text.digest() == *fact.digest() => drop(command_lines.insert(text.clone())),
                _ if called.contains(fact.digest()) => drop(command_lines.insert(CommandLine::Digest(*fact.digest()))),
                _ => drop(files.insert(*fact.digest())),
            }
        }
        if command_lines.is_empty() {
            // Without a command line nothing of this PCR is judged.
            files.clear();
        }
        Ok(Self {
            secure_boot: if on { SecureBoot::On } else { SecureBoot::Any },
            images: images.map(|fact| *fact.digest()).collect(),
            command_lines,
            files,
            db: super::BTreeSet::new(),
            dbx: super::BTreeSet::new(),
            ima: None,
        })
    }
}

/// What this machine's own TPM said, whichever its key is.
fn quoted(evidence: &TpmEvidence) -> Result<QuotedPcrs, AppraisalError> {
    let ak = Public::parse(evidence.ak_public())
        .map_err(|cause| AppraisalError::parsing(cause, AppraisalError::AkPublic))?;
    let authentic = AuthenticQuote::check(evidence.attest(), evidence.signature(), &ak)?;
    let selection =
        PcrSelection::new(evidence.pcrs().iter().map(|(pcr, _)| *pcr)).map_err(AppraisalError::PcrValues)?;
    authentic.pcrs(evidence.pcrs(), selection)
}

fn says(data: &[u8], words: &[u8]) -> bool {
    data.windows(words.len()).any(|window| window == words)
}

/// How Linux's EFI stub calls the event that measures its command line (`efi_load_options`, Linux 6.1 and newer).
const LOAD_OPTIONS: &[u8] = b"LOADED_IMAGE::LoadOptions";
