//! The program as it will run: a copy that can be executed but not read, so that the kernel makes the process
//! unreadable in execve(2) itself; measured, and the copy is what was measured.

use crate::environment::Environment;
use crate::program::Program;
use blindferry_handle::image::{ExecOnlyImage, ImageError};
use blindferry_proto::identifier::Digest;
use ring::digest::{Context, SHA256};
use std::ffi::{CString, NulError, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that is ready to be executed.
pub(crate) struct Prepared {
    words: Vec<OsString>,
    form: Form,
}

enum Form {
    /// The copy, and the SHA-256 of its bytes.
    Copy(ExecOnlyImage, Digest),
    /// The file itself, which we may not read: then nobody else of this user may, and the kernel protects it as well as
    /// it would the copy. Without reading there is no measuring.
    Unreadable(PathBuf),
    /// The file itself, as the command line demands.
    Unprotected(PathBuf),
}

/// Why a program cannot be executed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProtectError {
    #[error("{}: cannot be made unreadable (--unprotected executes it as it is)", file.display())]
    Copy { file: PathBuf, source: ImageError },
    #[error("an argument or a variable holds a NUL byte")]
    Nul(#[source] NulError),
    #[error("cannot execute the program")]
    Execute(#[source] io::Error),
    #[error("cannot execute the program's copy")]
    ExecuteCopy(#[source] ImageError),
}

impl Prepared {
    pub(crate) fn new(program: Program, unprotected: bool) -> Result<Self, ProtectError> {
        let Program { file, words } = program;
        if unprotected {
            return Ok(Self { words, form: Form::Unprotected(file) });
        }
        match copied(&file) {
            Ok((image, digest)) => Ok(Self { words, form: Form::Copy(image, digest) }),
            Err(ImageError::Open { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
                Ok(Self { words, form: Form::Unreadable(file) })
            }
            Err(source) => Err(ProtectError::Copy { file, source }),
        }
    }

    /// The SHA-256 of the very bytes that will run, where they are known.
    ///
    /// Of a script that is its interpreter: the script itself is read only later, by name.
    pub(crate) fn digest(&self) -> Option<Digest> {
        match &self.form {
            Form::Copy(_, digest) => Some(*digest),
            Form::Unreadable(_) | Form::Unprotected(_) => None,
        }
    }

    /// What should be said loudly, if anything.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        match self.form {
            Form::Copy(..) | Form::Unreadable(_) => None,
            Form::Unprotected(_) => Some("--unprotected: other processes of this user can read the token"),
        }
    }

    /// Becomes the program. Returns only when that fails.
    pub(crate) fn execute(self, environment: Environment) -> ProtectError {
        match self.form {
            Form::Copy(image, _) => {
                let words = self.words.into_iter().map(|word| CString::new(word.into_vec()));
                match (words.collect::<Result<Vec<_>, _>>(), environment.into_assignments()) {
                    (Ok(words), Ok(assignments)) => ProtectError::ExecuteCopy(image.exec(&words, &assignments)),
                    (Err(error), _) | (_, Err(error)) => ProtectError::Nul(error),
                }
            }
            Form::Unreadable(file) | Form::Unprotected(file) => {
                let mut command = Command::new(file);
                let mut words = self.words.into_iter();
                if let Some(name) = words.next() {
                    command.arg0(name);
                }
                ProtectError::Execute(command.args(words).env_clear().envs(environment.into_pairs()).exec())
            }
        }
    }
}

fn copied(file: &Path) -> Result<(ExecOnlyImage, Digest), ImageError> {
    let image = ExecOnlyImage::from_path(file)?;
    let mut context = Context::new(&SHA256);
    image.bytes_hashed_by(&mut |piece| context.update(piece))?;
    let mut digest = Digest([0; Digest::LEN]);
    // The same length on both sides: SHA-256 has 32 bytes.
    digest.0.copy_from_slice(context.finish().as_ref());
    Ok((image, digest))
}
