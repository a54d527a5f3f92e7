//! A lease on its way into another process of ours, which renews it from then on: for launchers.
//!
//! The connection goes along, and with it the lease: the broker knows a worker by who made the connection, so the lease
//! stays with the process that redeemed the grant, and ends with that.

use crate::exchange::Exchange;
use crate::key::KeyPair;
use crate::token::Token;
use crate::worker::Leased;
use blindferry_handle::packet::SocketError;
use blindferry_handle::secret::{InitError, SecretBytes, SecretError, SharedSecret};
use blindferry_proto::identifier::{GrantId, LeaseId, ParcelKey, WorkerKey};
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// A lease, its key and its token in secret memory whose descriptors another process inherits.
#[expect(missing_debug_implementations, reason = "it holds a key and a token")]
pub struct HandedOn {
    exchange: Exchange,
    private: SharedSecret,
    public: WorkerKey,
    lease: LeaseId,
    grant: GrantId,
    sender: ParcelKey,
    token: SharedSecret,
    token_type: String,
    expires: u64,
    received: u64,
}

/// Why a lease could not be handed on, or taken up.
#[derive(Debug, thiserror::Error)]
pub enum HandOnError {
    /// No secret memory for key or token, or what is there is none.
    #[error("cannot hand secret memory on")]
    Secret(#[source] SecretError),
    /// The connection could not be duplicated.
    #[error("cannot hand the connection on")]
    Connection(#[source] SocketError),
    /// A descriptor could not be duplicated.
    #[error("cannot duplicate a descriptor")]
    Descriptor(#[source] io::Error),
}

impl HandedOn {
    /// Prepares a lease for another process. This one must not use it any more once the other has taken it up: they
    /// share the connection, and would take each other's answers.
    ///
    /// # Errors
    /// [`HandOnError`]; the lease is as it was.
    pub fn of(leased: &Leased) -> Result<Self, HandOnError> {
        Ok(Self {
            exchange: leased.exchange.duplicate().map_err(HandOnError::Connection)?,
            private: shared(leased.key.private())?,
            public: leased.key.public(),
            lease: leased.lease,
            grant: leased.grant,
            sender: leased.sender,
            token: shared(leased.token.secret())?,
            token_type: leased.token.token_type().to_owned(),
            expires: leased.token.expires(),
            received: leased.token.received(),
        })
    }

    /// What the other process has to inherit, under the same numbers.
    #[must_use]
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        [self.exchange.as_fd(), self.private.as_fd(), self.token.as_fd()]
    }

    /// In the other process, a copy of this one that inherited the descriptors: the lease. Key and token move into
    /// secret pages of its own and are wiped where they came from, so this works once.
    ///
    /// # Errors
    /// [`HandOnError`].
    pub fn take_up(&self) -> Result<Leased, HandOnError> {
        let [_, private, token] = self.descriptors();
        let own = |descriptor: BorrowedFd<'_>| descriptor.try_clone_to_owned().map_err(HandOnError::Descriptor);
        let bytes = SecretBytes::adopt(own(token)?, self.token.len()).map_err(HandOnError::Secret)?;
        Ok(Leased {
            exchange: self.exchange.duplicate().map_err(HandOnError::Connection)?,
            key: KeyPair::adopt(own(private)?, self.public).map_err(HandOnError::Secret)?,
            lease: self.lease,
            grant: self.grant,
            sender: self.sender,
            token: Token::new(bytes, self.token_type.clone(), self.expires, self.received),
        })
    }
}

fn shared(secret: &SecretBytes) -> Result<SharedSecret, HandOnError> {
    let made = SharedSecret::create(secret.len(), |place| {
        #[expect(
            clippy::disallowed_methods,
            reason = "from secret pages into those that the other process takes over"
        )]
        place.copy_from_slice(secret.expose());
        Ok::<_, Infallible>(())
    });
    made.map_err(|error| match error {
        InitError::Secret(source) => HandOnError::Secret(source),
        InitError::Fill(never) => match never {},
    })
}
