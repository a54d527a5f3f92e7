//! Reads a configuration within its bound, and parses it whole or says what is wrong with it.

use crate::fault::{Fault, Faults};
use crate::place::Place;
use crate::secret;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A configuration's text, in which no secret was found.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// Reads the file at `path`, of at most [`MAX_CONFIGURATION`] bytes.
    ///
    /// # Errors
    /// [`Faults`]: not readable, too long, not text, or with a secret in it.
    pub fn read(path: &Path) -> Result<Self, Faults> {
        let refused = |fault| Faults::one(path, fault);
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(MAX_CONFIGURATION + 1).read_to_end(&mut bytes)).map_err(
            |error| {
                refused(
                    Fault::error("cannot read the configuration")
                        .because(error.to_string())
                        .mend("name the file that is there, and let the service's user read it"),
                )
            },
        )?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_CONFIGURATION) {
            let fault = Fault::error(format!("longer than {MAX_CONFIGURATION} bytes"));
            return Err(refused(fault.mend("take out what is no configuration")));
        }
        let text = String::from_utf8(bytes).map_err(|_| refused(Fault::error("not text in UTF-8")))?;
        Self::new(path, text)
    }

    /// The text of the file at `path`, which is for messages.
    ///
    /// # Errors
    /// [`Faults`]: there is a secret in it.
    pub fn new(path: &Path, text: String) -> Result<Self, Faults> {
        let faults = secrets(&text);
        if faults.is_empty() {
            Ok(Self { path: path.to_owned(), text })
        } else {
            Err(Faults { path: path.to_owned(), faults })
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Parses it.
    ///
    /// # Errors
    /// [`Faults`] with the first that is wrong.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Faults> {
        toml::from_str(&self.text).map_err(|error| Faults::one(&self.path, self.told(&error)))
    }

    /// Where a key stands, such as `limits.dials`.
    pub(crate) fn place_of(&self, key: &str) -> Option<Place> {
        let document = toml::de::DeTable::parse(&self.text).ok()?;
        let mut table = document.get_ref();
        let mut words = key.split('.').peekable();
        while let Some(word) = words.next() {
            let (name, value) = table.iter().find(|(name, _)| name.get_ref() == word)?;
            if words.peek().is_none() {
                // From the key to the end of its value, where both are on one line.
                return Place::of(&self.text, name.span().start..value.span().end);
            }
            table = value.get_ref().as_table()?;
        }
        None
    }

    /// Whether a key is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        let table = toml::from_str::<toml::Table>(&self.text).unwrap_or_default();
        let mut words = key.split('.');
        let first = words.next().and_then(|word| table.get(word));
        words.try_fold(first, |value, word| value.map(|value| value.get(word))).flatten().is_some()
    }

    fn told(&self, error: &toml::de::Error) -> Fault {
        let place = error.span().and_then(|span| Place::of(&self.text, span));
        let message = error.message().trim().replace('\n', ", ");
        if let Some((key, known)) = unknown(&message) {
            let fault = Fault::error(format!("unknown key `{key}`")).at(place);
            let listed: Vec<String> = known.iter().map(|known| format!("`{known}`")).collect();
            let fault = fault.because(format!("the keys here are {}", listed.join(", ")));
            return match near(key, &known) {
                Some(near) => fault.mend(format!("write `{near}`")),
                None => fault.mend("take it out"),
            };
        }
        if let Some(key) = message.strip_prefix("missing field ") {
            return Fault::error(format!("the key {key} is missing")).at(place).mend(format!("add {key}"));
        }
        if let Some(wanted) = message.strip_prefix("expected ") {
            return Fault::error("this value cannot be").at(place).mend(format!("write {wanted}"));
        }
        match message.split_once(" expected ").map(|(what, wanted)| (what.trim_end_matches([':', ',']), wanted)) {
            Some((what, wanted)) if !what.is_empty() => Fault::error(what).at(place).mend(format!("write {wanted}")),
            _ => Fault::error(message).at(place).mend("mend this line"),
        }
    }
}

/// A fault for each line with a secret, which is not repeated.
fn secrets(text: &str) -> Vec<Fault> {
    let mut start = 0;
    let mut faults = Vec::new();
    for line in text.split_inclusive('\n') {
        if let Some(at) = secret::value_in(line) {
            let fault = Fault::error("a secret, or what looks like one")
                .at(Place::of(text, start + at..start + at))
                .because("a configuration is read by many, copied and kept; the value is not repeated here")
                .mend("take it out, and change it where it is known: masters go to the vault by `blindferry put`");
            faults.push(fault);
        }
        start += line.len();
    }
    faults.truncate(MOST_SECRETS);
    faults
}

