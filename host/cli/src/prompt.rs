//! A question on the terminal whose answer is not shown, typed straight into secret memory.
//!
//! Own code where a crate exists, because those return the answer in ordinary memory. The terminal hands over each key
//! as it is pressed: so the line's editing is here, an interrupt is seen here and the terminal is set right before it
//! takes effect, and an answer may be longer than the 4095 bytes of the kernel's own line buffer.

use blindferry_handle::secret::{InitError, SecretBytes, SecretError};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read, write};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use std::io;
use std::os::fd::OwnedFd;

/// Asks twice, and gives the answer when it is the same both times. At most `capacity` bytes.
///
/// # Errors
/// [`PromptError`].
pub(crate) fn ask_twice(what: &str, capacity: usize) -> Result<SecretBytes, PromptError> {
    let first = ask(&format!("{what}: "), capacity)?;
    let second = ask(&format!("{what}, again: "), capacity)?;
    #[expect(clippy::disallowed_methods, reason = "compared in constant time; only the verdict leaves")]
    let same = first.ct_eq(second.expose());
    if same { Ok(first) } else { Err(PromptError::Differ) }
}

/// Asks once.
///
/// # Errors
/// [`PromptError`].
pub(crate) fn ask(question: &str, capacity: usize) -> Result<SecretBytes, PromptError> {
    let terminal = Silent::open()?;
    terminal.say(question)?;
    let answer = SecretBytes::init(capacity, |place| edit(place, || terminal.key()));
    // The Enter that was typed is not shown either.
    terminal.say("\n")?;
    answer.map_err(|error| match error {
        InitError::Fill(error) => error,
        InitError::Secret(SecretError::Filled { used: 0, .. }) => PromptError::Empty,
        InitError::Secret(source) => PromptError::Keep { source },
    })
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PromptError {
    #[error("there is no terminal to ask on")]
    NoTerminal { source: io::Error },
    #[error("cannot use the terminal")]
    Terminal { source: io::Error },
    #[error("interrupted")]
    Interrupted,
    #[error("nothing was typed")]
    Empty,
    #[error("more was typed than may be")]
    TooLong,
    #[error("the two answers differ")]
    Differ,
    #[error("cannot keep the answer in secret memory")]
    Keep { source: SecretError },
}

/// The controlling terminal, showing nothing of what is typed until this is dropped.
struct Silent {
    terminal: OwnedFd,
    before: Termios,
}

impl Silent {
    fn open() -> Result<Self, PromptError> {
        let terminal = open("/dev/tty", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| PromptError::NoTerminal { source: error.into() })?;
        let failed = |error: Errno| PromptError::Terminal { source: error.into() };
        let before = tcgetattr(&terminal).map_err(failed)?;
        let mut silent = before.clone();
        silent.local_modes -=
            LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN;
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(failed)?;
        Ok(Self { terminal, before })
    }

    fn say(&self, text: &str) -> Result<(), PromptError> {
        let mut left = text.as_bytes();
        while !left.is_empty() {
            match write(&self.terminal, left) {
                Ok(written) => left = left.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(PromptError::Terminal { source: error.into() }),
            }
        }
        Ok(())
    }

    fn key(&self) -> Result<Option<u8>, PromptError> {
        let mut key = [0];
        loop {
            match read(&self.terminal, &mut key) {
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(Some(key[0])),
                Err(Errno::INTR) => {}
                Err(error) => return Err(PromptError::Terminal { source: error.into() }),
            }
        }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // What was typed ahead must not be shown, nor end up in a shell.
        let _restored = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Puts keys into `place` until the line ends, and says how many bytes they are.
fn edit(place: &mut [u8], mut key: impl FnMut() -> Result<Option<u8>, PromptError>) -> Result<usize, PromptError> {
    let mut used = 0;
    loop {
        match key()? {
            None | Some(b'\n' | b'\r' | END) => return Ok(used),
            Some(INTERRUPT) => return Err(PromptError::Interrupted),
            Some(KILL) => used = 0,
            Some(BACKSPACE | DELETE) => {
                // A character of several bytes goes as a whole: what continues one begins with the bits 10.
                while used > 0 {
                    used -= 1;
                    if place.get(used).is_none_or(|byte| byte & 0xc0 != 0x80) {
                        break;
                    }
                }
            }
            Some(byte) => {
                *place.get_mut(used).ok_or(PromptError::TooLong)? = byte;
                used += 1;
            }
        }
    }
}

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const KILL: u8 = 0x15;
const DELETE: u8 = 0x7f;

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &str) -> Result<Vec<u8>, PromptError> {
        let mut keys = keys.bytes();
        let mut place = [0; 8];
        let used = edit(&mut place, || Ok(keys.next()))?;
        Ok(place[..used].to_vec())
    }

    #[test]
    fn a_line_ends_at_enter_and_can_be_mended() {
        assert_eq!(typed("abc\nrest").unwrap(), b"abc");
        assert_eq!(typed("abd\u{7f}c\r").unwrap(), b"abc");
        assert_eq!(typed("wrong\u{15}abc\n").unwrap(), b"abc");
        assert_eq!(typed("\u{7f}\u{8}a\n").unwrap(), b"a");
        assert_eq!(typed("aäß\u{7f}\n").unwrap(), "aä".as_bytes());
    }

    #[test]
    fn an_interrupt_is_no_answer_and_neither_is_too_much() {
        assert!(matches!(typed("ab\u{3}\n"), Err(PromptError::Interrupted)));
        assert!(matches!(typed("123456789\n"), Err(PromptError::TooLong)));
        assert_eq!(typed("12345678\n").unwrap(), b"12345678");
    }
}
