//! A secret on its way in: from standard input, from a descriptor, or typed; never from the command line, which every
//! process of the machine can read. It goes straight into secret memory.

use crate::prompt::{self, PromptError};
use blindferry_handle::inherit::{InheritError, take_inherited};
use blindferry_handle::secret::{InitError, SecretBytes, SecretError};
use rustix::io::{Errno, read};
use rustix::stdio::stdin;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, RawFd};

/// Reads a secret of at most `most` bytes: from the inherited descriptor `from`, byte for byte; else from standard
/// input; else, where that is a terminal, from two prompts.
///
/// # Errors
/// [`SecretInputError`].
pub(crate) fn secret(what: &str, from: Option<RawFd>, most: usize) -> Result<SecretBytes, SecretInputError> {
    match from {
        Some(number) => {
            let descriptor = take_inherited(number).map_err(SecretInputError::Inherit)?;
            read_whole(descriptor, LastNewline::Kept, most)
        }
        None if io::stdin().is_terminal() => prompt::ask_twice(what, most).map_err(SecretInputError::Prompt),
        None => read_whole(stdin(), LastNewline::Removed, most),
    }
}

/// Reads a secret that exists already: as [`secret`], but asks only once, since a wrong one will be noticed.
///
/// # Errors
/// [`SecretInputError`].
pub(crate) fn known_secret(what: &str, most: usize) -> Result<SecretBytes, SecretInputError> {
    if io::stdin().is_terminal() {
        return prompt::ask(&format!("{what}: "), most).map_err(SecretInputError::Prompt);
    }
    read_whole(stdin(), LastNewline::Removed, most)
}

/// What is done with a line's end at the very end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastNewline {
    /// It is part of the secret.
    Kept,
    /// One `\n` is not part of a text: `echo` and editors put it there. What is no text in UTF-8 is left alone.
    Removed,
}

/// Reads to the end.
///
/// # Errors
/// [`SecretInputError`]; more than `most` bytes are refused, not cut.
pub(crate) fn read_whole(from: impl AsFd, newline: LastNewline, most: usize) -> Result<SecretBytes, SecretInputError> {
    // One more for the newline, and one to see that there is more.
    let made = SecretBytes::init(most + 2, |place| {
        let used = fill(from, place)?;
        let read = place.get(..used).unwrap_or_default();
        let is_line = newline == LastNewline::Removed && read.ends_with(b"\n") && str::from_utf8(read).is_ok();
        let used = if is_line { used - 1 } else { used };
        match used {
            0 => Err(SecretInputError::Empty),
            _ if used > most => Err(SecretInputError::TooLong { most }),
            _ => Ok(used),
        }
    });
    made.map_err(|error| match error {
        InitError::Fill(SecretInputError::Full) => SecretInputError::TooLong { most },
        InitError::Fill(error) => error,
        InitError::Secret(source) => SecretInputError::Keep { source },
    })
}

fn fill(from: impl AsFd, place: &mut [u8]) -> Result<usize, SecretInputError> {
    let mut used = 0;
    loop {
        let rest = place.get_mut(used..).filter(|rest| !rest.is_empty()).ok_or(SecretInputError::Full)?;
        match read(&from, rest) {
            Ok(0) => return Ok(used),
            Ok(more) => used += more,
            Err(Errno::INTR) => {}
            Err(error) => return Err(SecretInputError::Read { source: error.into() }),
        }
    }
}

/// There is no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretInputError {
    #[error("cannot take the descriptor")]
    Inherit(#[source] InheritError),
    #[error("cannot ask for it")]
    Prompt(#[source] PromptError),
    #[error("cannot read it")]
    Read { source: io::Error },
    #[error("it is empty")]
    Empty,
    #[error("it is longer than {most} bytes")]
    TooLong { most: usize },
    #[error("no room is left")]
    Full,
    #[error("cannot keep it in secret memory")]
    Keep { source: SecretError },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeWriter, Write};
    use std::thread;

    fn read_from(bytes: &[u8], newline: LastNewline, most: usize) -> Result<SecretBytes, SecretInputError> {
        let (reader, mut writer): (_, PipeWriter) = io::pipe().unwrap();
        let bytes = bytes.to_vec();
        let writing = thread::spawn(move || {
            // A reader that has had enough hangs up.
            let _written = writer.write_all(&bytes);
        });
        let secret = read_whole(reader, newline, most);
        writing.join().unwrap();
        secret
    }

    #[test]
    fn exactly_one_newline_at_the_end_of_a_text_is_not_part_of_it() {
        for (given, wanted) in [
            (&b"key\n"[..], &b"key"[..]),
            (b"key\n\n", b"key\n"),
            (b"key", b"key"),
            (b"key\r\n", b"key\r"),
            (b"\nkey ", b"\nkey "),
            (b"\xff\n", b"\xff\n"),
        ] {
            let secret = read_from(given, LastNewline::Removed, 16).unwrap();
            assert!(secret.ct_eq(wanted), "{given:?}");
        }
    }

    #[test]
    fn a_descriptor_is_read_byte_for_byte() {
        assert!(read_from(b"key\n", LastNewline::Kept, 16).unwrap().ct_eq(b"key\n"));
    }

    #[test]
    fn nothing_and_too_much_are_refused_and_not_cut() {
        assert!(matches!(read_from(b"", LastNewline::Removed, 4), Err(SecretInputError::Empty)));
        assert!(matches!(read_from(b"\n", LastNewline::Removed, 4), Err(SecretInputError::Empty)));
        assert!(read_from(b"four", LastNewline::Removed, 4).unwrap().ct_eq(b"four"));
        assert!(read_from(b"four\n", LastNewline::Removed, 4).unwrap().ct_eq(b"four"));
        for long in [&b"fives"[..], b"fives\n", b"four\n\n", &[b'x'; 70_000]] {
            assert!(
                matches!(read_from(long, LastNewline::Removed, 4), Err(SecretInputError::TooLong { most: 4 })),
                "{}",
                long.len()
            );
        }
    }

    #[test]
    fn a_closed_or_standard_descriptor_is_no_secret() {
        assert!(matches!(secret("x", Some(900_001), 4), Err(SecretInputError::Inherit(_))));
    }
}
