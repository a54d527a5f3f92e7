//! JSON packets between `blindferry run --via broker` and the starter, on a `SOCK_SEQPACKET` Unix socket of its own.
//!
//! A connection starts one program. [`StartRequest::Start`] comes with the descriptors of the words, the environment and
//! the working directory, and names the credentials; [`StartRequest::Grants`] follows with their grants, as often as it
//! takes, which is never where nothing but an explanation is wanted; [`StartRequest::Streams`] is the last, with standard
//! input, output and error, and one end of a socket over which the program is accompanied. When the connection ends before
//! the program does, so does the program.
//!
//! Who calls is not said here: user, groups and limits are the kernel's to tell.

use crate::bounded::{Text, at_most};
use crate::name::CredentialName;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Where the starter listens when nothing else is said.
pub const DEFAULT_STARTER: &str = "/run/blindferry/starter.sock";

/// Names another path for [`DEFAULT_STARTER`].
pub const STARTER_VARIABLE: &str = "BLINDFERRY_STARTER";

/// Bytes of [`join`]ed words, and of a joined environment.
pub const MAX_STRINGS: usize = 1024 * 1024;

/// Strings in one of these.
pub const MAX_COUNT: usize = 32 * 1024;

/// Credentials of one program.
pub const MAX_GRANTS: usize = 16;

/// Grants in one packet: as many descriptors as it may have.
pub const GRANTS_AT_ONCE: usize = 4;

/// What a caller may say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum StartRequest {
    /// Start this. Beside it, in this order: the launcher's options and the program (a handle of [`join`]ed strings), the
    /// environment (the same, `NAME=VALUE` each), and the working directory.
    Start {
        /// The permission bits that new files shall not have.
        umask: u16,
        /// The number of a standard stream that is a terminal which nobody leads yet, for the program to be led by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terminal: Option<u8>,
        /// What the credentials are called whose grants follow, in their order: at most [`MAX_GRANTS`].
        #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "at_most::<_, _, MAX_GRANTS>")]
        grants: Vec<CredentialName>,
    },
    /// Beside it: handles of the next grants, [`GRANTS_AT_ONCE`] of them, or as many as are left.
    Grants,
    /// Beside it, in this order: its standard input, output and error, and a socket to whoever accompanies it.
    Streams,
}

/// What the starter answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartReply {
    /// Everything is prepared; the rest is said over the socket that came with the streams.
    Prepared,
    /// No.
    Refused(StartRefusal),
}

/// Why a program is not started: a stable word, and one line for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct StartRefusal {
    /// The stable word.
    pub code: StartCode,
    /// What to do about it.
    pub detail: Text<256>,
}

/// Why not, in one stable word. Codes are never reused or renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartCode {
    /// Not a request, or not the descriptors that belong to it, or not in time.
    Malformed,
    /// The caller is root, from whom nothing can be kept.
    Root,
    /// The caller is confined, and a program that is started for it would not be.
    Confined,
    /// Too many programs run, or too many of this user.
    Busy,
    /// This machine does not let the starter do it.
    NotHere,
    /// Something that should not happen; the starter's log has more.
    Internal,
}

impl StartCode {
    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Root => "root",
            Self::Confined => "confined",
            Self::Busy => "busy",
            Self::NotHere => "not-here",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for StartCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl StartRefusal {
    /// A refusal with a line for people.
    #[must_use]
    pub fn new(code: StartCode, detail: &str) -> Self {
        Self { code, detail: Text::cut(detail) }
    }
}

/// Strings as one: a byte for the version of this form, then each string and a NUL.
///
/// # Errors
/// [`BadStrings`] when they are more than the bounds allow, or one holds a NUL.
pub fn join<'a>(strings: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, BadStrings> {
    let mut joined = vec![VERSION];
    for (count, string) in strings.into_iter().enumerate() {
        if string.contains(&0) {
            return Err(BadStrings::Nul);
        }
        if count >= MAX_COUNT || joined.len() + string.len() >= MAX_STRINGS {
            return Err(BadStrings::TooMuch);
        }
        joined.extend_from_slice(string);
        joined.push(0);
    }
    Ok(joined)
}

