//! Lines that hold a credential, by the names and the forms that `blindferry-environment` knows.
//!
//! Line by line and without parsing, so that it finds one in a comment, and in a file that is no TOML.

use blindferry_environment::{credential, value};

/// Where in `line` the value begins that may be a secret, in bytes; none where there is no such value.
pub(crate) fn value_in(line: &str) -> Option<usize> {
    by_name(line).or_else(|| by_form(line))
}

/// The value of a key such as `password` or `api_key`.
fn by_name(line: &str) -> Option<usize> {
    line.match_indices('=').find_map(|(at, _)| {
        let key = line.get(..at)?.trim_end().trim_end_matches(['"', '\'']);
        let name = key.rsplit(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-'))).next()?;
        let has_value = !line.get(at + 1..)?.trim().is_empty();
        (has_value && names_secret(name)).then_some(at + 1)
    })
}

/// A key whose value is the secret itself; `token_file` names where one is.
fn names_secret(name: &str) -> bool {
    let elsewhere = ["file", "path", "directory", "command"];
    if name.rsplit(['_', '-']).next().is_some_and(|last| elsewhere.contains(&last)) {
        return false;
    }
    // With a word before it, a name is judged by its words alone: to shells VAULT_ADDR is a credential's neighbour.
    credential::why(format!("configured_{name}").as_bytes()).is_some()
}

/// A token of a known form, a private key, a URL with a password.
fn by_form(line: &str) -> Option<usize> {
    if value::holds_credential(line.as_bytes()) {
        return Some(line.find(|c: char| !c.is_whitespace()).unwrap_or_default());
    }
    let parts = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '=' | ',' | '[' | ']' | '{' | '}' | '#');
    let mut words = line.split(parts).map(|word| (word.as_ptr().addr() - line.as_ptr().addr(), word));
    words.find(|(_, word)| value::holds_credential(word.as_bytes())).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_by_its_name_and_by_its_form() {
        for (line, shown) in [
            ("password = \"hunter2\"", "password ="),
            ("  api_key=hunter2", "  api_key="),
            ("\"vault-token\" = 'hunter2'", "\"vault-token\" ="),
            ("limits = { secret = \"hunter2\" }", "limits = { secret ="),
            ("# password = hunter2", "# password ="),
            ("name = \"ghp_0123456789abcdefghij\"", "name = \""),
            ("store = \"/x\" # ghp_0123456789abcdefghij", "store = \"/x\" # "),
            ("vault = \"https://u:hunter2@vault\"", ""),
            ("-----BEGIN PRIVATE KEY-----", ""),
            ("tcti = \"swtpm:auth=hunter2\"", "tcti = \"swtpm:auth="),
        ] {
            let at = value_in(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(&line[..at], shown);
        }
    }

    #[test]
    fn what_services_are_told_is_no_secret() {
        for line in [
            "vault_reference = \"/etc/blindferry/vault.toml\"",
            "pins = \"/var/lib/blindferry/pins.toml\"",
            "tcti = \"swtpm:host=127.0.0.1,port=2321\"",
            "vault = \"vault.example:7443\"",
            "token_file = \"/run/token\"",
            "# no secret belongs in here: no password, no token",
            "password =",
        ] {
            assert_eq!(value_in(line), None, "{line}");
        }
    }
}
