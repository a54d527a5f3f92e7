//! How a grant reaches a worker: a descriptor that was open when the program started, or one sent over a socket.

use crate::worker::WorkerError;
use blindferry_handle::inherit;
use blindferry_handle::memfd::Handle;
use blindferry_handle::packet::PacketSocket;
use std::os::fd::RawFd;

/// Takes the grant's handle from a descriptor that the parent left open for this program, by its number.
///
/// Can be done once for each number; the descriptor is close-on-exec from here on.
///
/// # Errors
/// [`WorkerError::NotInherited`] when there is no such descriptor or it was taken already; [`WorkerError::Handle`] when
/// it is not a sealed handle.
pub fn from_inherited(number: RawFd) -> Result<Handle, WorkerError> {
    let descriptor = inherit::take_inherited(number).map_err(|source| WorkerError::NotInherited { number, source })?;
    Handle::from_fd(descriptor).map_err(|source| WorkerError::Handle { source })
}

/// Waits for one packet that carries the grant's handle and nothing else beside its bytes, which say nothing.
///
/// # Errors
/// [`WorkerError::Lost`] when the parent hangs up first; [`WorkerError::Descriptors`] and [`WorkerError::Handle`] when
/// what comes is not exactly one sealed handle.
pub fn from_socket(socket: &PacketSocket) -> Result<Handle, WorkerError> {
    let packet = socket.receive().map_err(|source| WorkerError::Lost { source })?;
    let descriptor = exactly_one(packet.descriptors)?;
    Handle::from_fd(descriptor).map_err(|source| WorkerError::Handle { source })
}

/// The one element of a list that must have one.
pub(crate) fn exactly_one<T>(list: Vec<T>) -> Result<T, WorkerError> {
    let [one] = <[T; 1]>::try_from(list).map_err(|list| WorkerError::Descriptors { count: list.len() })?;
    Ok(one)
}
