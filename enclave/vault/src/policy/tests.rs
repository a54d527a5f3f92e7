//! What policies decide, and which texts are refused.

use std::collections::BTreeMap;

use blindferry_attest::attested::Claims;
use blindferry_proto::identifier::Digest;
use blindferry_proto::name::{Audience, CredentialName, HostName, VariableName};
use blindferry_proto::protection::ProtectionLevel;
use blindferry_proto::session::ProcessFacts;
use proptest::prelude::*;

use super::*;

mod approval;
mod level;

/// Everything that a question borrows; each test changes what it is about.
struct Case {
    action: Action,
    host: HostName,
    worker: ProcessFacts,
    inherited: Vec<VariableName>,
    parent: ProcessFacts,
    credential: CredentialName,
    kind: &'static str,
    audience: Option<Audience>,
    claims: Claims,
    session_age: u64,
    attestation_age: u64,
    approval: Option<Approver>,
}

const PCR7: &str = "65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e534eb3068";
const EXECUTABLE: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn case() -> Case {
    let process = |uid| ProcessFacts { uid, gid: 100, pid: 7, executable: None, protection: None };
    Case {
        action: Action::Grant,
        host: "build-1".parse().unwrap(),
        worker: process(1001),
        inherited: Vec::new(),
        parent: process(1000),
        credential: "github-deploy".parse().unwrap(),
        kind: "oauth-client",
        audience: None,
        claims: Claims {
            platform: "tpm",
            firmware: "0000000000000001".to_owned(),
            reference: "build-hosts-strict".to_owned(),
            ak_name: Some("000b00".to_owned()),
            pcrs: BTreeMap::from([(7, PCR7.to_owned())]),
            snp: None,
            azure: None,
        },
        session_age: 3600,
        attestation_age: 10,
        approval: None,
    }
}

impl Case {
    fn asked(&self, policy: &Policy) -> Result<Allowed, Denied> {
        policy.decide(&self.question())
    }

    fn question(&self) -> Question<'_> {
        Question {
            action: self.action,
            host: &self.host,
            worker: &self.worker,
            inherited: &self.inherited,
            parent: &self.parent,
            credential: &self.credential,
            kind: self.kind,
            audience: self.audience.as_ref(),
            claims: &self.claims,
            session_age: self.session_age,
            attestation_age: self.attestation_age,
            approval: self.approval,
        }
    }

    /// The reason code and the names behind a denial, or "allowed" and the names behind that.
    fn answer(&self, policy: &Policy) -> (&'static str, Vec<String>) {
        match self.asked(policy) {
            Ok(allowed) => ("allowed", allowed.by().to_vec()),
            Err(denied) => (denied.reason().code(), denied.by().to_vec()),
        }
    }

    fn permitted_by(&self, text: &str) -> bool {
        self.asked(&Policy::parse(text, 1).unwrap()).is_ok()
    }
}

fn when(condition: &str) -> String {
    format!("permit(principal, action, resource) when {{ {condition} }};")
}

fn problem(text: &str) -> String {
    Policy::parse(text, 1).unwrap_err().first().unwrap().to_string()
}

fn nothing() -> Vec<String> {
    Vec::new()
}

#[test]
fn without_a_policy_everything_is_denied() {
    assert_eq!(case().answer(&Policy::deny_all()), ("nothing-permits", nothing()));
    assert_eq!(case().answer(&Policy::parse("", 3).unwrap()), ("nothing-permits", nothing()));
    assert_eq!(Policy::deny_all().version(), 0);
}

