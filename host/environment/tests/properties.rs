//! What holds for every policy and every environment.

use blindferry_environment::{Danger, Origin, Policy, Refusal, Switch, standing};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Names that are interesting, and any bytes.
fn name() -> impl Strategy<Value = OsString> {
    const KNOWN: &[&str] = &[
        "PATH",
        "HOME",
        "LC_ALL",
        "LC_TOKEN",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LD_AUDIT",
        "LD_ACCESS_TOKEN",
        "BASH_ENV",
        "BASH_FUNC_x%%",
        "GLIBC_TUNABLES",
        "PYTHONSTARTUP",
        "NODE_OPTIONS",
        "GITHUB_TOKEN",
        "AWS_PROFILE",
        "AWS_SECRET_ACCESS_KEY",
        "TF_TOKEN_x",
        "npm_config_//r/:_authToken",
        "https_proxy",
        "SSH_AUTH_SOCK",
        "MINE",
        "CI",
        "RUST_LOG",
    ];
    prop_oneof![
        8 => select(KNOWN).prop_map(OsString::from),
        1 => "[A-Z]{1,6}(_[A-Z]{1,6}){0,2}".prop_map(OsString::from),
        1 => vec(any::<u8>(), 0..6).prop_map(OsString::from_vec),
    ]
}

fn value() -> impl Strategy<Value = OsString> {
    prop_oneof![
        4 => "[a-z/:]{0,8}".prop_map(OsString::from),
        1 => Just(OsString::from("http://user:password@host/")),
        1 => vec(any::<u8>(), 0..6).prop_map(OsString::from_vec),
    ]
}

#[derive(Debug)]
struct Said {
    asked: Vec<OsString>,
    given: Vec<(OsString, OsString)>,
    credentials: Vec<OsString>,
    switches: Vec<Switch>,
    everything: bool,
}

impl Said {
    /// What of it can be said at all.
    fn policy(&self) -> Policy {
        let mut policy = Policy::default();
        for name in &self.asked {
            let _no_name = policy.ask(name.clone());
        }
        for (name, value) in &self.given {
            let _no_name = policy.ask([name.as_bytes(), b"=", value.as_bytes()].join(&b""[..]).into_os());
        }
        for name in &self.credentials {
            let _no_name = policy.inherit_credential(name.clone());
        }
        self.switches.iter().for_each(|&switch| policy.pass(switch));
        if self.everything {
            policy.pass_everything_harmless();
        }
        policy
    }
}

trait IntoOs {
    fn into_os(self) -> OsString;
}

impl IntoOs for Vec<u8> {
    fn into_os(self) -> OsString {
        OsString::from_vec(self)
    }
}

fn said() -> impl Strategy<Value = Said> {
    let switches = vec(select(Switch::all().collect::<Vec<_>>()), 0..4);
    (vec(name(), 0..2), vec((name(), value()), 0..2), vec(name(), 0..3), switches, any::<bool>()).prop_map(
        |(asked, given, credentials, switches, everything)| Said { asked, given, credentials, switches, everything },
    )
}

