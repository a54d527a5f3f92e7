//! The answer of a token endpoint (RFC 6749 sections 5.1 and 5.2), read strictly and without leaving copies.
//!
//! The token goes from the answer's wiping buffer straight into secret memory. Where JSON escapes something in it, as
//! some servers do with `/`, `serde_json` unescapes into a buffer of its own: that one is wiped when it is freed, by the
//! process's wiping allocator alone. What `serde_json` has to say about bad JSON may quote it, and is dropped.

use crate::upstream::Answer;
use blindferry_handle::secret::{InitError, SecretBytes, SecretError};
use blindferry_proto::bounded::Text;
use blindferry_proto::limits::MAX_TOKEN;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use std::convert::Infallible;
use std::fmt;

/// Seconds of the longest life that is believed of a token: ten years.
pub const MAX_EXPIRES_IN: u64 = 10 * 366 * 86_400;

/// What was granted.
pub(super) struct Granted {
    pub(super) secret: SecretBytes,
    pub(super) token_type: Text<32>,
    /// Seconds, from 1 to [`MAX_EXPIRES_IN`].
    pub(super) expires_in: Option<u64>,
}

/// Reads a successful answer.
pub(super) fn read(answer: &Answer) -> Result<Granted, BadAnswer> {
    let json = answer.json().ok_or(BadAnswer::NotJson)?;
    let wire: Wire =
        serde_json::from_slice(json).map_err(|error| BadAnswer::Json { line: error.line(), column: error.column() })?;
    Ok(Granted {
        secret: wire.access_token.0?,
        token_type: token_type(&wire.token_type)?,
        expires_in: wire.expires_in.as_ref().map(expires_in).transpose()?,
    })
}

/// Reads the error code of an answer that refuses, if it has one that can be repeated.
pub(super) fn read_error(answer: &Answer) -> Option<OauthCode> {
    let wire: WireError = serde_json::from_slice(answer.json()?).ok()?;
    OauthCode::parse(&wire.error)
}

/// An error code of OAuth 2.0, such as `invalid_client`.
///
/// The standard allows almost any ASCII here. Only lower-case letters and underscores are repeated, which all
/// registered codes are, so that a server that echoes a secret does not get it into our logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OauthCode(Text<40>);

impl OauthCode {
    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(in crate::mint) fn is_passing(&self) -> bool {
        matches!(self.as_str(), "temporarily_unavailable" | "server_error" | "slow_down")
    }

    fn parse(code: &str) -> Option<Self> {
        let legal = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        Text::new(code).ok().filter(|_| legal).map(Self)
    }
}

impl fmt::Display for OauthCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An answer of status 200 that gives no token. Repeats none of it.
#[derive(Debug, thiserror::Error)]
pub enum BadAnswer {
    /// The content type is another.
    #[error("its content type is not application/json")]
    NotJson,
    /// Not JSON, or not the JSON of a token response.
    #[error("its JSON is not that of RFC 6749 section 5.1, at line {line}, column {column}")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// The token's length.
    #[error("its token has {length} bytes, want 1 to {MAX_TOKEN}")]
    TokenLength {
        /// Bytes.
        length: usize,
    },
    /// The token's characters.
    #[error("its token has a character that cannot stand in a header")]
    TokenCharacters,
    /// The token's type.
    #[error("its token type is not legal")]
    TokenType,
    /// The token's life.
    #[error("its expires_in is not a number from 1 to {MAX_EXPIRES_IN}")]
    ExpiresIn,
    /// There is no secret memory for the token.
    #[error("cannot hold the token")]
    Memory(#[source] SecretError),
}

impl BadAnswer {
    /// The stable word.
    pub(in crate::mint) fn code(&self) -> &'static str {
        match self {
            Self::NotJson => "answer-not-json",
            Self::Json { .. } => "answer-json",
            Self::TokenLength { .. } => "answer-token-length",
            Self::TokenCharacters => "answer-token-characters",
            Self::TokenType => "answer-token-type",
            Self::ExpiresIn => "answer-expires-in",
            Self::Memory(_) => "secret-memory",
        }
    }
}

#[derive(Deserialize)]
struct Wire {
    access_token: AccessToken,
    token_type: String,
    expires_in: Option<serde_json::Number>,
}

#[derive(Deserialize)]
struct WireError {
    error: String,
}

/// The token, in secret memory as soon as it is seen, or why it is not one.
struct AccessToken(Result<SecretBytes, BadAnswer>);

impl<'de> Deserialize<'de> for AccessToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TokenVisitor;
        impl Visitor<'_> for TokenVisitor {
            type Value = AccessToken;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an access token")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<AccessToken, E> {
                Ok(AccessToken(keep(text)))
            }
        }
        deserializer.deserialize_str(TokenVisitor)
    }
}

fn keep(token: &str) -> Result<SecretBytes, BadAnswer> {
    let length = token.len();
    if length == 0 || length > MAX_TOKEN {
        return Err(BadAnswer::TokenLength { length });
    }
    // RFC 6749 appendix A.12 has the space too, but no header that carries a token does.
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(BadAnswer::TokenCharacters);
    }
    let kept = SecretBytes::init(length, |place| {
        place.copy_from_slice(token.as_bytes());
        Ok::<_, Infallible>(length)
    });
    kept.map_err(|error| match error {
        InitError::Secret(source) => BadAnswer::Memory(source),
        InitError::Fill(never) => match never {},
    })
}

/// RFC 6749 section 7.1 and appendix A.13. Case does not matter (section 5.1), so `Bearer` gets its usual one.
fn token_type(text: &str) -> Result<Text<32>, BadAnswer> {
    if text.eq_ignore_ascii_case("bearer") {
        return Ok(Text::cut("Bearer"));
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let token_type = Text::new(text).map_err(|_| BadAnswer::TokenType)?;
    if text.is_empty() || !text.bytes().all(legal) { Err(BadAnswer::TokenType) } else { Ok(token_type) }
}

fn expires_in(number: &serde_json::Number) -> Result<u64, BadAnswer> {
    number.as_u64().filter(|seconds| (1..=MAX_EXPIRES_IN).contains(seconds)).ok_or(BadAnswer::ExpiresIn)
}
