//! The list of files that Linux measured into PCR 10 (IMA): parsed strictly, and compared with the quoted value.
//!
//! Templates `ima-ng` and `ima-sig` (kernel documentation, "IMA Template Management Mechanism"), in the binary form and in
//! the form for people. As with event logs, three types lead from claim to fact: [`Log`], [`Replayed`], and what the rules
//! of a policy say of its entries.

mod ascii;
mod binary;
pub mod signer;

use ring::digest;

use super::{algorithm::sha256, quoted::QuotedPcrs};
use crate::reader::Malformed;

/// The largest list that is parsed, in bytes.
pub const MAX_IMA_LOG: usize = 8 * 1024 * 1024;

/// The most entries of one list.
pub const MAX_ENTRIES: usize = 65_536;

/// The PCR that Linux measures files into.
pub const PCR: u8 = 10;

/// A list as it was handed over. Holding one tells you that it parsed and that each entry gives its template digest; who
/// wrote it is another question: see [`Log::replay`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    entries: Vec<Entry>,
}

/// One file, or one other thing with a name, as it was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    extended: Extended,
    file: FileDigest,
    path: String,
    signature: Vec<u8>,
}

/// The digest of a file's content, by an algorithm that the kernel chose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileDigest {
    algorithm: String,
    digest: Vec<u8>,
}

/// What an entry extends into PCR 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extended {
    /// The digests of its template data, computed here.
    Template { sha1: [u8; 20], sha256: [u8; 32] },
    /// Ones in every bank: the file was open for writing, so that nothing is known of its content.
    Violation,
}

/// A list whose beginning gives the quoted value of PCR 10. Only [`Log::replay`] makes one.
///
/// ```compile_fail,E0451
/// use blindferry_attest::tpm::ima::Replayed;
/// let forged = Replayed { ..panic!() };
/// ```
#[must_use = "a list that replays is the start of a judgement"]
#[derive(Debug)]
pub struct Replayed<'l> {
    entries: &'l [Entry],
    later: usize,
}

/// Why a list was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImaError {
    /// More bytes than any list has; nothing was parsed.
    #[error("the IMA list has {found} bytes, more than {MAX_IMA_LOG}")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// Not a byte.
    #[error("the IMA list is empty; does the kernel have an IMA policy (ima_policy=tcb)?")]
    Empty,
    /// More entries than any list has.
    #[error("the IMA list has more than {MAX_ENTRIES} entries")]
    TooManyEntries,
    /// The bytes end inside an entry, or a length in it is a lie.
    #[error("entry {number} of the IMA list does not parse; the list was cut off or altered")]
    Malformed {
        /// Which, from 0.
        number: usize,
        /// What was wrong.
        source: Malformed,
    },
    /// An entry is of another PCR than 10.
    #[error("entry {number} of the IMA list is of PCR {found}, not 10")]
    Pcr {
        /// Which entry, from 0.
        number: usize,
        /// Its PCR.
        found: u32,
    },
    /// An entry is of a template that we do not know.
    #[error(
        "entry {number} of the IMA list has template {found:?}; start the kernel with ima_template=ima-ng or ima-sig"
    )]
    Template {
        /// Which entry, from 0.
        number: usize,
        /// Its template.
        found: String,
    },
    /// What an entry says does not give its digest.
    #[error("entry {number} of the IMA list does not give its own digest; the list was altered")]
    TemplateDigest {
        /// Which entry, from 0.
        number: usize,
    },
    /// PCR 10 was not quoted.
    #[error("PCR 10 was not quoted, so that nothing is known of the IMA list")]
    NotQuoted,
    /// The kernel extends SHA-1 digests, filled up with zeros.
    #[error(
        "the kernel extends SHA-1 digests into the SHA-256 bank, and no judgement rests on SHA-1; use Linux 5.8 or newer"
    )]
    WeakHash,
    /// No beginning of the list gives the quoted value.
    #[error(
        "no beginning of the IMA list gives PCR 10 the quoted value {}; it is incomplete or false",
        hex::encode(wanted)
    )]
    Replay {
        /// What was quoted.
        wanted: [u8; 32],
    },
}

impl ImaError {
    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "ima-log-too-long",
            Self::Empty => "ima-log-empty",
            Self::TooManyEntries => "ima-log-too-many-entries",
            Self::Malformed { .. } => "ima-log-malformed",
            Self::Pcr { .. } => "ima-log-pcr",
            Self::Template { .. } => "ima-log-template",
            Self::TemplateDigest { .. } => "ima-log-template-digest",
            Self::NotQuoted => "ima-log-not-quoted",
            Self::WeakHash => "ima-log-weak-hash",
            Self::Replay { .. } => "ima-log-replay",
        }
    }
}

