//! Whether an example, as it ships, is a configuration and leaves no key unexplained: for the tests of each service.

use crate::fault::Faults;
use crate::source::{Source, unknown};
use serde::de::DeserializeOwned;
use std::path::Path;

/// The keys of `T` that `example` does not have, not even commented out, each with its table: `limits.dials`.
///
/// # Errors
/// What is wrong with the example: as it stands, or with everything switched on that is commented out.
pub fn unexplained<T: DeserializeOwned>(example: &str) -> Result<Vec<String>, Faults> {
    let path = Path::new("example");
    let _as_it_ships: T = Source::new(path, example.to_owned())?.parse()?;
    let whole = switched_on(example);
    let source = Source::new(path, whole.clone())?;
    let _whole: T = source.parse()?;
    let mut missing = Vec::new();
    let tables = whole.lines().filter_map(|line| line.strip_prefix('[')?.strip_suffix(']'));
    for table in tables.map(Some).chain([None]) {
        let prefix = table.map(|table| format!("{table}.")).unwrap_or_default();
        let keys = keys_of::<T>(&whole, table);
        missing.extend(keys.into_iter().map(|key| prefix.clone() + &key).filter(|key| !source.has(key)));
    }
    Ok(missing)
}

/// The example with everything switched on that is commented out: each line that is a key or a table behind a `#` and
/// nothing else.
#[must_use]
pub fn switched_on(example: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    example.lines().map(line).collect()
}

/// What the parser itself names when it meets a key that it does not know.
fn keys_of<T: DeserializeOwned>(whole: &str, table: Option<&str>) -> Vec<String> {
    let odd = "no-such-key = 1\n";
    let text = match table {
        None => odd.to_owned() + whole,
        Some(table) => whole.replacen(&format!("[{table}]\n"), &format!("[{table}]\n{odd}"), 1),
    };
    let error = toml::from_str::<T>(&text).err();
    let message = error.map(|error| error.message().to_owned()).unwrap_or_default();
    unknown(&message).map_or_else(Vec::new, |(_, known)| known.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Known {
        store: String,
        port: Option<u16>,
        #[serde(default)]
        limits: Inner,
    }

    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        dials: u16,
        lines: u16,
    }

    #[test]
    fn a_key_that_an_example_forgets_is_found() {
        let whole = "store = \"x\"\n# A number.\n#port = 1\n#[limits]\n#dials = 1\n#lines = 2\n";
        assert_eq!(unexplained::<Known>(whole).unwrap(), Vec::<String>::new());
        let short = whole.replace("#port = 1\n", "").replace("#lines = 2\n", "");
        assert_eq!(unexplained::<Known>(&short).unwrap(), ["limits.lines", "port"]);
        assert!(
            unexplained::<Known>(&whole.replace("#port = 1", "#port = \"x\"")).is_err(),
            "what is commented out counts"
        );
        assert!(unexplained::<Known>("#store = \"x\"\n").is_err(), "it is a configuration as it ships");
    }
}
