//! The list for a person agrees with the verdict of a session, question by question.

use blindferry_attest::{
    checks::Outcome,
    reference::ReferenceValues,
    snp::Verdict,
    tpm::examine::{Examination, Files, Request, examine},
};
use blindferry_proto::role::Role;

use crate::{
    boot::{ACTION, APPLICATION, Boot, Judged as _, SEPARATOR, measured, variable},
    synthetic::{Case, binder},
};

fn examined(case: &Case, with_reference: bool, challenge: Option<&[u8]>) -> Examination {
    let parts = case.parts();
    let reference = ReferenceValues::parse(&case.reference).unwrap();
    let files = Files {
        attest: &parts.attest,
        signature: &parts.signature,
        ak_public: Some(&parts.public),
        ak_key: None,
        pcrs: Some(&case.pcrs),
        event_log: Some(&case.event_log).filter(|log| !log.is_empty()).map(Vec::as_slice),
        ima_log: None,
    };
    examine(&files, &Request { reference: with_reference.then_some(&reference), ak_name: None, challenge })
}

#[test]
fn without_reference_values_authenticity_is_judged_and_the_rest_is_open() {
    let examination = examined(&Boot::good().whole_case(), false, None);
    assert_eq!(examination.verdict, Verdict::Accepted);
    let open: Vec<_> =
        examination.checks.iter().filter(|check| check.outcome() == Outcome::Open).map(|check| check.name()).collect();
    assert_eq!(open, ["attestation key's Name", "challenge", "PCRs and events", "firmware"]);
}

#[test]
fn the_list_is_refused_where_the_session_is_and_by_the_same_code() {
    let changes: [fn(&mut Boot); 6] = [
        |_| {},
        |boot| boot.events.push(measured(4, APPLICATION, b"a rootkit")),
        |boot| *boot.variable("SecureBoot") = variable("SecureBoot", &[0]),
        |boot| boot.events.retain(|event| (event.pcr, event.kind) != (3, SEPARATOR)),
        |boot| boot.events.retain(|event| (event.pcr, event.kind) != (5, ACTION)),
        |boot| boot.unlogged.push((12, [1; 32])),
    ];
    let challenge = binder(Role::Broker);
    for change in changes {
        let mut boot = Boot::good();
        change(&mut boot);
        let listed = examined(&boot.whole_case(), true, Some(challenge.as_bytes()));
        let wanted = boot.judge().map_or_else(|error| Verdict::Refused(error.code()), |_| Verdict::Accepted);
        assert_eq!(listed.verdict, wanted);
        assert_eq!(listed.reference.as_deref(), Some("fleet"));
    }
}

#[test]
fn a_quote_that_answers_something_else_or_nothing_is_refused() {
    let case = Boot::good().whole_case();
    for challenge in [&b"another"[..], b""] {
        assert_eq!(examined(&case, false, Some(challenge)).verdict, Verdict::Refused("tpm-quote-challenge"));
    }
    let mut empty = Boot::good().whole_case();
    empty.challenge = vec![];
    assert_eq!(examined(&empty, false, Some(b"")).verdict, Verdict::Refused("tpm-quote-challenge"));
}

#[test]
fn a_log_that_is_not_what_was_quoted_is_refused_without_any_reference() {
    let mut case = Boot::good().whole_case();
    let mut other = Boot::good();
    other.events.push(measured(4, APPLICATION, b"invented"));
    case.event_log = other.log();
    assert_eq!(examined(&case, false, None).verdict, Verdict::Refused("event-log-replay"));
}

#[test]
fn without_the_key_nothing_is_judged() {
    let parts = Boot::good().whole_case().parts();
    let files = Files { attest: &parts.attest, signature: &parts.signature, ..Files::default() };
    assert_eq!(examine(&files, &Request::default()).verdict, Verdict::Unjudged("tpm-ak-missing"));
}
