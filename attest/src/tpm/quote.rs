//! TPMS_ATTEST of a quote, parsed strictly (Part 2 section 10.12).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{algorithm::HashAlg, pcr::PcrSelection};
use crate::reader::{Malformed, Reader};

/// What a quote says. Holding one tells you that it parsed; who signed it is another question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    challenge: Vec<u8>,
    clock: ClockInfo,
    firmware: u64,
    selection: QuotedSelection,
    pcr_digest: Vec<u8>,
}

/// The TPM's clock when it quoted (TPMS_CLOCK_INFO).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockInfo {
    /// Milliseconds that the TPM has been powered since it was last cleared.
    pub clock: u64,
    /// How often it was reset since it was last cleared.
    pub reset_count: u32,
    /// How often it was restarted or resumed since the last reset.
    pub restart_count: u32,
    /// Whether it vouches that no higher `clock` was ever reported. It does not for a while after a loss of power
    /// without an orderly shutdown.
    pub safe: bool,
}

/// What the verifier keeps of an earlier quote by the same key, to notice that time went backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuoteClock {
    /// As in [`ClockInfo`].
    pub clock: u64,
    /// As in [`ClockInfo`].
    pub reset_count: u32,
    /// As in [`ClockInfo`].
    pub restart_count: u32,
}

/// TPML_PCR_SELECTION as it was quoted: any banks, any PCRs, and perhaps none.
#[derive(Clone, PartialEq, Eq)]
pub struct QuotedSelection(Vec<(u16, u32)>);

/// Why bytes are not a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// The first four bytes are not those that a TPM puts before what it made itself.
    #[error("the magic number is {found:#010x}, not {TPM_GENERATED:#010x}: no TPM made this structure")]
    Magic {
        /// What they are.
        found: u32,
    },
    /// It attests something other than PCRs.
    #[error("the attestation has type {found:#06x}, not that of a quote, {TPM_ST_ATTEST_QUOTE:#06x}")]
    Type {
        /// Its TPMI_ST_ATTEST.
        found: u16,
    },
    /// It does not parse.
    #[error("cannot parse TPMS_ATTEST")]
    Malformed(#[from] Malformed),
}

impl Quote {
    /// Parses a TPMS_ATTEST that attests a quote.
    ///
    /// # Errors
    ///
    /// When it attests something else, does not parse, or has bytes left over.
    pub fn parse(bytes: &[u8]) -> Result<Self, QuoteError> {
        let mut reader = Reader::new(bytes);
        let magic = reader.u32("magic")?;
        if magic != TPM_GENERATED {
            return Err(QuoteError::Magic { found: magic });
        }
        let kind = reader.u16("type")?;
        if kind != TPM_ST_ATTEST_QUOTE {
            return Err(QuoteError::Type { found: kind });
        }
        // A Name, or a handle where there is none. It depends on the key's ancestors, so the pinned Name is what counts.
        reader.sized(66, "qualifiedSigner")?;
        let challenge = reader.sized(66, "extraData")?.to_vec();
        let clock = ClockInfo::read(&mut reader)?;
        let firmware = reader.u64("firmwareVersion")?;
        let selection = QuotedSelection::read(&mut reader)?;
        let pcr_digest = reader.sized(64, "pcrDigest")?.to_vec();
        reader.finish("TPMS_ATTEST")?;
        Ok(Self { challenge, clock, firmware, selection, pcr_digest })
    }

    /// extraData: the qualifying data of the quote.
    #[must_use]
    pub fn challenge(&self) -> &[u8] {
        &self.challenge
    }

    /// clockInfo.
    #[must_use]
    pub fn clock(&self) -> ClockInfo {
        self.clock
    }

    /// firmwareVersion. True for keys under the endorsement hierarchy; for others a TPM adds a secret number to it and to
    /// the counters of the clock, the same for each quote by that key (Part 1, "Attestation").
    #[must_use]
    pub fn firmware(&self) -> u64 {
        self.firmware
    }

    /// pcrSelect.
    #[must_use]
    pub fn selection(&self) -> &QuotedSelection {
        &self.selection
    }

    /// pcrDigest, by the hash of the scheme that signed.
    #[must_use]
    pub fn pcr_digest(&self) -> &[u8] {
        &self.pcr_digest
    }
}

impl ClockInfo {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            clock: reader.u64("clock")?,
            reset_count: reader.u32("resetCount")?,
            restart_count: reader.u32("restartCount")?,
            safe: match reader.u8("safe")? {
                0 => false,
                1 => true,
                other => {
                    return Err(Malformed::Value { field: "safe", found: other.into() });
                }
            },
        })
    }
}

impl From<ClockInfo> for QuoteClock {
    fn from(now: ClockInfo) -> Self {
        Self { clock: now.clock, reset_count: now.reset_count, restart_count: now.restart_count }
    }
}

impl QuotedSelection {
    /// The selection, when it is of the SHA-256 bank alone and of PCRs that exist.
    #[must_use]
    pub fn of_sha256(&self) -> Option<PcrSelection> {
        let (_, bits) = self.0.first()?;
        let selection = PcrSelection::new((0..24).filter(|index| bits & (1 << index) != 0)).ok()?;
        self.is_exactly(selection).then_some(selection)
    }

    /// Whether it is of these PCRs in the SHA-256 bank, of no other PCR, and of no other bank, not even an empty one.
    #[must_use]
    pub fn is_exactly(&self, wanted: PcrSelection) -> bool {
        self.0 == [(HashAlg::Sha256.id(), wanted.bits())]
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.u32("number of PCR banks")?;
        // TPML_PCR_SELECTION has room for 16 (HASH_COUNT).
        if count > 16 {
            return Err(Malformed::Value { field: "number of PCR banks", found: count.into() });
        }
        let mut banks = Vec::new();
        for _ in 0..count {
            let bank = reader.u16("PCR bank")?;
            let len = reader.u8("sizeofSelect")?;
            if len > 4 {
                return Err(Malformed::Value { field: "sizeofSelect", found: len.into() });
            }
            let mut bits = [0; 4];
            for (to, from) in bits.iter_mut().zip(reader.bytes(len.into(), "pcrSelect")?) {
                *to = *from;
            }
            banks.push((bank, u32::from_le_bytes(bits)));
        }
        Ok(Self(banks))
    }
}

impl fmt::Display for QuotedSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no PCRs");
        }
        for (number, (bank, bits)) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { " and " };
            let indices: Vec<u8> = (0..32).filter(|index| bits & (1 << index) != 0).collect();
            write!(f, "{separator}PCRs {indices:?} of bank {bank:#06x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for QuotedSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// TPM_GENERATED_VALUE: "\xffTCG". A restricted key signs nothing from outside that begins with it.
const TPM_GENERATED: u32 = 0xff54_4347;
/// The type of a quote.
const TPM_ST_ATTEST_QUOTE: u16 = 0x8018;
