//! Why an environment was not made: what was asked for is behind a lock, or cannot be.

use crate::limits::{MAX_ASSIGNMENT, MAX_NAME, MAX_TOTAL, MAX_VARIABLES};
use crate::switch::Switch;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Why not. Names are told, values never.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No process can have a variable called so.
    #[error("not the name of a variable: it is empty, has '=' or a NUL in it, or is longer than {MAX_NAME} bytes")]
    Name,
    /// execve(2) ends values at a NUL.
    #[error("the value of {name} holds a NUL byte", name = shown(name))]
    Nul {
        /// Whose value.
        name: OsString,
    },
    /// The same variable was given two values.
    #[error("{name} is given twice", name = shown(name))]
    Twice {
        /// Which.
        name: OsString,
    },
    /// It makes programs load or run code, and its switch is off.
    #[error("{name} can make programs load or run other code, and passes by its switch alone: --pass {switch}", name = shown(name))]
    Code {
        /// Which.
        name: OsString,
        /// What opens it.
        switch: Switch,
    },
    /// It was asked for as if it were no credential.
    #[error("{name} looks like a credential: --inherit-credentials {name} passes it on all the same", name = shown(name))]
    Credential {
        /// Which.
        name: OsString,
    },
    /// The same, by its value.
    #[error("the value of {name} holds a credential: --inherit-credentials {name} passes it on all the same", name = shown(name))]
    CredentialValue {
        /// Which.
        name: OsString,
    },
    /// A credential was written on a command line.
    #[error(
        "{name} looks like a credential, and a command line is no place for one: every process of this machine and the \
         shell's history have it", name = shown(name)
    )]
    CredentialGiven {
        /// Which.
        name: OsString,
    },
    /// More variables than are looked at.
    #[error("more than {MAX_VARIABLES} variables")]
    TooMany,
    /// execve(2) would not take it.
    #[error("{name} and its value are longer than {MAX_ASSIGNMENT} bytes", name = shown(name))]
    TooLong {
        /// Which.
        name: OsString,
    },
    /// More would pass than leaves room for arguments.
    #[error("more than {MAX_TOTAL} bytes of variables would pass")]
    TooMuch,
}

/// A name that cannot steer a terminal, and that a shell which it is pasted into takes for one word.
pub(crate) fn shown(name: &OsStr) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./:%@+,".contains(byte);
    if !name.is_empty() && name.as_bytes().iter().all(is_plain) {
        return name.to_string_lossy().into_owned();
    }
    let mut quoted = String::from("'");
    for character in name.to_string_lossy().chars() {
        match character {
            '\'' => quoted.push_str("'\\''"),
            '\\' | '"' => quoted.push(character),
            _ => quoted.extend(character.escape_debug()),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_neither_steers_a_terminal_nor_a_shell_that_it_is_pasted_into() {
        for (name, expected) in [
            ("npm_config_//r.org/:_authToken", "npm_config_//r.org/:_authToken"),
            ("$(id)", "'$(id)'"),
            ("a'b", "'a'\\''b'"),
            ("\u{1b}[2J", "'\\u{1b}[2J'"),
            ("", "''"),
        ] {
            assert_eq!(shown(OsStr::new(name)), expected);
        }
    }
}