impl Log {
    /// Parses a list as Linux gives it (`/sys/kernel/security/ima/`), binary or ASCII, with SHA-1 or SHA-256 template digests.
    /// Beside the text of its entries, at most [`MAX_ENTRIES`] of fixed size are allocated.
    ///
    /// # Errors
    ///
    /// On the first entry that does not parse, or does not give its own digest.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImaError> {
        if bytes.len() > MAX_IMA_LOG {
            return Err(ImaError::TooLong { found: bytes.len() });
        }
        let entries = match bytes {
            [] => return Err(ImaError::Empty),
            [b'0'..=b'9' | b' ', b'0'..=b'9' | b' ', ..] => ascii::entries(bytes)?,
            _ => binary::entries(bytes)?,
        };
        Ok(Self { entries })
    }

    /// Its entries in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The list up to where it gives the quoted value of PCR 10. Files that were measured between quote and reading come
    /// later in the list; nothing is known of those.
    ///
    /// # Errors
    ///
    /// When no beginning of the list gives the value, or one does only by the rule of kernels before 5.8, which extend
    /// SHA-1 digests into every bank.
    pub fn replay(&self, quoted: &QuotedPcrs) -> Result<Replayed<'_>, ImaError> {
        let wanted = *quoted.value(PCR).ok_or(ImaError::NotQuoted)?;
        if let Some(replayed) = self.beginning(&wanted, Extended::in_sha256_bank) {
            return Ok(replayed);
        }
        match self.beginning(&wanted, Extended::filled_up) {
            Some(_) => Err(ImaError::WeakHash),
            None => Err(ImaError::Replay { wanted }),
        }
    }

    /// What the whole list gives PCR 10 in the SHA-256 bank. A claim, as the list is.
    #[must_use]
    pub fn compute(&self) -> [u8; 32] {
        self.entries.iter().fold([0; 32], |value, entry| sha256(&[&value, &entry.extended.in_sha256_bank()]))
    }

    fn beginning(&self, wanted: &[u8; 32], rule: fn(&Extended) -> [u8; 32]) -> Option<Replayed<'_>> {
        let mut value = [0; 32];
        let mut count = 0;
        let mut rest = self.entries.iter();
        while value != *wanted {
            value = sha256(&[&value, &rule(&rest.next()?.extended)]);
            count += 1;
        }
        let (entries, later) = self.entries.split_at_checked(count)?;
        Some(Replayed { entries, later: later.len() })
    }
}

impl<'l> Replayed<'l> {
    /// The entries behind the quoted value, in order.
    #[must_use]
    pub fn entries(&self) -> &'l [Entry] {
        self.entries
    }

    /// How many entries came later, of which nothing is known.
    #[must_use]
    pub fn later(&self) -> usize {
        self.later
    }
}

impl Entry {
    /// What was measured: a path as it was seen when the file was opened, or a name such as `boot_aggregate`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The digest of the content. All zeros after a violation.
    #[must_use]
    pub fn file(&self) -> &FileDigest {
        &self.file
    }

    /// The file's signature (`security.ima`), empty when it has none. Nobody has verified it.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Whether the file could change while it was read, so that nothing is known of its content.
    #[must_use]
    pub fn is_violation(&self) -> bool {
        self.extended == Extended::Violation
    }

    /// Puts an entry together when its template data gives the digest beside it; both forms of a list come here.
    fn new(listed: &[u8], template: &[u8], parts: Parts<'_>, number: usize) -> Result<Self, ImaError> {
        let Parts { file, path, signature } = parts;
        let sha1 = sha1(template);
        let sha256 = sha256(&[template]);
        let extended = if listed.iter().all(|byte| *byte == 0) {
            Extended::Violation
        } else if listed == sha1 || listed == sha256 {
            Extended::Template { sha1, sha256 }
        } else {
            return Err(ImaError::TemplateDigest { number });
        };
        Ok(Self { extended, file, path: path.to_owned(), signature: signature.to_vec() })
    }
}

/// The fields of a template.
struct Parts<'a> {
    file: FileDigest,
    path: &'a str,
    signature: &'a [u8],
}

impl FileDigest {
    /// Reads `algorithm:hexadecimal`, as lists for people and policies have it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (algorithm, digits) = text.split_once(':')?;
        let known = !algorithm.is_empty() && algorithm.len() <= 16;
        if !known || digits.len() > 128 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let digest = hex::decode(digits).ok()?;
        (!digest.is_empty()).then(|| Self { algorithm: algorithm.to_owned(), digest })
    }

    /// The algorithm, by the kernel's name.
    #[must_use]
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// The digest.
    #[must_use]
    pub fn digest(&self) -> &[u8] {
        &self.digest
    }

    /// Whether a judgement may rest on it: SHA-256, SHA-384 or SHA-512, of their lengths.
    #[must_use]
    pub fn is_strong(&self) -> bool {
        matches!((self.algorithm.as_str(), self.digest.len()), ("sha256", 32) | ("sha384", 48) | ("sha512", 64))
    }
}

impl std::fmt::Display for FileDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.algorithm, hex::encode(&self.digest))
    }
}

impl Extended {
    /// Linux 5.8 and newer: each bank has digests of its own algorithm.
    fn in_sha256_bank(&self) -> [u8; 32] {
        match self {
            Self::Template { sha256, .. } => *sha256,
            Self::Violation => [0xff; 32],
        }
    }

    /// Older: SHA-1, with zeros behind.
    fn filled_up(&self) -> [u8; 32] {
        let mut out = [0; 32];
        match self {
            Self::Template { sha1, .. } => {
                for (to, from) in out.iter_mut().zip(sha1) {
                    *to = *from;
                }
            }
            Self::Violation => out = [0xff; 32],
        }
        out
    }
}

fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut out = [0; 20];
    out.copy_from_slice(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref());
    out
}

/// The longest template data, in bytes: a digest, a path of Linux, and a signature.
const MAX_TEMPLATE: usize = 16 * 1024;
