//! The policy: what was said, and what it makes of an environment.

use crate::asked::{Asked, is_name};
use crate::limits::{MAX_ASSIGNMENT, MAX_TOTAL, MAX_VARIABLES};
use crate::refusal::Refusal;
use crate::selection::{Origin, Reason, Selection};
use crate::standing::{Listed, Standing, standing};
use crate::switch::Switch;
use crate::value::holds_credential;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What was said. As it is made, nothing was: what is ordinary passes.
#[derive(Clone, Default)]
pub struct Policy {
    asked: BTreeSet<OsString>,
    given: BTreeMap<OsString, OsString>,
    credentials: BTreeSet<OsString>,
    switches: BTreeSet<Switch>,
    everything: bool,
}

impl Policy {
    /// Turns a switch on.
    pub fn pass(&mut self, switch: Switch) {
        self.switches.insert(switch);
    }

    /// Lets everything pass that is neither a credential nor behind a dangerous switch.
    pub fn pass_everything_harmless(&mut self) {
        self.everything = true;
    }

    /// Asks for a variable: `NAME`, or `NAME=VALUE`.
    ///
    /// # Errors
    /// Those of [`Asked::parse`]; [`Refusal::Twice`].
    pub fn ask(&mut self, asked: impl Into<OsString>) -> Result<(), Refusal> {
        match Asked::parse(asked)? {
            Asked::Name(name) => {
                self.asked.insert(name);
            }
            Asked::Given(name, value) => {
                if self.given.contains_key(&name) {
                    return Err(Refusal::Twice { name });
                }
                self.given.insert(name, value);
            }
        }
        Ok(())
    }

    /// Lets a credential of the parent pass: explicit, by its name, and nothing else lets it.
    ///
    /// # Errors
    /// [`Refusal::Name`].
    pub fn inherit_credential(&mut self, name: impl Into<OsString>) -> Result<(), Refusal> {
        let name = name.into();
        if !is_name(&name) {
            return Err(Refusal::Name);
        }
        self.credentials.insert(name);
        Ok(())
    }

    /// Divides an environment, such as [`std::env::vars_os`].
    ///
    /// Of a name that is there more than once the first counts. What cannot be a variable (an empty name, one with `=` or
    /// NUL, a value with NUL) is counted and left out.
    ///
    /// # Errors
    /// [`Refusal`]: something that was asked for by name is behind a lock, or bounds are exceeded.
    pub fn select(&self, present: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Selection, Refusal> {
        self.divide(present.into_iter().map(Some))
    }

    /// Divides a block as `/proc/PID/environ` or a socket has it: `NAME=VALUE`, each ended by a NUL.
    ///
    /// # Errors
    /// Those of [`Policy::select`].
    pub fn select_from_block(&self, block: &[u8]) -> Result<Selection, Refusal> {
        let block = block.strip_suffix(b"\0").unwrap_or(block);
        let entries = block.split(|&byte| byte == 0).filter(|_| !block.is_empty());
        self.divide(entries.map(|entry| {
            let at = entry.iter().position(|&byte| byte == b'=')?;
            let (name, value) = (entry.get(..at)?, entry.get(at + 1..)?);
            Some((OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec())))
        }))
    }

    /// One variable at a time; what is no variable is none.
    fn divide(&self, present: impl Iterator<Item = Option<(OsString, OsString)>>) -> Result<Selection, Refusal> {
        self.refuse_what_is_locked()?;
        let mut selection = Selection::default();
        let mut room = Room { left: MAX_TOTAL };
        for (name, value) in &self.given {
            room.take(name, value)?;
            selection.passed.set(name.clone(), value.clone());
            selection.origins.insert(name.clone(), Origin::Given);
        }
        let mut seen = BTreeSet::new();
        for (index, entry) in present.enumerate() {
            if index >= MAX_VARIABLES {
                return Err(Refusal::TooMany);
            }
            let Some((name, value)) = entry.filter(|(name, value)| is_name(name) && !value.as_bytes().contains(&0))
            else {
                selection.malformed += 1;
                continue;
            };
            if !seen.insert(name.clone()) {
                selection.duplicates.insert(name);
                continue;
            }
            if self.given.contains_key(&name) {
                continue;
            }
            match self.judge(&name, &value)? {
                Ok(origin) => {
                    room.take(&name, &value)?;
                    selection.passed.set(name.clone(), value);
                    selection.origins.insert(name, origin);
                }
                Err(reason) => {
                    selection.left_out.insert(name, reason);
                }
            }
        }
        selection.absent = self.asked.union(&self.credentials).filter(|&name| !seen.contains(name)).cloned().collect();
        Ok(selection)
    }

