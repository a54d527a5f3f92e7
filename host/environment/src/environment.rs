//! The environment of the program, as it will be.

use std::collections::BTreeMap;
use std::ffi::{CString, NulError, OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Variables, each once, in the order of their names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Sets a variable, whatever it was before: for tokens and their paths, after the selection.
    pub fn set(&mut self, name: OsString, value: OsString) {
        self.0.insert(name, value);
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.0.keys().map(OsString::as_os_str)
    }

    /// As [`std::process::Command::envs`] wants it, after `env_clear`.
    pub fn into_pairs(self) -> impl Iterator<Item = (OsString, OsString)> {
        self.0.into_iter()
    }

    /// As execve(2) wants it: `NAME=value`.
    ///
    /// # Errors
    /// When a name or value holds a NUL, which can only be one that was [set](Self::set).
    pub fn into_assignments(self) -> Result<Vec<CString>, NulError> {
        let assignments = self.0.into_iter().map(|(name, value)| {
            let mut text = name.into_vec();
            text.push(b'=');
            text.extend_from_slice(value.as_bytes());
            CString::new(text)
        });
        assignments.collect()
    }
}

impl fmt::Debug for Environment {
    /// Names alone: a value may be a credential that was inherited, or a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_set_replaces_the_one_before() {
        let mut environment = Environment::default();
        environment.set("A".into(), "old".into());
        environment.set("A".into(), "new".into());
        assert_eq!(environment.into_assignments().unwrap(), [c"A=new".to_owned()]);
    }

    #[test]
    fn no_value_is_printed() {
        let mut environment = Environment::default();
        environment.set("TOKEN".into(), "hunter2".into());
        let printed = format!("{environment:?}");
        assert!(printed.contains("TOKEN") && !printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn a_nul_is_an_error() {
        let mut environment = Environment::default();
        environment.set("A".into(), "x\0y".into());
        assert!(environment.into_assignments().is_err());
    }
}
