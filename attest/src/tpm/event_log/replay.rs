//! Plays a log back: extends each digest as the TPM did, and compares with what the TPM quoted.

use ring::digest;

use super::{Event, EventLogError, Fact, Kind, Log};
use crate::tpm::{PcrSelection, quoted::QuotedPcrs};

/// A bank that logs can be played back for. Only values of the SHA-256 bank are ever judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bank {
    /// To look at; nothing rests on it.
    Sha1,
    /// What quotes are of.
    Sha256,
    /// To look at.
    Sha384,
}

/// A log beside the values that a TPM quoted: which PCRs agree, and what is known of those. Only [`Log::compare`] makes one.
#[must_use = "a comparison that nobody looks at proves nothing"]
#[derive(Debug)]
pub struct Compared<'a> {
    outcomes: Vec<(u8, Result<Vec<Fact<'a>>, EventLogError>)>,
}

/// A log whose digests give the quoted values of these PCRs. Only [`Compared::replayed`] makes one.
///
/// ```compile_fail,E0451
/// use blindferry_attest::tpm::event_log::Replayed;
/// let forged = Replayed { ..panic!() };
/// ```
#[must_use = "a log that replays is the start of a judgement"]
#[derive(Debug)]
pub struct Replayed<'c, 'a> {
    compared: &'c Compared<'a>,
    pcrs: PcrSelection,
}

impl<'a> Log<'a> {
    /// Plays the SHA-256 bank back and compares each PCR that was quoted. The data of events is hashed again here, once.
    ///
    /// # Errors
    ///
    /// When an event has no SHA-256 digest. That a PCR differs is told when it is asked for.
    pub fn compare(&self, quoted: &QuotedPcrs) -> Result<Compared<'a>, EventLogError> {
        if self.events.iter().any(|event| event.digests.sha256.is_none()) {
            return Err(EventLogError::NoSha256);
        }
        let computed = self.compute(Bank::Sha256);
        let outcomes = quoted.values().iter().map(|(pcr, wanted)| {
            let value = computed.get(usize::from(pcr)).and_then(|value| value.as_slice().try_into().ok());
            let found: [u8; 32] = value.unwrap_or_default();
            let outcome = match found == *wanted {
                true => Ok(self.extending(pcr).filter_map(Fact::of).collect()),
                false => Err(EventLogError::Replay { pcr, found, wanted: *wanted }),
            };
            (pcr, outcome)
        });
        Ok(Compared { outcomes: outcomes.collect() })
    }

    fn extending(&self, pcr: u8) -> impl Iterator<Item = &Event<'a>> {
        self.events.iter().filter(move |event| event.pcr == u32::from(pcr) && event.kind != Kind::NO_ACTION)
    }

    /// What the log gives each of PCRs 0 to 23 in one bank. A claim, as the log is.
    #[must_use]
    pub fn compute(&self, bank: Bank) -> [Vec<u8>; 24] {
        let mut values: [Vec<u8>; 24] = std::array::from_fn(|pcr| {
            // PCRs 17 to 22 start at ones until a dynamic launch (Platform TPM Profile, section 4.6.2).
            vec![if (17..=22).contains(&pcr) { 0xff } else { 0 }; bank.algorithm().output_len()]
        });
        if let Some(last) = values.first_mut().and_then(|value| value.last_mut()) {
            *last = self.locality;
        }
        for event in self.events.iter().filter(|event| event.kind != Kind::NO_ACTION) {
            let value = usize::try_from(event.pcr).ok().and_then(|pcr| values.get_mut(pcr));
            if let (Some(value), Some(digest)) = (value, event.digest(bank)) {
                let extended = bank.hash(&[value, digest]);
                value.copy_from_slice(extended.as_ref());
            }
        }
        values
    }
}

impl<'a> Compared<'a> {
    /// What is known of these PCRs, when the log gives the quoted value of each.
    ///
    /// # Errors
    ///
    /// The first that was not quoted, or differs.
    pub fn replayed(&self, pcrs: PcrSelection) -> Result<Replayed<'_, 'a>, EventLogError> {
        for pcr in pcrs.indices() {
            match self.outcome(pcr) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.clone()),
                None => return Err(EventLogError::NotQuoted { pcr }),
            }
        }
        Ok(Replayed { compared: self, pcrs })
    }

    fn outcome(&self, pcr: u8) -> Option<&Result<Vec<Fact<'a>>, EventLogError>> {
        self.outcomes.iter().find(|(one, _)| *one == pcr).map(|(_, outcome)| outcome)
    }
}

impl<'a> Replayed<'_, 'a> {
    /// What is known of one PCR: each digest that was extended into it, in order. Nothing of PCRs that were not asked for.
    #[must_use]
    pub fn facts(&self, pcr: u8) -> &[Fact<'a>] {
        match self.compared.outcome(pcr) {
            Some(Ok(facts)) if self.pcrs.indices().any(|one| one == pcr) => facts,
            _ => &[],
        }
    }

    /// The PCRs that were asked for.
    #[must_use]
    pub fn pcrs(&self) -> PcrSelection {
        self.pcrs
    }
}

impl Bank {
    pub(super) fn hash(self, parts: &[&[u8]]) -> digest::Digest {
        let mut context = digest::Context::new(self.algorithm());
        for part in parts {
            context.update(part);
        }
        context.finish()
    }

    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
        }
    }
}
