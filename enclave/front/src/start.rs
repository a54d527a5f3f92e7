//! Starts the device process and the vault, each with the descriptors it needs, no environment, and nothing else.
//!
//! ```text
//!             ── socketpair ── 3          4 ── socketpair ── 0
//!      front ────────────────────── vault ────────────────────── device ── TPM, or the firmware of SEV-SNP
//! ```
//!
//! The front makes both socketpairs but keeps one end of one: with the vault's end of the other it could ask the device
//! for what the vault asks it for.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::configuration::{ApprovalWait, GrantLife, ReattestEvery};
use blindferry_handle::image::{ExecOnlyImage, ImageError};
use blindferry_handle::packet::{PacketSocket, SocketError};
use blindferry_proto::platform::DeviceProcess;
use blindferry_watch::line::Form;
use command_fds::{CommandFdExt, FdMapping, FdMappingCollision};
use thiserror::Error;

/// What the vault is started for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Serve until told to stop.
    Serve {
        /// Seconds between two looks at a host's evidence; the vault has a default.
        reattest_every: Option<ReattestEvery>,
        /// Seconds between grant and redemption; the vault has a default.
        grant_life: Option<GrantLife>,
        /// Seconds that an ask waits for a person; the vault has a default.
        approval_wait: Option<ApprovalWait>,
        /// Have the vault say what requests took.
        traces: bool,
    },
    /// Make and seal a key-encryption key; the recovery key goes to the standard output, past the front.
    Init {
        /// Start over, losing what is sealed.
        force: bool,
        /// Further options of the vault, verbatim.
        options: Vec<OsString>,
    },
    /// Seal anew from the recovery key, which the vault reads from the standard input, past the front.
    Recover {
        /// Options of the vault, verbatim.
        options: Vec<OsString>,
    },
    /// Take over from a vault that runs, which the vault's order on the standard input names.
    Succeed,
}

impl Errand {
    /// Whether it goes on until it is told to stop.
    #[must_use]
    pub fn serves(&self) -> bool {
        matches!(self, Self::Serve { .. })
    }
}

/// What to start, and how its lines are written.
#[derive(Clone, Debug)]
pub struct Programs<'a> {
    /// The vault's executable.
    pub vault: &'a Path,
    /// The device process's executable.
    pub device: &'a Path,
    /// Which hardware it serves.
    pub platform: &'a DeviceProcess,
    /// How the vault writes its log, when it serves.
    pub log: Form,
}

/// The processes that were started. Both end by themselves when the other ends of their sockets are closed.
#[derive(Debug)]
pub struct Processes {
    vault: Child,
    device: Child,
}

