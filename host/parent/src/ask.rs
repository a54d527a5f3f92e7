//! Asking the broker for a grant.

use crate::grant::GrantHandle;
use blindferry_handle::memfd::{Handle, HandleError};
use blindferry_handle::packet::{Packet, PacketError, PacketSocket, SocketError, path_of_socket};
use blindferry_handle::wait::readable;
use blindferry_proto::local::{self, LocalError, ParentReply, ParentRequest};
use blindferry_proto::name::{Audience, CredentialName};
use blindferry_proto::refusal::Refusal;
use blindferry_proto::session::WorkerConstraint;
use blindferry_proto::waiting::{Waiting, Words};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the broker answers parents when nothing else is said.
pub const DEFAULT_PARENTS: &str = "/run/blindferry/parents.sock";

/// Names another path for [`DEFAULT_PARENTS`].
pub const PARENTS_VARIABLE: &str = "BLINDFERRY_PARENTS";

/// The path in `BLINDFERRY_PARENTS`, else [`DEFAULT_PARENTS`].
#[must_use]
pub fn parents_socket() -> PathBuf {
    path_of_socket(PARENTS_VARIABLE, DEFAULT_PARENTS)
}

/// What a parent asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Which credential.
    pub credential: CredentialName,
    /// Whom the token shall be for.
    pub audience: Option<Audience>,
    /// Who may redeem the grant. The tighter, the less a stolen grant is worth.
    pub worker: WorkerConstraint,
}

impl Ask {
    /// For a token of this credential, to whomever it is handed on.
    #[must_use]
    pub fn for_credential(credential: CredentialName) -> Self {
        Self { credential, audience: None, worker: WorkerConstraint::default() }
    }
}

/// A connection to the broker, for any number of grants one after another.
#[derive(Debug)]
pub struct Parent {
    socket: PacketSocket,
}

impl Parent {
    /// Connects to the broker's socket for parents, see [`parents_socket`].
    ///
    /// # Errors
    /// [`ParentError::Connect`] when no broker answers there.
    pub fn connect(path: &Path) -> Result<Self, ParentError> {
        let socket = PacketSocket::connect(path).map_err(|source| ParentError::Connect { source })?;
        Ok(Self { socket })
    }

    /// Asks for one grant. Nothing is tried again: a grant that got lost on its way lapses by itself. Where a person has to
    /// approve, the answer is a refusal, `approval-required`; see [`Parent::ask_and_wait`].
    ///
    /// # Errors
    /// [`ParentError::Refused`] with the vault's reason. After [`ParentError::Silent`] or [`ParentError::Lost`] the
    /// connection is of no use any more.
    pub fn ask(&mut self, ask: &Ask) -> Result<GrantHandle, ParentError> {
        self.send(ask, None)?;
        self.granted(None::<fn(&Waiting)>)
    }

    /// Asks for one grant and, where a person has to approve it, blocks until that person has decided or the vault's time
    /// for it is over. `waits` hears that it does, once, and so can tell its own user. Ending the connection, by dropping
    /// this value or by ending the process, withdraws the ask.
    ///
    /// # Errors
    /// As [`Parent::ask`]; the refusal's code says whether somebody said no (`approval-denied`), nobody said anything
    /// (`approval-timed-out`), or too many wait (`approval-queue-full`).
    pub fn ask_and_wait(
        &mut self,
        ask: &Ask,
        words: &Words,
        waits: impl FnOnce(&Waiting),
    ) -> Result<GrantHandle, ParentError> {
        self.send(ask, Some(words.clone()))?;
        self.granted(Some(waits))
    }

    /// Asks for one grant, as [`Parent::ask`] does or, with words for a person who may have to approve, as
    /// [`Parent::ask_and_wait`] does, and returns at once: the vault decides while the caller does something else.
    ///
    /// # Errors
    /// [`ParentError::Encode`], [`ParentError::Lost`].
    pub fn begin_ask(self, ask: &Ask, words: Option<&Words>) -> Result<Asking, ParentError> {
        self.send(ask, words.cloned())?;
        Ok(Asking { parent: self, may_wait: words.is_some() })
    }

    fn granted(&self, waits: Option<impl FnOnce(&Waiting)>) -> Result<GrantHandle, ParentError> {
        let waiting = match (self.answer(ANSWER_WAIT)?, waits) {
            (Answered::Granted(grant), _) => return Ok(grant),
            (Answered::Waiting(_), None) => return Err(ParentError::Unasked),
            (Answered::Waiting(waiting), Some(waits)) => {
                waits(&waiting);
                waiting
            }
        };
        match self.answer(Duration::from_secs(waiting.seconds.into()) + ANSWER_WAIT)? {
            Answered::Granted(grant) => Ok(grant),
            Answered::Waiting(_) => Err(ParentError::Unasked),
        }
    }

