//! The TOML form of an event policy, `[tpm.events]`: reads it strictly, writes it canonically.
//!
//! ```toml
//! [tpm.events]
//! secure_boot = "on"                      # or "any"; then command_lines must be there
//! boot_applications = ["5c…"]             # Authenticode digests, SHA-256: loaders, unified kernel images, kernels
//! command_lines = ["root=… ro", "sha256:9a…"]
//! files = ["77…"]                         # what PCR 9 may have beside the command line: initrds
//! db = ["e1…"]                            # digests of the events of these variables
//! dbx = ["3f…"]
//!
//! [tpm.events.ima]
//! signers = ["3082…"]                     # RSA keys, SubjectPublicKeyInfo in DER
//! unjudged_below = ["/var/"]
//!
//! [tpm.events.ima.files]
//! "/usr/bin/true" = ["sha256:ab…"]
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde::Deserialize;

use super::{CommandLine, EventPolicy, FileRules, SecureBoot};
use crate::tpm::ima::{FileDigest, signer::Signer};

/// Why a table is no event policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventPolicyError {
    /// No image is listed, so that none could be started.
    #[error("boot_applications lists no image")]
    NoImages,
    /// Nothing binds the command line.
    #[error(
        "nothing binds the kernel's command line: write secure_boot = \"on\" (for signed unified kernel images), \
         or list command_lines"
    )]
    CommandLineOpen,
    /// Files are listed, which no rule looks at without command lines.
    #[error("files are listed without command_lines, and would not be judged")]
    FilesAlone,
    /// Something is not 64 lower-case hexadecimal digits, or stands there twice.
    #[error("{key} has {found:?}: 64 lower-case hexadecimal digits are needed, each value once")]
    Digest {
        /// The key.
        key: &'static str,
        /// What is there.
        found: String,
    },
    /// A command line is empty, too long, has control characters, or stands there twice.
    #[error("command_lines has {found:?}: 1 to {MAX_LINE} bytes without control characters are needed, each line once")]
    CommandLine {
        /// What is there, shortened.
        found: String,
    },
    /// A rule for files accepts nothing.
    #[error("[tpm.events.ima] accepts no file: list files or signers")]
    NoFiles,
    /// A path or one of its digests cannot be.
    #[error(
        "[tpm.events.ima] has {found:?}: a path from the root, with \"sha256:\", \"sha384:\" or \"sha512:\" digests, is needed"
    )]
    File {
        /// What is there.
        found: String,
    },
    /// A key is not RSA of 2048 to 4096 bits in DER, or there are too many.
    #[error(
        "[tpm.events.ima] needs signers that are RSA keys of 2048 to 4096 bits, in DER and hexadecimal, at most {MAX_SIGNERS}"
    )]
    Signer,
    /// A folder does not begin and end with a slash.
    #[error("unjudged_below has {found:?}: a folder from the root, with a slash at the end, is needed, and not \"/\"")]
    Folder {
        /// What is there.
        found: String,
    },
}

impl EventPolicyError {
    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoImages => "reference-events-no-boot-application",
            Self::CommandLineOpen => "reference-events-command-line-open",
            Self::FilesAlone => "reference-events-files-alone",
            Self::Digest { .. } => "reference-events-digest",
            Self::CommandLine { .. } => "reference-events-command-line",
            Self::NoFiles => "reference-events-ima-no-file",
            Self::File { .. } => "reference-events-ima-file",
            Self::Signer => "reference-events-ima-signer",
            Self::Folder { .. } => "reference-events-ima-folder",
        }
    }
}

