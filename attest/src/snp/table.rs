//! The certificates that a host passes to its guests: a table of GUIDs, offsets and lengths (GHCB specification, document
//! 56421, "SNP Extended Guest Request").

use super::{
    evidence::{MAX_CERTIFICATES, MAX_PART},
    report::REPORT_LEN,
};
use crate::reader::{Malformed, Reader};

/// The longest table that is read, in bytes: hosts give four pages.
pub const MAX_TABLE: usize = 16 * 1024;

/// Certificates as the host passes them. Anybody could have written them; a chain judges them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateTable {
    certificates: Vec<Vec<u8>>,
    crls: Vec<Vec<u8>>,
}

/// Why bytes are no certificate table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// More bytes than any table has; nothing was parsed.
    #[error("a certificate table of {found} bytes, more than {MAX_TABLE}")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// The entries do not end, or there are too many.
    #[error("a certificate table with more than {MAX_ENTRIES} entries, or whose entries do not end")]
    Entries,
    /// An entry points outside of the table, into its entries, or is too long.
    #[error("a certificate table whose entry {index} is empty, too long, or points outside")]
    Entry {
        /// Which, from 0.
        index: usize,
    },
    /// An extended report is shorter than a report.
    #[error("an extended report of {found} bytes, less than the {REPORT_LEN} of a report")]
    Report {
        /// Its length in bytes.
        found: usize,
    },
}

impl TableError {
    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "snp-table-too-long",
            Self::Entries => "snp-table-entries",
            Self::Entry { .. } => "snp-table-entry",
            Self::Report { .. } => "snp-table-report",
        }
    }
}

impl CertificateTable {
    /// Reads a table. Entries of GUIDs that are not known are passed over: hosts may put their own things there.
    ///
    /// # Errors
    ///
    /// [`TableError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TableError> {
        if bytes.len() > MAX_TABLE {
            return Err(TableError::TooLong { found: bytes.len() });
        }
        let mut reader = Reader::new(bytes);
        let mut table = Self::default();
        let mut entries = Vec::new();
        loop {
            let Entry { guid, offset, len } = Entry::read(&mut reader).map_err(|_| TableError::Entries)?;
            if guid == [0; 16] && offset == 0 && len == 0 {
                break;
            }
            if entries.len() == MAX_ENTRIES {
                return Err(TableError::Entries);
            }
            entries.push((guid, offset, len));
        }
        let first = entries.len().saturating_add(1).saturating_mul(ENTRY_LEN);
        for (index, (guid, offset, len)) in entries.into_iter().enumerate() {
            let content = offset.checked_add(len).and_then(|end| bytes.get(offset..end));
            let content = content.filter(|content| offset >= first && (1..=MAX_PART).contains(&content.len()));
            let content = content.ok_or(TableError::Entry { index })?;
            match guid {
                // An ASVK has no GUID of its own: hosts put it where the ASK stands.
                ARK | ASK | VCEK | VLEK => table.certificates.push(content.to_vec()),
                CRL => table.crls.push(content.to_vec()),
                _ => {}
            }
        }
        if table.certificates.len() > MAX_CERTIFICATES {
            return Err(TableError::Entries);
        }
        Ok(table)
    }

    /// A report and the table behind it.
    ///
    /// # Errors
    ///
    /// [`TableError`].
    pub fn parse_extended(bytes: &[u8]) -> Result<(&[u8], Self), TableError> {
        let (report, table) = bytes.split_at_checked(REPORT_LEN).ok_or(TableError::Report { found: bytes.len() })?;
        Ok((report, if table.is_empty() { Self::default() } else { Self::parse(table)? }))
    }

    /// Whether it has neither certificate nor list.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty() && self.crls.is_empty()
    }

    /// Its certificates and its revocation lists, in DER if the host put that there.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        (self.certificates, self.crls)
    }
}

struct Entry {
    guid: [u8; 16],
    offset: usize,
    len: usize,
}

impl Entry {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let guid = reader.array("GUID")?;
        let mut number = || {
            let number = u32::from_le_bytes(reader.array("offset or length")?);
            // What does not fit is outside of the table in any case.
            Ok(usize::try_from(number).unwrap_or(usize::MAX))
        };
        Ok(Self { guid, offset: number()?, len: number()? })
    }
}

/// GUID, offset, length.
const ENTRY_LEN: usize = 24;

/// The most entries that are read.
const MAX_ENTRIES: usize = 16;

/// c0b406a4-a803-4952-9743-3fb6014cd0ae, as UEFI writes a GUID: the first three fields least significant byte first.
const ARK: [u8; 16] = *b"\xa4\x06\xb4\xc0\x03\xa8\x52\x49\x97\x43\x3f\xb6\x01\x4c\xd0\xae";
/// 4ab7b379-bbac-4fe4-a02f-05aef327c782.
const ASK: [u8; 16] = *b"\x79\xb3\xb7\x4a\xac\xbb\xe4\x4f\xa0\x2f\x05\xae\xf3\x27\xc7\x82";
/// 63da758d-e664-4564-adc5-f4b93be8accd.
const VCEK: [u8; 16] = *b"\x8d\x75\xda\x63\x64\xe6\x64\x45\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd";
/// a8074bc2-a25a-483e-aae6-39c045a0b8a1.
const VLEK: [u8; 16] = *b"\xc2\x4b\x07\xa8\x5a\xa2\x3e\x48\xaa\xe6\x39\xc0\x45\xa0\xb8\xa1";
/// 92f81bc3-5811-4d3d-97ff-d19f88dc67ea.
const CRL: [u8; 16] = *b"\xc3\x1b\xf8\x92\x11\x58\x3d\x4d\x97\xff\xd1\x9f\x88\xdc\x67\xea";
