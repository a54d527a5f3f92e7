//! How a name stands before anybody asked for it: where it is listed, and whether it is that of a credential.

use crate::credential::{Why, why};
use crate::ordinary::ORDINARY;
use crate::pattern::{begins, is_exactly};
use crate::switch::{Danger, Switch};

/// Where a name is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Among those that every program gets.
    Ordinary,
    /// In the group of a switch.
    Switch(Switch),
    /// Nowhere.
    Nowhere,
}

/// How a name stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where it is listed.
    pub listed: Listed,
    /// Why it is taken for a credential, if it is.
    pub credential: Option<Why>,
}

impl Standing {
    /// The switch that this name needs and that nothing else replaces, if it makes programs load or run code.
    #[must_use]
    pub fn code(&self) -> Option<Switch> {
        self.switch().filter(|switch| switch.danger() == Danger::Code)
    }

    /// The switch whose group it is in.
    #[must_use]
    pub fn switch(&self) -> Option<Switch> {
        match self.listed {
            Listed::Switch(switch) => Some(switch),
            Listed::Ordinary | Listed::Nowhere => None,
        }
    }

    /// Whether it passes when everything harmless does.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        self.credential.is_none() && self.switch().is_none_or(|switch| switch.danger() == Danger::None)
    }
}

/// How `name` stands.
///
/// A name that a table has letter for letter was looked at by people, and is no credential for the words in it:
/// `AWS_WEB_IDENTITY_TOKEN_FILE` belongs to its switch. One that only begins as a table says may be a credential besides,
/// and then needs both: `LD_ACCESS_TOKEN`.
#[must_use]
pub fn standing(name: &[u8]) -> Standing {
    let by = |is: fn(&str, &[u8]) -> bool| {
        let has = |variables: &[&str]| variables.iter().any(|variable| is(variable, name));
        if has(ORDINARY) {
            Some(Listed::Ordinary)
        } else {
            Switch::all().find(|switch| has(switch.variables())).map(Listed::Switch)
        }
    };
    match by(is_exactly) {
        Some(listed) => Standing { listed, credential: None },
        None => Standing { listed: by(begins).unwrap_or(Listed::Nowhere), credential: why(name) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::providers;

    #[test]
    fn a_name_stands_where_the_tables_have_it() {
        let listed = |name: &str| standing(name.as_bytes()).listed;
        assert_eq!(listed("PATH"), Listed::Ordinary);
        assert_eq!(listed("LC_TIME"), Listed::Ordinary);
        assert_eq!(listed("LD_LIBRARY_PATH"), Listed::Switch(Switch::LibraryPath));
        assert_eq!(listed("LD_AUDIT"), Listed::Switch(Switch::Preload));
        assert_eq!(listed("PYTHONUNBUFFERED"), Listed::Switch(Switch::VirtualEnv));
        assert_eq!(listed("PYTHONSTARTUP"), Listed::Switch(Switch::PythonCode));
        assert_eq!(listed("path"), Listed::Nowhere);
    }

    #[test]
    fn what_only_begins_as_listed_may_be_a_credential_besides() {
        for name in ["LD_ACCESS_TOKEN", "LC_SECRET", "BASH_FUNC_get_token%%", "UV_PUBLISH_PASSWORD"] {
            let standing = standing(name.as_bytes());
            assert!(standing.listed != Listed::Nowhere && standing.credential.is_some(), "{name}");
        }
        assert_eq!(standing(b"AWS_WEB_IDENTITY_TOKEN_FILE").credential, None);
        assert_eq!(standing(b"GIT_CONFIG_KEY_0").credential, None);
    }

    #[test]
    fn no_name_is_both_a_providers_and_ordinary_or_switched() {
        for (provider, variables, _) in providers() {
            for variable in variables.iter().filter(|variable| !variable.ends_with('*')) {
                let standing = standing(variable.as_bytes());
                assert!(standing.credential.is_some(), "{provider}: {variable} is listed elsewhere too");
            }
        }
        // What nobody must ever get by default.
        for variable in ORDINARY {
            assert!(!providers().any(|(_, names, _)| names.contains(variable)), "{variable}");
        }
    }
}