/// `[tpm.events]` as it stands in a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    secure_boot: SecureBootText,
    boot_applications: Vec<String>,
    #[serde(default)]
    command_lines: Vec<String>,
    #[serde(default)]
    files: Vec<String>,
    #[serde(default)]
    db: Vec<String>,
    #[serde(default)]
    dbx: Vec<String>,
    ima: Option<ImaTable>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SecureBootText {
    On,
    Any,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImaTable {
    #[serde(default)]
    signers: Vec<String>,
    #[serde(default)]
    unjudged_below: Vec<String>,
    #[serde(default)]
    files: BTreeMap<String, Vec<String>>,
}

impl TryFrom<Table> for EventPolicy {
    type Error = EventPolicyError;

    fn try_from(table: Table) -> Result<Self, EventPolicyError> {
        let policy = Self {
            secure_boot: match table.secure_boot {
                SecureBootText::On => SecureBoot::On,
                SecureBootText::Any => SecureBoot::Any,
            },
            images: digests("boot_applications", table.boot_applications)?,
            command_lines: command_lines(table.command_lines)?,
            files: digests("files", table.files)?,
            db: digests("db", table.db)?,
            dbx: digests("dbx", table.dbx)?,
            ima: table.ima.map(FileRules::try_from).transpose()?,
        };
        policy.bound()
    }
}

impl TryFrom<ImaTable> for FileRules {
    type Error = EventPolicyError;

    fn try_from(table: ImaTable) -> Result<Self, EventPolicyError> {
        let mut listed = BTreeMap::new();
        for (path, texts) in table.files {
            let mut digests = BTreeSet::new();
            for text in texts {
                let digest = FileDigest::parse(&text).filter(FileDigest::is_strong);
                if !digest.is_some_and(|digest| digests.insert(digest)) {
                    return Err(EventPolicyError::File { found: text });
                }
            }
            if digests.is_empty() || !is_path(&path) {
                return Err(EventPolicyError::File { found: path });
            }
            listed.insert(path, digests);
        }
        if table.signers.len() > MAX_SIGNERS {
            return Err(EventPolicyError::Signer);
        }
        let signer = |text: &String| hex::decode(text).ok().and_then(|spki| Signer::from_spki(&spki));
        let signers: Option<Vec<_>> = table.signers.iter().map(signer).collect();
        let signers = signers.ok_or(EventPolicyError::Signer)?;
        if let Some(found) = table.unjudged_below.iter().find(|below| !is_path(below) || !below.ends_with('/')) {
            return Err(EventPolicyError::Folder { found: found.clone() });
        }
        if listed.is_empty() && signers.is_empty() {
            return Err(EventPolicyError::NoFiles);
        }
        Ok(Self { listed, signers, unjudged_below: table.unjudged_below.into_iter().collect() })
    }
}

impl EventPolicy {
    /// The policy, unless it leaves open what must be bound.
    pub(super) fn bound(self) -> Result<Self, EventPolicyError> {
        if self.images.is_empty() {
            return Err(EventPolicyError::NoImages);
        }
        if self.command_lines.is_empty() {
            if self.secure_boot == SecureBoot::Any {
                return Err(EventPolicyError::CommandLineOpen);
            }
            if !self.files.is_empty() {
                return Err(EventPolicyError::FilesAlone);
            }
        }
        Ok(self)
    }

    /// Appends the canonical form: one order, one way to write each value, a value a line.
    pub(crate) fn write(&self, out: &mut String) {
        let secure_boot = match self.secure_boot {
            SecureBoot::On => "on",
            SecureBoot::Any => "any",
        };
        let _ = write!(out, "\n[tpm.events]\nsecure_boot = \"{secure_boot}\"\n");
        list(out, "boot_applications", self.images.iter().map(hex::encode));
        let lines = self.command_lines.iter().map(|line| match line {
            CommandLine::Text(text) => text.clone(),
            CommandLine::Digest(digest) => format!("{DIGEST}{}", hex::encode(digest)),
        });
        list(out, "command_lines", lines);
        list(out, "files", self.files.iter().map(hex::encode));
        list(out, "db", self.db.iter().map(hex::encode));
        list(out, "dbx", self.dbx.iter().map(hex::encode));
        let Some(ima) = &self.ima else { return };
        out.push_str("\n[tpm.events.ima]\n");
        list(out, "signers", ima.signers.iter().map(|signer| hex::encode(signer.spki())));
        list(out, "unjudged_below", ima.unjudged_below.iter().cloned());
        if !ima.listed.is_empty() {
            out.push_str("\n[tpm.events.ima.files]\n");
            for (path, digests) in &ima.listed {
                list(out, &quoted(path), digests.iter().map(FileDigest::to_string));
            }
        }
    }
}

fn digests(key: &'static str, texts: Vec<String>) -> Result<BTreeSet<[u8; 32]>, EventPolicyError> {
    let mut out = BTreeSet::new();
    for found in texts {
        if !digest(&found).is_some_and(|digest| out.insert(digest)) {
            return Err(EventPolicyError::Digest { key, found });
        }
    }
    Ok(out)
}

fn command_lines(texts: Vec<String>) -> Result<BTreeSet<CommandLine>, EventPolicyError> {
    let mut out = BTreeSet::new();
    for text in texts {
        let line = match text.strip_prefix(DIGEST).map(digest) {
            Some(digest) => digest.map(CommandLine::Digest),
            None => (1..=MAX_LINE).contains(&text.len()).then(|| CommandLine::Text(text.clone())),
        };
        let printable = !text.chars().any(char::is_control);
        if !line.is_some_and(|line| printable && out.insert(line)) {
            return Err(EventPolicyError::CommandLine { found: text.chars().take(80).collect() });
        }
    }
    Ok(out)
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

/// From the root, of no more than a path can have, and without a way back up.
fn is_path(text: &str) -> bool {
    let fits = (2..=4096).contains(&text.len()) && text.starts_with('/');
    fits && !text.chars().any(char::is_control) && !text.split('/').any(|part| part == "..")
}

/// A list with a value a line; nothing when it is empty.
fn list(out: &mut String, key: &str, items: impl Iterator<Item = String>) {
    let mut items = items.peekable();
    if items.peek().is_none() {
        return;
    }
    let _ = writeln!(out, "{key} = [");
    for item in items {
        let _ = writeln!(out, "    {},", quoted(&item));
    }
    out.push_str("]\n");
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

const DIGEST: &str = "sha256:";
/// COMMAND_LINE_SIZE of Linux on x86, in bytes.
const MAX_LINE: usize = 2048;
/// The most keys whose files are accepted.
const MAX_SIGNERS: usize = 8;
