//! Published TPM evidence, one test a case, made from the manifest beside it: the outcome, and the reason.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, process::ExitCode};

use blindferry_attest::{
    refusal::AppraisalError,
    tpm::{
        PcrSelection,
        event_log::{Bank, Content, EventLogError, Format, Log, explain::explain},
        public::Public,
        quote::Quote,
        quoted::{AuthenticQuote, QuotedPcrs},
    },
};
use libtest_mimic::{Failed, Trial};
use x509_parser::prelude::FromDer as _;

use published::{Vector, run};

#[expect(dead_code, reason = "others need more of it")]
#[path = "support/published.rs"]
mod published;

type Outcome = Result<(), Failed>;

fn main() -> ExitCode {
    run(|case| trial(case).into_iter().collect())
}

fn trial(case: &Vector) -> Option<Trial> {
    let judge: fn(&Vector) -> Outcome = match case.kind() {
        "tcg-eventlog" => event_log,
        "tpm-quote" => quote,
        "tpm-negative" => negative,
        _ => return None,
    };
    let case = case.clone();
    Some(Trial::test(case.id().to_owned(), move || judge(&case)))
}

fn event_log(case: &Vector) -> Outcome {
    let bytes = case.needed("log");
    let log = Log::parse(&bytes)?;
    let format = match log.format() {
        Format::Sha1Only => "legacy-sha1".to_owned(),
        Format::CryptoAgile(algorithms) => {
            let names: Vec<_> = algorithms.iter().map(|id| name(*id)).collect();
            format!("crypto-agile {}", names.join(","))
        }
    };
    assert_eq!(Some(format.as_str()), case.expected("format").as_str());
    assert_eq!(Some(log.events().len() as u64 + 1), case.expected("events_incl_header").as_u64());
    assert_eq!(explain(&log).len(), log.events().len());

    let mut compared = 0;
    for (bank, values) in case.expected("pcrs").as_object().into_iter().flatten() {
        for (pcr, wanted) in values.as_object().unwrap() {
            assert_eq!(computed(&log, bank, pcr), wanted.as_str().unwrap(), "{bank} PCR {pcr}");
            compared += 1;
        }
    }
    for (which, wanted) in case.expected("replayed").as_object().into_iter().flatten() {
        let (bank, pcr) = which.split_once(':').unwrap();
        assert_eq!(computed(&log, bank, pcr), wanted.as_str().unwrap(), "{which}");
        compared += 1;
    }
    assert!(compared > 0 || log.events().len() == 1, "nothing was compared");
    Ok(())
}

fn computed(log: &Log<'_>, bank: &str, pcr: &str) -> String {
    let bank = match bank {
        "sha1" => Bank::Sha1,
        "sha256" => Bank::Sha256,
        "sha384" => Bank::Sha384,
        other => panic!("no bank {other}"),
    };
    hex::encode(&log.compute(bank)[pcr.parse::<usize>().unwrap()])
}

fn name(id: u16) -> &'static str {
    match id {
        0x4 => "sha1",
        0xb => "sha256",
        0xc => "sha384",
        _ => "unknown",
    }
}

fn quote(case: &Vector) -> Outcome {
    if !case.has("ak_tpmt_public") {
        return bare_key_quote(case);
    }
    let ak = Public::parse(&case.needed("ak_tpmt_public"))?;
    let log_bytes = case.needed("eventlog");
    let log = Log::parse(&log_bytes)?;
    // Of the three banks, no judgement rests on SHA-1, and PCR values are compared in the SHA-256 bank alone.
    let authentic = AuthenticQuote::check(&case.needed("quote_sha1"), &case.needed("sig_sha1"), &ak)?;
    assert_eq!(authentic.pcrs(&[(0, [0; 32])], all()).unwrap_err().code(), "tpm-pcr-selection");

    let quoted = gce_values(case, "quote_sha256", "sig_sha256", "pcrs_sha256").map_err(|error| error.code())?;
    let matching = case.expected("sha256")["log_matches_pcrs"].as_array().unwrap();
    for pcr in matching {
        let only = PcrSelection::new([u8::try_from(pcr.as_u64().unwrap()).unwrap()]).unwrap();
        let compared = log.compare(&quoted)?;
        let replayed = compared.replayed(only)?;
        assert_eq!(replayed.pcrs(), only);
    }
    assert!(matching.len() > 5);
    Ok(())
}

