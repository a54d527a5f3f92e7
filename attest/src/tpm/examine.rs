//! The command's road for a quote and what lies beside it: all questions and all answers, for a person to read. Opens nothing.

use std::error::Error as _;

use super::{
    AkName,
    advice::advice,
    attestation_key::template,
    event_log::Log,
    events::{Answer, Logs},
    key::Key,
    public::Public,
    quoted::{AuthenticQuote, QuotedPcrs},
    signature::Signature,
};
use crate::{
    checks::{Check, Outcome},
    reference::{ReferenceSet, ReferenceValues},
    refusal::AppraisalError,
    snp::Verdict,
};

/// A quote and what was found beside it, as bytes of files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files<'a> {
    /// TPMS_ATTEST.
    pub attest: &'a [u8],
    /// TPMT_SIGNATURE.
    pub signature: &'a [u8],
    /// TPMT_PUBLIC of the attestation key; without it or the next, nothing can be judged.
    pub ak_public: Option<&'a [u8]>,
    /// The attestation key alone, for want of its public area: whether it could sign more than quotes stays open.
    pub ak_key: Option<&'a Key>,
    /// Values of PCRs, SHA-256 bank, ascending. Those that were not quoted are left aside.
    pub pcrs: Option<&'a [(u8, [u8; 32])]>,
    /// `binary_bios_measurements`.
    pub event_log: Option<&'a [u8]>,
    /// The IMA list, in any of its forms.
    pub ima_log: Option<&'a [u8]>,
}

/// What to hold a quote against. What is `None` leaves its questions open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// Reference values with `[[tpm]]`.
    pub reference: Option<&'a ReferenceValues>,
    /// The Name of the key that it has to be by.
    pub ak_name: Option<&'a AkName>,
    /// What it has to answer.
    pub challenge: Option<&'a [u8]>,
}

/// Questions, answers, and what comes of them. Plain data: it proves nothing to a program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Examination {
    /// All questions that were asked, in order. Where form or signature fail, nothing further is asked.
    pub checks: Vec<Check>,
    /// What comes of them.
    pub verdict: Verdict,
    /// The name of the reference values that accepted, or that came closest.
    pub reference: Option<String>,
}

/// Asks a quote everything.
#[must_use]
pub fn examine(files: &Files<'_>, request: &Request<'_>) -> Examination {
    let mut list = List { checks: vec![], reference: None, missing: None };
    list.questions(files, request);
    let refused = list.checks.iter().find_map(|check| match check.outcome() {
        Outcome::Refused(code) => Some(Verdict::Refused(code)),
        Outcome::Passed | Outcome::Open => None,
    });
    let missing = list.missing.map(Verdict::Unjudged);
    Examination {
        verdict: refused.or(missing).unwrap_or(Verdict::Accepted),
        checks: list.checks,
        reference: list.reference,
    }
}

struct List {
    checks: Vec<Check>,
    reference: Option<String>,
    missing: Option<&'static str>,
}

impl List {
    fn questions(&mut self, files: &Files<'_>, request: &Request<'_>) {
        let Some(ak) = self.key(files, request) else { return };
        let quote = AuthenticQuote::check(files.attest, files.signature, &ak);
        let wanted = "by a key that can only attest";
        let Some(authentic) = self.answer("signature", "holds", wanted, quote) else { return };
        self.challenge(&authentic, request);
        let Some(quoted) = self.pcrs(files, request, &authentic) else { return };
        let logs = Logs::new(&quoted, files.event_log, files.ima_log);
        self.logs(files, &logs);
        self.reference(request, &logs, authentic.quote().firmware());
    }

