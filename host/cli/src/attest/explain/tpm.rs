//! What the structures of a TPM say, and the logs beside them.

use super::unreadable;
use crate::attest::pcrs::PcrFile;
use crate::attest::said::Said;
use blindferry_attest::tpm::event_log::explain::explain;
use blindferry_attest::tpm::event_log::{Bank, Format, Log};
use blindferry_attest::tpm::ima;
use blindferry_attest::tpm::key::{Curve, Key};
use blindferry_attest::tpm::public::Public;
use blindferry_attest::tpm::quote::Quote;
use blindferry_attest::tpm::signature::Signature;
use std::collections::BTreeMap;

pub(super) fn quote(bytes: &[u8]) -> Said {
    let quote = match Quote::parse(bytes) {
        Ok(quote) => quote,
        Err(error) => return unreadable("quote", &error),
    };
    let clock = quote.clock();
    let challenge = if quote.challenge().is_empty() { "none".into() } else { Said::hex(quote.challenge()) };
    Said::fields([
        ("challenge", challenge),
        ("selection", quote.selection().to_string().into()),
        ("PCR digest", Said::hex(quote.pcr_digest())),
        ("firmware", format!("{:016x}", quote.firmware()).into()),
        ("clock", format!("{} ms powered since it was cleared", clock.clock).into()),
        ("resets", Said::Number(clock.reset_count.into())),
        ("restarts", Said::Number(clock.restart_count.into())),
        ("clock vouched for", Said::Flag(clock.safe)),
    ])
}

pub(super) fn signature(bytes: &[u8]) -> Said {
    match Signature::parse(bytes) {
        Ok(signature) => Said::fields([("scheme", signature.scheme().to_string())].map(text)),
        Err(_) => Said::fields([("bare signature", format!("{} bytes, without its scheme", bytes.len()))].map(text)),
    }
}

pub(super) fn public(bytes: &[u8]) -> Said {
    let public = match Public::parse(bytes) {
        Ok(public) => public,
        Err(error) => return unreadable("public area", &error),
    };
    let scheme = public.scheme().map_or_else(|| "none that is fixed".to_owned(), |scheme| scheme.to_string());
    Said::fields([
        ("Name", public.name().to_string().into()),
        ("key", key(public.key())),
        ("attributes", public.attributes().to_string().into()),
        ("scheme", scheme.into()),
    ])
}

pub(super) fn key(key: &Key) -> Said {
    match key {
        Key::Rsa { modulus, exponent } => format!("RSA, {} bits, exponent {exponent}", modulus.len() * 8).into(),
        Key::Ecc { curve: Curve::P256, .. } => "on P-256".into(),
        Key::Ecc { curve: Curve::P384, .. } => "on P-384".into(),
    }
}

pub(super) fn pcrs(values: &PcrFile) -> Said {
    Said::fields(values.iter().map(|(bank, pcr, value)| {
        let never = match value.iter().all(|byte| *byte == 0) || value.iter().all(|byte| *byte == 0xff) {
            true => " (never extended)",
            false => "",
        };
        (format!("{bank} {pcr}"), Said::from(format!("{}{never}", hex::encode(value))))
    }))
}

pub(super) fn bare(bytes: &[u8]) -> Said {
    let told = format!("{} bytes: digests of PCRs, or a signature; the quote beside them tells", bytes.len());
    Said::fields([("length", told)].map(text))
}

pub(super) fn event_log(bytes: &[u8]) -> Said {
    let log = match Log::parse(bytes) {
        Ok(log) => log,
        Err(error) => return unreadable("event log", &error),
    };
    let (format, bank, name) = match log.format() {
        Format::Sha1Only => ("SHA-1 alone".to_owned(), Bank::Sha1, "sha1"),
        Format::CryptoAgile(algorithms) => {
            let names: Vec<_> = algorithms.iter().map(|id| algorithm(*id)).collect();
            let bank = if algorithms.contains(&0x000b) { (Bank::Sha256, "sha256") } else { (Bank::Sha1, "sha1") };
            (format!("crypto-agile: {}", names.join(", ")), bank.0, bank.1)
        }
    };
    let extended: Vec<bool> = (0..24).map(|pcr| explain(&log).iter().any(|line| line.pcr == Some(pcr))).collect();
    let computed = log.compute(bank);
    let values = computed.iter().zip(extended).enumerate().filter(|(_, (_, extended))| *extended);
    let data = match log.check_data() {
        Ok(checked) => checked.to_string(),
        Err(error) => error.to_string(),
    };
    Said::fields([
        ("format", Said::from(format)),
        ("startup locality", Said::Number(log.locality().into())),
        ("data", data.into()),
        ("events", Said::lines(explain(&log).iter().map(ToString::to_string))),
        (
            "values that it gives",
            Said::fields(values.map(|(pcr, (value, _))| (format!("{name} {pcr}"), Said::hex(value)))),
        ),
    ])
}

pub(super) fn ima_list(bytes: &[u8]) -> Said {
    let list = match ima::Log::parse(bytes) {
        Ok(list) => list,
        Err(error) => return unreadable("IMA list", &error),
    };
    let entries = list.entries();
    let mut algorithms: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in entries {
        *algorithms.entry(entry.file().algorithm()).or_default() += 1;
    }
    let count = |count: usize| Said::Number(u64::try_from(count).unwrap_or(u64::MAX));
    let shown = entries.iter().take(SHOWN).map(|entry| {
        let mark = if entry.is_violation() { "  VIOLATION: open for writing" } else { "" };
        let signed = if entry.signature().is_empty() { "" } else { "  signed" };
        format!("{}  {}{signed}{mark}", entry.file(), entry.path())
    });
    Said::fields([
        ("entries", count(entries.len())),
        ("signed", count(entries.iter().filter(|entry| !entry.signature().is_empty()).count())),
        ("violations", count(entries.iter().filter(|entry| entry.is_violation()).count())),
        ("digests", Said::fields(algorithms.into_iter().map(|(name, count)| (name, Said::Number(count))))),
        ("value of PCR 10 that it gives", Said::hex(&list.compute())),
        ("first entries", Said::lines(shown)),
        ("further entries", count(entries.len().saturating_sub(SHOWN))),
    ])
}

fn text((name, value): (&'static str, String)) -> (&'static str, Said) {
    (name, Said::Text(value))
}

fn algorithm(id: u16) -> String {
    match id {
        0x0004 => "SHA-1".to_owned(),
        0x000b => "SHA-256".to_owned(),
        0x000c => "SHA-384".to_owned(),
        0x000d => "SHA-512".to_owned(),
        other => format!("{other:#06x}"),
    }
}

/// Of longer lists, the first so many are shown: the whole is there to be read by other means.
const SHOWN: usize = 20;