/// Why the processes could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// A socketpair could not be made.
    #[error("cannot make a socketpair")]
    Pair(#[source] SocketError),
    /// The standard input or output cannot be handed on.
    #[error("cannot hand on a standard stream")]
    Stream(#[source] io::Error),
    /// The vault's executable cannot be copied.
    #[error("cannot prepare {}", path.display())]
    Image {
        /// The executable.
        path: PathBuf,
        /// Why not.
        source: ImageError,
    },
    /// Two descriptors for one number.
    #[error("two descriptors for one number in a child")]
    Collision(#[source] FdMappingCollision),
    /// The program could not be executed.
    #[error("cannot start {}", path.display())]
    Spawn {
        /// The executable.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Starts both, and returns the front's end of its socketpair with the vault.
///
/// # Errors
/// [`StartError`]; a process that was started ends by itself, its sockets being closed.
pub fn start(programs: &Programs<'_>, errand: &Errand) -> Result<(Processes, PacketSocket), StartError> {
    let (front, vault_front) = PacketSocket::pair().map_err(StartError::Pair)?;
    let (vault_device, device) = PacketSocket::pair().map_err(StartError::Pair)?;

    let mut for_vault = vec![(FIRST, vault_front.into_fd()), (SECOND, vault_device.into_fd())];
    if !errand.serves() {
        for_vault.push((OUTPUT, duplicate(io::stdout().as_fd())?));
        for_vault.push((INPUT, duplicate(io::stdin().as_fd())?));
    }
    // Each call takes the descriptors with it: when it returns, the child alone has them.
    let device = start_device(programs, device.into_fd())?;
    let vault = start_vault(programs, errand, for_vault)?;
    Ok((Processes { vault, device }, front))
}

fn start_device(programs: &Programs<'_>, socket: OwnedFd) -> Result<Child, StartError> {
    let mut command = Command::new(programs.device);
    command.args(programs.platform.arguments());
    spawn(command, Stdio::from(socket), programs.device, Vec::new())
}

/// Through a copy that can be executed and not read, so that the kernel lets nobody look into the vault from its first
/// instruction on.
fn start_vault(
    programs: &Programs<'_>,
    errand: &Errand,
    descriptors: Vec<(RawFd, OwnedFd)>,
) -> Result<Child, StartError> {
    let path = programs.vault;
    let image = ExecOnlyImage::from_path(path).map_err(|source| StartError::Image { path: path.to_owned(), source })?;
    // Under a number that the descriptors of the child do not take before it is executed.
    let image = rustix::io::fcntl_dupfd_cloexec(&image, ABOVE_ALL)
        .map_err(|error| StartError::Spawn { path: path.to_owned(), source: error.into() })?;
    let mut command = Command::new(format!("/proc/self/fd/{}", image.as_raw_fd()));
    command.arg0("blindferry-vault").args(arguments(errand, programs.log));
    spawn(command, Stdio::null(), path, descriptors)
}

fn arguments(errand: &Errand, log: Form) -> Vec<OsString> {
    match errand {
        Errand::Serve { reattest_every, grant_life, approval_wait, traces } => {
            let mut arguments = vec!["serve".into()];
            if log != Form::Text {
                arguments.extend(["--log-form".into(), log.name().into()]);
            }
            if *traces {
                arguments.extend(["--traces".into(), "on".into()]);
            }
            let mut set = |option: &str, seconds: Option<u32>| {
                arguments.extend(seconds.into_iter().flat_map(|seconds| [option.into(), seconds.to_string().into()]));
            };
            set("--reattest-every", reattest_every.map(ReattestEvery::seconds));
            set("--grant-life", grant_life.map(GrantLife::seconds));
            set("--approval-wait", approval_wait.map(ApprovalWait::seconds));
            arguments
        }
        Errand::Init { force, options } => {
            let force = force.then(|| "--force".into());
            ["init".into()].into_iter().chain(force).chain(options.iter().cloned()).collect()
        }
        Errand::Recover { options } => ["recover".into()].into_iter().chain(options.iter().cloned()).collect(),
        Errand::Succeed => vec!["succeed".into()],
    }
}

/// Standard error is shared, for logs; standard output is nothing.
fn spawn(
    mut command: Command,
    input: Stdio,
    path: &Path,
    descriptors: Vec<(RawFd, OwnedFd)>,
) -> Result<Child, StartError> {
    let mappings = descriptors.into_iter().map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
    command
        .env_clear()
        .stdin(input)
        .stdout(Stdio::null())
        .fd_mappings(mappings)
        .map_err(StartError::Collision)?
        .spawn()
        .map_err(|source| StartError::Spawn { path: path.to_owned(), source })
}

fn duplicate(stream: BorrowedFd<'_>) -> Result<OwnedFd, StartError> {
    stream.try_clone_to_owned().map_err(StartError::Stream)
}

impl Processes {
    /// Process ids of vault and device process.
    #[must_use]
    pub fn ids(&self) -> [u32; 2] {
        [self.vault.id(), self.device.id()]
    }

    /// Waits a little for both to end, now that our end of the socketpair is closed, and ends by force what does not.
    /// Returns how the vault ended, if that can be known.
    pub fn end(mut self) -> Option<ExitStatus> {
        for _ in 0..END_POLLS {
            let ended = |child: &mut Child| !matches!(child.try_wait(), Ok(None));
            if ended(&mut self.vault) && ended(&mut self.device) {
                break;
            }
            sleep(END_POLL);
        }
        for (name, child) in [("vault", &mut self.vault), ("device process", &mut self.device)] {
            if matches!(child.try_wait(), Ok(None)) {
                tracing::warn!(name: "child-killed", "the {name} did not end and is killed");
                // Gone meanwhile, at worst.
                drop(child.kill());
            }
        }
        drop(self.device.wait());
        self.vault.wait().ok()
    }
}

/// Each child's descriptors, by number: part of what front, vault and device have agreed on.
const FIRST: RawFd = 3;
const SECOND: RawFd = 4;
/// For the vault, except to serve: the standard output, where it shows what no one else may see.
const OUTPUT: RawFd = 5;
/// For the vault, except to serve: the standard input, from which it takes its order.
const INPUT: RawFd = 6;
const ABOVE_ALL: RawFd = 16;

/// A tenth of a second, and three seconds in all.
const END_POLL: Duration = Duration::from_millis(100);
const END_POLLS: u32 = 30;