    /// Names that were said and that no environment would open, whether they are there or not: a command line that works
    /// today only because a variable is missing would fail on the day that it is there.
    fn refuse_what_is_locked(&self) -> Result<(), Refusal> {
        for name in self.asked.iter().chain(self.given.keys()).chain(&self.credentials) {
            if let Some(switch) = self.closed_code(&standing(name.as_bytes())) {
                return Err(Refusal::Code { name: name.clone(), switch });
            }
        }
        for (name, value) in &self.given {
            if standing(name.as_bytes()).credential.is_some() || holds_credential(value.as_bytes()) {
                return Err(Refusal::CredentialGiven { name: name.clone() });
            }
        }
        for name in &self.asked {
            if standing(name.as_bytes()).credential.is_some() && !self.credentials.contains(name) {
                return Err(Refusal::Credential { name: name.clone() });
            }
        }
        Ok(())
    }

    /// Why a variable passes, or why it does not.
    fn judge(&self, name: &OsStr, value: &OsStr) -> Result<Result<Origin, Reason>, Refusal> {
        let standing = standing(name.as_bytes());
        if self.credentials.contains(name) {
            // Its code lock was looked at before.
            return Ok(Ok(Origin::Credential));
        }
        let off = standing.switch().filter(|switch| !self.switches.contains(switch));
        match (standing.credential, off) {
            (Some(why), Some(switch)) => return Ok(Err(Reason::CredentialAndSwitchOff(why, switch))),
            (Some(why), None) => return Ok(Err(Reason::Credential(why))),
            (None, _) => {}
        }
        let asked = self.asked.contains(name);
        let origin = match standing.listed {
            Listed::Ordinary => Origin::Ordinary,
            Listed::Switch(switch) if self.switches.contains(&switch) => Origin::Switch(switch),
            _ if asked => Origin::Asked,
            Listed::Nowhere if self.everything && !is_usual(name) => return Ok(Err(Reason::Unusual)),
            _ if self.everything && standing.is_harmless() => Origin::Everything,
            Listed::Switch(switch) => return Ok(Err(Reason::SwitchOff(switch))),
            Listed::Nowhere => return Ok(Err(Reason::Unlisted)),
        };
        match (holds_credential(value.as_bytes()), asked) {
            (false, _) => Ok(Ok(origin)),
            (true, true) => Err(Refusal::CredentialValue { name: name.to_owned() }),
            (true, false) => Ok(Err(Reason::CredentialValue)),
        }
    }

    fn closed_code(&self, standing: &Standing) -> Option<Switch> {
        standing.code().filter(|switch| !self.switches.contains(switch))
    }
}

impl std::fmt::Debug for Policy {
    /// Names alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy")
            .field("asked", &self.asked)
            .field("given", &self.given.keys())
            .field("credentials", &self.credentials)
            .field("switches", &self.switches)
            .field("everything", &self.everything)
            .finish()
    }
}

/// What still fits.
struct Room {
    left: usize,
}

impl Room {
    fn take(&mut self, name: &OsStr, value: &OsStr) -> Result<(), Refusal> {
        let length = name.len() + 1 + value.len();
        if length > MAX_ASSIGNMENT {
            return Err(Refusal::TooLong { name: name.to_owned() });
        }
        self.left = self.left.checked_sub(length + 1).ok_or(Refusal::TooMuch)?;
        Ok(())
    }
}

fn is_usual(name: &OsStr) -> bool {
    name.as_bytes().iter().all(u8::is_ascii_graphic)
}
