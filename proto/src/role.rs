//! Who speaks in an attested session, and the fresh value that each side sends the other.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Which end of an attested session a peer claims to be. The byte goes into the binder, so that evidence made by one
/// end is worthless when it is sent back as if the other end had made it (reflection).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Role {
    /// The vault.
    Vault = 1,
    /// A broker, which speaks for one worker host.
    Broker = 2,
    /// An operator's command.
    Operator = 3,
    /// The vault's next guest, which takes its key over.
    Successor = 4,
}

impl Role {
    /// The byte of this role in the binder.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Vault => 1,
            Self::Broker => 2,
            Self::Operator => 3,
            Self::Successor => 4,
        }
    }
}

/// The word that JSON has for it too.
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vault => "vault",
            Self::Broker => "broker",
            Self::Operator => "operator",
            Self::Successor => "successor",
        })
    }
}

/// Fresh random bytes from the peer that will judge the evidence: the exporter's context. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context(pub [u8; Context::LEN]);

impl Context {
    /// Its length in bytes.
    pub const LEN: usize = 32;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_one_word_in_json_and_in_messages() {
        for (role, word) in [
            (Role::Vault, "vault"),
            (Role::Broker, "broker"),
            (Role::Operator, "operator"),
            (Role::Successor, "successor"),
        ] {
            assert_eq!(role.to_string(), word);
            assert_eq!(serde_json::to_value(role).unwrap(), word);
        }
    }
}
