//! What a caller wants to have started: a few packets, checked before anything is done about them.

use blindferry_handle::memfd::{Handle, HandleError};
use blindferry_handle::packet::{MAX_DESCRIPTORS, Packet, PacketError, PacketSocket};
use blindferry_handle::wait::readable;
use blindferry_proto::causes::with_causes;
use blindferry_proto::local::{LocalError, decode};
use blindferry_proto::name::CredentialName;
use blindferry_proto::start::{GRANTS_AT_ONCE, MAX_STRINGS, StartCode, StartRefusal, StartRequest};
use rustix::fs::{FileType, fstat};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// A whole request: each descriptor is what it must be. The strings are not read yet.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) words: Handle,
    pub(crate) environment: Handle,
    pub(crate) directory: OwnedFd,
    /// Opaque, with the names of their credentials; none where only an explanation is wanted.
    pub(crate) grants: Vec<(CredentialName, Handle)>,
    pub(crate) streams: [OwnedFd; 3],
    pub(crate) umask: u16,
    /// Which of the streams is a terminal for the program to be led by.
    pub(crate) terminal: Option<u8>,
    /// To whoever accompanies the program.
    pub(crate) link: OwnedFd,
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("cannot receive a request")]
    Receive(#[source] PacketError),
    #[error("cannot read a request")]
    Decode(#[source] LocalError),
    #[error("a request came out of its order")]
    Order,
    #[error("{count} descriptors came with a request that has others")]
    Descriptors { count: usize },
    #[error("cannot take the {what}")]
    Handle { what: &'static str, source: HandleError },
    #[error("the working directory is none")]
    Directory,
    #[error("a umask has nine bits, and there are three standard streams")]
    Number,
    #[error("no request came in time")]
    Silent,
    #[error("cannot wait for a request")]
    Wait(#[source] io::Error),
}

impl Wanted {
    /// Waits for a request.
    ///
    /// # Errors
    /// [`RequestError`].
    pub(crate) fn receive(socket: &PacketSocket) -> Result<Self, RequestError> {
        let deadline = Instant::now() + PATIENCE;
        let (first, descriptors) = next(socket, deadline)?;
        let StartRequest::Start { umask, terminal, grants } = first else { return Err(RequestError::Order) };
        if umask > 0o777 || terminal.is_some_and(|stream| stream > 2) {
            return Err(RequestError::Number);
        }
        let [words, environment, directory] = exactly(descriptors)?;
        let strings =
            |what, fd| Handle::from_fd_within(fd, MAX_STRINGS).map_err(|source| RequestError::Handle { what, source });
        let (words, environment) = (strings("words", words)?, strings("environment", environment)?);
        let directory_is_one =
            fstat(&directory).is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Directory);
        if !directory_is_one {
            return Err(RequestError::Directory);
        }
        let grants = receive_grants(socket, grants, deadline)?;
        let [stdin, stdout, stderr, link] = exactly(this(&StartRequest::Streams, socket, deadline)?)?;
        let streams = [stdin, stdout, stderr];
        Ok(Self { words, environment, directory, grants, streams, umask, terminal, link })
    }
}

impl RequestError {
    /// What the caller is told.
    pub(crate) fn refusal(&self) -> StartRefusal {
        StartRefusal::new(StartCode::Malformed, &with_causes(self))
    }
}

/// One for each name, in the order of the names.
fn receive_grants(
    socket: &PacketSocket,
    names: Vec<CredentialName>,
    deadline: Instant,
) -> Result<Vec<(CredentialName, Handle)>, RequestError> {
    let mut grants = Vec::new();
    let mut names = names.into_iter();
    while names.len() > 0 {
        let descriptors = this(&StartRequest::Grants, socket, deadline)?;
        let count = descriptors.len();
        if count != names.len().min(GRANTS_AT_ONCE) {
            return Err(RequestError::Descriptors { count });
        }
        for (fd, name) in descriptors.into_iter().zip(names.by_ref()) {
            let grant = Handle::from_fd(fd).map_err(|source| RequestError::Handle { what: "grant", source })?;
            grants.push((name, grant));
        }
    }
    Ok(grants)
}

/// What comes with this request, which must be the next.
fn this(request: &StartRequest, socket: &PacketSocket, deadline: Instant) -> Result<Vec<OwnedFd>, RequestError> {
    match next(socket, deadline)? {
        (next, descriptors) if next == *request => Ok(descriptors),
        _ => Err(RequestError::Order),
    }
}

fn exactly<const COUNT: usize>(descriptors: Vec<OwnedFd>) -> Result<[OwnedFd; COUNT], RequestError> {
    <[_; COUNT]>::try_from(descriptors).map_err(|descriptors| RequestError::Descriptors { count: descriptors.len() })
}

fn next(socket: &PacketSocket, deadline: Instant) -> Result<(StartRequest, Vec<OwnedFd>), RequestError> {
    if !readable(socket.as_fd(), Some(deadline)).map_err(RequestError::Wait)? {
        return Err(RequestError::Silent);
    }
    let Packet { bytes, descriptors } = socket.receive().map_err(RequestError::Receive)?;
    Ok((decode(&bytes).map_err(RequestError::Decode)?, descriptors))
}

/// All packets are sent without waiting for anything.
const PATIENCE: Duration = Duration::from_secs(10);

const _: () = assert!(GRANTS_AT_ONCE == MAX_DESCRIPTORS);
