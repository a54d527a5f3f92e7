//! The target of policies: a text in, refusals for its author or answers out, and never the end of the process.

use std::collections::BTreeMap;

use blindferry_attest::attested::Claims;
use blindferry_proto::{identifier::Digest, limits::MAX_PAGE, protection::ProtectionLevel, session::ProcessFacts};
use blindferry_vault::policy::{Action, Approver, Policy, Problem, Question};

/// A text. What is refused is refused in single lines with a place; what is a policy answers every question.
pub fn policy(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    match Policy::parse(text, 7) {
        Err(problems) => {
            assert!((1..=MAX_PAGE).contains(&problems.len()));
            let lines = text.split('\n').count();
            for problem in problems {
                let line = problem.to_string();
                assert!(line.len() <= Problem::MAX && !line.contains('\n'), "{line:?}");
                assert!((1..=lines).contains(&problem.line()), "{line:?} of {lines}");
            }
            false
        }
        Ok(policy) => {
            assert_eq!((policy.text(), policy.version()), (text, 7));
            ask(&policy);
            true
        }
    }
}

/// Approval can only help, and without a policy that permits nothing is permitted.
fn ask(policy: &Policy) {
    let (host, credential) = ("a-host".parse().expect("a name"), "a-credential".parse().expect("a name"));
    let audience = "https://a.example".parse().expect("an audience");
    let inherited = ["AWS_PROFILE".parse().expect("a name")];
    let claims = Claims {
        platform: "tpm",
        firmware: "0000000000000001".to_owned(),
        reference: "a fleet".to_owned(),
        ak_name: Some("000b00".to_owned()),
        pcrs: BTreeMap::from([(7, "65".repeat(32))]),
        snp: None,
        azure: None,
    };
    let plain = ProcessFacts { uid: 1000, gid: 100, pid: 7, executable: None, protection: None };
    let measured =
        ProcessFacts { executable: Some(Digest([0x9f; 32])), protection: Some(ProtectionLevel::OwnNamespace), ..plain };
    for (action, worker) in [(Action::Grant, &plain), (Action::Redeem, &measured), (Action::Renew, &measured)] {
        let question = Question {
            action,
            host: &host,
            worker,
            inherited: &inherited,
            parent: &plain,
            credential: &credential,
            kind: "oauth-client",
            audience: Some(&audience),
            claims: &claims,
            session_age: 3600,
            attestation_age: 10,
            approval: None,
        };
        let (without, with) = (policy.decide(&question), Some(Approver::OtherMachine));
        let with = policy.decide(&Question { approval: with, ..question });
        assert!(with.is_ok() || without.is_err(), "an approval forbids");
        assert!(with.is_err() || policy.text().contains("permit"), "permitted by nothing");
        let _ = policy.stronger_level_wanted(&question);
    }
}
