//! A token as a value of a format, written into a place that is wiped, and never longer than was said.

use std::str::FromStr;

/// How a token is written: a closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// Byte for byte.
    Raw,
    /// A JSON string with its quotes (RFC 8259, section 7).
    Json,
    /// A TOML basic string with its quotes (TOML 1.0, "String").
    Toml,
    /// Percent-encoded but for the unreserved characters (RFC 3986, section 2.3).
    Url,
    /// One word of a POSIX shell, in single quotes.
    Shell,
    /// Base64 with padding (RFC 4648, section 4).
    Base64,
}

/// All names, as they are written.
pub const NAMES: &str = "raw, json, toml, url, shell or base64";

/// Why a token has no such form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EscapeError {
    /// JSON and TOML hold text alone.
    #[error("it is not text in UTF-8")]
    NotText,
    /// No word of a shell holds one.
    #[error("it holds a NUL byte")]
    Nul,
}

impl FromStr for Escape {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "raw" => Ok(Self::Raw),
            "json" => Ok(Self::Json),
            "toml" => Ok(Self::Toml),
            "url" => Ok(Self::Url),
            "shell" => Ok(Self::Shell),
            "base64" => Ok(Self::Base64),
            _ => Err(()),
        }
    }
}

impl Escape {
    /// The most bytes that a token of `length` takes.
    #[must_use]
    pub fn at_most(self, length: usize) -> usize {
        match self {
            Self::Raw => length,
            Self::Json | Self::Toml => 6 * length + 2,
            Self::Url => 3 * length,
            Self::Shell => 4 * length + 2,
            Self::Base64 => length.div_ceil(3) * 4,
        }
    }

    /// Writes `token` to the beginning of `place`, which has room for [`Self::at_most`]; says how many bytes it took.
    ///
    /// # Errors
    /// [`EscapeError`] when there is no such form of it.
    pub fn write(self, token: &[u8], place: &mut [u8]) -> Result<usize, EscapeError> {
        let mut to = Place { place, used: 0 };
        match self {
            Self::Raw => to.put(token),
            Self::Json | Self::Toml => quoted(token, &mut to)?,
            Self::Url => token.iter().for_each(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => to.put(&[*byte]),
                _ => to.put(&[b'%', digit(byte >> 4), digit(byte & 15)]),
            }),
            Self::Shell => {
                if token.contains(&0) {
                    return Err(EscapeError::Nul);
                }
                to.put(b"'");
                token
                    .iter()
                    .for_each(|byte| to.put(if *byte == b'\'' { b"'\\''" } else { std::slice::from_ref(byte) }));
                to.put(b"'");
            }
            Self::Base64 => token.chunks(3).for_each(|three| base64(three, &mut to)),
        }
        Ok(to.used)
    }
}

/// Copies `text` to the beginning of `place`; says how many bytes it took.
pub(crate) fn copy(text: &[u8], place: &mut [u8]) -> usize {
    let mut to = Place { place, used: 0 };
    to.put(text);
    to.used
}

struct Place<'p> {
    place: &'p mut [u8],
    used: usize,
}

impl Place<'_> {
    /// What has no room is counted all the same: the secret pages refuse such a length.
    fn put(&mut self, bytes: &[u8]) {
        if let Some(here) = self.place.get_mut(self.used..self.used + bytes.len()) {
            here.copy_from_slice(bytes);
        }
        self.used += bytes.len();
    }
}

/// What JSON and TOML have in common: both know `\uXXXX`, and must escape quotes, backslashes and control characters.
fn quoted(token: &[u8], to: &mut Place<'_>) -> Result<(), EscapeError> {
    let text = std::str::from_utf8(token).map_err(|_| EscapeError::NotText)?;
    to.put(b"\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => to.put(&[b'\\', byte]),
            0..32 | 127 => to.put(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]),
            _ => to.put(&[byte]),
        }
    }
    to.put(b"\"");
    Ok(())
}

/// One digit of a hexadecimal number.
fn digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'A' + (value - 10) }
}

fn base64(three: &[u8], to: &mut Place<'_>) {
    let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
    let bits = at(0) << 16 | at(1) << 8 | at(2);
    for (index, shift) in [18, 12, 6, 0].into_iter().enumerate() {
        to.put(&[if index <= three.len() { sextet(bits >> shift & 63) } else { b'=' }]);
    }
}

fn sextet(value: u32) -> u8 {
    // By arithmetic, not by a table: which line of a table was read is seen in the cache.
    let value = u8::try_from(value).unwrap_or(0);
    match value {
        0..26 => b'A' + value,
        26..52 => b'a' + (value - 26),
        52..62 => b'0' + (value - 52),
        62 => b'+',
        _ => b'/',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Escape; 6] = [Escape::Raw, Escape::Json, Escape::Toml, Escape::Url, Escape::Shell, Escape::Base64];

    fn written(escape: Escape, token: &[u8]) -> Result<String, EscapeError> {
        let mut place = vec![0; escape.at_most(token.len())];
        let used = escape.write(token, &mut place)?;
        place.truncate(used);
        Ok(String::from_utf8(place).unwrap())
    }

    #[test]
    fn every_format_has_its_own_idea_of_a_dangerous_byte() {
        let token = b"a\"b\\c'd\n $e";
        let expected = [
            "a\"b\\c'd\n $e",
            r#""a\"b\\c'd\u000A $e""#,
            r#""a\"b\\c'd\u000A $e""#,
            "a%22b%5Cc%27d%0A%20%24e",
            "'a\"b\\c'\\''d\n $e'",
            "YSJiXGMnZAogJGU=",
        ];
        for (escape, expected) in ALL.into_iter().zip(expected) {
            assert_eq!(written(escape, token).unwrap(), expected, "{escape:?}");
        }
        assert_eq!(written(Escape::Json, b"\xff"), Err(EscapeError::NotText));
        assert_eq!(written(Escape::Shell, b"\0"), Err(EscapeError::Nul));
    }

    proptest! {
        #[test]
        fn what_a_parser_of_the_format_reads_is_the_token(text in "\\PC{0,30}[\\x01-\\x1f\"'\\\\]{0,10}") {
            let json: String = serde_json::from_str(&written(Escape::Json, text.as_bytes()).unwrap()).unwrap();
            prop_assert_eq!(&json, &text);
            let toml: toml::Table = format!("x = {}", written(Escape::Toml, text.as_bytes()).unwrap()).parse().unwrap();
            prop_assert_eq!(toml["x"].as_str().unwrap(), &text);
        }

        #[test]
        fn nothing_is_longer_than_was_said(token in prop::collection::vec(any::<u8>(), 0..60)) {
            for escape in ALL {
                let mut place = vec![0; escape.at_most(token.len())];
                if let Ok(used) = escape.write(&token, &mut place) {
                    prop_assert!(used <= place.len());
                }
            }
        }
    }
}
