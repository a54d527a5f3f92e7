//! Reads fields from a bounded slice: big-endian as TPM structures and our evidence are written, little-endian as event
//! logs are.

/// What is left to read. Never allocates, never reads past the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// The bytes ended inside a field, or a length field claimed more than its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Fewer bytes are left than the field takes.
    #[error("{field} ends early")]
    Truncated {
        /// The field that was being read.
        field: &'static str,
    },
    /// A length field is larger than the field can be.
    #[error("{field} claims {found} bytes where at most {limit} can be")]
    TooLong {
        /// The field that was being read.
        field: &'static str,
        /// The length that it claims, in bytes.
        found: usize,
        /// The most it can have, in bytes.
        limit: usize,
    },
    /// A field that must have one length has another, or the number in it is shorter than the field.
    #[error("{field} has {found} bytes and does not fill {wanted}")]
    Length {
        /// The field that was read.
        field: &'static str,
        /// Its length in bytes.
        found: usize,
        /// The length that it must have, in bytes.
        wanted: usize,
    },
    /// A hash algorithm that no judgement rests on: SHA-1, or one that we do not know.
    #[error("{field} is {found:#06x}, where SHA-256 (0x000b) or SHA-384 (0x000c) is needed")]
    WeakHash {
        /// The field that was read.
        field: &'static str,
        /// The TPM_ALG_ID that it holds.
        found: u16,
    },
    /// Bytes are left over behind the last field.
    #[error("{left} bytes follow the end of {structure}")]
    Trailing {
        /// The structure that had ended.
        structure: &'static str,
        /// How many bytes are left.
        left: usize,
    },
    /// A field has a value that its specification does not know, or that we refuse.
    #[error("{field} is {found:#x}, which is not accepted")]
    Value {
        /// The field that was read.
        field: &'static str,
        /// What it holds.
        found: u64,
    },
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated { field })?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array(field)?))
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array(field)?))
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array(field)?))
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array(field)?))
    }

    pub(crate) fn u16_le(&mut self, field: &'static str) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn u32_le(&mut self, field: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn u64_le(&mut self, field: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// Like [`Reader::array`], in place.
    pub(crate) fn array_ref<const N: usize>(&mut self, field: &'static str) -> Result<&'a [u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated { field })?;
        self.rest = rest;
        Ok(head)
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// A field of `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Truncated { field })?;
        self.rest = rest;
        Ok(head)
    }

    /// A field with a 16-bit length before it (a TPM2B), of at most `limit` bytes.
    pub(crate) fn sized(&mut self, limit: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
        let len = usize::from(self.u16(field)?);
        if len > limit {
            return Err(Malformed::TooLong { field, found: len, limit });
        }
        self.bytes(len, field)
    }

    /// Nothing may follow the last field.
    pub(crate) fn finish(self, structure: &'static str) -> Result<(), Malformed> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(Malformed::Trailing { structure, left }),
        }
    }
}
