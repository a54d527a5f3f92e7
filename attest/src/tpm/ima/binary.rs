//! The binary form: PCR, template digest, template name and template data, with little-endian lengths.

use super::{Entry, FileDigest, ImaError, MAX_ENTRIES, MAX_TEMPLATE, PCR, Parts};
use crate::reader::{Malformed, Reader};

pub(super) fn entries(bytes: &[u8]) -> Result<Vec<Entry>, ImaError> {
    let digest_len = digest_len(bytes);
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::new();
    while !reader.is_empty() {
        if entries.len() == MAX_ENTRIES {
            return Err(ImaError::TooManyEntries);
        }
        entries.push(entry(&mut reader, digest_len, entries.len())?);
    }
    Ok(entries)
}

/// Nothing in a list says how long its digests are; the first template's name stands where it can for one length alone.
fn digest_len(bytes: &[u8]) -> usize {
    let name_at = |digest_len: usize| bytes.get(4 + digest_len + 4..).is_some_and(|rest| rest.starts_with(b"ima-"));
    if name_at(32) { 32 } else { 20 }
}

fn entry(reader: &mut Reader<'_>, digest_len: usize, number: usize) -> Result<Entry, ImaError> {
    let malformed = |source| ImaError::Malformed { number, source };
    let pcr = reader.u32_le("PCR").map_err(malformed)?;
    if pcr != u32::from(PCR) {
        return Err(ImaError::Pcr { number, found: pcr });
    }
    let listed = reader.bytes(digest_len, "template digest").map_err(malformed)?;
    let name = sized(reader, MAX_NAME, "template name").map_err(malformed)?;
    let template = sized(reader, MAX_TEMPLATE, "template data").map_err(malformed)?;
    let with_signature = match name {
        b"ima-ng" => false,
        b"ima-sig" => true,
        other => {
            return Err(ImaError::Template { number, found: String::from_utf8_lossy(other).into_owned() });
        }
    };
    let parts = parts(template, with_signature).map_err(malformed)?;
    Entry::new(listed, template, parts, number)
}

fn parts(template: &[u8], with_signature: bool) -> Result<Parts<'_>, Malformed> {
    let mut reader = Reader::new(template);
    let digest = sized(&mut reader, 128, "d-ng")?;
    let path = sized(&mut reader, MAX_PATH, "n-ng")?;
    let signature = if with_signature { sized(&mut reader, MAX_TEMPLATE, "sig")? } else { &[] };
    reader.finish("template data")?;

    let no_value = |field| Malformed::Value { field, found: 0 };
    let path = path.strip_suffix(&[0]).and_then(|path| str::from_utf8(path).ok());
    Ok(Parts { file: file(digest).ok_or(no_value("d-ng"))?, path: path.ok_or(no_value("n-ng"))?, signature })
}

/// `algorithm`, `:`, a zero, and the digest.
fn file(field: &[u8]) -> Option<FileDigest> {
    let colon = field.iter().position(|byte| *byte == b':')?;
    let (algorithm, rest) = field.split_at_checked(colon)?;
    let digest = rest.strip_prefix(b":\0")?;
    let algorithm = str::from_utf8(algorithm).ok()?;
    let fits = !algorithm.is_empty() && algorithm.len() <= 16 && !digest.is_empty() && digest.len() <= 64;
    fits.then(|| FileDigest { algorithm: algorithm.to_owned(), digest: digest.to_vec() })
}

fn sized<'a>(reader: &mut Reader<'a>, limit: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
    let len = reader.u32_le(field)?;
    match usize::try_from(len) {
        Ok(len) if len <= limit => reader.bytes(len, field),
        len => Err(Malformed::TooLong { field, found: len.unwrap_or(usize::MAX), limit }),
    }
}

/// TCG_EVENT_NAME_LEN_MAX of Linux.
const MAX_NAME: usize = 255;
/// PATH_MAX of Linux, with the zero.
const MAX_PATH: usize = 4097;
