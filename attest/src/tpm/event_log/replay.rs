//! Plays a log back: extends each digest as the TPM did, and compares with what the TPM quoted.

use ring::digest;

use super::{EventLogError, Fact, Kind, Log};
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

/// A log whose digests give the quoted values of these PCRs. Only [`Log::replay`] makes one.
///
/// ```compile_fail,E0451
/// use blindferry_attest::tpm::event_log::Replayed;
/// let forged = Replayed { ..panic!() };
/// ```
#[must_use = "a log that replays is the start of a judgement"]
#[derive(Debug)]
pub struct Replayed<'l, 'a> {
    log: &'l Log<'a>,
    pcrs: PcrSelection,
}

impl<'a> Log<'a> {
    /// The log, when its SHA-256 digests give the quoted values of `pcrs`.
    ///
    /// # Errors
    ///
    /// When it has no SHA-256 digests, one of the PCRs was not quoted, or a value differs.
    pub fn replay<'l>(&'l self, quoted: &QuotedPcrs, pcrs: PcrSelection) -> Result<Replayed<'l, 'a>, EventLogError> {
        if self.events.iter().any(|event| event.digests.sha256.is_none()) {
            return Err(EventLogError::NoSha256);
        }
        let computed = self.compute(Bank::Sha256);
        for pcr in pcrs.indices() {
            let wanted = quoted.value(pcr).ok_or(EventLogError::NotQuoted { pcr })?;
            // A PCR without events has the value that it started with.
            let value = computed.get(usize::from(pcr)).and_then(|value| value.as_slice().try_into().ok());
            let found: [u8; 32] = value.ok_or(EventLogError::NotQuoted { pcr })?;
            if found != *wanted {
                return Err(EventLogError::Replay { pcr, found, wanted: *wanted });
            }
        }
        Ok(Replayed { log: self, pcrs })
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
                *value = bank.hash(&[value, digest]);
            }
        }
        values
    }
}

impl<'a> Replayed<'_, 'a> {
    /// What is known of one PCR: each digest that was extended into it, in order. Nothing for PCRs that were not compared.
    pub fn facts(&self, pcr: u8) -> impl Iterator<Item = Fact<'a>> {
        let compared = self.pcrs.indices().any(|one| one == pcr);
        self.log
            .events
            .iter()
            .filter(move |event| compared && event.pcr == u32::from(pcr) && event.kind != Kind::NO_ACTION)
            .filter_map(Fact::of)
    }

    /// The PCRs that were compared.
    #[must_use]
    pub fn pcrs(&self) -> PcrSelection {
        self.pcrs
    }
}

impl Bank {
    pub(super) fn hash(self, parts: &[&[u8]]) -> Vec<u8> {
        let mut context = digest::Context::new(self.algorithm());
        for part in parts {
            context.update(part);
        }
        context.finish().as_ref().to_vec()
    }

    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
        }
    }
}
