//! Does the example of a configuration, which is also the one that is installed, say what is so?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_front::configuration::Configuration;
use blindferry_proto::logs::LogPaths;
use std::error::Error as _;
use std::fs;
use std::path::Path;

const EXAMPLE: &str = include_str!("../../../deploy/configuration/enclave.toml");

fn parse(text: &str) -> Result<Configuration, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("enclave.toml");
    fs::write(&path, text).unwrap();
    Configuration::read(&path).map_err(|error| error.source().map_or_else(String::new, ToString::to_string))
}

/// With every setting that stands there at its default.
fn with_defaults() -> String {
    let settings = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|letter: char| letter.is_ascii_lowercase() || letter == '[') => setting,
        _ => line,
    });
    settings.collect::<Vec<_>>().join("\n")
}

#[test]
fn what_stands_there_as_a_default_is_the_default() {
    let plain = parse(EXAMPLE).unwrap();
    let whole = parse(&with_defaults()).unwrap();
    assert_eq!(whole.limits, plain.limits);
    let own = Some(Path::new("/usr/libexec/blindferry/blindferry-enclave"));
    assert_eq!(whole.vault(own).unwrap(), plain.vault(own).unwrap());
    // That one has the logs, which is not the default and said to be so.
    let platform = plain.device_process(|_| true).unwrap();
    assert_eq!(whole.device_process(|_| true).unwrap(), platform.clone().with_logs(Some(LogPaths::default())));
    assert_eq!(whole.device(&platform, own).unwrap(), plain.device(&platform, own).unwrap());
    // And it could have failed.
    let other = parse(&with_defaults().replace("dials = 64", "dials = 63")).unwrap();
    assert_ne!(other.limits, plain.limits);
}

#[test]
fn no_key_is_left_out() {
    let whole = with_defaults();
    for table in ["", "limits.", "snp.", "logs."] {
        // The parser names all that it knows, when it meets what it does not.
        let text = format!("{table}nonsense = 1\n{EXAMPLE}");
        let refusal = parse(&text).unwrap_err();
        let known: Vec<_> = refusal.split('`').skip(3).step_by(2).collect();
        assert!(known.len() > 1, "{refusal}");
        for key in known {
            let stands = |line: &str| line.starts_with(&format!("{key} = ")) || line == format!("[{key}]");
            assert!(whole.lines().any(stands), "{table}{key} is not explained");
        }
    }
}
