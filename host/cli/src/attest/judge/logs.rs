//! Logs without a quote: whether they are what they say can be asked, but nobody vouches for them.

use super::{Judgement, Row, Word};
use crate::attest::gather::Case;
use blindferry_attest::tpm::event_log::{Bank, Log};
use blindferry_attest::tpm::ima;

/// Judges logs alone. At best they are in order and nobody's.
pub(super) fn judge(case: &Case, pcrs: Option<&[(u8, [u8; 32])]>) -> Judgement {
    let mut rows = Vec::new();
    if let Some(bytes) = &case.event_log {
        event_log(&mut rows, bytes, pcrs);
    }
    if let Some(bytes) = &case.ima {
        ima_list(&mut rows, bytes, pcrs);
    }
    let kind = if case.event_log.is_some() { "event-log" } else { "ima-list" };
    let verdict = match rows.iter().find_map(|row| row.code) {
        Some(code) => Word::Refused(code),
        None => {
            rows.push(Row::open("quote", "none", "a TPM's quote: without, anybody could have written this"));
            Word::Unjudged("tpm-quote-missing")
        }
    };
    Judgement::new(kind, verdict, rows)
}

fn event_log(rows: &mut Vec<Row>, bytes: &[u8], pcrs: Option<&[(u8, [u8; 32])]>) {
    let log = match Log::parse(bytes) {
        Ok(log) => log,
        Err(error) => {
            let row = Row::refused("event log", error.to_string(), "a log that parses to its end", error.code());
            return rows.push(row.advised("read the log anew; if it stays so, it was cut off or altered"));
        }
    };
    rows.push(Row::passed("event log", format!("{} events", log.events().len()), "a log that parses to its end"));
    match log.check_data() {
        Ok(checked) => rows.push(Row::passed("event data", checked.to_string(), "gives its digest")),
        Err(error) => {
            let row = Row::refused("event data", error.to_string(), "gives its digest", error.code());
            rows.push(row.advised("the log was altered after it was written: believe nothing of what its events say"));
        }
    }
    let Some(pcrs) = pcrs else { return };
    let computed = log.compute(Bank::Sha256);
    let of_firmware = pcrs.iter().filter(|(pcr, _)| *pcr <= 7);
    let differs = of_firmware.clone().find(|(pcr, value)| {
        computed.get(usize::from(*pcr)).is_none_or(|computed| computed.as_slice() != value.as_slice())
    });
    rows.push(match differs {
        None => Row::passed("event log and PCRs", format!("{} PCRs agree", of_firmware.count()), "PCRs 0 to 7 agree"),
        Some((pcr, value)) => {
            let gives = computed.get(usize::from(*pcr)).map(hex::encode).unwrap_or_default();
            let found = format!("the log gives PCR {pcr} the value {gives}");
            Row::refused("event log and PCRs", found, hex::encode(value), "event-log-replay")
                .advised("read log and PCRs anew; if it stays so, the log is incomplete or false")
        }
    });
}

fn ima_list(rows: &mut Vec<Row>, bytes: &[u8], pcrs: Option<&[(u8, [u8; 32])]>) {
    let list = match ima::Log::parse(bytes) {
        Ok(list) => list,
        Err(error) => {
            let row = Row::refused("IMA list", error.to_string(), "entries that give their digests", error.code());
            return rows.push(row.advised("read the list anew; if it stays so, it was cut off or altered"));
        }
    };
    let found = format!("{} entries give their digests", list.entries().len());
    rows.push(Row::passed("IMA list", found, "entries that give their digests"));
    let Some((_, value)) = pcrs.and_then(|pcrs| pcrs.iter().find(|(pcr, _)| *pcr == ima::PCR)) else { return };
    let computed = list.compute();
    rows.push(if computed == *value {
        Row::passed("IMA list and PCR 10", "agree", "agree")
    } else {
        // Files that were measured after the PCR was read make a list longer; only a quote's replay looks for that.
        Row::open("IMA list and PCR 10", hex::encode(computed), hex::encode(value))
    });
}
