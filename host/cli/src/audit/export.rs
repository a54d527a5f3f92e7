//! Exported records: JSON Lines, each with the bytes that were signed and, for people and their tools, what they say.
//!
//! Only the signed bytes are verified, so a line whose readable part says something else than they do is refused: it
//! would let a forger speak to everyone who reads a verified file.

use crate::audit::verify::hash_of;
use crate::output::moment_from_millis;
use blindferry_proto::audit::{Body, Path, Record};
use blindferry_proto::bounded::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A line, in the order in which it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    readable: Option<Value>,
    #[serde(with = "hex::serde")]
    body: Vec<u8>,
    path: Path,
    #[serde(with = "hex::serde")]
    signature: Vec<u8>,
}

/// What a record says, in JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Readable<'a> {
    number: u64,
    at: String,
    hash: String,
    before: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    dangers: &'a [blindferry_proto::bounded::Text<{ blindferry_proto::audit::MAX_DANGER }>],
    event: &'a blindferry_proto::audit::Event,
}

impl<'a> Readable<'a> {
    pub(crate) fn of(record: &Record, body: &'a Body) -> Self {
        let (hash, before) = (hash_of(record).to_string(), body.before.to_string());
        Self {
            number: body.number,
            at: moment_from_millis(body.at),
            hash,
            before,
            dangers: &body.dangers,
            event: &body.event,
        }
    }
}

/// A record as `--json` and `--json-lines` show it.
#[derive(Debug, Serialize)]
pub(crate) struct Entry<'a> {
    kind: String,
    #[serde(flatten)]
    readable: Readable<'a>,
}

impl<'a> Entry<'a> {
    pub(crate) fn of(record: &Record, body: &'a Body, kind: String) -> Self {
        Self { kind, readable: Readable::of(record, body) }
    }
}

/// A record as a line with its end. One that does not even parse is written too: it is evidence.
///
/// # Errors
/// When JSON cannot say it.
pub(crate) fn line(record: &Record) -> Result<String, serde_json::Error> {
    let readable = record.body().ok().map(|body| serde_json::to_value(Readable::of(record, &body))).transpose()?;
    let (body, signature) = (record.body.as_slice().to_vec(), record.signature.as_slice().to_vec());
    serde_json::to_string(&Line { readable, body, path: record.path.clone(), signature }).map(|line| line + "\n")
}

/// The record of a line, whose readable part says the same as what was signed.
///
/// # Errors
/// [`LineError`].
pub(crate) fn record(line: &str) -> Result<Record, LineError> {
    let Line { readable, body, path, signature } =
        serde_json::from_str(line).map_err(|source| LineError::Json { source })?;
    let record = Record {
        body: Bytes::new(body).map_err(|_| LineError::TooLong)?,
        path,
        signature: Bytes::new(signature).map_err(|_| LineError::TooLong)?,
    };
    if let (Some(readable), Ok(body)) = (readable, record.body()) {
        let signed = serde_json::to_value(Readable::of(&record, &body)).map_err(|source| LineError::Json { source })?;
        if readable != signed {
            return Err(LineError::Differs);
        }
    }
    Ok(record)
}

/// A line is not a record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("not a line of an export")]
    Json { source: serde_json::Error },
    #[error("longer than a record may be")]
    TooLong,
    #[error("the readable part says something else than what was signed")]
    Differs,
}

/// Bytes of a line.
pub(crate) const MAX_LINE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verify::tests::audit;

    #[test]
    fn a_record_comes_back_from_its_line() {
        let (_, records) = audit(1, 3);
        for one in records {
            let line = line(&one).unwrap();
            assert!(line.ends_with("}\n") && line.len() < MAX_LINE);
            assert_eq!(record(&line).unwrap(), one);
        }
    }

    #[test]
    fn a_line_that_reads_otherwise_than_it_was_signed_is_refused() {
        let (_, records) = audit(1, 1);
        let forged = line(&records[0]).unwrap().replace("start 0", "start 9");
        assert!(matches!(record(&forged), Err(LineError::Differs)));
        assert!(matches!(record("{}"), Err(LineError::Json { .. })));
    }
}
