//! Which PCRs, and what is in them: the SHA-256 bank alone.

use std::fmt;

use super::algorithm::HashAlg;

/// Which PCRs of the SHA-256 bank: at least one, of indices 0 to 23.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PcrSelection(u32);

/// The value of each PCR of a selection: none missing, none more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrValues {
    selection: PcrSelection,
    ascending: Vec<[u8; 32]>,
}

/// Why indices or values are not a selection of PCRs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PcrError {
    /// A selection of no PCR proves nothing.
    #[error("no PCR is selected")]
    Empty,
    /// A TPM for the PC client has PCRs 0 to 23.
    #[error("there is no PCR {0}, only 0 to 23")]
    Index(u8),
    /// The same PCR was given twice.
    #[error("PCR {0} is given twice")]
    Twice(u8),
    /// A value is missing, or one is there that was not selected.
    #[error("values of PCRs {found:?}, where {wanted:?} are needed")]
    Values {
        /// The PCRs that have a value.
        found: Indices,
        /// The PCRs that should.
        wanted: PcrSelection,
    },
}

/// PCR indices for a message; may be empty, unlike a selection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Indices(u32);

impl PcrSelection {
    /// Selects the PCRs with these indices.
    ///
    /// # Errors
    ///
    /// When there is none, one is above 23, or one is given twice.
    pub fn new(indices: impl IntoIterator<Item = u8>) -> Result<Self, PcrError> {
        let mut bits = 0u32;
        for index in indices {
            if index > 23 {
                return Err(PcrError::Index(index));
            }
            if bits & (1 << index) != 0 {
                return Err(PcrError::Twice(index));
            }
            bits |= 1 << index;
        }
        match bits {
            0 => Err(PcrError::Empty),
            bits => Ok(Self(bits)),
        }
    }

    /// The selected indices, ascending.
    pub fn indices(self) -> impl Iterator<Item = u8> {
        (0..24).filter(move |index| self.0 & (1 << index) != 0)
    }

    /// One bit for each selected PCR, bit 0 for PCR 0.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// As TPML_PCR_SELECTION with one entry for the SHA-256 bank, three octets of bits (Part 2 sections 10.6.2 and 10.9.7).
    #[must_use]
    pub fn to_tpml(self) -> [u8; 10] {
        let [low, middle, high, _] = self.0.to_le_bytes();
        let [alg_high, alg_low] = HashAlg::Sha256.id().to_be_bytes();
        [0, 0, 0, 1, alg_high, alg_low, 3, low, middle, high]
    }
}

impl PcrValues {
    /// Pairs a selection with its values.
    ///
    /// # Errors
    ///
    /// When the values are not of exactly the selected PCRs in ascending order.
    pub fn new(selection: PcrSelection, values: &[(u8, [u8; 32])]) -> Result<Self, PcrError> {
        if !selection.indices().eq(values.iter().map(|(index, _)| *index)) {
            let found = values.iter().filter(|(index, _)| *index < 24).fold(0, |bits, (index, _)| bits | 1 << index);
            return Err(PcrError::Values { found: Indices(found), wanted: selection });
        }
        Ok(Self { selection, ascending: values.iter().map(|(_, value)| *value).collect() })
    }

    /// Which PCRs these are.
    #[must_use]
    pub fn selection(&self) -> PcrSelection {
        self.selection
    }

    /// Index and value, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8; 32])> {
        self.selection.indices().zip(&self.ascending)
    }

    /// The digest over all values, ascending: what a quote by a scheme with this hash, or a policy session of it, holds.
    #[must_use]
    pub fn digest(&self, alg: HashAlg) -> Vec<u8> {
        let parts: Vec<&[u8]> = self.ascending.iter().map(<[u8; 32]>::as_slice).collect();
        alg.hash(&parts)
    }
}

impl fmt::Debug for PcrSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Indices(self.0).fmt(f)
    }
}

impl fmt::Debug for Indices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..24).filter(|index| self.0 & (1 << index) != 0)).finish()
    }
}
