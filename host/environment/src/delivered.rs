//! What the variables are called by which a token is found.

use std::ffi::OsString;

/// The credential's name in capitals, `_` for all but letters and digits, and `_FILE`: `deploy-key` is found by
/// `DEPLOY_KEY_FILE`.
#[must_use]
pub fn file_variable(credential: &str) -> OsString {
    variable(credential, "_FILE")
}

/// As [`file_variable`], with `_FD`: it names the descriptor of a token.
#[must_use]
pub fn descriptor_variable(credential: &str) -> OsString {
    variable(credential, "_FD")
}

fn variable(credential: &str, ending: &str) -> OsString {
    // A shell has no name for a variable that begins with a digit.
    let mut variable = String::from(if credential.starts_with(|c: char| c.is_ascii_digit()) { "_" } else { "" });
    variable.extend(credential.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }));
    variable.push_str(ending);
    variable.into()
}
