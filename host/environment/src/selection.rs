//! What the policy made of an environment: what passes and why, what was left out and what would let it in.

use crate::credential::Why;
use crate::environment::Environment;
use crate::refusal::shown;
use crate::switch::Switch;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;

/// An environment, divided.
#[derive(Debug, Default)]
pub struct Selection {
    pub(crate) passed: Environment,
    pub(crate) origins: BTreeMap<OsString, Origin>,
    pub(crate) left_out: BTreeMap<OsString, Reason>,
    pub(crate) absent: BTreeSet<OsString>,
    pub(crate) duplicates: BTreeSet<OsString>,
    pub(crate) malformed: usize,
}

/// A variable that passes.
#[derive(Clone, Copy, Debug)]
pub struct Passed<'a> {
    /// Its name.
    pub name: &'a OsStr,
    /// Why it passes.
    pub origin: Origin,
}

/// Why a variable passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Every program gets it.
    Ordinary,
    /// This switch is on.
    Switch(Switch),
    /// It was asked for by name.
    Asked,
    /// It was given with its value.
    Given,
    /// It was named as a credential that shall be inherited.
    Credential,
    /// Everything harmless passes.
    Everything,
}

/// Why a variable was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody listed it or asked for it.
    Unlisted,
    /// Its switch is off.
    SwitchOff(Switch),
    /// Its name is that of a credential.
    Credential(Why),
    /// Both.
    CredentialAndSwitchOff(Why, Switch),
    /// Its value holds a credential.
    CredentialValue,
    /// Its name has other than printable ASCII in it.
    Unusual,
}

impl Selection {
    /// What passes.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.passed
    }

    /// What passes, by value.
    #[must_use]
    pub fn into_environment(self) -> Environment {
        self.passed
    }

    /// What passes and why, in the order of names.
    pub fn passed(&self) -> impl Iterator<Item = Passed<'_>> {
        self.origins.iter().map(|(name, &origin)| Passed { name, origin })
    }

    /// What was left out and why, in the order of names.
    pub fn left_out(&self) -> impl Iterator<Item = (&OsStr, Reason)> {
        self.left_out.iter().map(|(name, &reason)| (name.as_os_str(), reason))
    }

    /// Names of the credentials that were inherited: for the record.
    pub fn inherited_credentials(&self) -> impl Iterator<Item = &OsStr> {
        self.passed().filter(|passed| passed.origin == Origin::Credential).map(|passed| passed.name)
    }

    /// What was asked for and is not there.
    pub fn absent(&self) -> impl Iterator<Item = &OsStr> {
        self.absent.iter().map(OsString::as_os_str)
    }

    /// Names that are there more than once: the first counts, as for getenv(3), and the others are left out.
    pub fn duplicates(&self) -> impl Iterator<Item = &OsStr> {
        self.duplicates.iter().map(OsString::as_os_str)
    }

    /// How many entries were no `NAME=VALUE`, or had a name that no policy looks at; they are left out.
    #[must_use]
    pub fn malformed(&self) -> usize {
        self.malformed
    }
}

impl Reason {
    /// The options that would let `name` in. For people: the name is escaped.
    #[must_use]
    pub fn remedy(self, name: &OsStr) -> String {
        let name = shown(name);
        match self {
            Self::Unlisted | Self::Unusual => format!("--env {name}"),
            Self::SwitchOff(switch) => format!("--pass {switch}"),
            Self::Credential(_) | Self::CredentialValue => format!("--inherit-credentials {name}"),
            Self::CredentialAndSwitchOff(_, switch) => format!("--pass {switch} --inherit-credentials {name}"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ordinary => f.write_str("ordinary"),
            Self::Switch(switch) => write!(f, "--pass {switch}"),
            Self::Asked => f.write_str("--env NAME"),
            Self::Given => f.write_str("--env NAME=VALUE"),
            Self::Credential => f.write_str("--inherit-credentials"),
            Self::Everything => f.write_str("--inherit-env"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlisted => f.write_str("not on the list"),
            Self::SwitchOff(switch) => write!(f, "of switch {switch} ({})", switch.danger()),
            Self::Credential(why) => write!(f, "credential: {why}"),
            Self::CredentialAndSwitchOff(why, switch) => write!(f, "credential: {why}; of switch {switch}"),
            Self::CredentialValue => f.write_str("its value holds a credential"),
            Self::Unusual => f.write_str("unusual name"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(provider) => write!(f, "{provider}"),
            Self::Word(word) => write!(f, "\"{word}\" in its name"),
        }
    }
}
