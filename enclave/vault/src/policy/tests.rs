//! What policies decide, and which policies there can be.

use std::collections::BTreeMap;

use blindferry_proto::credential::Kind;
use blindferry_proto::identifier::Digest;
use blindferry_proto::name::{Audience, CredentialName, HostName};
use blindferry_proto::role::Role;
use blindferry_proto::session::{ProcessFacts, WorkerConstraint};

use super::*;

const EXAMPLE: &str = include_str!("../../../../deploy/policy/example.cedar");

struct Scene {
    host: HostName,
    credential: CredentialName,
    audience: Option<Audience>,
    kind: Kind,
    pcrs: BTreeMap<u8, String>,
    uid: u32,
    executable: Option<Digest>,
    software_tpm: bool,
    reference: &'static str,
}

impl Scene {
    fn new() -> Self {
        Self {
            host: "web-1".parse().unwrap(),
            credential: "github-deploy".parse().unwrap(),
            audience: None,
            kind: Kind::Release,
            pcrs: BTreeMap::from([(7, "ab".repeat(32))]),
            uid: 1000,
            executable: None,
            software_tpm: false,
            reference: "production",
        }
    }

    fn ask(&self, action: Action) -> Question<'_> {
        Question {
            action,
            host: &self.host,
            role: Role::Broker,
            uid: self.uid,
            gid: Some(100),
            executable: self.executable,
            credential: &self.credential,
            kind: &self.kind,
            audience: self.audience.as_ref(),
            parent_uid: 0,
            claims: self.claims(),
        }
    }

    fn claims(&self) -> Claims<'_> {
        Claims {
            platform: "tpm",
            reference: self.reference,
            ak: "000b00",
            firmware: "0000000000000001",
            software_tpm: self.software_tpm,
            pcrs: &self.pcrs,
            session_age: 60,
        }
    }
}

fn forbidden(by: &str) -> Reason {
    Reason::Forbidden { by: vec![by.to_owned()] }
}

#[test]
fn the_example_policy_decides_as_its_comments_say() {
    let policy = Policy::parse(EXAMPLE, 3).unwrap();
    let base = Scene::new;
    let table: [(&str, Scene, Action, Result<&str, Reason>); 8] = [
        ("the worker", base(), Action::Grant, Ok("web-1-deploy")),
        ("another user", Scene { uid: 1001, ..base() }, Action::Grant, Err(Reason::NothingPermits)),
        (
            "another host",
            Scene { host: "web-2".parse().unwrap(), ..base() },
            Action::Grant,
            Err(Reason::NothingPermits),
        ),
        ("not measured", base(), Action::Redeem, Err(forbidden("release-only-measured"))),
        ("measured", Scene { executable: Some(Digest([1; 32])), ..base() }, Action::Redeem, Ok("web-1-deploy")),
        ("a software TPM", Scene { software_tpm: true, ..base() }, Action::Grant, Err(forbidden("no-software-tpm"))),
        ("no audience", signer(None, "production"), Action::Renew, Err(Reason::NothingPermits)),
        (
            "the audience",
            signer(Some("https://vault.example.com"), "production"),
            Action::Renew,
            Ok("production-identity"),
        ),
    ];
    for (what, scene, action, expected) in table {
        match (policy.decide(&scene.ask(action)), expected) {
            (Ok(allowed), Ok(by)) => assert_eq!((allowed.version(), allowed.by()), (3, &[by.to_owned()][..]), "{what}"),
            (Err(denied), Err(reason)) => assert_eq!((denied.version, denied.reason), (3, reason), "{what}"),
            (found, expected) => panic!("{what}: {found:?}, not {expected:?}"),
        }
    }
}

fn signer(audience: Option<&str>, reference: &'static str) -> Scene {
    let kind = Kind::JwtSigner(blindferry_proto::credential::JwtSigner {
        algorithm: blindferry_proto::credential::SigningAlgorithm::Es256,
        issuer: blindferry_proto::bounded::Text::new("https://issuer.example.com").unwrap(),
        subject: blindferry_proto::bounded::Text::new("s").unwrap(),
        audiences: vec![],
    });
    let audience = audience.map(|text| text.parse().unwrap());
    Scene { credential: "identity".parse().unwrap(), kind, audience, reference, ..Scene::new() }
}

#[test]
fn an_empty_policy_denies_everything() {
    for text in ["", DENY_ALL] {
        let denied = Policy::parse(text, 1).unwrap().decide(&Scene::new().ask(Action::Grant)).unwrap_err();
        assert_eq!(denied.reason, Reason::NothingPermits);
    }
}

#[test]
fn forbid_wins_over_permit() {
    let text = r#"
        @id("all") permit (principal, action, resource);
        @id("not-root") forbid (principal, action, resource) when { principal.uid == 0 };
    "#;
    let policy = Policy::parse(text, 1).unwrap();
    assert!(policy.decide(&Scene::new().ask(Action::Redeem)).is_ok());
    let denied = policy.decide(&Scene { uid: 0, ..Scene::new() }.ask(Action::Redeem)).unwrap_err();
    assert_eq!(denied.reason, forbidden("not-root"));
}

