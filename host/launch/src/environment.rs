//! The environment of the program: what is on the list, what was asked for, and the token's variables; nothing else.
//!
//! A short list rather than a list of what is dangerous: variables that load code (`LD_PRELOAD`, `PYTHONSTARTUP`,
//! `NODE_OPTIONS`, …) and credentials of the parent are too many to name.

use std::collections::BTreeMap;
use std::ffi::{CString, NulError, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Passed on unasked: what programs need to find files, speak the user's language and know their terminal.
const PASSED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL", // who and where
    "PWD",
    "TMPDIR",
    "XDG_RUNTIME_DIR", // where files go
    "LANG",
    "LANGUAGE",
    "TZ", // language and time; LC_* besides
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "COLUMNS",
    "LINES", // the terminal
];

/// Passed on unasked when a name begins so.
const PASSED_PREFIX: &str = "LC_";

/// The program's environment.
#[derive(Default)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Selects from `present` what is on the list and what is in `asked`, or all of it.
    pub(crate) fn select(present: impl Iterator<Item = (OsString, OsString)>, asked: &[OsString], all: bool) -> Self {
        Self(present.filter(|(name, _)| all || is_passed(name) || asked.contains(name)).collect())
    }

    /// Sets a variable, whatever it was before.
    pub(crate) fn set(&mut self, name: OsString, value: OsString) {
        self.0.insert(name, value);
    }

    /// The value of a variable.
    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// As the standard library wants it.
    pub(crate) fn into_pairs(self) -> impl Iterator<Item = (OsString, OsString)> {
        self.0.into_iter()
    }

    /// As execve(2) wants it: `NAME=value`.
    ///
    /// # Errors
    /// When a name or value holds a NUL, which can only be one that was set.
    pub(crate) fn into_assignments(self) -> Result<Vec<CString>, NulError> {
        let assignments = self.0.into_iter().map(|(name, value)| {
            let mut text = name.into_vec();
            text.push(b'=');
            text.extend_from_slice(value.as_bytes());
            CString::new(text)
        });
        assignments.collect()
    }
}

fn is_passed(name: &OsStr) -> bool {
    PASSED.iter().any(|passed| *passed == name) || name.as_bytes().starts_with(PASSED_PREFIX.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRESENT: &[(&str, &str)] =
        &[("PATH", "/bin"), ("LC_ALL", "C"), ("LD_PRELOAD", "x.so"), ("AWS_SECRET_ACCESS_KEY", "s"), ("MINE", "1")];

    fn selected(asked: &[&str], all: bool) -> Vec<CString> {
        let present = PRESENT.iter().map(|(name, value)| (name.into(), value.into()));
        let asked: Vec<OsString> = asked.iter().map(OsString::from).collect();
        Environment::select(present, &asked, all).into_assignments().unwrap()
    }

    #[test]
    fn what_is_not_on_the_list_stays_behind() {
        assert_eq!(selected(&[], false), [c"LC_ALL=C".to_owned(), c"PATH=/bin".to_owned()]);
    }

    #[test]
    fn what_was_asked_for_is_passed_if_it_is_there() {
        let names = selected(&["MINE", "ABSENT"], false);
        assert_eq!(names, [c"LC_ALL=C".to_owned(), c"MINE=1".to_owned(), c"PATH=/bin".to_owned()]);
    }

    #[test]
    fn all_is_all() {
        assert_eq!(selected(&[], true).len(), PRESENT.len());
    }

    #[test]
    fn a_variable_that_is_set_replaces_one_that_was_inherited() {
        let mut environment = Environment::select([("A".into(), "old".into())].into_iter(), &["A".into()], false);
        environment.set("A".into(), "new".into());
        assert_eq!(environment.into_assignments().unwrap(), [c"A=new".to_owned()]);
    }
}
