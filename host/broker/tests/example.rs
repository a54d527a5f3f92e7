//! Does the example of a configuration, which is also the one that is installed, say what is so?

use blindferry_broker::configuration::Configuration;

const EXAMPLE: &str = include_str!("../../../deploy/configuration/broker.toml");

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
    let plain = Configuration::parse(EXAMPLE).unwrap();
    let mut whole = Configuration::parse(&with_defaults()).unwrap();
    assert_eq!(whole.limits, plain.limits);
    assert_eq!((&whole.parents, &whole.workers), (&plain.parents, &plain.workers));
    assert_eq!((&whole.parents_mode, &whole.workers_mode), (&plain.parents_mode, &plain.workers_mode));
    assert_eq!(whole.pcrs, plain.pcrs);
    let platform = plain.platform(|_| true).unwrap();
    assert_eq!(whole.platform(|_| true).unwrap(), platform);
    assert_eq!(whole.device(&platform), plain.device(&platform));
    // And it could have failed.
    whole = Configuration::parse(&with_defaults().replace("leases = 1024", "leases = 1023")).unwrap();
    assert_ne!(whole.limits, plain.limits);
}

#[test]
fn no_key_is_left_out() {
    let whole = with_defaults();
    for table in ["", "limits.", "snp.", "logs."] {
        // The parser names all that it knows, when it meets what it does not.
        let text = format!("{table}nonsense = 1\n{EXAMPLE}");
        let refusal = Configuration::parse(&text).unwrap_err().to_string();
        let known: Vec<_> = refusal.split('`').skip(3).step_by(2).collect();
        assert!(known.len() > 1, "{refusal}");
        for key in known {
            let stands = |line: &str| line.starts_with(&format!("{key} = ")) || line == format!("[{key}]");
            assert!(whole.lines().any(stands), "{table}{key} is not explained");
        }
    }
}