/// The key came without its TPM attributes: it is given those of an attestation key, so that the signature can be judged.
fn bare_key_quote(case: &Vector) -> Outcome {
    let spki = case.needed("ak_spki");
    let (_, parsed) = x509_parser::x509::SubjectPublicKeyInfo::from_der(&spki)?;
    let x509_parser::public_key::PublicKey::RSA(key) = parsed.parsed()? else { panic!("no RSA key") };
    let modulus = key.modulus.strip_prefix(&[0]).unwrap_or(key.modulus);
    // RSA, SHA-256, fixed to its TPM, restricted, signing; no policy, no symmetric algorithm; RSASSA with SHA-256.
    let mut public = hex::decode("0001000b00050072000000100014000b0800000000000100").unwrap();
    public.extend_from_slice(modulus);

    let ak = Public::parse(&public)?;
    let authentic = AuthenticQuote::check(&case.needed("quote_sha256"), &case.needed("sig_sha256"), &ak)?;
    let quote = authentic.quote();
    assert_eq!(hex::encode(quote.pcr_digest()), case.expected("pcr_digest").as_str().unwrap());
    assert!(quote.selection().is_exactly(PcrSelection::new([15, 16, 22]).unwrap()));
    assert_eq!(hex::encode(quote.challenge()), case.expected("nonce").as_str().unwrap());
    Ok(())
}

fn negative(case: &Vector) -> Outcome {
    let verdict = case.expected("verdict").as_str().unwrap();
    if case.has("eventlog") {
        return negative_log(case, verdict);
    }
    let error = if case.has("pcrs") {
        gce_values(case, "quote", "sig", "pcrs").unwrap_err()
    } else {
        let ak = Public::parse(&case.needed("ak_tpmt_public"))?;
        AuthenticQuote::check(&case.needed("quote"), &case.needed("sig"), &ak).unwrap_err()
    };
    match verdict {
        "reject: magic and signature" => {
            // The signature comes first, so that nothing unsigned is read; without it, the magic would tell.
            assert_eq!(error.code(), "tpm-signature");
            let unsigned = AppraisalError::from(Quote::parse(&case.needed("quote")).unwrap_err());
            assert_eq!(unsigned.code(), "tpm-quote-magic");
        }
        "reject: signature" => assert_eq!(error.code(), "tpm-signature"),
        "reject: PCR digest differs from the quote" => assert_eq!(error.code(), "tpm-pcr-digest"),
        other => panic!("unknown verdict {other:?}"),
    }
    Ok(())
}

fn negative_log(case: &Vector, verdict: &str) -> Outcome {
    let bytes = case.needed("eventlog");
    let parsed = Log::parse(&bytes);
    if verdict.starts_with("reject: parse error") {
        let code = parsed.unwrap_err().code();
        let length_is_a_lie = verdict.contains("without allocating");
        assert_eq!(code, if length_is_a_lie { "event-log-event-too-long" } else { "event-log-truncated" });
        return Ok(());
    }
    // The digests still give the quoted values, as they must; but what the changed data says is no fact.
    assert!(verdict.starts_with("replay of digests still matches"), "unknown verdict {verdict:?}");
    let original = case.beside(serde_json::json!({
        "ak_tpmt_public": "google-go-tpm-tools/gce-cos-85-no-nonce.ak.tpmt_public.bin",
        "eventlog": "google-go-tpm-tools/gce-cos-85-no-nonce.eventlog.bin",
        "quote": "google-go-tpm-tools/gce-cos-85-no-nonce.sha256.attest.bin",
        "sig": "google-go-tpm-tools/gce-cos-85-no-nonce.sha256.tpmt_signature.bin",
        "pcrs": "google-go-tpm-tools/gce-cos-85-no-nonce.sha256.pcrs.bin",
    }));
    let quoted = gce_values(&original, "quote", "sig", "pcrs").map_err(|error| error.code())?;
    let original_bytes = original.needed("eventlog");
    let (changed, original) = (parsed?, Log::parse(&original_bytes)?);
    let known = |log: &Log<'_>| -> Result<BTreeMap<u8, usize>, EventLogError> {
        let compared = log.compare(&quoted)?;
        let replayed = compared.replayed(PcrSelection::new(0..=9).unwrap())?;
        let known = |pcr| replayed.facts(pcr).iter().filter(|fact| *fact.content() != Content::Unknown).count();
        Ok((0..=9).map(|pcr| (pcr, known(pcr))).collect())
    };
    let (changed, original) = (known(&changed)?, known(&original)?);
    assert_eq!(changed.values().sum::<usize>() + 1, original.values().sum::<usize>());
    Ok(())
}

fn gce_values(case: &Vector, quote: &str, signature: &str, pcrs: &str) -> Result<QuotedPcrs, AppraisalError> {
    let ak = Public::parse(&case.needed("ak_tpmt_public")).unwrap();
    let values: Vec<(u8, [u8; 32])> =
        (0..).zip(case.needed(pcrs).chunks_exact(32).map(|value| value.try_into().unwrap())).collect();
    AuthenticQuote::check(&case.needed(quote), &case.needed(signature), &ak)?.pcrs(&values, all())
}

fn all() -> PcrSelection {
    PcrSelection::new(0..24).unwrap()
}
