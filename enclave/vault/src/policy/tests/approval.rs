//! Where policies demand that a person approves: when is a demand met, and which cannot be meant?

use super::*;

const WIDE: &str = "@id(\"everybody\") permit(principal, action, resource);";

fn approved_by(approval: Option<Approver>, policy: &Policy) -> (&'static str, Vec<String>) {
    Case { approval, ..case() }.answer(policy)
}

#[test]
fn a_demand_is_met_by_what_was_given_or_by_more() {
    for (demand, enough, too_little) in [
        ("required", &[Some(Approver::AnyMachine), Some(Approver::OtherMachine)][..], &[None][..]),
        ("other-machine", &[Some(Approver::OtherMachine)], &[None, Some(Approver::AnyMachine)]),
    ] {
        let text = format!("@id(\"p\") @approval(\"{demand}\") permit(principal, action, resource);");
        let policy = Policy::parse(&text, 1).unwrap();
        for given in enough {
            assert_eq!(approved_by(*given, &policy).0, "allowed", "{demand} {given:?}");
        }
        for given in too_little {
            assert_eq!(approved_by(*given, &policy), ("unapproved", vec!["p".to_owned()]), "{demand} {given:?}");
        }
    }
}

#[test]
fn a_demand_holds_also_beside_a_policy_that_permits_without_one() {
    let demand = "@id(\"deploy\") @approval(\"required\") permit(principal, action, resource == \
                  Blindferry::Credential::\"github-deploy\");";
    for text in [format!("{WIDE}{demand}"), format!("{demand}{WIDE}")] {
        let policy = Policy::parse(&text, 1).unwrap();
        assert_eq!(approved_by(None, &policy), ("unapproved", vec!["deploy".to_owned()]));
        assert_eq!(approved_by(Some(Approver::AnyMachine), &policy).0, "allowed");
        let other = Case { credential: "other".parse().unwrap(), ..case() };
        assert_eq!(other.answer(&policy), ("allowed", vec!["everybody".to_owned()]), "a demand of another credential");
    }
}

#[test]
fn of_several_demands_the_strictest_that_is_not_met_is_named() {
    let text = "@id(\"a\") @approval(\"required\") permit(principal, action, resource);\
                @id(\"b\") @approval(\"other-machine\") permit(principal, action, resource);";
    let policy = Policy::parse(text, 1).unwrap();
    let reason = |approval| Case { approval, ..case() }.asked(&policy).unwrap_err().reason();
    assert_eq!(reason(None), Reason::Unapproved(Approver::OtherMachine));
    assert_eq!(approved_by(None, &policy).1, ["a", "b"]);
    assert_eq!(approved_by(Some(Approver::AnyMachine), &policy), ("unapproved", vec!["b".to_owned()]));
    assert_eq!(approved_by(Some(Approver::OtherMachine), &policy).0, "allowed");
}

#[test]
fn nobody_approves_what_is_forbidden_or_not_permitted() {
    let given = Some(Approver::OtherMachine);
    let forbidden = format!("{WIDE} @id(\"no\") forbid(principal, action, resource);");
    assert_eq!(approved_by(given, &Policy::parse(&forbidden, 1).unwrap()), ("forbidden", vec!["no".to_owned()]));
    assert_eq!(approved_by(given, &Policy::deny_all()).0, "nothing-permits");
}

#[test]
fn a_demand_that_could_not_be_meant_is_refused() {
    let rest = "permit(principal, action, resource);";
    for (text, complaint) in [
        (format!("@approval(\"Required\") {rest}"), "is \"required\" or"),
        (format!("@approval {rest}"), "is \"required\" or"),
        (format!("@aproval(\"required\") {rest}"), "no annotation @aproval"),
        ("@approval(\"required\") forbid(principal, action, resource);".to_owned(), "belongs to a permit"),
    ] {
        assert!(problem(&text).contains(complaint), "{text}: {}", problem(&text));
    }
    assert!(Policy::parse(&format!("@description(\"anything\") {rest}"), 1).is_ok());
}