    fn key(&mut self, files: &Files<'_>, request: &Request<'_>) -> Option<Public> {
        let Some(bytes) = files.ak_public else {
            if let Some(key) = files.ak_key {
                return self.bare_key(key, files, request);
            }
            self.open("attestation key", "none", "its public area (TPMT_PUBLIC)");
            self.missing = Some("tpm-ak-missing");
            return None;
        };
        let parsed = Public::parse(bytes).map_err(|cause| AppraisalError::parsing(cause, AppraisalError::AkPublic));
        let ak = self.answer("attestation key", "parses", "RSA of 2048 to 4096 bits, P-256 or P-384", parsed)?;
        match request.ak_name {
            None => self.open("attestation key's Name", ak.name().to_string(), "the Name that was pinned"),
            Some(wanted) if wanted == ak.name() => self.passed("attestation key's Name", ak.name().to_string()),
            Some(wanted) => {
                let (found, code) = (ak.name().to_string(), "tpm-ak-name");
                self.refused("attestation key's Name", found, wanted.to_string(), code);
            }
        }
        Some(ak)
    }

    /// A key without attributes and Name: it is taken for what a quote needs, and said so.
    fn bare_key(&mut self, key: &Key, files: &Files<'_>, request: &Request<'_>) -> Option<Public> {
        let parsed = Signature::parse(files.signature)
            .map_err(|cause| AppraisalError::parsing(cause, AppraisalError::SignatureForm));
        let signature = self.answer("signature", "parses", "a TPMT_SIGNATURE", parsed)?;
        self.checks.pop();
        let area = Public::parse(&template(key, signature.scheme())).map_err(AppraisalError::AkPublic);
        let ak = self.answer("attestation key", "a key without its public area", "a key that signs like this", area)?;
        let found = "not told by a bare key";
        self.open("attestation key's attributes", found, "restricted, signing, fixed to its TPM: give TPMT_PUBLIC");
        self.open("attestation key's Name", found, "the Name that was pinned: give TPMT_PUBLIC");
        if request.ak_name.is_some() {
            self.missing = Some("tpm-ak-missing");
        }
        Some(ak)
    }

    fn challenge(&mut self, authentic: &AuthenticQuote, request: &Request<'_>) {
        let found = authentic.quote().challenge();
        let shown = if found.is_empty() { "nothing".to_owned() } else { hex::encode(found) };
        match request.challenge {
            None => self.open("challenge", shown, "what the verifier asked for: without, the quote may be old"),
            // An empty challenge is never one.
            Some(wanted) if !wanted.is_empty() && wanted == found => self.passed("challenge", shown),
            Some(wanted) => self.refused("challenge", shown, hex::encode(wanted), "tpm-quote-challenge"),
        }
        let clock = authentic.quote().clock();
        let times = format!("{} resets, {} restarts, {} ms", clock.reset_count, clock.restart_count, clock.clock);
        if clock.safe {
            self.passed("clock", times);
        } else {
            self.refused("clock", times, "vouched for by the TPM", "tpm-clock-unsafe");
        }
    }

    fn pcrs(&mut self, files: &Files<'_>, request: &Request<'_>, authentic: &AuthenticQuote) -> Option<QuotedPcrs> {
        let name = "PCR values";
        let selection = request.reference.and_then(ReferenceValues::selection);
        let Some(selection) = selection.or_else(|| authentic.quote().selection().of_sha256()) else {
            let found = authentic.quote().selection().to_string();
            self.refused(name, found, "PCRs of the SHA-256 bank alone", "tpm-pcr-selection");
            return None;
        };
        let Some(values) = files.pcrs else {
            self.open(name, "none", "the values that were quoted");
            if request.reference.is_some() || files.event_log.is_some() || files.ima_log.is_some() {
                self.missing = Some("tpm-pcrs-missing");
            }
            return None;
        };
        let selected: Vec<_> =
            values.iter().filter(|(pcr, _)| selection.indices().any(|one| one == *pcr)).copied().collect();
        self.answer(name, "those that were quoted", "those that were quoted", authentic.pcrs(&selected, selection))
    }

