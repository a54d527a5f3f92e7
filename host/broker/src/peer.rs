//! The process at the other end of a local connection, held by its pidfd.

use crate::lease::Identity;
use blindferry_handle::packet::PacketSocket;
use blindferry_handle::peer::{Peer, PeerError, is_alive};
use blindferry_proto::identifier::Digest;
use blindferry_proto::protection::ProtectionLevel;
use blindferry_proto::session::ProcessFacts;
use rustix::fs::{fstat, fstatfs};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The process that made a connection. Holding one tells you that it lived when it was asked for, and under which user;
/// nothing about the program it runs. Clones are the same process.
#[derive(Clone, Debug)]
pub struct Process(Arc<Held>);

#[derive(Debug)]
struct Held {
    uid: u32,
    gid: u32,
    pid: u32,
    pidfd: Arc<OwnedFd>,
    number: Number,
    /// Registered with the runtime when somebody first waits for its end, and once for all who do.
    watched: OnceLock<AsyncFd<Arc<OwnedFd>>>,
}

/// What tells a process from every other, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Number {
    /// The kernel's, never used again: the inode of its pidfd in pidfs, Linux 6.9.
    Kernels(u64),
    /// Ours, before that: a process that connects again is not recognised.
    Ours(u64),
}

impl Process {
    /// The process that made the connection behind `socket`.
    ///
    /// # Errors
    /// [`PeerError::Dead`] when it has ended, even if another process holds its end of the socket by now.
    pub fn of(socket: &PacketSocket) -> Result<Self, PeerError> {
        let peer = socket.peer()?;
        let (uid, gid, pid) = (peer.uid(), peer.gid(), u32::try_from(peer.pid()).unwrap_or(0));
        let pidfd = Peer::into_pidfd(peer);
        let number = number(&pidfd);
        let watched = OnceLock::new();
        Ok(Self(Arc::new(Held { uid, gid, pid, pidfd: Arc::new(pidfd), number, watched })))
    }

    /// What the vault is told about it. `executable` and `protection` are what a launcher says that it measured and
    /// established: as good as the launcher.
    #[must_use]
    pub fn facts(&self, executable: Option<Digest>, protection: Option<ProtectionLevel>) -> ProcessFacts {
        ProcessFacts { uid: self.0.uid, gid: self.0.gid, pid: self.0.pid, executable, protection }
    }

    /// Its user when it connected.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.0.uid
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        is_alive(self.0.pidfd.as_fd())
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// What the kernel said when its pidfd cannot be watched.
    pub async fn ended(&self) -> io::Result<()> {
        let Held { pidfd, watched, .. } = &*self.0;
        let watched = match watched.get() {
            Some(watched) => watched,
            None => {
                let begun = watch(Arc::clone(pidfd))?;
                watched.get_or_init(|| begun)
            }
        };
        let _ready = watched.readable().await?;
        Ok(())
    }
}

/// Waits until the process behind a pidfd has ended.
///
/// # Errors
/// What the kernel said when it cannot be watched.
pub async fn ended(pidfd: OwnedFd) -> io::Result<()> {
    let watched = watch(pidfd)?;
    let _ready = watched.readable().await?;
    Ok(())
}

fn watch<F: AsRawFd>(pidfd: F) -> io::Result<AsyncFd<F>> {
    #[expect(deprecated, reason = "its successor is unsafe; the descriptor is owned for as long as it is watched")]
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

impl Identity for Process {
    type Key = Number;

    /// By the kernel's number, never by the process id.
    fn key(&self) -> Number {
        self.0.number
    }
}

fn number(pidfd: &OwnedFd) -> Number {
    // Elsewhere all pidfds share one inode, which would make every process the same. One kernel has one or the other.
    static PIDFS_HERE: OnceLock<bool> = OnceLock::new();
    static LAST: AtomicU64 = AtomicU64::new(0);
    let pidfs = *PIDFS_HERE.get_or_init(|| fstatfs(pidfd).is_ok_and(|fs| fs.f_type == PIDFS));
    match fstat(pidfd) {
        Ok(status) if pidfs => Number::Kernels(status.st_ino),
        _ => Number::Ours(LAST.fetch_add(1, Ordering::Relaxed)),
    }
}

/// `PID_FS_MAGIC`, include/uapi/linux/magic.h.
const PIDFS: rustix::fs::FsWord = 0x5049_4446;