/// What was [`join`]ed.
///
/// # Errors
/// [`BadStrings`].
pub fn split(joined: &[u8]) -> Result<Vec<&[u8]>, BadStrings> {
    if joined.len() > MAX_STRINGS {
        return Err(BadStrings::TooMuch);
    }
    let Some((&VERSION, strings)) = joined.split_first() else { return Err(BadStrings::Form) };
    let mut split = Vec::new();
    for string in strings.split_inclusive(|byte| *byte == 0) {
        let Some((0, string)) = string.split_last() else { return Err(BadStrings::Form) };
        if split.len() == MAX_COUNT {
            return Err(BadStrings::TooMuch);
        }
        split.push(string);
    }
    Ok(split)
}

const VERSION: u8 = 1;

/// Strings that cannot be joined, or were not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadStrings {
    /// It would not be the same string afterwards.
    #[error("a string holds a NUL byte")]
    Nul,
    /// Over [`MAX_STRINGS`] bytes or [`MAX_COUNT`] strings.
    #[error("more than {MAX_STRINGS} bytes or {MAX_COUNT} strings")]
    TooMuch,
    /// Another version, or the last string has no end.
    #[error("not a list of strings")]
    Form,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::{decode, encode};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_joined_is_split_again(strings in proptest::collection::vec(proptest::collection::vec(1_u8.., 0..9), 0..9)) {
            let joined = join(strings.iter().map(Vec::as_slice)).unwrap();
            prop_assert_eq!(split(&joined).unwrap(), strings);
        }

        #[test]
        fn bytes_are_strings_in_one_way_or_not_at_all(bytes in proptest::collection::vec(0_u8..4, 0..20)) {
            if let Ok(strings) = split(&bytes) {
                prop_assert_eq!(join(strings).unwrap(), bytes);
            }
        }
    }

    #[test]
    fn strings_out_of_bounds_are_refused_at_both_ends() {
        assert_eq!(join([&b"a\0b"[..]]), Err(BadStrings::Nul));
        assert_eq!(join([vec![7; MAX_STRINGS].as_slice()]), Err(BadStrings::TooMuch));
        assert_eq!(join(vec![&b""[..]; MAX_COUNT + 1]), Err(BadStrings::TooMuch));
        assert_eq!(split(&[1; MAX_STRINGS + 1]), Err(BadStrings::TooMuch));
        assert_eq!(split(&[&[1][..], &[0; MAX_COUNT + 1]].concat()), Err(BadStrings::TooMuch));
        for bad in [&b""[..], b"\x02a\0", b"\x01a", b"\x01a\0b"] {
            assert_eq!(split(bad), Err(BadStrings::Form), "{bad:?}");
        }
    }

    #[test]
    fn a_request_has_one_form_and_nothing_beside_it() {
        let start = |grants: &[&str]| StartRequest::Start {
            umask: 0o22,
            terminal: Some(0),
            grants: grants.iter().map(|name| name.parse().unwrap()).collect(),
        };
        for (start, form) in [
            (start(&[]), &br#"{"start":{"umask":18,"terminal":0}}"#[..]),
            (start(&["db", "key"]), br#"{"start":{"umask":18,"terminal":0,"grants":["db","key"]}}"#),
        ] {
            assert_eq!(encode(&start).unwrap(), form);
            assert_eq!(decode::<StartRequest>(form).unwrap(), start);
        }
        for bad in
            [&br#"{"start":{"umask":18,"uid":0}}"#[..], br#"{"start":{}}"#, br#"{"start":{"umask":18,"grants":["-"]}}"#]
        {
            assert!(decode::<StartRequest>(bad).is_err());
        }
        assert_eq!(encode(&StartRequest::Grants).unwrap(), b"\"grants\"");
        assert_eq!(encode(&StartRequest::Streams).unwrap(), b"\"streams\"");
    }

    #[test]
    fn a_program_has_no_more_credentials_than_the_bound_and_names_of_full_length_fit() {
        let names = |count: usize| {
            let name = |number| format!("{number:x<length$}", length = CredentialName::MAX).parse().unwrap();
            let start = StartRequest::Start { umask: 0, terminal: None, grants: (0..count).map(name).collect() };
            decode::<StartRequest>(&encode(&start).unwrap()).map(|decoded| assert_eq!(decoded, start))
        };
        names(MAX_GRANTS).unwrap();
        assert!(names(MAX_GRANTS + 1).is_err());
    }
}
