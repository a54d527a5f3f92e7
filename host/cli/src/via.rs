//! `run --via broker`: has the starter start the launcher, and stands in for the program until it ends.
//!
//! The program is no child of this process and shares nothing with it but the standard streams: what is loaded into this
//! process, or traces it, does not come near. Environment, words and grants are data on their way.

use crate::exit::Exit;
use crate::launch::Launch;
use blindferry_environment::Environment;
use blindferry_handle::memfd::{Handle, HandleError};
use blindferry_handle::packet::{PacketError, PacketSocket, SocketError, path_of_socket};
use blindferry_handle::wait::readable;
use blindferry_proto::local::{LocalError, WORKERS_VARIABLE, decode, encode};
use blindferry_proto::name::CredentialName;
use blindferry_proto::protection::ProtectionLevel;
use blindferry_proto::start::{
    BadStrings, DEFAULT_STARTER, GRANTS_AT_ONCE, MAX_GRANTS, MAX_STRINGS, STARTER_VARIABLE, StartCode, StartRefusal,
    StartReply, StartRequest, join,
};
use blindferry_terminal::{
    Accompany, End, Finished, FromKeeper, Limits, Link, LinkError, PseudoTerminal, Signals, Terminal, accompany,
};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::umask;
use rustix::termios::isatty;
use std::env;
use std::ffi::{CString, NulError, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Who starts a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Via {
    /// The starter of this machine's broker
    Broker,
}

/// The one level that a program has which is started so.
pub(crate) const LEVEL: ProtectionLevel = ProtectionLevel::OwnNamespace;

/// Why a program could not be had started, or was lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViaError {
    #[error("what the broker starts has --protection {LEVEL}, and no other")]
    Level,
    #[error("what the broker starts gets the tokens of at most {MAX_GRANTS} credentials")]
    Credentials,
    #[error("nobody here starts programs for others")]
    Connect(#[source] SocketError),
    #[error("the environment cannot be handed over")]
    Environment(#[source] NulError),
    #[error("the words cannot be handed over")]
    Strings(#[source] BadStrings),
    #[error("cannot seal what is handed over")]
    Seal(#[source] HandleError),
    #[error("cannot name the working directory")]
    Directory(#[source] Errno),
    #[error("cannot use the terminal")]
    Terminal(#[source] io::Error),
    #[error("cannot notice signals")]
    Signals(#[source] io::Error),
    #[error("cannot encode a request")]
    Encode(#[source] LocalError),
    #[error("the connection to the starter is lost")]
    Lost(#[source] PacketError),
    #[error("the starter does not answer in time")]
    Silent,
    #[error("cannot wait for the starter")]
    Wait(#[source] io::Error),
    #[error("the starter gave an answer to another question")]
    Decode(#[source] LocalError),
    #[error("refused")]
    Refused(#[source] StartRefusal),
    #[error("the program cannot be kept: {why}")]
    Unfit { why: String },
    #[error("cannot connect with the program's keeper")]
    Link(#[source] LinkError),
    #[error("the program is lost, and ends if it has not ended")]
    Accompany(#[source] Accompany),
}

impl ViaError {
    /// The number that the command ends with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Level | Self::Credentials => Exit::Usage,
            Self::Refused(_) => Exit::Refused,
            Self::Connect(_) | Self::Lost(_) | Self::Silent | Self::Link(_) | Self::Accompany(_) => Exit::Unreachable,
            _ => Exit::Local,
        }
    }

    /// The next step, where there is an obvious one.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Connect(_) => Some(
                "see whether blindferry-starter runs, and whether BLINDFERRY_STARTER names its socket; or run without --via \
                 broker",
            ),
            Self::Refused(refusal) if refusal.code == StartCode::NotHere => {
                Some("see which capabilities the starter's service has, and whether user namespaces can be made")
            }
            _ => None,
        }
    }
}

/// A connection to the starter: what cannot be started costs no grant.
pub(crate) struct Starter(PacketSocket);

/// What the program is to get besides words and grants.
struct Surroundings {
    streams: [OwnedFd; 3],
    /// Which of them is the program's own terminal, and what relays it.
    own: Option<(u8, PseudoTerminal, Terminal)>,
    in_pipeline: bool,
}

impl Starter {
    /// By `BLINDFERRY_STARTER`, else where it usually is.
    pub(crate) fn connect() -> Result<Self, ViaError> {
        PacketSocket::connect(&path_of_socket(STARTER_VARIABLE, DEFAULT_STARTER)).map(Self).map_err(ViaError::Connect)
    }

    /// Has it started, and stays with it until it ends. There is a grant for each credential, in their order, or none: then
    /// nothing but an explanation is to be had.
    pub(crate) fn start(self, launch: &Launch, environment: Environment, grants: &[OwnedFd]) -> Result<End, ViaError> {
        let surroundings = Surroundings::here().map_err(ViaError::Terminal)?;
        let (ours, theirs) = Link::pair().map_err(ViaError::Link)?;
        self.ask(launch, environment, grants, &surroundings, theirs.into_fd())?;
        match ours.reported().map_err(ViaError::Link)? {
            FromKeeper::Ready(_) => {}
            FromKeeper::Unfit(why) => return Err(ViaError::Unfit { why }),
            FromKeeper::Note(_) | FromKeeper::Stopped(_) | FromKeeper::Ended(_) => {
                return Err(ViaError::Link(LinkError::Unknown));
            }
        }
        let signals = Signals::of_a_proxy().map_err(ViaError::Signals)?;
        let Surroundings { own, in_pipeline, streams: _ } = surroundings;
        let (master, terminal) = own.map(|(_, pseudo, terminal)| (pseudo.master, terminal)).unzip();
        let finished = accompany(&ours, signals, terminal, master, in_pipeline, Limits::default());
        match finished.map_err(ViaError::Accompany)? {
            Finished::Ended(end) => Ok(end),
            // There is no limit.
            Finished::TimedOut => Err(ViaError::Silent),
        }
    }

    fn ask(
        &self,
        launch: &Launch,
        environment: Environment,
        grants: &[OwnedFd],
        surroundings: &Surroundings,
        link: OwnedFd,
    ) -> Result<(), ViaError> {
        let assignments = environment.into_assignments().map_err(ViaError::Environment)?;
        let environment = sealed("environment", assignments.iter().map(CString::as_bytes))?;
        // Beside grants the starter gives the launcher their names.
        let names: Vec<_> = launch.credentials.iter().zip(grants).map(|(name, _)| name.clone()).collect();
        let words = words(launch, if names.is_empty() { &launch.credentials } else { &[] });
        let words = sealed("words", words.iter().map(|word| word.as_bytes()))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, ".", flags, Mode::empty()).map_err(ViaError::Directory)?;
        let terminal = surroundings.own.as_ref().map(|(stream, ..)| *stream);
        // There is no other way to read it; nothing is made meanwhile.
        let mask = umask(Mode::empty());
        umask(mask);
        let mask = u16::try_from(mask.as_raw_mode() & 0o777).unwrap_or(0o077);
        let start = StartRequest::Start { umask: mask, terminal, grants: names };
        self.say(&start, &[words.as_fd(), environment.as_fd(), directory.as_fd()])?;
        for some in grants.chunks(GRANTS_AT_ONCE) {
            self.say(&StartRequest::Grants, &some.iter().map(AsFd::as_fd).collect::<Vec<_>>())?;
        }
        let [stdin, stdout, stderr] = &surroundings.streams;
        self.say(&StartRequest::Streams, &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd(), link.as_fd()])?;
        match self.answer()? {
            StartReply::Prepared => Ok(()),
            StartReply::Refused(refusal) => Err(ViaError::Refused(refusal)),
        }
    }

    fn say(&self, request: &StartRequest, descriptors: &[BorrowedFd<'_>]) -> Result<(), ViaError> {
        let bytes = encode(request).map_err(ViaError::Encode)?;
        match self.0.send(&bytes, descriptors) {
            // It may have refused already: its answer says why.
            Ok(()) | Err(PacketError::Closed) => Ok(()),
            Err(error) => Err(ViaError::Lost(error)),
        }
    }

    fn answer(&self) -> Result<StartReply, ViaError> {
        if !readable(self.0.as_fd(), Some(Instant::now() + PATIENCE)).map_err(ViaError::Wait)? {
            return Err(ViaError::Silent);
        }
        let packet = match self.0.receive() {
            // A starter that refuses before it has read everything resets the connection, which is told before its answer.
            Err(PacketError::Closed) => self.0.receive(),
            received => received,
        };
        decode(&packet.map_err(ViaError::Lost)?.bytes).map_err(ViaError::Decode)
    }
}

impl Surroundings {
    /// This process's streams; in the place of those that are its terminal, one of the program's own.
    fn here() -> io::Result<Self> {
        let own = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        let Some(terminal) = Terminal::among(&own)? else {
            let [stdin, stdout, stderr] = own.map(|stream| stream.try_clone_to_owned());
            return Ok(Self { streams: [stdin?, stdout?, stderr?], own: None, in_pipeline: false });
        };
        let pseudo = PseudoTerminal::open(Path::new("/dev/ptmx"))?;
        let are = own.map(isatty);
        let given = |index: usize| match (are.get(index), own.get(index)) {
            (Some(false), Some(stream)) => stream.try_clone_to_owned(),
            _ => pseudo.slave.try_clone(),
        };
        let streams = [given(0)?, given(1)?, given(2)?];
        let first = (0_u8..3).zip(are).find_map(|(number, is)| is.then_some(number)).unwrap_or(0);
        Ok(Self { streams, own: Some((first, pseudo, terminal)), in_pipeline: are.contains(&false) })
    }
}

/// What the launcher is told, beside what the starter tells it.
fn words(launch: &Launch, without_grants: &[CredentialName]) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    for credential in without_grants {
        words.extend(["--credential-name".into(), credential.as_str().into()]);
    }
    // The launcher has no variables of this process's, where it would find the socket by itself.
    if let Some(workers) = env::var_os(WORKERS_VARIABLE).filter(|path| !path.is_empty()) {
        words.extend(["--workers".into(), workers]);
    }
    words.extend(launch.options.iter().cloned());
    words.push("--".into());
    words.extend(launch.program.iter().cloned());
    words
}

fn sealed<'a>(what: &'static str, strings: impl IntoIterator<Item = &'a [u8]>) -> Result<Handle, ViaError> {
    let joined = join(strings).map_err(ViaError::Strings)?;
    Handle::seal_within(what, &joined, MAX_STRINGS).map_err(ViaError::Seal)
}

/// A starter that is not overwhelmed answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);
