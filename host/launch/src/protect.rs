//! The program as it will run, at the level of protection that was asked for, which was tried before.
//!
//! At `exec-only` and above it runs from a copy that can be executed but not read, so that the kernel makes the process
//! unreadable in execve(2) itself; measured, and the copy is what was measured.

use crate::environment::Environment;
use crate::group::{GroupError, OwnGroup, give_up};
use crate::level::Level;
use crate::outside::Outsider;
use crate::probe::{ProbeError, exec_only, own_group, own_namespace, user_sees_everything};
use crate::program::Program;
use blindferry_handle::image::{ExecOnlyImage, ImageError};
use blindferry_proto::identifier::Digest;
use blindferry_proto::protection::ProtectionLevel;
use ring::digest::{Context, SHA256};
use rustix::fs::{Mode, OFlags, fstat, open};
use std::ffi::{CString, NulError, OsString};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A level that holds here: it was entered, and tried. Of [`Level::None`] there is nothing to try.
pub(crate) struct Protection(Level);

/// A program that is ready to be executed.
pub(crate) struct Prepared {
    words: Vec<OsString>,
    form: Form,
}

enum Form {
    /// The copy, and the SHA-256 of its bytes.
    Copy(ExecOnlyImage, Digest),
    /// The file itself, which we may not read and which belongs to another user: then nobody else of this user may read
    /// it, and the kernel protects it as well as it would the copy. Without reading there is no measuring.
    Unreadable(OwnedFd),
    /// The file itself, where its group protects it and it cannot be copied; or where nothing shall.
    File(PathBuf),
}

/// Why a program cannot be executed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProtectError {
    #[error("--protection {}: not available here, and nothing less was allowed", level.name())]
    Probe { level: Level, source: ProbeError },
    #[error("--protection {}: not available here, and nothing less was allowed", level.name())]
    Group { level: Level, source: GroupError },
    #[error("{}: cannot be made unreadable (--protection none executes it as it is)", file.display())]
    Copy { file: PathBuf, source: ImageError },
    #[error("{}: cannot be looked at", file.display())]
    Look { file: PathBuf, source: io::Error },
    #[error("{}: belongs to the user who runs it, who could make it readable again meanwhile: make it readable", file.display())]
    Own { file: PathBuf },
    #[error("an argument or a variable holds a NUL byte")]
    Nul(#[source] NulError),
    #[error("cannot execute the program")]
    Execute(#[source] io::Error),
    #[error("cannot execute the program's copy")]
    ExecuteCopy(#[source] ImageError),
}

impl Protection {
    /// Enters a level and tries it.
    ///
    /// # Errors
    /// [`ProtectError::Group`], [`ProtectError::Probe`]. Then the program must not be started: nothing less is taken.
    pub(crate) fn establish(level: Level, outsider: Option<RawFd>) -> Result<Self, ProtectError> {
        let group = |source| ProtectError::Group { level, source };
        let held = match level {
            Level::None => return give_up().map(|()| Self(level)).map_err(group),
            Level::ExecOnly => {
                give_up().map_err(group)?;
                exec_only()
            }
            Level::OwnGroup => own_group(&OwnGroup::enter().map_err(group)?),
            // The starter entered it.
            Level::OwnNamespace => {
                give_up().map_err(group)?;
                Outsider::inherited(outsider).map_err(ProbeError::Outside).and_then(|outsider| own_namespace(&outsider))
            }
        };
        match held {
            Ok(held) => Ok(Self(held.level())),
            Err(source) => Err(ProtectError::Probe { level, source }),
        }
    }

    /// The level that holds, as the vault is told.
    pub(crate) fn level(&self) -> ProtectionLevel {
        self.0.told()
    }

    /// What should be said loudly, if anything.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        match self.0 {
            Level::None => Some(
                "--protection none: every process of this user can read the token, in the program's memory, environment \
                 and descriptors",
            ),
            Level::ExecOnly | Level::OwnGroup | Level::OwnNamespace if user_sees_everything() => Some(
                "this user holds CAP_SYS_PTRACE, which no level keeps out: its other processes with it can read the \
                 token",
            ),
            Level::ExecOnly | Level::OwnGroup | Level::OwnNamespace => None,
        }
    }
}

impl Prepared {
    pub(crate) fn new(program: Program, protection: &Protection) -> Result<Self, ProtectError> {
        let Program { file, words } = program;
        if protection.0 == Level::None {
            return Ok(Self { words, form: Form::File(file) });
        }
        let form = match (copied(&file), protection.0) {
            (Ok((image, digest)), _) => Form::Copy(image, digest),
            (Err(ImageError::Open { source, .. }), _) if source.kind() == ErrorKind::PermissionDenied => {
                unreadable(file)?
            }
            (Err(ImageError::Create { .. } | ImageError::TooLarge { .. }), Level::OwnGroup | Level::OwnNamespace) => {
                Form::File(file)
            }
            (Err(source), _) => return Err(ProtectError::Copy { file, source }),
        };
        Ok(Self { words, form })
    }

    /// The SHA-256 of the very bytes that will run, where they are known.
    ///
    /// Of a script that is its interpreter: the script itself is read only later, by name.
    pub(crate) fn digest(&self) -> Option<Digest> {
        match &self.form {
            Form::Copy(_, digest) => Some(*digest),
            Form::Unreadable(_) | Form::File(_) => None,
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
            // The file that was looked at, whatever has its name by now.
            Form::Unreadable(file) => {
                execute(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())), self.words, environment)
            }
            Form::File(file) => execute(&file, self.words, environment),
        }
    }
}

fn execute(file: &Path, words: Vec<OsString>, environment: Environment) -> ProtectError {
    let mut command = Command::new(file);
    let mut words = words.into_iter();
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    ProtectError::Execute(command.args(words).env_clear().envs(environment.into_pairs()).exec())
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

fn unreadable(file: PathBuf) -> Result<Form, ProtectError> {
    let look = |source: rustix::io::Errno| ProtectError::Look { file: file.clone(), source: source.into() };
    let opened = open(&file, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(look)?;
    let owner = fstat(&opened).map_err(look)?.st_uid;
    if owner == rustix::process::geteuid().as_raw() {
        return Err(ProtectError::Own { file });
    }
    Ok(Form::Unreadable(opened))
}
