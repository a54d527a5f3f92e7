//! The form for people: a line an entry, `10 digest template algorithm:digest path [signature]`. The template data is put
//! together again, so that the digest decides whether the line was read as it was meant.

use super::{Entry, FileDigest, ImaError, MAX_ENTRIES, MAX_TEMPLATE, Parts};
use crate::reader::Malformed;

pub(super) fn entries(bytes: &[u8]) -> Result<Vec<Entry>, ImaError> {
    let mut entries = Vec::new();
    // The last line ends too; what follows an end that is missing would be a line that was cut off.
    let whole = bytes.strip_suffix(b"\n").ok_or(ImaError::Malformed { number: 0, source: CUT_OFF })?;
    for (number, line) in whole.split(|byte| *byte == b'\n').enumerate() {
        if number == MAX_ENTRIES {
            return Err(ImaError::TooManyEntries);
        }
        entries.push(entry(line, number)?);
    }
    Ok(entries)
}

fn entry(line: &[u8], number: usize) -> Result<Entry, ImaError> {
    let malformed = |field| ImaError::Malformed { number, source: Malformed::Value { field, found: 0 } };
    if line.len() > 2 * MAX_TEMPLATE {
        let source = Malformed::TooLong { field: "line", found: line.len(), limit: 2 * MAX_TEMPLATE };
        return Err(ImaError::Malformed { number, source });
    }
    let line = str::from_utf8(line).map_err(|_| malformed("line"))?;
    let mut fields = line.trim_start_matches(' ').splitn(5, ' ');
    let mut next = |field| fields.next().ok_or(ImaError::Malformed { number, source: Malformed::Truncated { field } });
    let pcr = next("PCR")?;
    if pcr != "10" {
        return Err(ImaError::Pcr { number, found: pcr.parse().unwrap_or(u32::MAX) });
    }
    let listed = hex::decode(next("template digest")?).map_err(|_| malformed("template digest"))?;
    if ![20, 32].contains(&listed.len()) {
        return Err(malformed("template digest"));
    }
    let name = next("template name")?;
    let file = FileDigest::parse(next("d-ng")?).ok_or(malformed("d-ng"))?;
    let rest = next("n-ng")?;
    let (path, signature) = match name {
        "ima-ng" => (rest, None),
        "ima-sig" => {
            // A path can have spaces, a signature cannot; it may be empty.
            let (path, digits) = rest.rsplit_once(' ').ok_or(malformed("sig"))?;
            (path, Some(hex::decode(digits).map_err(|_| malformed("sig"))?))
        }
        other => return Err(ImaError::Template { number, found: other.to_owned() }),
    };
    let template = template(&file, path, signature.as_deref());
    Entry::new(&listed, &template, Parts { file, path, signature: signature.as_deref().unwrap_or_default() }, number)
}

fn template(file: &FileDigest, path: &str, signature: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    field(&mut out, &[file.algorithm().as_bytes(), b":\0", file.digest()]);
    field(&mut out, &[path.as_bytes(), &[0]]);
    if let Some(signature) = signature {
        field(&mut out, &[signature]);
    }
    out
}

fn field(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    // The line was bounded, so this fits.
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

const CUT_OFF: Malformed = Malformed::Truncated { field: "line" };
