//! How well a launched program is kept from other processes of its user: the levels, as launcher, broker, policy and
//! audit name them.
//!
//! The launcher says which one it entered and tried. Nobody else can check that: the broker sees a process that is still
//! the launcher. So a level is worth what the launcher's word is worth, see `docs/threats.md`.

use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// A level that a launcher established, from the weakest to the strongest: each keeps out whom the one before keeps out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProtectionLevel {
    /// The program is started as it is.
    None,
    /// It runs from a copy that cannot be read: itself protected from its first instruction, what it starts is not.
    ExecOnly,
    /// It and all that it starts run under another real group.
    OwnGroup,
    /// It and all that it starts run in a user namespace of another user's, made by the starter.
    OwnNamespace,
}

impl ProtectionLevel {
    /// All of them, from the weakest to the strongest.
    pub const ALL: [Self; 4] = [Self::None, Self::ExecOnly, Self::OwnGroup, Self::OwnNamespace];

    /// The stable word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ExecOnly => "exec-only",
            Self::OwnGroup => "own-group",
            Self::OwnNamespace => "own-namespace",
        }
    }
}

impl fmt::Display for ProtectionLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ProtectionLevel {
    type Err = UnknownLevel;
    fn from_str(word: &str) -> Result<Self, UnknownLevel> {
        Self::ALL.into_iter().find(|level| level.name() == word).ok_or(UnknownLevel)
    }
}

/// A word is not a level of protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a level of protection: none, exec-only, own-group or own-namespace")]
pub struct UnknownLevel;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_has_one_word_in_json_and_in_text() {
        for level in ProtectionLevel::ALL {
            assert_eq!(serde_json::to_string(&level).unwrap(), format!("\"{level}\""));
            assert_eq!(level.name().parse::<ProtectionLevel>(), Ok(level));
        }
        assert_eq!("Own-Group".parse::<ProtectionLevel>(), Err(UnknownLevel));
    }

    #[test]
    fn levels_are_ordered_and_keep_their_numbers_on_the_wire() {
        assert!(ProtectionLevel::ALL.is_sorted());
        for (number, level) in (0_u8..).zip(ProtectionLevel::ALL) {
            assert_eq!(postcard::to_stdvec(&level).unwrap(), [number]);
        }
    }
}
