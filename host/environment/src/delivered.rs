//! What the variable is called that names a token's path.

use std::ffi::OsString;

/// The credential's name in capitals, `_` for all but letters and digits, and `_FILE`: `deploy-key` is found by
/// `DEPLOY_KEY_FILE`.
#[must_use]
pub fn file_variable(credential: &str) -> OsString {
    // A shell has no name for a variable that begins with a digit.
    let mut variable = String::from(if credential.starts_with(|c: char| c.is_ascii_digit()) { "_" } else { "" });
    variable.extend(credential.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }));
    variable.push_str("_FILE");
    variable.into()
}