    fn send(&self, ask: &Ask, wait: Option<Words>) -> Result<(), ParentError> {
        let Ask { credential, audience, worker } = ask.clone();
        let request = ParentRequest::Ask { credential, audience, worker, wait };
        let bytes = local::encode(&request).map_err(|source| ParentError::Encode { source })?;
        self.socket.send(&bytes, &[]).map_err(|source| ParentError::Lost { source })
    }

    fn answer(&self, within: Duration) -> Result<Answered, ParentError> {
        self.wait_for_answer(within)?;
        let Packet { bytes, descriptors } = self.socket.receive().map_err(|source| ParentError::Lost { source })?;
        match local::decode(&bytes).map_err(|source| ParentError::Decode { source })? {
            ParentReply::Refused(refusal) => Err(ParentError::Refused(refusal)),
            ParentReply::Waiting(waiting) => Ok(Answered::Waiting(waiting)),
            ParentReply::Granted { grant, expires } => {
                let [descriptor] = <[_; 1]>::try_from(descriptors)
                    .map_err(|descriptors| ParentError::Descriptors { count: descriptors.len() })?;
                let handle = Handle::from_fd(descriptor).map_err(|source| ParentError::Handle { source })?;
                Ok(Answered::Granted(GrantHandle::new(grant, expires, handle)))
            }
        }
    }

    fn wait_for_answer(&self, within: Duration) -> Result<(), ParentError> {
        let answered = readable(self.socket.as_fd(), Some(Instant::now() + within));
        if answered.map_err(|source| ParentError::Wait { source })? {
            return Ok(());
        }
        // A late answer must not be taken for that to the next question.
        let _gone = self.socket.shutdown();
        Err(ParentError::Silent { seconds: within.as_secs() })
    }
}

/// A question under way, on a connection that is for it alone. Dropping it withdraws the ask.
#[derive(Debug)]
#[must_use = "the answer is still to come"]
pub struct Asking {
    parent: Parent,
    may_wait: bool,
}

impl Asking {
    /// The answer; blocks until it is there. `waits` hears it when a person has to approve first.
    ///
    /// # Errors
    /// As [`Parent::ask_and_wait`].
    pub fn granted(self, waits: impl FnOnce(&Waiting)) -> Result<GrantHandle, ParentError> {
        self.parent.granted(self.may_wait.then_some(waits))
    }
}

/// An answer that is no refusal.
enum Answered {
    Granted(GrantHandle),
    Waiting(Waiting),
}

/// Why a parent has no grant, or could not hand it on.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// No broker is there.
    #[error("cannot reach the broker")]
    Connect {
        /// Why.
        source: SocketError,
    },
    /// A request that does not fit into a packet.
    #[error("cannot encode the request")]
    Encode {
        /// Why.
        source: LocalError,
    },
    /// The connection failed.
    #[error("the connection to the broker is lost")]
    Lost {
        /// Why.
        source: PacketError,
    },
    /// The broker does not answer.
    #[error("no answer within {seconds} seconds")]
    Silent {
        /// How long was waited.
        seconds: u64,
    },
    /// It says that the ask waits, which was not asked for, or says so twice.
    #[error("the broker says out of turn that the ask waits for an approval")]
    Unasked,
    /// Waiting for the broker failed.
    #[error("cannot wait for the broker")]
    Wait {
        /// What the kernel said.
        source: io::Error,
    },
    /// The answer is not a message.
    #[error("cannot decode the broker's answer")]
    Decode {
        /// Why.
        source: LocalError,
    },
    /// The answer was no.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// An answer must bring exactly one handle.
    #[error("{count} descriptors where one handle is due")]
    Descriptors {
        /// How many came.
        count: usize,
    },
    /// What came is not a sealed handle.
    #[error("cannot take the grant's handle")]
    Handle {
        /// Why.
        source: HandleError,
    },
    /// The worker is not there, or does not listen.
    #[error("cannot hand the grant to the worker")]
    Deliver {
        /// Why.
        source: PacketError,
    },
    /// The descriptor could not be made to survive execve(2).
    #[error("cannot let the grant be inherited")]
    Inherit {
        /// What the kernel said.
        source: io::Error,
    },
}

/// Policy is evaluated in the vault meanwhile; nothing upstream is asked for a grant.
const ANSWER_WAIT: Duration = Duration::from_secs(15);
