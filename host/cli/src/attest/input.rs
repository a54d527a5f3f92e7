//! Files as they are given: which, what they are said to be, and their bytes within bounds.

use blindferry_attest::reference::{ReferenceError, ReferenceValues};
use blindferry_attest::tpm::ima::MAX_IMA_LOG;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// No file of evidence is larger, in bytes: an IMA list is the largest.
pub(crate) const MAX_FILE: usize = MAX_IMA_LOG;

/// The largest file of reference values, in bytes.
const MAX_POLICY: usize = 1024 * 1024;

/// A file of evidence on the command line: `FILE`, or `PART=FILE`.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    path: PathBuf,
    part: Option<Named>,
}

/// What a file is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Report,
    Table,
    Hcl,
    Quote,
    Signature,
    Public,
    Pcrs,
    EventLog,
    Ima,
    Certificate,
    Crl,
    Evidence,
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) path: PathBuf,
    pub(super) part: Option<Named>,
    pub(super) bytes: Vec<u8>,
}

const NAMES: [(&str, Named); 12] = [
    ("report", Named::Report),
    ("table", Named::Table),
    ("hcl", Named::Hcl),
    ("quote", Named::Quote),
    ("signature", Named::Signature),
    ("public", Named::Public),
    ("pcrs", Named::Pcrs),
    ("event-log", Named::EventLog),
    ("ima", Named::Ima),
    ("certificate", Named::Certificate),
    ("crl", Named::Crl),
    ("evidence", Named::Evidence),
];

impl Given {
    /// Takes a word of the command line. What is before `=` and no part belongs to the name of the file.
    pub(super) fn parse(word: &str) -> Result<Self, String> {
        let named = word.split_once('=').and_then(|(name, path)| {
            let (_, part) = NAMES.iter().find(|(one, _)| *one == name)?;
            Some(Self { path: path.into(), part: Some(*part) })
        });
        match named.unwrap_or_else(|| Self { path: word.into(), part: None }) {
            given if given.path.as_os_str().is_empty() => Err("a file is missing".to_owned()),
            given => Ok(given),
        }
    }

    pub(super) fn certificate(path: &Path) -> Self {
        Self { path: path.to_owned(), part: Some(Named::Certificate) }
    }

    pub(super) fn crl(path: &Path) -> Self {
        Self { path: path.to_owned(), part: Some(Named::Crl) }
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`InputError::Read`], [`InputError::TooLong`], [`InputError::Empty`].
    pub(super) fn read(&self) -> Result<Content, InputError> {
        let bytes = read(&self.path, MAX_FILE)?;
        if bytes.is_empty() {
            return Err(InputError::Empty { path: self.path.clone() });
        }
        Ok(Content { path: self.path.clone(), part: self.part, bytes })
    }
}

/// Reads reference values.
///
/// # Errors
/// [`InputError::Read`], [`InputError::TooLong`], [`InputError::Policy`].
pub(super) fn read_policy(path: &Path) -> Result<ReferenceValues, InputError> {
    let bytes = read(path, MAX_POLICY)?;
    let Ok(text) = String::from_utf8(bytes) else { return Err(InputError::PolicyText { path: path.to_owned() }) };
    ReferenceValues::parse(&text)
        .map_err(|source| InputError::Policy { path: path.to_owned(), source: Box::new(source) })
}

fn read(path: &Path, most: usize) -> Result<Vec<u8>, InputError> {
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|source| InputError::Read { path: path.to_owned(), source })?;
    if bytes.len() > most {
        return Err(InputError::TooLong { path: path.to_owned(), most });
    }
    Ok(bytes)
}

/// Why there is nothing to judge.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is empty", path = path.display())]
    Empty { path: PathBuf },
    #[error("{path} is longer than {most} bytes, so it is no evidence", path = path.display())]
    TooLong { path: PathBuf, most: usize },
    #[error("{path} is not reference values: it is not text in UTF-8", path = path.display())]
    PolicyText { path: PathBuf },
    #[error("{path} is not reference values", path = path.display())]
    Policy { path: PathBuf, source: Box<ReferenceError> },
    #[error("{path} is nothing that this program knows ({length} bytes)", path = path.display())]
    Unknown { path: PathBuf, length: usize },
    #[error("{path} is not {wanted}: {what}", path = path.display())]
    Part { path: PathBuf, wanted: &'static str, what: String },
    #[error("{path} and a file before it are both {part}", path = path.display())]
    Twice { path: PathBuf, part: &'static str },
    #[error("these are of two machines: {one}, and {other}")]
    Several { one: &'static str, other: &'static str },
    #[error("there is nothing to judge: {found} alone says nothing")]
    Nothing { found: &'static str },
    #[error("this cannot be judged: {what}")]
    Bounds { what: String },
}

impl InputError {
    /// A stable name for programs.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "input-unreadable",
            Self::Empty { .. } => "input-empty",
            Self::TooLong { .. } => "input-too-long",
            Self::PolicyText { .. } | Self::Policy { .. } => "input-policy",
            Self::Unknown { .. } => "input-unknown",
            Self::Part { .. } => "input-part",
            Self::Twice { .. } => "input-twice",
            Self::Several { .. } => "input-several",
            Self::Nothing { .. } => "input-incomplete",
            Self::Bounds { .. } => "input-bounds",
        }
    }

    /// The next step.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "see whether the file is there and may be read",
            Self::Empty { .. } => "make the evidence anew; whatever wrote this file failed",
            Self::TooLong { .. } => "give the evidence itself, not an archive or an image of it",
            Self::PolicyText { .. } | Self::Policy { .. } => {
                "mend the place that is named; `blindferry reference capture` and `compute` write such files"
            }
            Self::Unknown { .. } => {
                "decode it first if it is in base64 or hexadecimal; say what it is with PART=FILE, such as pcrs=FILE"
            }
            Self::Part { .. } => "give the file of that kind, or leave the word before = away",
            Self::Twice { .. } => "judge one at a time",
            Self::Several { .. } => "judge one machine at a time",
            Self::Nothing { .. } => "give the report, the quote or the certificate that belongs to it",
            Self::Bounds { .. } => "give only what belongs to this evidence",
        }
    }
}