fn present() -> impl Strategy<Value = Vec<(OsString, OsString)>> {
    vec((name(), value()), 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_loads_code_passes_by_its_switch_alone(said in said(), present in present()) {
        let Ok(selection) = said.policy().select(present) else { return Ok(()) };
        for name in selection.environment().names() {
            if let Some(switch) = standing(name.as_bytes()).code() {
                prop_assert!(said.switches.contains(&switch), "{name:?}");
            }
        }
    }

    #[test]
    fn a_credential_passes_by_its_own_name_alone(said in said(), present in present()) {
        let Ok(selection) = said.policy().select(present) else { return Ok(()) };
        for passed in selection.passed() {
            let value = selection.environment().get(passed.name.to_str().unwrap_or_default());
            let by_value = value.is_some_and(|value| blindferry_environment::value::holds_credential(value.as_bytes()));
            if by_value || standing(passed.name.as_bytes()).credential.is_some() {
                prop_assert!(said.credentials.iter().any(|name| name == passed.name), "{passed:?}");
                prop_assert_eq!(passed.origin, Origin::Credential);
            }
        }
    }

    #[test]
    fn each_variable_either_passes_unchanged_or_is_left_out_with_a_reason(said in said(), present in present()) {
        let Ok(selection) = said.policy().select(present.clone()) else { return Ok(()) };
        let passed: Vec<&OsStr> = selection.passed().map(|passed| passed.name).collect();
        prop_assert_eq!(&passed, &selection.environment().names().collect::<Vec<_>>());
        let left_out: Vec<&OsStr> = selection.left_out().map(|(name, _)| name).collect();
        prop_assert!(left_out.iter().all(|name| !passed.contains(name)));
        let mut malformed = 0;
        for (at, (name, value)) in present.iter().enumerate() {
            let bytes = name.as_bytes();
            if bytes.is_empty() || bytes.contains(&b'=') || bytes.contains(&0) || value.as_bytes().contains(&0) {
                malformed += 1;
                continue;
            }
            let divided = passed.contains(&name.as_os_str()) || left_out.contains(&name.as_os_str());
            prop_assert!(divided, "{:?}", name);
            if let (Some(text), false) = (name.to_str(), said.given.iter().any(|(given, _)| given == name)) {
                let first = present.iter().position(|(other, value)| other == name && !value.as_bytes().contains(&0));
                if first == Some(at) && passed.contains(&name.as_os_str()) {
                    prop_assert_eq!(selection.environment().get(text), Some(value.as_os_str()));
                }
            }
        }
        prop_assert_eq!(selection.malformed(), malformed);
    }

    #[test]
    fn what_the_remedy_says_lets_it_in(present in present()) {
        let selection = Policy::default().select(present.clone()).unwrap();
        for (name, reason) in selection.left_out() {
            let Some(plain) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_/:%".contains(&byte))) else { continue };
            let mut policy = Policy::default();
            let remedy = reason.remedy(name);
            let words: Vec<&str> = remedy.split(' ').collect();
            for pair in words.chunks(2) {
                match pair {
                    ["--env", name] => policy.ask(*name).unwrap(),
                    ["--pass", switch] => policy.pass(switch.parse().unwrap()),
                    ["--inherit-credentials", name] => policy.inherit_credential(*name).unwrap(),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            match policy.select(present.clone()) {
                Ok(selection) if selection.environment().get(plain).is_some() => {}
                // The value is the second lock, and its refusal or reason says what opens that.
                Ok(selection) => {
                    let reason = selection.left_out().find(|(left_out, _)| *left_out == name).unwrap().1;
                    prop_assert_eq!(reason.remedy(name), format!("--inherit-credentials {plain}"));
                }
                Err(refusal) => prop_assert_eq!(refusal, Refusal::CredentialValue { name: name.to_owned() }),
            }
        }
    }

    #[test]
    fn no_block_of_bytes_is_too_odd(block in vec(any::<u8>(), 0..200)) {
        let selection = Policy::default().select_from_block(&block).unwrap();
        let entries = if block.iter().all(|&byte| byte == 0) { None } else { Some(()) };
        prop_assert!(entries.is_some() || selection.environment().names().next().is_none());
        for name in selection.environment().names() {
            prop_assert!(block.windows(name.len()).any(|window| window == name.as_bytes()));
        }
    }
}

#[test]
fn every_dangerous_name_that_is_known_is_behind_its_switch() {
    for name in [
        "LD_PRELOAD",
        "LD_AUDIT",
        "LD_LIBRARY_PATH",
        "LD_SOMETHING_NEW",
        "GLIBC_TUNABLES",
        "GCONV_PATH",
        "LOCPATH",
        "BASH_ENV",
        "ENV",
        "SHELLOPTS",
        "PS4",
        "PROMPT_COMMAND",
        "BASH_FUNC_ls%%",
        "PYTHONSTARTUP",
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONBREAKPOINT",
        "NODE_OPTIONS",
        "NODE_PATH",
        "JAVA_TOOL_OPTIONS",
        "_JAVA_OPTIONS",
        "PERL5OPT",
        "PERL5LIB",
        "PERL5DB",
        "RUBYOPT",
        "RUBYLIB",
        "GIT_SSH_COMMAND",
        "GIT_EXTERNAL_DIFF",
        "GIT_CONFIG_COUNT",
        "GIT_CONFIG_KEY_0",
        "LESSOPEN",
        "PAGER",
        "EDITOR",
        "RUSTC_WRAPPER",
        "MAKEFLAGS",
        "DOTNET_STARTUP_HOOKS",
        "OPENSSL_CONF",
        "DYLD_INSERT_LIBRARIES",
    ] {
        assert!(standing(name.as_bytes()).code().is_some(), "{name}");
        let present = || [(OsString::from(name), OsString::from("x"))];
        let mut everything = Policy::default();
        everything.pass_everything_harmless();
        assert_eq!(everything.select(present()).unwrap().environment().names().count(), 0, "{name}");
        for ask in [name.to_owned(), format!("{name}=x")] {
            let mut asked = Policy::default();
            asked.ask(ask).unwrap();
            assert!(matches!(asked.select(present()), Err(Refusal::Code { .. })), "{name}");
        }
        let mut credential = Policy::default();
        credential.inherit_credential(name).unwrap();
        assert!(matches!(credential.select(present()), Err(Refusal::Code { .. })), "{name}");
    }
    assert!(Switch::all().any(|switch| switch.danger() == Danger::None));
}

#[test]
fn bounds_are_refusals() {
    use blindferry_environment::limits::{MAX_ASSIGNMENT, MAX_VARIABLES};
    let many = (0..=MAX_VARIABLES).map(|number| (format!("V{number}").into(), "".into()));
    assert_eq!(Policy::default().select(many).unwrap_err(), Refusal::TooMany);
    let long = |length| Policy::default().select([("HOME".into(), "x".repeat(length).into())]);
    assert!(long(MAX_ASSIGNMENT - "HOME=".len()).is_ok());
    assert!(matches!(long(MAX_ASSIGNMENT), Err(Refusal::TooLong { .. })));
    let much = (0..100).map(|number| (format!("LC_{number}").into(), "x".repeat(100_000).into()));
    assert_eq!(Policy::default().select(much).unwrap_err(), Refusal::TooMuch);
}

#[test]
fn of_a_name_that_comes_twice_the_first_counts() {
    let selection = Policy::default().select_from_block(b"PATH=/first\0PATH=/second\0nothing\0=empty\0\0").unwrap();
    assert_eq!(selection.environment().get("PATH"), Some("/first".as_ref()));
    assert_eq!(selection.duplicates().collect::<Vec<_>>(), ["PATH"]);
    assert_eq!(selection.malformed(), 3);
}

#[test]
fn a_name_that_is_not_utf_8_passes_when_it_is_asked_for_byte_by_byte() {
    let odd = || OsString::from_vec(b"M\xffNE".to_vec());
    let present = || [(odd(), OsString::from_vec(vec![0xfe]))];
    let names = |policy: &Policy| policy.select(present()).unwrap().environment().names().count();
    let mut policy = Policy::default();
    policy.pass_everything_harmless();
    assert_eq!(names(&policy), 0);
    policy.ask(odd()).unwrap();
    assert_eq!(names(&policy), 1);
}

#[test]
fn what_was_asked_for_and_is_locked_is_refused_and_not_missing() {
    let present = || [("DB".into(), "postgres://u:p@h/".into()), ("GITHUB_TOKEN".into(), "x".into())];
    let refused = |ask: &str| {
        let mut policy = Policy::default();
        policy.ask(ask).unwrap();
        policy.select(present()).unwrap_err()
    };
    assert_eq!(refused("DB"), Refusal::CredentialValue { name: "DB".into() });
    assert_eq!(refused("GITHUB_TOKEN"), Refusal::Credential { name: "GITHUB_TOKEN".into() });
    assert_eq!(refused("ABSENT_TOKEN"), Refusal::Credential { name: "ABSENT_TOKEN".into() });
    for given in ["GITHUB_TOKEN=hunter2", "PROXY=http://u:hunter2@h/"] {
        let refusal = refused(given);
        assert!(matches!(refusal, Refusal::CredentialGiven { .. }));
        assert!(!refusal.to_string().contains("hunter2") && !format!("{refusal:?}").contains("hunter2"));
    }
    let mut twice = Policy::default();
    twice.ask("A=1").unwrap();
    assert!(matches!(twice.ask("A=2"), Err(Refusal::Twice { .. })));
}
