//! A file that embeds tokens: read and understood before a grant is spent, rendered straight into secret pages.
//!
//! `{{ credential NAME }}` stands for the token of a credential, byte for byte; `{{ credential NAME | json }}` for the
//! same as a value of a format, see [`escape`]. Every other brace is left as it is, so files that have templates of
//! their own pass unchanged. Written by ourselves: engines of templates build their output in ordinary memory, piece by
//! piece, and leave copies of what they insert behind.

use self::escape::{Escape, EscapeError};
use blindferry_handle::secret::{InitError, SecretBytes, SecretError};
use blindferry_worker::Token;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub mod escape;

/// A template that was understood. It holds no token.
#[derive(Debug, PartialEq, Eq)]
pub struct Template {
    name: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Token { credential: String, escape: Escape },
}

/// Why a template is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Its file cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its file is over the bound.
    #[error("{}: more than {MAX_TEMPLATE} bytes", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
    /// Its file has no name that could be that of a variable.
    #[error("{}: has no name in UTF-8", path.display())]
    Name {
        /// Which file.
        path: PathBuf,
    },
    /// Something begins as a placeholder and is none.
    #[error("line {line}: a placeholder is {{{{ credential NAME }}}} or {{{{ credential NAME | ESCAPE }}}}")]
    Placeholder {
        /// Where, from 1.
        line: usize,
    },
    /// A placeholder wants a form that there is not.
    #[error("line {line}: no such escape: {}", escape::NAMES)]
    Escape {
        /// Where, from 1.
        line: usize,
    },
    /// It has too many placeholders.
    #[error("more than {MAX_PLACEHOLDERS} placeholders")]
    TooMany,
    /// It has none.
    #[error("it has no placeholder: nothing would be delivered by it")]
    NoPlaceholder,
}

/// Why a template could not be rendered. None of them says anything of a token.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A token cannot be written as its placeholder wants it.
    #[error("the token of {credential} cannot be written in that form")]
    Escape {
        /// Whose token.
        credential: String,
        /// Why not.
        source: EscapeError,
    },
    /// There is no token for a placeholder.
    #[error("there is no token of {credential}")]
    Missing {
        /// Whose token.
        credential: String,
    },
    /// There are no pages for what is rendered.
    #[error("cannot get secret pages for the file")]
    Pages(#[source] SecretError),
}

impl Template {
    /// Reads a file, and understands it.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn read(path: &Path) -> Result<Self, TemplateError> {
        let read = |source| TemplateError::Read { path: path.to_owned(), source };
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| TemplateError::Name { path: path.to_owned() })?;
        let mut text = Vec::new();
        File::open(path).map_err(read)?.take(MAX_TEMPLATE + 1).read_to_end(&mut text).map_err(read)?;
        if text.len() as u64 > MAX_TEMPLATE {
            return Err(TemplateError::TooLong { path: path.to_owned() });
        }
        Self::of(name, &text)
    }

    /// Understands a text, of a file of this name.
    ///
    /// # Errors
    /// [`TemplateError`], but for those of reading.
    pub fn of(name: &str, text: &[u8]) -> Result<Self, TemplateError> {
        let mut template = Self { name: name.to_owned(), pieces: Vec::new() };
        let (mut rest, mut literal) = (text, Vec::new());
        let line = |rest: &[u8]| 1 + text.iter().take(text.len() - rest.len()).filter(|byte| **byte == b'\n').count();
        while let Some((&first, behind)) = rest.split_first() {
            let Some(inside) = opened(rest) else {
                literal.push(first);
                rest = behind;
                continue;
            };
            let end = inside.windows(2).position(|two| two == b"}}");
            let (words, after) =
                end.and_then(|end| Some((inside.get(..end)?, inside.get(end + 2..)?))).unwrap_or_default();
            let words = std::str::from_utf8(words).unwrap_or_default();
            let (credential, escape) = match words.split_once('|') {
                Some((name, escape)) => {
                    (name.trim(), escape.trim().parse().map_err(|()| TemplateError::Escape { line: line(rest) })?)
                }
                None => (words.trim(), Escape::Raw),
            };
            if credential.is_empty() || credential.contains(char::is_whitespace) {
                return Err(TemplateError::Placeholder { line: line(rest) });
            }
            template.pieces.push(Piece::Text(std::mem::take(&mut literal)));
            template.pieces.push(Piece::Token { credential: credential.to_owned(), escape });
            if template.names().count() > MAX_PLACEHOLDERS {
                return Err(TemplateError::TooMany);
            }
            rest = after;
        }
        template.pieces.push(Piece::Text(literal));
        if template.names().next().is_none() {
            return Err(TemplateError::NoPlaceholder);
        }
        Ok(template)
    }

    /// The name of its file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The credentials whose tokens it embeds, as often as it does.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Token { credential, .. } => Some(credential.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// Asks `known` about each credential.
    ///
    /// # Errors
    /// The first of `known`.
    pub fn bind<E>(&self, known: impl Fn(&str) -> Result<(), E>) -> Result<(), E> {
        self.names().try_for_each(known)
    }

    /// The file, in secret pages. `tokens` finds one by its credential.
    ///
    /// # Errors
    /// [`RenderError`]; what was written by then is wiped.
    pub fn render<'t>(&self, tokens: impl Fn(&str) -> Option<&'t Token>) -> Result<SecretBytes, RenderError> {
        let mut capacity = 0;
        for piece in &self.pieces {
            capacity += match piece {
                Piece::Text(text) => text.len(),
                Piece::Token { credential, escape } => {
                    escape.at_most(tokens(credential).ok_or_else(|| missing(credential))?.len())
                }
            };
        }
        let made = SecretBytes::init(capacity, |place| {
            let mut used = 0;
            for piece in &self.pieces {
                let rest = place.get_mut(used..).unwrap_or_default();
                used += match piece {
                    Piece::Text(text) => escape::copy(text, rest),
                    Piece::Token { credential, escape } => {
                        let token = tokens(credential).ok_or_else(|| missing(credential))?;
                        #[expect(clippy::disallowed_methods, reason = "from secret pages into secret pages")]
                        let written = token.expose(|bytes| escape.write(bytes, rest));
                        written.map_err(|source| RenderError::Escape { credential: credential.clone(), source })?
                    }
                };
            }
            Ok(used)
        });
        made.map_err(|error| match error {
            InitError::Secret(source) => RenderError::Pages(source),
            InitError::Fill(error) => error,
        })
    }
}

