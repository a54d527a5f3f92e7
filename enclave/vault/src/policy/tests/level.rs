//! A level of protection that a policy demands.

use super::*;

/// The two stronger levels for everything: what a credential's demand looks like.
const WHOLE_TREE: &str = r#"
    permit(principal, action, resource);
    @id("whole-tree")
    forbid(principal, action, resource)
    unless {
        principal has protection &&
        [Blindferry::Protection::"own-group", Blindferry::Protection::"own-namespace"]
            .contains(principal.protection)
    };
"#;

#[test]
fn a_demanded_level_is_met_by_the_levels_that_the_policy_names_alone() {
    let policy = Policy::parse(WHOLE_TREE, 1).unwrap();
    let mut case = case();
    for (level, met) in [
        (None, false),
        (Some(ProtectionLevel::None), false),
        (Some(ProtectionLevel::ExecOnly), false),
        (Some(ProtectionLevel::OwnGroup), true),
        (Some(ProtectionLevel::OwnNamespace), true),
    ] {
        case.worker.protection = level;
        assert_eq!(case.asked(&policy).is_ok(), met, "{level:?}");
    }
}

#[test]
fn a_denied_worker_hears_the_weakest_level_that_would_do_and_nothing_where_none_would() {
    let policy = Policy::parse(WHOLE_TREE, 1).unwrap();
    let mut case = case();
    for level in [None, Some(ProtectionLevel::None), Some(ProtectionLevel::ExecOnly)] {
        case.worker.protection = level;
        assert_eq!(policy.stronger_level_wanted(&case.question()), Some(ProtectionLevel::OwnGroup), "{level:?}");
    }
    // Another forbids as well: no level would help, and none is held out.
    let frozen = Policy::parse(&format!("{WHOLE_TREE} forbid(principal, action, resource);"), 1).unwrap();
    assert_eq!(frozen.stronger_level_wanted(&case.question()), None);
    assert_eq!(Policy::deny_all().stronger_level_wanted(&case.question()), None);
}

#[test]
fn a_level_that_there_is_not_is_refused_with_the_policy() {
    let typo = when(r#"principal has protection && principal.protection == Blindferry::Protection::"own-gruop""#);
    assert!(problem(&typo).contains("own-gruop"), "{}", problem(&typo));
}
