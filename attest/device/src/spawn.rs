//! Starts a device process of one's own.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{self, Path};
use std::process::{Child, Command, Stdio};

use blindferry_handle::packet::PacketSocket;

/// Starts `executable` (the installed `blindferry-device`) for the TPM at `tcti`, with the Names pinned in `pins`, and
/// gives the client's end of its socket.
///
/// The process gets one descriptor, its end of the socket as standard input, beside the caller's standard error; its
/// standard output leads nowhere, its environment is empty but for `TSS2_LOG`. It ends when the client's end is closed;
/// the caller waits for it. There is no code between fork and exec, so the child is spawned without copying the
/// caller's page tables.
///
/// # Errors
/// When the socket cannot be made or the executable cannot be run.
pub fn spawn(executable: &Path, tcti: &str, pins: &Path) -> io::Result<(Child, PacketSocket)> {
    let (ours, theirs) = PacketSocket::pair().map_err(io::Error::other)?;
    let theirs: OwnedFd = theirs.into_fd();
    let child = Command::new(executable)
        .args(["serve", "--tcti", tcti, "--pins"])
        .arg(path::absolute(pins)?)
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