#[test]
fn each_fact_can_be_asked_for_and_decides() {
    let mut case = case();
    case.audience = Some("https://api.example".parse().unwrap());
    case.worker.executable = Some(EXECUTABLE.parse::<Digest>().unwrap());
    case.worker.protection = Some(ProtectionLevel::OwnGroup);
    case.inherited = vec!["GH_TOKEN".parse().unwrap()];
    for (holds, fails) in [
        (r#"principal in Blindferry::Host::"build-1""#, r#"principal in Blindferry::Host::"build-2""#),
        (r#"principal == Blindferry::Worker::"build-1/1001""#, r#"principal == Blindferry::Worker::"build-1/1002""#),
        ("principal.uid == 1001", "principal.uid == 1000"),
        ("principal.gid == 100", "principal.gid == 0"),
        (
            &format!("principal has executable && principal.executable == \"{EXECUTABLE}\""),
            r#"principal has executable && principal.executable == "00""#,
        ),
        (
            r#"principal has protection && principal.protection == Blindferry::Protection::"own-group""#,
            r#"principal has protection && principal.protection == Blindferry::Protection::"exec-only""#,
        ),
        (r#"resource == Blindferry::Credential::"github-deploy""#, r#"resource == Blindferry::Credential::"other""#),
        (r#"resource.kind == "oauth-client""#, r#"resource.kind == "release""#),
        (r#"action == Blindferry::Action::"grant""#, r#"action == Blindferry::Action::"renew""#),
        (r#"context.platform == "tpm""#, r#"context.platform == "none""#),
        (r#"context.reference == "build-hosts-strict""#, r#"context.reference == "lax""#),
        (r#"context.ak == "000b00""#, r#"context.ak == "000b01""#),
        (r#"context.firmware == "0000000000000001""#, r#"context.firmware == "0000000000000002""#),
        (&format!(r#"context.pcrs.contains("7:{PCR7}")"#), &format!(r#"context.pcrs.contains("8:{PCR7}")"#)),
        (r#"context has audience && context.audience like "https://*""#, "!(context has audience)"),
        (r#"context.inherited.contains("GH_TOKEN")"#, "context.inherited.isEmpty()"),
        ("context.parent_uid == 1000", "context.parent_uid == 0"),
        ("context.session_age <= 3600", "context.session_age > 3600"),
        ("context.attestation_age <= 10", "context.attestation_age > 10"),
    ] {
        assert!(case.permitted_by(&when(holds)), "{holds}");
        assert!(!case.permitted_by(&when(fails)), "{fails}");
    }
}

#[test]
fn facts_that_are_absent_are_absent() {
    assert!(!case().permitted_by(&when("principal has executable")));
    assert!(!case().permitted_by(&when("context has audience")));
    assert!(!case().permitted_by(&when("principal has protection")));
}

#[test]
fn each_action_is_its_own() {
    for (action, name) in [(Action::Grant, "grant"), (Action::Redeem, "redeem"), (Action::Renew, "renew")] {
        for permitted in ["grant", "redeem", "renew"] {
            let text = format!("permit(principal, action == Blindferry::Action::\"{permitted}\", resource);");
            assert_eq!(Case { action, ..case() }.permitted_by(&text), name == permitted, "{name} by {permitted}");
        }
    }
}

#[test]
fn a_forbid_outweighs_every_permit_and_is_named() {
    let policy = Policy::parse(
        r#"
@id("all") permit(principal, action, resource);
@id("not-users-like-this") forbid(principal, action, resource) when { principal.uid == 1001 };
"#,
        4,
    )
    .unwrap();
    let denied = case().asked(&policy).unwrap_err();
    assert_eq!(denied.reason(), Reason::Forbidden);
    assert_eq!(denied.version(), 4);
    assert_eq!(denied.to_string(), "policy version 4: forbidden by not-users-like-this");
    let mut other = case();
    other.worker.uid = 1002;
    assert_eq!(other.answer(&policy), ("allowed", vec!["all".to_owned()]));
}

#[test]
fn an_error_in_any_policy_denies_what_another_permits() {
    // Integers overflow at run time, which no validation can foresee.
    let error = "permit(principal, action, resource) when { 9223372036854775807 + context.parent_uid > 0 };";
    let policy = Policy::parse(&format!("permit(principal, action, resource);\n\n{error}"), 5).unwrap();
    let denied = case().asked(&policy).unwrap_err();
    assert_eq!(denied.reason(), Reason::Evaluation);
    assert_eq!(denied.by(), ["policy1 (line 3)"]);
    assert!(denied.to_string().starts_with("policy version 5: cannot evaluate policy1 (line 3): "), "{denied}");

    let mut harmless = case();
    harmless.parent.uid = 0;
    assert_eq!(harmless.answer(&policy).0, "allowed");
}

#[test]
fn names_come_in_the_order_of_the_text() {
    let permit = "permit(principal, action, resource);\n";
    let policy = Policy::parse(&format!("{}@id(\"last\")\n{permit}", permit.repeat(11)), 1).unwrap();
    let (answer, by) = case().answer(&policy);
    assert_eq!(answer, "allowed");
    assert_eq!(by[2], "policy2 (line 3)");
    assert_eq!(by[10], "policy10 (line 11)");
    assert_eq!(by[11], "last");
}

#[test]
fn ages_beyond_counting_are_old() {
    let case = Case { session_age: u64::MAX, ..case() };
    assert!(!case.permitted_by(&when("context.session_age < 9223372036854775807")));
}

#[test]
fn what_the_schema_does_not_know_is_refused_where_it_stands() {
    for (text, place) in [
        ("permit(principal, action, resource)\nwhen { principal.name == \"x\" };", "2:8: "),
        ("permit(principal, action, resource)\nwhen { context.pcr == \"x\" };", "2:8: "),
        ("permit(principal, action == Blindferry::Action::\"steal\", resource);", "1:29: "),
        ("permit(principal in Blindferry::Hosts::\"x\", action, resource);", "1:21: "),
        ("permit(principal, action, resource)\nwhen { principal.uid == \"x\" };", "2:8: "),
        ("permit(principal, action, resource)\nwhen { context.audience == \"x\" };", "2:8: "),
        ("permit(principal, action, resource)\nwhen { principal.uid };", "2:8: "),
        ("permit(principal, action, resource);\n\npermit(principal action, resource);", "3:18: "),
        ("permit(principal, action, resource)\n  when { ü };", "2:10: "),
    ] {
        let problem = problem(text);
        assert!(problem.starts_with(place), "{text}\n{problem}");
        assert!(!problem.contains('\n'), "{problem}");
    }
}

#[test]
fn a_rule_that_can_never_apply_is_refused() {
    let text = "permit(principal is Blindferry::Host, action, resource);";
    assert!(problem(text).starts_with("1:1: "), "{}", problem(text));
}

#[test]
fn templates_and_doubtful_names_are_refused() {
    for (text, what) in [
        ("permit(principal == ?principal, action, resource);", "1:1: templates"),
        ("@id(\"\") permit(principal, action, resource);", "1:1: @id is not"),
        ("@id(\"a b\") permit(principal, action, resource);", "1:1: @id is not"),
        ("@id(\"a\\nb\") permit(principal, action, resource);", "1:1: @id is not"),
        (&format!("@id(\"{}\") permit(principal, action, resource);", "a".repeat(65)), "1:1: @id is not"),
        (
            "@id(\"a\") permit(principal, action, resource);\n@id(\"a\") permit(principal, action, resource);",
            "2:1: another policy",
        ),
    ] {
        assert!(problem(text).starts_with(what), "{text}\n{}", problem(text));
    }
}

#[test]
fn all_problems_come_at_once_bounded_and_in_order() {
    let wrong = "permit(principal, action, resource) when { context.nonsense };\n";
    let problems = Policy::parse(&wrong.repeat(3), 1).unwrap_err();
    assert_eq!(problems.iter().map(Problem::line).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(Policy::parse(&wrong.repeat(200), 1).unwrap_err().len(), MAX_PAGE);
}

#[test]
fn a_text_beyond_the_limit_is_refused_unread() {
    let most = " ".repeat(MAX_DOCUMENT);
    assert!(Policy::parse(&most, 1).is_ok());
    assert_eq!(
        problem(&format!("{most} ")),
        format!("1:1: {} bytes are more than the {MAX_DOCUMENT} that a policy text may have", MAX_DOCUMENT + 1)
    );
}

/// Run on the stack of a test, 2 MiB, which is a quarter of the vault's.
#[test]
fn deep_nesting_is_refused_and_does_not_end_the_process() {
    for (open, middle, close) in [
        ("(", "true", ")"),
        ("!(", "true", ")"),
        ("!", "true", ""),
        ("-", "1", ""),
        ("[", "1", "]"),
        ("{a:", "1", "}"),
        ("if true then ", "true", " else false"),
        ("if(true)then ", "true", " else false"),
        ("context.pcrs.contains(", "1", ")"),
        ("true && ", "true", ""),
        ("1 + ", "1", ""),
        ("1 * ", "1", ""),
        ("", "context", ".a"),
        ("\"(\" == ", "1", ""),
        ("//\r(", "1", ")"),
        ("\"\\\"\" == (", "1", ")"),
    ] {
        let depth = (MAX_DOCUMENT - 100) / (open.len() + close.len());
        let text = when(&format!("{}{middle}{}", open.repeat(depth), close.repeat(depth)));
        assert!(Policy::parse(&text, 1).is_err(), "{open}");
    }
}

#[test]
fn what_is_not_too_deep_to_parse_is_not_too_deep_to_evaluate() {
    const MAIN_STACK: usize = 8 * 1024 * 1024;
    let alternatives = |count| when(&format!("{}true", "context.parent_uid == 1 || ".repeat(count)));
    let sums = |count| when(&format!("{}1 > 0", "context.parent_uid + ".repeat(count)));
    assert!(problem(&alternatives(65)).contains("more than 64"));
    assert!(problem(&sums(65)).contains("more than 64"));
    let evaluate = move || case().permitted_by(&alternatives(64)) && case().permitted_by(&sums(64));
    let evaluated = std::thread::Builder::new().stack_size(MAIN_STACK).spawn(evaluate).unwrap().join().unwrap();
    assert!(evaluated);
}

#[test]
fn brackets_in_strings_and_comments_do_not_nest() {
    let many = "(".repeat(40);
    assert!(!case().permitted_by(&when(&format!("context.reference == \"{many}\\\"{many}\" // {many}\n"))));
    let policies = "permit(principal, action, resource) when { ((((((((((true)))))))))) };\n";
    assert!(case().permitted_by(&policies.repeat(50)));
}

#[test]
fn a_policy_is_not_printed_whole() {
    let policy = Policy::parse("@id(\"a\") permit(principal, action, resource);", 9).unwrap();
    assert_eq!(format!("{policy:?}"), r#"Policy { version: 9, names: ["a"], .. }"#);
    assert_eq!(policy.text(), "@id(\"a\") permit(principal, action, resource);");
}

#[test]
fn the_example_decides_as_its_comments_say() {
    let policy = Policy::parse(include_str!("../../../../deploy/policy/example.cedar"), 1).unwrap();
    let by = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();

    let case = || {
        let mut case = case();
        case.worker.protection = Some(ProtectionLevel::OwnGroup);
        case
    };
    let deploy = case();
    let weaker = ProcessFacts { protection: Some(ProtectionLevel::ExecOnly), ..deploy.worker };
    let weaker = Case { worker: weaker, ..case() };
    assert_eq!(weaker.answer(&policy), ("forbidden", by(&["deploy-key-in-whole-trees"])));
    for action in [Action::Grant, Action::Redeem, Action::Renew] {
        let deploy = Case { action, ..case() };
        assert_eq!(deploy.answer(&policy), ("allowed", by(&["deploy-on-build-1"])));
    }
    let elsewhere = Case { host: "build-2".parse().unwrap(), ..case() };
    assert_eq!(elsewhere.answer(&policy), ("nothing-permits", nothing()));
    let stranger = Case { worker: ProcessFacts { uid: 1002, ..deploy.worker }, ..case() };
    assert_eq!(stranger.answer(&policy), ("nothing-permits", nothing()));

    let push = || Case {
        host: "any".parse().unwrap(),
        credential: "registry".parse().unwrap(),
        kind: "jwt-signer",
        worker: ProcessFacts { executable: Some(EXECUTABLE.parse().unwrap()), ..deploy.worker },
        audience: Some("https://registry.staging.example".parse().unwrap()),
        ..case()
    };
    assert_eq!(push().answer(&policy), ("allowed", by(&["push-to-staging"])));
    assert_eq!(Case { action: Action::Renew, ..push() }.answer(&policy).0, "nothing-permits");
    assert_eq!(Case { audience: None, ..push() }.answer(&policy).0, "nothing-permits");
    assert_eq!(Case { worker: deploy.worker, ..push() }.answer(&policy).0, "nothing-permits");

    assert_eq!(Case { kind: "release", ..case() }.answer(&policy).0, "allowed");
    let mut lax = Case { kind: "release", ..case() };
    lax.claims.reference = "lax".to_owned();
    assert_eq!(lax.answer(&policy), ("forbidden", by(&["release-needs-strict-hosts"])));
    let mut insecure = Case { kind: "release", ..case() };
    insecure.claims.pcrs.insert(7, "00".repeat(32));
    assert_eq!(insecure.answer(&policy), ("forbidden", by(&["release-needs-strict-hosts"])));

    let stale = Case { attestation_age: 301, ..case() };
    assert_eq!(stale.answer(&policy), ("forbidden", by(&["fresh-proof-for-grants"])));
    assert_eq!(Case { action: Action::Renew, ..stale }.answer(&policy).0, "allowed");

    let root = Case { parent: ProcessFacts { uid: 0, ..deploy.parent }, ..case() };
    assert_eq!(root.answer(&policy), ("forbidden", by(&["no-root-parents"])));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic_or_a_problem_too_long(text in "(permit|forbid|principal|when|\\{|\\}|\\(|\\)|,|;|@id|\"|//|\n|ü|[ -~]){0,80}") {
        for problem in Policy::parse(&text, 1).err().into_iter().flatten() {
            let line = problem.to_string();
            prop_assert!(line.len() <= Problem::MAX && !line.contains('\n'));
        }
    }
}
