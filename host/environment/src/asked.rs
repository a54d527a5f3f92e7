//! What a command line says with `--env`: a name, or a name and its value.

use crate::limits::MAX_NAME;
use crate::refusal::Refusal;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A variable that was asked for.
#[derive(Clone, PartialEq, Eq)]
pub enum Asked {
    /// The parent's, if it has it.
    Name(OsString),
    /// With this value, whatever the parent has.
    Given(OsString, OsString),
}

impl Asked {
    /// Parses `NAME` or `NAME=VALUE`.
    ///
    /// # Errors
    /// [`Refusal::Name`]: the name is empty, holds a NUL or is longer than [`MAX_NAME`]; [`Refusal::Nul`].
    pub fn parse(text: impl Into<OsString>) -> Result<Self, Refusal> {
        let mut name = text.into().into_vec();
        let value = name.iter().position(|&byte| byte == b'=').map(|at| {
            let value = name.split_off(at + 1);
            name.truncate(at);
            OsString::from_vec(value)
        });
        let name = OsString::from_vec(name);
        if !is_name(&name) {
            return Err(Refusal::Name);
        }
        match value {
            None => Ok(Self::Name(name)),
            Some(value) if value.as_bytes().contains(&0) => Err(Refusal::Nul { name }),
            Some(value) => Ok(Self::Given(name, value)),
        }
    }
}

/// Whether a process can have a variable called so: POSIX forbids `=` and NUL, we what is too long.
pub(crate) fn is_name(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !bytes.is_empty() && bytes.len() <= MAX_NAME && !bytes.iter().any(|byte| matches!(byte, 0 | b'='))
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.debug_tuple("Name").field(name).finish(),
            Self::Given(name, _) => f.debug_tuple("Given").field(name).finish_non_exhaustive(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_a_value_and_the_value_may_have_anything() {
        assert_eq!(Asked::parse("A").unwrap(), Asked::Name("A".into()));
        assert_eq!(Asked::parse("A=").unwrap(), Asked::Given("A".into(), "".into()));
        assert_eq!(Asked::parse("A=b=c").unwrap(), Asked::Given("A".into(), "b=c".into()));
        let odd = OsString::from_vec(b"\xff=\xfe".to_vec());
        assert_eq!(
            Asked::parse(odd).unwrap(),
            Asked::Given(OsString::from_vec(vec![0xff]), OsString::from_vec(vec![0xfe]))
        );
    }

    #[test]
    fn what_no_process_can_have_is_refused() {
        for bad in ["", "=", "=x", "A\0", "A\0=x"] {
            assert!(matches!(Asked::parse(bad), Err(Refusal::Name)), "{bad:?}");
        }
        assert!(matches!(Asked::parse("A".repeat(MAX_NAME + 1)), Err(Refusal::Name)));
        assert!(matches!(Asked::parse("A=x\0y"), Err(Refusal::Nul { .. })));
    }
}