    /// Whether the logs are what was quoted, as far as they are there; what they say is for the policy.
    fn logs(&mut self, files: &Files<'_>, logs: &Logs<'_>) {
        if files.event_log.is_some() {
            let name = "event log";
            match logs.agreeing() {
                Ok((agreeing, None)) => {
                    self.passed(name, format!("gives the quoted values of PCRs {agreeing:?}"));
                    self.event_data(files.event_log.unwrap_or_default());
                }
                Ok((_, Some(differs))) | Err(differs) => {
                    self.refused(name, differs.to_string(), "gives the quoted values", differs.code());
                }
            }
        }
        if files.ima_log.is_some() {
            match logs.files() {
                Ok(replayed) => {
                    let later = replayed.later();
                    let found = format!("{} entries give the quoted PCR 10, {later} later", replayed.entries().len());
                    self.passed("IMA list", found);
                }
                Err(refusal) => {
                    self.refused("IMA list", refusal.to_string(), "gives the quoted PCR 10", refusal.code());
                }
            }
        }
    }

    /// Whether what the events say is what was hashed, where a type of event promises that.
    fn event_data(&mut self, log: &[u8]) {
        let name = "event data";
        match Log::parse(log).and_then(|log| log.check_data()) {
            Ok(checked) => self.passed(name, checked.to_string()),
            Err(error) => self.refused(name, error.to_string(), "gives its digest", error.code()),
        }
    }

    fn reference(&mut self, request: &Request<'_>, logs: &Logs<'_>, firmware: u64) {
        let Some(reference) = request.reference else {
            self.open("PCRs and events", "see the values", "reference values ([[tpm]])");
            self.open("firmware", format!("{firmware:016x}"), "reference values ([[tpm]])");
            return;
        };
        let Some((nearest, refusals)) = reference.nearest(logs, firmware) else {
            self.open("PCRs and events", "see the values", "reference values with [[tpm]]");
            self.missing = Some("reference-missing");
            return;
        };
        self.reference = Some(nearest.name().to_owned());
        self.events(nearest, logs);
        let others = refusals.into_iter().filter(|refusal| !matches!(refusal, AppraisalError::Events { .. }));
        let mut none = true;
        for refusal in others {
            none = false;
            let name = if matches!(refusal, AppraisalError::Firmware { .. }) { "firmware" } else { "PCR" };
            self.refused(name, refusal.to_string(), format!("as {:?} lists", nearest.name()), refusal.code());
        }
        if none {
            self.passed("PCRs and firmware", format!("as {:?} lists", nearest.name()));
        }
    }

    fn events(&mut self, set: &ReferenceSet, logs: &Logs<'_>) {
        let Some(policy) = set.events() else { return };
        match policy.answers(logs, |pcr| set.lists(pcr)) {
            Err(refusal) => {
                self.refused("events", refusal.to_string(), "a log that gives the quoted values", refusal.code())
            }
            Ok(answers) => {
                for Answer { name, wanted, refusals } in answers {
                    match refusals.first() {
                        None => self.passed(name, wanted),
                        Some(first) => self.refused(name, first.to_string(), wanted, first.code()),
                    }
                }
            }
        }
    }

    fn answer<T>(
        &mut self,
        name: &'static str,
        found: &str,
        wanted: &str,
        outcome: Result<T, AppraisalError>,
    ) -> Option<T> {
        match outcome {
            Ok(value) => {
                self.checks.push(Check::new(name, found, wanted, Outcome::Passed));
                Some(value)
            }
            Err(error) => {
                self.refused(name, whole(&error), wanted, error.code());
                None
            }
        }
    }

    fn passed(&mut self, name: &'static str, found: impl Into<String>) {
        let found = found.into();
        self.checks.push(Check::new(name, found.clone(), found, Outcome::Passed));
    }

    fn refused(&mut self, name: &'static str, found: impl Into<String>, wanted: impl Into<String>, code: &'static str) {
        self.checks.push(Check::new(name, found, wanted, Outcome::Refused(code)).advised(advice(code)));
    }

    fn open(&mut self, name: &'static str, found: impl Into<String>, wanted: impl Into<String>) {
        self.checks.push(Check::new(name, found, wanted, Outcome::Open));
    }
}

/// An error with its causes, from the outside in.
fn whole(error: &AppraisalError) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told.push_str(": ");
        told.push_str(&error.to_string());
        cause = error.source();
    }
    told
}
