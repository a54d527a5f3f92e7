//! Certificates and revocation lists by themselves, and beside a quote.

use super::{Judgement, Question, Row, Word, rows};
use crate::attest::gather::Case;
use crate::output::moment;
use blindferry_attest::endorsement::examine::examine;
use blindferry_attest::reference::ReferenceValues;
use blindferry_attest::snp::crl::List;
use blindferry_attest::snp::vek::Holder;
use blindferry_attest::snp::{Anchors, EndorsedVek, KeyKind, SnpRefusal, anchor};
use blindferry_attest::tpm::key::Key;
use blindferry_attest::tpm::public::Public;
use serde_json::json;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// Judges certificates without a report or a quote: AMD's by AMD's roots, all others as a TPM's.
pub(super) fn judge(case: &Case, question: &Question<'_>) -> Judgement {
    let names: Vec<_> = case.certificates.iter().filter_map(|der| common_name(der)).collect();
    let has = |name: &str| names.iter().any(|one| one == name);
    if has("SEV-VCEK") {
        return vek(case, KeyKind::Vcek, question);
    }
    if has("SEV-VLEK") {
        return vek(case, KeyKind::Vlek, question);
    }
    if !names.is_empty() && names.iter().all(|name| name.starts_with("ARK-") || name.starts_with("SEV-")) {
        return authorities(case);
    }
    let examination = examine(&case.certificates, &question.roots, question.now);
    let claims = json!({ "purpose": examination.purpose, "manufacturer": examination.manufacturer });
    let verdict = examination.verdict.into();
    Judgement { claims, ..Judgement::new("certificate", verdict, rows(examination.checks)) }
}

/// Judges revocation lists without anything that they could revoke.
pub(super) fn judge_lists(case: &Case, question: &Question<'_>) -> Judgement {
    let amd = Anchors::amd();
    let anchors = question.reference.map_or(&amd, ReferenceValues::anchors);
    let mut list = Vec::new();
    for der in &case.crls {
        match List::check(der, anchors) {
            Err(refusal) => list.push(refused(&refusal)),
            Ok(checked) => {
                let (from, until) = checked.validity();
                let found = format!("{}, which revokes {}", checked.issuer(), checked.revoked().len());
                list.push(Row::passed("revocation list", found, "signed by a pinned root"));
                let span = format!("from {} until {}", time(from), time(until));
                let now = i64::try_from(question.now).unwrap_or(i64::MAX);
                let wanted = format!("current at {}", moment(question.now));
                list.push(if (from..=until).contains(&now) {
                    Row::passed("revocation list is current", span, wanted)
                } else {
                    Row::refused("revocation list is current", span, wanted, "snp-crl-stale")
                        .advised("fetch the list of this product again from AMD's key distribution service")
                });
            }
        }
    }
    let code = list.iter().find_map(|row| row.code);
    Judgement::new("revocation-list", code.map_or(Word::Accepted, Word::Refused), list)
}

fn vek(case: &Case, kind: KeyKind, question: &Question<'_>) -> Judgement {
    let amd = Anchors::amd();
    let anchors = question.reference.map_or(&amd, ReferenceValues::anchors);
    let certificates: Vec<_> = case.certificates.iter().map(Vec::as_slice).collect();
    let crls: Vec<_> = case.crls.iter().map(Vec::as_slice).collect();
    match EndorsedVek::endorse(kind, &certificates, &crls, anchors, question.now) {
        Err(refusal) => Judgement::new("certificate", Word::Refused(refusal.code()), vec![refused(&refusal)]),
        Ok(vek) => {
            let (from, until) = vek.validity();
            let holder = match vek.holder() {
                Holder::Chip(chip) => format!("chip {chip}"),
                Holder::Provider(provider) => format!("provider {provider:?}"),
            };
            let claims = json!({ "product": vek.product_name(), "holder": holder, "tcb": vek.tcb().to_string() });
            let rows = vec![
                Row::passed("certificate chain", kind.name(), "signed up to a pinned root"),
                Row::passed(
                    "certificate validity",
                    format!("from {} until {}", time(from), time(until)),
                    moment(question.now),
                ),
                Row::passed(
                    "certificate extensions",
                    format!("{}, {}", vek.product_name(), vek.tcb()),
                    "as AMD specifies them",
                ),
            ];
            Judgement { claims, ..Judgement::new("certificate", Word::Accepted, rows) }
        }
    }
}

/// AMD's roots and authorities are part of this program: another is none of theirs, whatever it calls itself.
fn authorities(case: &Case) -> Judgement {
    let row = |der: &Vec<u8>| match anchor::published().find(|published| published.der == der) {
        Some(published) => Row::passed("AMD's certificate", published.name, "one that AMD publishes"),
        None => {
            let found = common_name(der).unwrap_or_default();
            Row::refused("AMD's certificate", found, "one that AMD publishes", "snp-root")
                .advised("only AMD's roots are trusted; a test root has to be named in the reference values by dangerously_trusted_root")
        }
    };
    let rows: Vec<_> = case.certificates.iter().map(row).collect();
    let code = rows.iter().find_map(|row| row.code);
    Judgement::new("certificate", code.map_or(Word::Accepted, Word::Refused), rows)
}

/// The key of an attestation key's certificate beside a quote.
pub(super) fn key_of_leaf(certificates: &[Vec<u8>]) -> Option<Key> {
    leaves(certificates).find(|(_, signs)| *signs).map(|(key, _)| key)
}

/// What certificates beside a quote say about its key.
pub(super) fn beside_quote(case: &Case) -> Option<Row> {
    let name = "attestation key's certificate";
    let leaves: Vec<_> = leaves(&case.certificates).collect();
    let public = case.public.as_deref().and_then(|area| Public::parse(area).ok());
    let key = public.as_ref().map(Public::key).or(case.key.as_ref());
    let vouched = "vouched for by a CA that is trusted: judge the certificate by itself, with --root";
    match (key, leaves.as_slice()) {
        (_, []) => None,
        (None, _) => Some(Row::open(name, "the key was taken from it", vouched)),
        (Some(key), leaves) if leaves.iter().any(|(one, _)| one == key) => {
            Some(Row::open(name, "it is for the key that quoted", vouched))
        }
        (Some(_), leaves) if leaves.iter().any(|(_, signs)| *signs) => Some(
            Row::refused(name, "it is for another key", "for the key that quoted", "tpm-ak-certificate")
                .advised("give the certificate of the key that quoted"),
        ),
        (Some(_), _) => Some(Row::open(
            "endorsement key's certificate",
            "of another key than that which quoted",
            "credential activation, which shows that both keys live in one TPM, and which no file can show",
        )),
    }
}

/// The keys of certificates that are no CA's, and whether each may sign.
fn leaves(certificates: &[Vec<u8>]) -> impl Iterator<Item = (Key, bool)> {
    certificates.iter().filter_map(|der| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let key = Key::from_spki(certificate.public_key().raw)?;
        let signs = certificate.key_usage().ok().flatten().is_some_and(|usage| usage.value.digital_signature());
        (!certificate.is_ca()).then_some((key, signs))
    })
}

fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let name = certificate.subject().iter_common_name().last()?.as_str().ok()?.to_owned();
    Some(name)
}

fn refused(refusal: &SnpRefusal) -> Row {
    let question = refusal.question();
    Row::refused(question.name(), refusal.found(), refusal.wanted(), refusal.code()).advised(question.advice())
}

fn time(seconds: i64) -> String {
    u64::try_from(seconds).map_or_else(|_| "before 1970".to_owned(), moment)
}
