//! Files that embed tokens: does the program read what it would have been given, and can nobody else?

use crate::fake_broker::{FakeBroker, honest};
use crate::forms::Place;
use crate::launched::Launch;
use crate::several::by_name;
use std::fs;

struct Source(std::path::PathBuf);

impl Source {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("blindferry-template-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn at(&self, form: &str) -> String {
        format!("{}:{form}", self.0.display())
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}

#[test]
fn a_file_is_rendered_with_several_tokens_and_these_are_delivered_no_other_way() {
    let broker = FakeBroker::start("template", by_name(""));
    let (source, place) =
        (Source::new("app.toml", "a = {{ credential a | toml }}\nb = '{{credential b}}'\n"), Place::new("template"));
    let launch =
        Launch::several(&broker, &["a", "b"]).args(&["--template", &source.at(&format!("file:{}", place.file()))]);
    let script = format!("cat {}; env | grep -c _FILE", place.file());
    let output = launch.args(&["--", "sh", "-c", &script]).output();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a = \"token of a\"\nb = 'token of b'\n0\n", "{said}");
}

#[test]
fn its_path_is_found_by_the_name_of_its_source() {
    let broker = FakeBroker::start("template-name", honest(b"s'e"));
    let source = Source::new("netrc", "machine x password {{ credential token | shell }}");
    let variable = source.0.file_name().unwrap().to_str().unwrap().to_uppercase().replace('-', "_");
    let script = format!("cat ${variable}_FILE");
    let printed = Launch::of(&broker).args(&["--template", &source.at("pipe"), "--", "sh", "-c", &script]).printed();
    assert_eq!(printed, r"machine x password 's'\''e'");
}

#[test]
fn an_unknown_credential_and_a_file_without_placeholders_are_refused_before_the_grant_is_spent() {
    let broker = FakeBroker::start("template-bad", honest(b"token"));
    for text in ["{{ credential other }}", "nothing here", "{{ credential token | yaml }}"] {
        let source = Source::new("bad", text);
        let output = Launch::of(&broker).args(&["--template", &source.at("memfd"), "--", "true"]).output();
        assert_eq!(output.status.code(), Some(125), "{text}");
    }
    assert!(broker.seen().is_empty());
}
