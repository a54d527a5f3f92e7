//! Tokens in the forms that a program expects, who knows nothing of us, or something.
//!
//! | form | what the program finds | what it costs |
//! |---|---|---|
//! | descriptor | secret memory under a number | only for those who know of it |
//! | pipe | a path that can be read once | in the kernel's buffer until it is read |
//! | stdin | its standard input | as a pipe |
//! | memfd | a path that can be read again | in ordinary memory, swappable, for as long as the program runs |
//! | file, credentials-directory | a path of its choice, or one that systemd would name so | as a memfd, see [`link`] |
//! | variable | a variable | in its environment, and in that of every program it starts |
//!
//! What keeps others of the same user out of all of them is that the program is unreadable (see [`crate::protect`]): its
//! descriptors, its memory and its environment. A memfd is left unsealed, so that the program may overwrite it.
//!
//! Everything is opened before the first grant is spent, filled when the last token is there.

use crate::deliver::form::Form;
use crate::deliver::plan::{Content, DIRECTORY_VARIABLE, Piece, Plan};
use blindferry_handle::secret::{InitError, SecretBytes, SecretError, SharedSecret};
use blindferry_launch::template::RenderError;
use blindferry_proto::name::CredentialName;
use blindferry_worker::Token;
use blindferry_worker::delivered::announcement;
use rustix::stdio::dup2_stdin;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

pub(crate) mod fill;
pub(crate) mod form;
mod link;
pub(crate) mod plan;

/// What a program will read its tokens from: open, and empty.
pub(crate) struct Outlets {
    plan: Plan,
    /// As many as the plan has pieces, in its order.
    files: Vec<Option<Memory>>,
    directory: Option<PathBuf>,
}

/// A memfd, and what of it the program inherits.
struct Memory {
    written: OwnedFd,
    inherited: Option<OwnedFd>,
}

/// Tokens on their way into a program: descriptors to leave open, variables to set.
#[derive(Default)]
pub(crate) struct Delivery {
    pub(crate) descriptors: Vec<OwnedFd>,
    pub(crate) variables: Vec<(OsString, OsString)>,
    /// Wiped when the program is not executed after all.
    secrets: Vec<SharedSecret>,
}

