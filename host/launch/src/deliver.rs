//! The token in the form that a program expects, who knows nothing of us.
//!
//! | form | what the program finds | what it costs |
//! |---|---|---|
//! | pipe | a path that can be read once | in the kernel's buffer until it is read |
//! | memfd | a path that can be read again | in ordinary memory, swappable, for as long as the program runs |
//! | stdin | its standard input | as a pipe |
//! | variable | a variable | in its environment, and in that of every program it starts |
//!
//! What keeps others of the same user out of all four is that the program is unreadable (see [`crate::protect`]): its
//! descriptors, its memory and its environment. The memfd is left unsealed, so that the program may overwrite it.

use crate::arguments::Form;
use blindferry_worker::Token;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{Errno, ioctl_fionbio, pwrite, write};
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};
use rustix::stdio::dup2_stdin;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// A token on its way into a program: descriptors to leave open, variables to set.
#[derive(Default)]
pub(crate) struct Delivery {
    pub(crate) descriptors: Vec<OwnedFd>,
    pub(crate) variables: Vec<(OsString, OsString)>,
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
    #[error("a token that holds a NUL byte cannot be a variable: use --deliver pipe")]
    NotText,
}

impl Delivery {
    /// Puts the token into each of the forms; `file_variable` gets the path of a pipe or memfd.
    pub(crate) fn of(token: &Token, forms: Vec<Form>, file_variable: &OsString) -> Result<Self, DeliverError> {
        let mut delivery = Self::default();
        for form in forms {
            match form {
                Form::Pipe => delivery.file(file_variable, piped(token)?),
                Form::Memfd => delivery.file(file_variable, in_memfd(token)?),
                Form::Stdin => {
                    dup2_stdin(piped(token)?).map_err(|error| DeliverError::Stdin(error.into()))?;
                }
                Form::Variable(name) => delivery.variables.push((name, text_of(token)?)),
            }
        }
        Ok(delivery)
    }

    fn file(&mut self, variable: &OsString, descriptor: OwnedFd) {
        let path = format!("/dev/fd/{}", descriptor.as_raw_fd());
        self.variables.push((variable.clone(), path.into()));
        self.descriptors.push(descriptor);
    }
}

/// The read end of a pipe that holds the token and then ends.
fn piped(token: &Token) -> Result<OwnedFd, DeliverError> {
    let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| DeliverError::MakePipe(error.into()))?;
    make_room(&write_end, token.len())?;
    // Nobody reads yet: a write that had to wait would wait for ever.
    ioctl_fionbio(&write_end, true).map_err(|error| DeliverError::MakePipe(error.into()))?;
    #[expect(clippy::disallowed_methods, reason = "into the pipe that the program asked for")]
    let written = token.expose(|bytes| write_all(bytes, |rest, _| write(&write_end, rest)));
    written.map_err(DeliverError::WritePipe)?;
    Ok(read_end)
}

/// A user with many pipes gets new ones of a page or two only (`fs.pipe-user-pages-soft`).
fn make_room(pipe: impl AsFd, length: usize) -> Result<(), DeliverError> {
    let capacity = fcntl_getpipe_size(&pipe).map_err(|error| DeliverError::MakePipe(error.into()))?;
    if capacity >= length {
        return Ok(());
    }
    match fcntl_setpipe_size(&pipe, length) {
        Ok(_) => Ok(()),
        Err(error) => Err(DeliverError::PipeTooSmall { length, capacity, source: error.into() }),
    }
}

fn in_memfd(token: &Token) -> Result<OwnedFd, DeliverError> {
    let flags = MemfdFlags::CLOEXEC;
    let memfd = match memfd_create("token", flags | MemfdFlags::NOEXEC_SEAL) {
        // Before Linux 6.3 the flag is unknown.
        Err(Errno::INVAL) => memfd_create("token", flags),
        made => made,
    };
    let memfd = memfd.map_err(|error| DeliverError::MakeMemfd(error.into()))?;
    // The file offset stays at the beginning, for those who read the descriptor and not the path.
    #[expect(clippy::disallowed_methods, reason = "into the memfd that the program asked for")]
    let written = token.expose(|bytes| write_all(bytes, |rest, at| pwrite(&memfd, rest, at)));
    written.map_err(DeliverError::WriteMemfd)?;
    Ok(memfd)
}

#[expect(clippy::disallowed_methods, reason = "a variable is what was asked for; its copy is the program's")]
fn text_of(token: &Token) -> Result<OsString, DeliverError> {
    token.expose(|bytes| {
        let text = !bytes.contains(&0);
        text.then(|| OsString::from_vec(bytes.to_vec())).ok_or(DeliverError::NotText)
    })
}

fn write_all(bytes: &[u8], mut write: impl FnMut(&[u8], u64) -> rustix::io::Result<usize>) -> io::Result<()> {
    let (mut rest, mut at) = (bytes, 0);
    while !rest.is_empty() {
        match write(rest, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                rest = rest.get(written..).unwrap_or_default();
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_pipe_is_made_to_hold_the_longest_token() {
        let (_read_end, write_end) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        assert_eq!(fcntl_setpipe_size(&write_end, 4096).unwrap(), 4096);
        make_room(&write_end, 16 * 1024).unwrap();
        assert!(fcntl_getpipe_size(&write_end).unwrap() >= 16 * 1024);
    }
}
