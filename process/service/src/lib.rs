//! What a process and its service manager tell each other, in the words of systemd's sd_notify(3) and sd_listen_fds(3):
//! readiness and liveness one way, sockets that were bound before the process began the other.
//!
//! ```text
//!   service manager ── LISTEN_FDS: sockets ──▶ [`Passed`]
//!                   ◀── NOTIFY_SOCKET: ready, status, alive, stopping ── [`ServiceManager`]
//! ```
//!
//! A process that was started otherwise finds nothing in its environment, and all of this does nothing.
//!
//! Our own few lines rather than a library: those that we found look the socket up at each message, and by then our
//! processes can open no path and reach no abstract socket.

mod notify;
mod passed;
mod watchdog;

pub use notify::{ConnectError, ServiceManager};
pub use passed::{Passed, PassedError};
pub use watchdog::{WatchdogError, watchdog};