/// Why a token could not be delivered. None of them says anything of the token but its length.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliverError {
    #[error("cannot make a pipe")]
    MakePipe(#[source] io::Error),
    #[error("a token of {length} bytes does not fit into a pipe of {capacity}: use --deliver memfd")]
    PipeTooSmall { length: usize, capacity: usize, source: io::Error },
    #[error("cannot write the token into a pipe")]
    WritePipe(#[source] io::Error),
    #[error("cannot make the pipe standard input")]
    Stdin(#[source] io::Error),
    #[error("cannot make a memfd")]
    MakeMemfd(#[source] io::Error),
    #[error("cannot write the token into a memfd")]
    WriteMemfd(#[source] io::Error),
    #[error("{}: cannot be made to lead to the token", path.display())]
    Link { path: PathBuf, source: io::Error },
    #[error("{}: something else lies there, which is left alone", path.display())]
    Occupied { path: PathBuf },
    #[error("{}: leads to descriptor {number}, which is in use: remove that link", path.display())]
    Number { path: PathBuf, number: RawFd },
    #[error("{}: is no directory, or others than its user may enter it", path.display())]
    Directory { path: PathBuf },
    #[error("cannot make secret memory for the program")]
    Secret(#[source] SecretError),
    #[error("cannot write the file that embeds a token")]
    Render(#[source] RenderError),
    #[error("a token that holds a NUL byte cannot be a variable: use --deliver pipe")]
    NotText,
}

/// A content with its bytes.
enum Secret<'t> {
    Token(&'t Token),
    Rendered(SecretBytes),
}

impl Outlets {
    /// Makes what can be made without a token.
    ///
    /// # Errors
    /// [`DeliverError`].
    pub(crate) fn open(plan: Plan) -> Result<Self, DeliverError> {
        let named = |piece: &&Piece| piece.form == Form::Directory;
        let names: Vec<&str> = plan.pieces.iter().filter(named).map(|piece| piece.name.as_str()).collect();
        let directory = if names.is_empty() { None } else { Some(link::directory(&names)?) };
        let mut files = Vec::new();
        for piece in &plan.pieces {
            let path = match (&piece.form, &directory) {
                (Form::File(path), _) => Some(path.clone()),
                (Form::Directory, Some(directory)) => Some(directory.join(&piece.name)),
                _ => None,
            };
            files.push(match path {
                Some(path) => {
                    let written = fill::memfd()?;
                    let inherited = Some(link::lead(&path, &fill::read_only(&written)?)?);
                    Some(Memory { written, inherited })
                }
                None if piece.form == Form::Memfd => Some(Memory { written: fill::memfd()?, inherited: None }),
                None => None,
            });
        }
        Ok(Self { plan, files, directory })
    }

    /// Puts the tokens in, `tokens` in the order of the plan's credentials; all but variables that are a token.
    ///
    /// # Errors
    /// [`DeliverError`].
    pub(crate) fn fill(&self, tokens: &[&Token]) -> Result<Delivery, DeliverError> {
        let mut delivery = Delivery::default();
        for (piece, memory) in self.plan.pieces.iter().zip(&self.files) {
            if matches!(piece.form, Form::Variable(_)) {
                continue;
            }
            if let (Content::Token(index), Form::Descriptor) = (&piece.content, &piece.form) {
                delivery.announce(piece, tokens.get(*index).copied().ok_or_else(missing)?)?;
                continue;
            }
            let secret = self.secret(&piece.content, tokens)?;
            match (&piece.form, memory) {
                (Form::Pipe, _) => delivery.file(piece, secret.lend(fill::piped)?),
                (Form::Stdin, _) => {
                    let pipe = secret.lend(fill::piped)?;
                    dup2_stdin(pipe).map_err(|error| DeliverError::Stdin(error.into()))?;
                }
                (_, Some(memory)) => {
                    secret.lend(|bytes| fill::replace(&memory.written, bytes)).map_err(DeliverError::WriteMemfd)?;
                }
                // Every other form has a memfd, see `open`.
                (_, None) => return Err(missing()),
            }
        }
        Ok(delivery)
    }

    /// Writes the files that embed or are the token of this credential again, but for those that embed one that is over.
    ///
    /// # Errors
    /// [`DeliverError`].
    pub(crate) fn refresh(&self, of: usize, tokens: &[&Token], over: &BTreeSet<usize>) -> Result<(), DeliverError> {
        for (piece, memory) in self.files_of(of) {
            if over.iter().any(|over| self.plan.holds(piece, *over)) {
                continue;
            }
            let secret = self.secret(&piece.content, tokens)?;
            secret.lend(|bytes| fill::replace(&memory.written, bytes)).map_err(DeliverError::WriteMemfd)?;
        }
        Ok(())
    }

    /// Empties the files that embed or are the token of this credential.
    pub(crate) fn empty(&self, of: usize) {
        for (_, memory) in self.files_of(of) {
            // Nothing is left to be done when that fails; it could only for want of a file.
            let _emptied = fill::empty(&memory.written);
        }
    }

    /// The variables that are a token, and everything that the program inherits.
    ///
    /// # Errors
    /// [`DeliverError::NotText`], or what keeps a template from being rendered.
    pub(crate) fn finish(self, mut delivery: Delivery, tokens: &[&Token]) -> Result<Delivery, DeliverError> {
        for piece in &self.plan.pieces {
            if let Form::Variable(name) = &piece.form {
                let text = self.secret(&piece.content, tokens)?.lend(text_of)?;
                delivery.variables.push((name.clone(), text));
            }
        }
        if let Some(directory) = self.directory {
            delivery.variables.push((DIRECTORY_VARIABLE.into(), directory.into()));
        }
        for (piece, memory) in self.plan.pieces.iter().zip(self.files) {
            match memory {
                Some(Memory { inherited: Some(inherited), .. }) => delivery.descriptors.push(inherited),
                Some(Memory { written, inherited: None }) => delivery.file(piece, written),
                None => {}
            }
        }
        Ok(delivery)
    }

    /// The descriptors that a renewal writes to.
    pub(crate) fn written(&self) -> impl Iterator<Item = &OwnedFd> {
        self.files.iter().flatten().map(|memory| &memory.written)
    }

    /// Whose tokens, in order.
    pub(crate) fn credentials(&self) -> &[CredentialName] {
        &self.plan.credentials
    }

    fn files_of(&self, of: usize) -> impl Iterator<Item = (&Piece, &Memory)> {
        let all = self.plan.pieces.iter().zip(&self.files);
        all.filter_map(|(piece, memory)| Some((piece, memory.as_ref()?)))
            .filter(move |(piece, _)| self.plan.holds(piece, of))
    }

    fn secret<'t>(&self, content: &Content, tokens: &[&'t Token]) -> Result<Secret<'t>, DeliverError> {
        match content {
            Content::Token(index) => tokens.get(*index).copied().map(Secret::Token).ok_or_else(missing),
            Content::Rendered(template) => {
                let found = |name: &str| tokens.get(self.plan.index(name).ok()?).copied();
                template.render(found).map(Secret::Rendered).map_err(DeliverError::Render)
            }
        }
    }
}

impl Delivery {
    fn file(&mut self, piece: &Piece, descriptor: OwnedFd) {
        let path = format!("/dev/fd/{}", descriptor.as_raw_fd());
        self.variables.extend(piece.variable().map(|variable| (variable, path.into())));
        self.descriptors.push(descriptor);
    }

    /// A token in secret memory of its own, for a program that moves it into its own.
    fn announce(&mut self, piece: &Piece, token: &Token) -> Result<(), DeliverError> {
        let shared = SharedSecret::create(token.len(), |place| {
            #[expect(clippy::disallowed_methods, reason = "from secret pages into those that the program takes over")]
            token.expose(|bytes| place.copy_from_slice(bytes));
            Ok::<_, Infallible>(())
        });
        let shared = shared.map_err(|error| match error {
            InitError::Secret(source) => DeliverError::Secret(source),
            InitError::Fill(never) => match never {},
        })?;
        let inherited = shared.as_fd().try_clone_to_owned().map_err(DeliverError::MakeMemfd)?;
        self.variables.extend(piece.variable().map(|name| (name, announcement(inherited.as_fd(), token).into())));
        self.descriptors.push(inherited);
        self.secrets.push(shared);
        Ok(())
    }
}

impl Secret<'_> {
    fn lend<R>(&self, used: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            #[expect(clippy::disallowed_methods, reason = "into the form that the program asked for")]
            Self::Token(token) => token.expose(used),
            #[expect(clippy::disallowed_methods, reason = "into the form that the program asked for")]
            Self::Rendered(file) => used(file.expose()),
        }
    }
}

/// A variable is what was asked for; its copy is the program's.
fn text_of(bytes: &[u8]) -> Result<OsString, DeliverError> {
    let text = !bytes.contains(&0);
    text.then(|| OsString::from_vec(bytes.to_vec())).ok_or(DeliverError::NotText)
}

/// There are as many tokens as credentials, so this is never seen.
fn missing() -> DeliverError {
    DeliverError::WriteMemfd(io::ErrorKind::NotFound.into())
}
