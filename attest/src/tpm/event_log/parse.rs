//! Reads a log event by event. All numbers are little-endian, unlike those of a TPM.

use super::{Digests, Event, EventLogError, Format, Kind, Log, MAX_EVENT_DATA, MAX_EVENT_LOG, MAX_EVENTS};
use crate::reader::{Malformed, Reader};

/// A digest that a log names: TPM_ALG_ID and length in bytes.
type Table = Vec<(u16, usize)>;

pub(super) fn log(bytes: &[u8]) -> Result<Log<'_>, EventLogError> {
    if bytes.is_empty() {
        return Err(EventLogError::Empty);
    }
    if bytes.len() > MAX_EVENT_LOG {
        return Err(EventLogError::TooLong { found: bytes.len() });
    }
    let mut reader = Reader::new(bytes);
    let first = sha1_event(&mut reader).map_err(at(0))?;
    let mut log = if first.kind == Kind::NO_ACTION && first.data.starts_with(SPEC_ID_03) {
        let table = spec_id(first.data).map_err(EventLogError::Header)?;
        let mut log =
            Log { format: Format::CryptoAgile(table.iter().map(|(id, _)| *id).collect()), locality: 0, events: vec![] };
        while !reader.is_empty() {
            let number = log.events.len() + 1;
            let event = agile_event(&mut reader, &table, number)?;
            push(&mut log, event)?;
        }
        log
    } else {
        let mut log = Log { format: Format::Sha1Only, locality: 0, events: vec![] };
        push(&mut log, first)?;
        while !reader.is_empty() {
            let event = sha1_event(&mut reader).map_err(at(log.events.len()))?;
            push(&mut log, event)?;
        }
        log
    };
    log.locality = locality(&log)?;
    Ok(log)
}

fn push<'a>(log: &mut Log<'a>, event: Event<'a>) -> Result<(), EventLogError> {
    if log.events.len() == MAX_EVENTS {
        return Err(EventLogError::TooManyEvents);
    }
    // Firmware writes 0xffffffff where nothing is extended.
    if event.pcr > 23 && event.kind != Kind::NO_ACTION {
        return Err(EventLogError::Pcr { number: log.events.len(), found: event.pcr });
    }
    log.events.push(event);
    Ok(())
}

/// TCG_PCR_EVENT (section 10.2.1).
fn sha1_event<'a>(reader: &mut Reader<'a>) -> Result<Event<'a>, Malformed> {
    let pcr = reader.u32_le("pcrIndex")?;
    let kind = Kind(reader.u32_le("eventType")?);
    let sha1 = Some(reader.array_ref("digest")?);
    Ok(Event { pcr, kind, digests: Digests { sha1, ..Digests::default() }, data: data(reader)? })
}

/// TCG_PCR_EVENT2 (section 10.2.2): each digest of the table once, in whatever order.
fn agile_event<'a>(reader: &mut Reader<'a>, table: &Table, number: usize) -> Result<Event<'a>, EventLogError> {
    let malformed = at(number);
    let pcr = reader.u32_le("pcrIndex").map_err(malformed)?;
    let kind = Kind(reader.u32_le("eventType").map_err(malformed)?);
    let count = reader.u32_le("digest count").map_err(malformed)?;
    if usize::try_from(count) != Ok(table.len()) {
        return Err(EventLogError::Digests { number });
    }
    let mut digests = Digests::default();
    let mut seen = [false; MAX_BANKS];
    for _ in 0..count {
        let id = reader.u16_le("digest algorithm").map_err(malformed)?;
        let known = table.iter().zip(&mut seen).find(|((one, _), _)| *one == id);
        let Some(((_, len), seen @ false)) = known else {
            return Err(EventLogError::Digests { number });
        };
        *seen = true;
        let digest = reader.bytes(*len, "digest").map_err(malformed)?;
        match id {
            TPM_ALG_SHA1 => digests.sha1 = digest.try_into().ok(),
            TPM_ALG_SHA256 => digests.sha256 = digest.try_into().ok(),
            TPM_ALG_SHA384 => digests.sha384 = digest.try_into().ok(),
            _ => {}
        }
    }
    Ok(Event { pcr, kind, digests, data: data(reader).map_err(malformed)? })
}

fn data<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let len = reader.u32_le("eventSize")?;
    match usize::try_from(len) {
        Ok(len) if len <= MAX_EVENT_DATA => reader.bytes(len, "event data"),
        len => Err(Malformed::TooLong { field: "event data", found: len.unwrap_or(usize::MAX), limit: MAX_EVENT_DATA }),
    }
}

/// TCG_EfiSpecIDEvent (section 10.4.5.1): which digests each event has.
fn spec_id(data: &[u8]) -> Result<Table, Malformed> {
    let mut reader = Reader::new(data);
    reader.bytes(SPEC_ID_03.len(), "signature")?;
    reader.u32_le("platformClass")?;
    reader.bytes(4, "version, errata and uintnSize")?;
    let count = reader.u32_le("numberOfAlgorithms")?;
    if count == 0 || usize::try_from(count).is_ok_and(|count| count > MAX_BANKS) {
        return Err(Malformed::Value { field: "numberOfAlgorithms", found: count.into() });
    }
    let mut table = Table::new();
    for _ in 0..count {
        let id = reader.u16_le("algorithmId")?;
        let len = usize::from(reader.u16_le("digestSize")?);
        let wanted = match id {
            TPM_ALG_SHA1 => 20,
            TPM_ALG_SHA256 => 32,
            TPM_ALG_SHA384 => 48,
            // What we do not know is stepped over, by the length that the log gives.
            _ => len.clamp(1, 64),
        };
        if len != wanted {
            return Err(Malformed::Length { field: "digestSize", found: len, wanted });
        }
        if table.iter().any(|(one, _)| *one == id) {
            return Err(Malformed::Value { field: "algorithmId, twice", found: id.into() });
        }
        table.push((id, len));
    }
    let vendor = reader.u8("vendorInfoSize")?;
    reader.bytes(vendor.into(), "vendorInfo")?;
    reader.finish("Spec ID event")?;
    Ok(table)
}

/// What PCR 0 starts at (section 10.4.5.3): told at most once, before anything is extended into it.
fn locality(log: &Log<'_>) -> Result<u8, EventLogError> {
    let mut told = None;
    let mut extended = false;
    for (number, event) in log.events.iter().enumerate() {
        if event.kind != Kind::NO_ACTION {
            extended |= event.pcr == 0;
        } else if let Some(rest) = event.data.strip_prefix(STARTUP_LOCALITY) {
            match rest {
                [locality @ (0 | 3 | 4)] if told.is_none() && !extended => told = Some(*locality),
                _ => return Err(EventLogError::Locality { number }),
            }
        }
    }
    Ok(told.unwrap_or(0))
}

fn at(number: usize) -> impl Fn(Malformed) -> EventLogError + Copy {
    move |source| EventLogError::Malformed { number, source }
}

/// HASH_COUNT of a TPM: the most banks that it can have.
const MAX_BANKS: usize = 16;
const SPEC_ID_03: &[u8] = b"Spec ID Event03\0";
const STARTUP_LOCALITY: &[u8] = b"StartupLocality\0";
const TPM_ALG_SHA1: u16 = 0x0004;
const TPM_ALG_SHA256: u16 = 0x000b;
const TPM_ALG_SHA384: u16 = 0x000c;