#[test]
fn an_evaluation_error_denies_even_where_another_policy_permits() {
    let text = r#"
        @id("all") permit (principal, action, resource);
        @id("overflow") forbid (principal, action, resource)
        when { context.session_age * 9223372036854775807 > 0 };
    "#;
    let denied = Policy::parse(text, 1).unwrap().decide(&Scene::new().ask(Action::Redeem)).unwrap_err();
    assert!(matches!(denied.reason, Reason::Error { policy, .. } if policy == "overflow"));
}

#[test]
fn a_policy_can_ask_for_a_pcr_value() {
    let wanted = format!("7:{}", "ab".repeat(32));
    let text = format!("permit (principal, action, resource) when {{ context.pcrs.contains(\"{wanted}\") }};");
    let policy = Policy::parse(&text, 1).unwrap();
    assert!(policy.decide(&Scene::new().ask(Action::Redeem)).is_ok());
    let other = Scene { pcrs: BTreeMap::from([(7, "cd".repeat(32))]), ..Scene::new() };
    assert!(policy.decide(&other.ask(Action::Redeem)).is_err());
}

#[test]
fn at_grant_an_unconstrained_worker_is_judged_as_its_parents_user() {
    let policy = Policy::parse("permit (principal, action, resource) when { principal.uid == 500 };", 1).unwrap();
    let scene = Scene::new();
    let parent = ProcessFacts { uid: 500, gid: 500, pid: 1, executable: None };
    let decide = |worker: WorkerConstraint| {
        policy.decide(&Question::at_grant(
            &scene.host,
            &scene.credential,
            &scene.kind,
            &parent,
            &worker,
            None,
            scene.claims(),
        ))
    };
    assert!(decide(WorkerConstraint::default()).is_ok());
    assert!(decide(WorkerConstraint { uid: Some(0), executable: None }).is_err());
}

#[test]
fn a_denial_names_a_policy_without_id_by_its_place() {
    let policy = Policy::parse("forbid (principal, action, resource);", 1).unwrap();
    let denied = policy.decide(&Scene::new().ask(Action::Grant)).unwrap_err();
    assert_eq!(denied.to_string(), "denied by policy version 1: forbidden by policy0");
}

#[test]
fn what_does_not_fit_the_schema_is_refused_with_line_and_column() {
    let cases = [
        ("permit (principal, action, resource)\nwhen { principal.uidd == 1 };", 2),
        ("permit (principal, action, resource)\nwhen {\n  context.audience == \"x\" };", 3),
        ("permit (principal, action == Blindferry::Action::\"grnat\", resource);", 1),
        ("permit (principal, action, resource)\n when { principal.uid == \"root\" };", 2),
        ("permit (principal, action, resource)\n\n  whn { true };", 3),
    ];
    for (text, line) in cases {
        let problems = Policy::parse(text, 1).unwrap_err();
        assert_eq!(problems[0].at.unwrap().0, line, "{text}: {problems:?}");
        assert!(problems[0].to_string().starts_with(&format!("{line}:")));
        assert!(problems.iter().all(|problem| !problem.to_string().contains('\n')));
    }
    let misspelt = &Policy::parse(cases[0].0, 1).unwrap_err()[0];
    assert!(misspelt.what.contains("uidd"), "{misspelt}");
}

#[test]
fn templates_and_overlong_texts_are_refused() {
    assert!(Policy::parse("permit (principal == ?principal, action, resource);", 1).is_err());
    assert!(Policy::parse(&" ".repeat(MAX_DOCUMENT + 1), 1).is_err());
    assert!(Policy::parse(&" ".repeat(MAX_DOCUMENT), 1).is_ok());
}

/// Shapes that nest, each as deep as the longest text allows.
fn deep(shape: &str) -> String {
    let fill = |unit: &str, close: &str| {
        let times = (MAX_DOCUMENT - 100) / (unit.len() + close.len());
        format!("{}true{}", unit.repeat(times), close.repeat(times))
    };
    let body = match shape {
        "parentheses" => fill("(", ")"),
        "sets" => fill("[", "]"),
        "records" => fill("{a:", "}"),
        "calls" => fill("ip(", ")"),
        "not" => fill("!(", ")"),
        "and" => fill("true && ", ""),
        "or" => fill("true || ", ""),
        "plus" => fill("1 + ", ""),
        "members" => format!("context{}", ".a".repeat((MAX_DOCUMENT - 100) / 2)),
        "indices" => format!("context{}", "[\"a\"]".repeat((MAX_DOCUMENT - 100) / 5)),
        "else if" => fill("if true then true else ", ""),
        "then if" => fill("if true then ", " else true"),
        "negations" => fill("!", ""),
        "minus" => fill("-", ""),
        other => panic!("{other}"),
    };
    format!("permit (principal, action, resource) when {{ {body} }};")
}

#[test]
fn no_nesting_overflows_the_stack() {
    for shape in [
        "parentheses",
        "sets",
        "records",
        "calls",
        "not",
        "and",
        "or",
        "plus",
        "members",
        "indices",
        "else if",
        "then if",
        "negations",
        "minus",
    ] {
        println!("{shape}");
        if let Ok(policy) = Policy::parse(&deep(shape), 1) {
            let _ = policy.decide(&Scene::new().ask(Action::Grant));
        }
    }
}