/// The key that serde does not know, and those that it does.
pub(crate) fn unknown(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field ")?;
    let mut quoted = rest.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

/// The key that was meant.
fn near<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |known: &&&str| strsim::damerau_levenshtein(key, known);
    let nearest = known.iter().min_by_key(distance)?;
    (key.len() <= LONGEST_KEY && distance(&nearest) <= 1 + nearest.len() / 4).then_some(*nearest)
}

/// Bytes of a configuration. One with every setting and a comment for each is a twentieth of it.
pub const MAX_CONFIGURATION: u64 = 64 * 1024;
/// Secrets that are told of.
const MOST_SECRETS: usize = 16;
/// Bytes of a key that is compared with others: the time that takes grows with both.
const LONGEST_KEY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Known {
        store: String,
        port: u16,
        #[serde(default)]
        limits: Inner,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        dials: u16,
    }

    fn refused(text: &str) -> String {
        let source = Source::new(Path::new("a.toml"), text.to_owned());
        source.and_then(|source| source.parse::<Known>()).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_shown_with_the_one_that_was_meant() {
        assert_eq!(
            refused("port = 1\nstor = \"/x\"\n"),
            "error: unknown key `stor`\n  --> a.toml: line 2, column 1\n   |\n 2 | stor = \"/x\"\n   | ^^^^\n   \
             = cause: the keys here are `store`, `port`, `limits`\n   = fix: write `store`"
        );
        let told = refused("store = \"/x\"\nport = 1\n[limits]\ndails = 3\n");
        assert!(told.contains("line 4, column 1") && told.contains("write `dials`"), "{told}");
        assert!(refused("colour = 1\nport = 1\n").contains("fix: take it out"));
    }

    #[test]
    fn each_kind_of_mistake_has_problem_place_and_fix() {
        let told = refused("store = \"/x\"\n");
        assert!(told.contains("the key `port` is missing") && told.contains("fix: add `port`"), "{told}");
        let told = refused("store = \"/x\"\nport = \"x\"\n");
        assert!(told.contains("line 2, column 8") && told.contains("fix: write u16"), "{told}");
        let told = refused("store = /x\nport = 1\n");
        assert!(told.contains("line 1, column 9") && told.contains("fix: "), "{told}");
    }

    #[test]
    fn a_secret_is_refused_wherever_it_stands_and_never_repeated() {
        for text in [
            "store = \"/x\"\nport = 1\npassword = \"hunter2\"\n",
            "store = \"/x\"\nport = 1\n# password = \"hunter2\"\n",
            "port = 1\nstore = \"https://u:hunter2@x\"\n",
            "this is no TOML\nmy_api_key: x\nsecret = hunter2\n",
            "limits = { dials = 1, token = \"hunter2\" }\n",
        ] {
            let told = refused(text);
            assert!(told.contains("a secret, or what looks like one"), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn what_is_no_text_or_too_long_is_not_parsed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.toml");
        std::fs::write(&path, b"\xff").unwrap();
        assert!(Source::read(&path).unwrap_err().to_string().contains("UTF-8"));
        assert!(Source::read(Path::new("/dev/zero")).unwrap_err().to_string().contains("longer than 65536"));
        std::fs::remove_file(&path).unwrap();
        let told = Source::read(&path).unwrap_err().to_string();
        assert!(told.contains("cannot read") && told.contains("fix: "), "{told}");
    }

    #[test]
    fn a_key_is_found_in_its_table() {
        let text = "store = \"/x\"\nport = 1\n[limits]\ndials = 3\n".to_owned();
        let source = Source::new(Path::new("a.toml"), text).unwrap();
        let place = source.place_of("limits.dials").unwrap();
        assert_eq!((place.line, place.column, place.width), (4, 1, 9));
        assert_eq!(source.place_of("limits.none"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\PC|\n){0,200}") {
            if let Ok(source) = Source::new(Path::new("a.toml"), text) {
                let _refused = source.parse::<Known>().map_err(|faults| faults.to_string());
                let _place = source.place_of("limits.dials");
            }
        }
    }
}
