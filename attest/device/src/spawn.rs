//! Starts a device process of one's own.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{self, Path};
use std::process::{Child, Command, Stdio};

use blindferry_handle::packet::PacketSocket;
use blindferry_proto::platform::DeviceProcess;

/// Starts `executable` (the installed one of that name) as the device process that is wanted, and gives the client's end
/// of its socket.
///
/// The process gets one descriptor, its end of the socket as standard input, beside the caller's standard error; its
/// standard output leads nowhere, its environment is empty but for `TSS2_LOG`. It ends when the client's end is closed;
/// the caller waits for it. There is no code between fork and exec, so the child is spawned without copying the
/// caller's page tables.
///
/// # Errors
/// When the socket cannot be made or the executable cannot be run.
pub fn spawn(executable: &Path, process: DeviceProcess) -> io::Result<(Child, PacketSocket)> {
    let process = process.with_paths(path::absolute)?;
    let (ours, theirs) = PacketSocket::pair().map_err(io::Error::other)?;
    let theirs: OwnedFd = theirs.into_fd();
    let child = Command::new(executable)
        .args(process.arguments())
        .env_clear()
        .env(LOG_VARIABLE, LOG_NOTHING)
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()?;
    Ok((child, ours))
}

/// What libtss2 reads its verbosity from.
pub const LOG_VARIABLE: &str = "TSS2_LOG";

/// Nothing: it would print what it is refused, and every refusal reaches the client as a value.
pub const LOG_NOTHING: &str = "all+none";
