//! A token that the launcher left in secret memory under a descriptor, for a program that knows of it.
//!
//! `blindferry-launch --deliver descriptor` sets `${NAME}_FD` to `NUMBER:EXPIRES:TYPE`: the number of the descriptor,
//! the end of the token's life in seconds since the epoch, and its form, such as `Bearer`. The descriptor is one of
//! memfd_secret(2), exactly as long as the token: map it, copy it, overwrite it with zeros, close it. [`take`] does.

use crate::token::Token;
use crate::worker::now;
use blindferry_handle::inherit::{InheritError, take_inherited};
use blindferry_handle::secret::{SecretBytes, SecretError};
use rustix::fs::fstat;
use std::env;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum DeliveredError {
    /// The program was not started so, or the variable was taken away.
    #[error("there is no variable {name}")]
    NoVariable {
        /// Which.
        name: String,
    },
    /// Its value is not `NUMBER:EXPIRES:TYPE`.
    #[error("the variable {name} does not say where a token is")]
    Variable {
        /// Which.
        name: String,
    },
    /// No such descriptor, or it was taken before.
    #[error("cannot take the descriptor of the token")]
    Descriptor(#[source] InheritError),
    /// It cannot be looked at.
    #[error("cannot look at the descriptor of the token")]
    Look(#[source] io::Error),
    /// It is no secret memory, or was wiped already.
    #[error("cannot take the token over")]
    Secret(#[source] SecretError),
}

/// Moves the token of this credential into secret pages of this process and wipes where it came from. Call it at the
/// start, before other threads; it works once.
///
/// # Errors
/// [`DeliveredError`].
pub fn take(credential: &str) -> Result<Token, DeliveredError> {
    let name = variable(credential);
    let Some(value) = env::var_os(&name) else { return Err(DeliveredError::NoVariable { name }) };
    let Some((number, expires, token_type)) = value.to_str().and_then(understood) else {
        return Err(DeliveredError::Variable { name });
    };
    let descriptor = take_inherited(number).map_err(DeliveredError::Descriptor)?;
    let length = fstat(&descriptor).map_err(|error| DeliveredError::Look(error.into()))?.st_size;
    let bytes = SecretBytes::adopt(descriptor, usize::try_from(length).unwrap_or(0)).map_err(DeliveredError::Secret)?;
    Ok(Token::new(bytes, token_type.to_owned(), expires, now()))
}

/// The variable that says where the token of this credential is: its name in capitals, `_` for all but letters and
/// digits, and `_FD`.
#[must_use]
pub fn variable(credential: &str) -> String {
    let digit_first = credential.starts_with(|c: char| c.is_ascii_digit());
    let capital = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    // A shell has no name for a variable that begins with a digit.
    digit_first.then_some('_').into_iter().chain(credential.chars().map(capital)).chain("_FD".chars()).collect()
}

/// What the variable says of a token under this descriptor: for launchers.
#[must_use]
pub fn announcement(descriptor: BorrowedFd<'_>, token: &Token) -> String {
    format!("{}:{}:{}", descriptor.as_raw_fd(), token.expires(), token.token_type())
}

fn understood(value: &str) -> Option<(RawFd, u64, &str)> {
    let (number, rest) = value.split_once(':')?;
    let (expires, token_type) = rest.split_once(':')?;
    Some((number.parse().ok()?, expires.parse().ok()?, token_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_is_understood_and_nothing_else() {
        let token = Token::new(SecretBytes::copy_and_wipe(&mut [1]).unwrap(), "Bearer".into(), 77, 0);
        let here = io::stdin();
        let said = announcement(std::os::fd::AsFd::as_fd(&here), &token);
        assert_eq!(understood(&said), Some((0, 77, "Bearer")));
        for bad in ["", "3", "3:4", "x:4:Bearer", "3:x:Bearer"] {
            assert_eq!(understood(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_program_that_was_started_otherwise_is_told_so() {
        assert_eq!(variable("7-days"), "_7_DAYS_FD");
        assert!(matches!(take("no-such-credential"), Err(DeliveredError::NoVariable { .. })));
    }
}
