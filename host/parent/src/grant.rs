//! The parent's hold of a grant: to be handed on once, and never read.

use crate::ask::ParentError;
use blindferry_handle::inherit::keep_over_exec;
use blindferry_handle::memfd::Handle;
use blindferry_handle::packet::PacketSocket;
use blindferry_proto::identifier::GrantId;
use std::os::fd::{AsFd, OwnedFd};

/// A grant on its way through the parent. Dropping it forgets it.
#[derive(Debug)]
pub struct GrantHandle {
    id: GrantId,
    expires: u64,
    handle: Handle,
}

impl GrantHandle {
    pub(crate) fn new(id: GrantId, expires: u64, handle: Handle) -> Self {
        Self { id, expires, handle }
    }

    /// For logs; it opens nothing.
    #[must_use]
    pub fn id(&self) -> GrantId {
        self.id
    }

    /// When it is over, in seconds since the epoch.
    #[must_use]
    pub fn expires(&self) -> u64 {
        self.expires
    }

    /// Sends it to a worker that runs already, in a packet of the one byte `g`
    /// (`blindferry_worker::receive::from_socket` takes it there).
    ///
    /// # Errors
    /// [`ParentError::Deliver`] when the worker is gone; the grant is gone with it then.
    pub fn deliver(self, to: &PacketSocket) -> Result<(), ParentError> {
        to.send(PACKET, &[self.handle.as_fd()]).map_err(|source| ParentError::Deliver { source })
    }

    /// The descriptor, which the children started from now on inherit under its present number.
    ///
    /// Every one of them, so: start the worker, then drop it. A parent that starts children from several threads uses
    /// [`GrantHandle::deliver`], or passes the descriptor of [`GrantHandle::into_descriptor`] to the one child by other
    /// means.
    ///
    /// # Errors
    /// [`ParentError::Inherit`] with what the kernel said.
    pub fn inherit(self) -> Result<OwnedFd, ParentError> {
        let descriptor = self.into_descriptor();
        keep_over_exec(descriptor.as_fd()).map_err(|source| ParentError::Inherit { source })?;
        Ok(descriptor)
    }

    /// The handle: for a parent that is its own worker.
    #[must_use]
    pub fn into_handle(self) -> Handle {
        self.handle
    }

    /// The descriptor, close-on-exec.
    #[must_use]
    pub fn into_descriptor(self) -> OwnedFd {
        self.handle.into_fd()
    }
}

/// A packet has at least one byte; this one says nothing.
const PACKET: &[u8] = b"g";