fn missing(credential: &str) -> RenderError {
    RenderError::Missing { credential: credential.to_owned() }
}

/// What stands behind `{{ credential`, where `text` begins with that.
fn opened(text: &[u8]) -> Option<&[u8]> {
    let inside = text.strip_prefix(b"{{")?.trim_ascii_start().strip_prefix(b"credential")?;
    inside.first().filter(|byte| byte.is_ascii_whitespace() || **byte == b'}' || **byte == b'|').map(|_| inside)
}

/// No template is longer, in bytes.
const MAX_TEMPLATE: u64 = 64 * 1024;

/// So that the longest tokens, escaped, still fit into one secret.
const MAX_PLACEHOLDERS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Result<Template, TemplateError> {
        Template::of("x", text.as_bytes())
    }

    #[test]
    fn placeholders_are_found_and_every_other_brace_is_left_alone() {
        let template = of("a {{ .Values.x }} {{credential db|toml}} {{ credentials }}\n{{ credential  x }}}").unwrap();
        assert_eq!(template.names().collect::<Vec<_>>(), ["db", "x"]);
        let texts = template.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(std::str::from_utf8(text).unwrap()),
            Piece::Token { .. } => None,
        });
        assert_eq!(texts.collect::<Vec<_>>(), ["a {{ .Values.x }} ", " {{ credentials }}\n", "}"]);
    }

    #[test]
    fn what_is_meant_as_a_placeholder_and_is_none_is_refused_with_its_line() {
        for (text, line) in [("{{ credential }}", 1), ("\n\n{{ credential a b }}", 3), ("{{ credential a", 1)] {
            assert!(matches!(of(text), Err(TemplateError::Placeholder { line: found }) if found == line), "{text}");
        }
        assert!(matches!(of("\n{{ credential a | yaml }}"), Err(TemplateError::Escape { line: 2 })));
        assert!(matches!(of("no token"), Err(TemplateError::NoPlaceholder)));
        assert!(matches!(of(&"{{credential a}}".repeat(MAX_PLACEHOLDERS + 1)), Err(TemplateError::TooMany)));
    }

    #[test]
    fn a_file_that_is_too_long_is_refused() {
        let path = std::env::temp_dir().join(format!("blindferry-template-{}", std::process::id()));
        std::fs::write(&path, vec![b'x'; 64 * 1024 + 1]).unwrap();
        let read = Template::read(&path);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read, Err(TemplateError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_scanner_fail_otherwise_than_by_saying_so(text in "[{} a|\n]{0,40}(credential)?[{} a|\n]{0,40}") {
            let _whatever = of(&text);
        }
    }
}
