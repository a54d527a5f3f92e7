//! UEFI_VARIABLE_DATA: a variable of the firmware as an event has it (Platform Firmware Profile, section 10.4.2.1).

use crate::reader::{Malformed, Reader};

/// A UEFI variable: who it belongs to, its name, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    vendor: [u8; 16],
    name: String,
    value: &'a [u8],
}

/// EFI_GLOBAL_VARIABLE, 8be4df61-93ca-11d2-aa0d-00e098032b8c: SecureBoot, PK, KEK, Boot####.
pub const GLOBAL: [u8; 16] = [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0, 0xe0, 0x98, 3, 0x2b, 0x8c];
/// EFI_IMAGE_SECURITY_DATABASE, d719b2cb-3d3a-4596-a3bc-dad00e67656f: db, dbx.
pub const SECURITY_DATABASE: [u8; 16] =
    [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];

impl<'a> Variable<'a> {
    /// Parses the data of an event that measures a variable.
    ///
    /// # Errors
    ///
    /// When lengths do not fit or the name is not UTF-16.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let vendor = reader.array("VariableName")?;
        let characters = reader.u64_le("UnicodeNameLength")?;
        let value_len = reader.u64_le("VariableDataLength")?;
        let name = reader.bytes(bounded(characters, MAX_NAME, "UnicodeNameLength")? * 2, "UnicodeName")?;
        let units: Vec<u16> =
            name.chunks_exact(2).filter_map(|unit| unit.try_into().ok()).map(u16::from_le_bytes).collect();
        let name =
            String::from_utf16(&units).map_err(|_| Malformed::Value { field: "UnicodeName", found: characters })?;
        let value = reader.bytes(bounded(value_len, super::MAX_EVENT_DATA, "VariableDataLength")?, "VariableData")?;
        reader.finish("UEFI_VARIABLE_DATA")?;
        Ok(Self { vendor, name, value })
    }

    /// Whether it is this one.
    #[must_use]
    pub fn is(&self, vendor: [u8; 16], name: &str) -> bool {
        self.vendor == vendor && self.name == name
    }

    /// The GUID that makes its name unique, in the order of bytes in memory.
    #[must_use]
    pub fn vendor(&self) -> [u8; 16] {
        self.vendor
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value; empty when the variable does not exist.
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        self.value
    }
}

fn bounded(found: u64, limit: usize, field: &'static str) -> Result<usize, Malformed> {
    match usize::try_from(found) {
        Ok(len) if len <= limit => Ok(len),
        len => Err(Malformed::TooLong { field, found: len.unwrap_or(usize::MAX), limit }),
    }
}

/// The longest name of a variable, in characters.
const MAX_NAME: usize = 512;
