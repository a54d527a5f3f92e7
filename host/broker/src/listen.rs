//! The broker's two sockets: those that the service manager bound before, or its own.

use crate::configuration::Configuration;
use blindferry_handle::packet::{PacketListener, SocketError};
use blindferry_service::{Passed, PassedError};
use std::env::var_os;
use thiserror::Error;

/// Two sockets that are listened on.
#[derive(Debug)]
pub struct Listening {
    /// Where parents connect.
    pub parents: PacketListener,
    /// Where workers connect.
    pub workers: PacketListener,
    /// Whether this process bound them, and removes them at its end.
    pub own: bool,
}

/// A socket cannot be listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// It cannot be bound, or what was passed is none.
    #[error("cannot listen on the broker's sockets")]
    Socket(#[from] SocketError),
    /// What the service manager passed does not fit.
    #[error("cannot take over the service manager's sockets")]
    Passed(#[from] PassedError),
}

/// Takes over the sockets `parents` and `workers` where a service manager passes any, else binds those of the
/// configuration. Sockets that are passed have path and mode of their units, whatever the configuration says.
///
/// To be called before another process is started, which would inherit what was passed.
///
/// # Errors
/// [`ListenError`].
pub fn listen(configuration: &Configuration) -> Result<Listening, ListenError> {
    let Some(mut passed) = Passed::find(|name| var_os(name), std::process::id())? else {
        let parents = PacketListener::bind(&configuration.parents, configuration.parents_mode.0)?;
        let workers = PacketListener::bind(&configuration.workers, configuration.workers_mode.0)?;
        return Ok(Listening { parents, workers, own: true });
    };
    let parents = PacketListener::from_fd(passed.take("parents")?)?;
    let workers = PacketListener::from_fd(passed.take("workers")?)?;
    passed.nothing_else()?;
    Ok(Listening { parents, workers, own: false })
}
