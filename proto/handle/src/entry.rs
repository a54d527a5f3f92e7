//! What every Blindferry process does first: see to it that nobody could look into it from its first instruction on.
//!
//! The one thing that cannot be mended from within is a start as a dumpable process: until `main` can object, another
//! process of the same user may open its memory, and keeps that handle. So such a start only ever serves to start
//! again, through an [`ExecOnlyImage`](crate::image::ExecOnlyImage) of the same executable; an installation with mode 0711 and another owner needs
//! no second start. Whether it worked is asked of the kernel, never of the marker that ends the loop.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, dumpable_behavior, set_dumpable_behavior, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_no_new_privs};
use thiserror::Error;

use self::second_start::{executable, forget_marker, marker, start_again};
use crate::image::ImageError;

mod second_start;

/// What a process asks for at its entry. The default refuses debuggers and dumpable starts, gives up new privileges,
/// and does not lock its memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    keep_new_privileges: bool,
    allow_debugger: bool,
    accept_dumpable_start: bool,
    lock_memory: bool,
}

impl Entry {
    /// The default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Does without no_new_privs: for a process whose children may be set-user-ID programs.
    #[must_use]
    pub fn keep_new_privileges(mut self) -> Self {
        self.keep_new_privileges = true;
        self
    }

    /// Goes on under a tracer, which can read everything.
    #[must_use]
    pub fn allow_debugger(mut self) -> Self {
        self.allow_debugger = true;
        self
    }

    /// Goes on under a tracer if the command line of this process has the word [`ALLOW_DEBUGGER`], before any `--`: for
    /// executables that people start. The word stands there for everybody to see.
    #[must_use]
    pub fn allow_debugger_by_option(mut self) -> Self {
        let mut words = std::env::args_os().skip(1).take_while(|word| word != "--");
        self.allow_debugger |= words.any(|word| word == ALLOW_DEBUGGER);
        self
    }

    /// Goes on when a dumpable start cannot be mended, for instance where `vm.memfd_noexec` is 2 and the executable is
    /// installed readable. A process of the same user that was waiting for this one can then read all of it.
    #[must_use]
    pub fn accept_dumpable_start(mut self) -> Self {
        self.accept_dumpable_start = true;
        self
    }

    /// Locks all memory, present and future, against swapping (mlockall(2)). Reservations count too, stacks and the
    /// arenas of the allocator among them: in practice RLIMIT_MEMLOCK has to be unlimited.
    #[must_use]
    pub fn lock_memory(mut self) -> Self {
        self.lock_memory = true;
        self
    }
}

/// The word for [`Entry::allow_debugger_by_option`].
pub const ALLOW_DEBUGGER: &str = "--allow-debugger";

/// What holds for this process since its entry. Its text is a line for the log.
#[derive(Clone, Debug)]
pub struct Entered {
    non_dumpable_from_exec: bool,
    reexecuted: bool,
    no_new_privileges: bool,
    traced: bool,
    memory_locked: bool,
    no_writable_code: bool,
    reads_everything: bool,
    executable: Option<PathBuf>,
}

/// Why a process must not go on.
#[derive(Debug, Error)]
pub enum EntryError {
    /// A debugger or tracer is attached.
    #[error("process {tracer} is tracing this one and could read its secrets")]
    Traced {
        /// Its process id.
        tracer: u32,
    },
    /// Called too late.
    #[error("entered with {threads} threads, it must be the first thing that a process does")]
    Threads {
        /// How many there are.
        threads: u32,
    },
    /// `/proc` is missing or says something else than expected.
    #[error("cannot read /proc/self/status")]
    Status {
        /// What the kernel said.
        source: io::Error,
    },
    /// The start was dumpable and a second start through an exec-only image failed.
    #[error(
        "cannot start again as a process that nobody can read, install the executable with mode 0711 and owner root"
    )]
    StartAgain {
        /// Why.
        source: ImageError,
    },
    /// The start was dumpable although it went through an exec-only image.
    #[error("still readable by others after a second start, install the executable with mode 0711 and owner root")]
    DumpableOnEntry,
    /// prctl(2) failed.
    #[error("cannot become non-dumpable")]
    Dumpable {
        /// What the kernel said.
        source: io::Error,
    },
    /// setrlimit(2) failed.
    #[error("cannot forbid core files")]
    CoreLimit {
        /// What the kernel said.
        source: io::Error,
    },
    /// prctl(2) failed.
    #[error("cannot give up new privileges")]
    NoNewPrivileges {
        /// What the kernel said.
        source: io::Error,
    },
    /// mlockall(2) failed.
    #[error("cannot lock memory, raise RLIMIT_MEMLOCK")]
    LockMemory {
        /// What the kernel said.
        source: io::Error,
    },
}

/// Makes this process unreadable, or does not return: either because it started itself again, with the same arguments,
/// environment and descriptors, or because it must not go on.
///
/// To be called first in `main`, before any other thread exists and before a secret is touched.
///
/// After a second start `/proc/self/exe` and [`std::env::current_exe`] name a memfd: see [`Entered::executable`].
///
/// # Errors
///
/// [`EntryError`]; the process should end then.
pub fn enter(entry: &Entry) -> Result<Entered, EntryError> {
    let status = Status::read()?;
    if status.threads != 1 {
        return Err(EntryError::Threads { threads: status.threads });
    }
    refuse_tracer(status, entry)?;
    let first = marker();
    forget_marker();
    let non_dumpable_from_exec = non_dumpable()?;
    if !non_dumpable_from_exec && !entry.accept_dumpable_start && first.is_some() {
        return Err(EntryError::DumpableOnEntry);
    }
    if !non_dumpable_from_exec && first.is_none() {
        let failure = start_again();
        if !entry.accept_dumpable_start {
            return Err(EntryError::StartAgain { source: failure });
        }
    }
    // Also when it holds already: fs.suid_dumpable = 2 would hand a crash to the core handler in spite of the limit.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| EntryError::Dumpable { source: error.into() })?;
    let nothing = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, nothing).map_err(|error| EntryError::CoreLimit { source: error.into() })?;
    if !entry.keep_new_privileges {
        set_no_new_privs(true).map_err(|error| EntryError::NoNewPrivileges { source: error.into() })?;
    }
    if entry.lock_memory {
        let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
        mlockall(all).map_err(|error| EntryError::LockMemory { source: error.into() })?;
    }
    let no_writable_code = forbid_writable_code();
    // Once more, now that nobody new can attach.
    let traced = refuse_tracer(Status::read()?, entry)?;
    Ok(Entered {
        non_dumpable_from_exec,
        reexecuted: first.is_some(),
        no_new_privileges: !entry.keep_new_privileges,
        traced,
        memory_locked: entry.lock_memory,
        no_writable_code,
        reads_everything: reads_everything(),
        executable: executable(first),
    })
}

impl Entered {
    /// Whether the kernel made this process non-dumpable in execve(2) itself. If not, a process of the same user that
    /// was waiting for it may hold its memory open.
    #[must_use]
    pub fn non_dumpable_from_exec(&self) -> bool {
        self.non_dumpable_from_exec
    }

    /// Whether it started itself again, or was told so by whoever started it.
    #[must_use]
    pub fn reexecuted(&self) -> bool {
        self.reexecuted
    }

    /// Whether neither it nor its children can gain privileges by execve(2).
    #[must_use]
    pub fn no_new_privileges(&self) -> bool {
        self.no_new_privileges
    }

    /// Whether a tracer is attached, which only [`Entry::allow_debugger`] lets pass.
    #[must_use]
    pub fn traced(&self) -> bool {
        self.traced
    }

    /// Whether all memory is locked.
    #[must_use]
    pub fn memory_locked(&self) -> bool {
        self.memory_locked
    }

    /// Whether memory can no longer become executable (`PR_SET_MDWE`, Linux 6.6); not passed on to children.
    #[must_use]
    pub fn no_writable_code(&self) -> bool {
        self.no_writable_code
    }

    /// Where the executable lies, so that its neighbours can be found. A hint: after a second start it comes from the
    /// environment, so whoever started this process could choose it, as it could choose the executable.
    #[must_use]
    pub fn executable(&self) -> Option<&Path> {
        self.executable.as_deref()
    }

    /// What should be said loudly, if anything.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        match self {
            Self { traced: true, .. } => Some("a debugger is attached and can read every secret of this process"),
            Self { non_dumpable_from_exec: false, reads_everything: true, .. } => Some(
                "this process was readable when it started: it holds CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH, which \
                 defeats an executable that cannot be read",
            ),
            Self { non_dumpable_from_exec: false, .. } => Some(
                "this process was readable when it started: another process of the same user may hold its memory open",
            ),
            _ => None,
        }
    }
}

impl fmt::Display for Entered {
    fn fmt(&self, line: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |holds: bool| if holds { "yes" } else { "no" };
        write!(
            line,
            "entered: non-dumpable from exec {}, started again {}, no core files yes, no new privileges {}, traced {}, \
             memory locked {}, no writable code {}",
            yes(self.non_dumpable_from_exec),
            yes(self.reexecuted),
            yes(self.no_new_privileges),
            yes(self.traced),
            yes(self.memory_locked),
            yes(self.no_writable_code),
        )?;
        self.warning().map_or(Ok(()), |warning| write!(line, "; WARNING: {warning}"))
    }
}

fn non_dumpable() -> Result<bool, EntryError> {
    match dumpable_behavior() {
        Ok(behavior) => Ok(behavior != DumpableBehavior::Dumpable),
        Err(error) => Err(EntryError::Dumpable { source: error.into() }),
    }
}

fn refuse_tracer(status: Status, entry: &Entry) -> Result<bool, EntryError> {
    match status.tracer {
        0 => Ok(false),
        _ if entry.allow_debugger => Ok(true),
        tracer => Err(EntryError::Traced { tracer }),
    }
}

fn reads_everything() -> bool {
    capabilities(None)
        .is_ok_and(|held| held.effective.intersects(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH))
}

fn forbid_writable_code() -> bool {
    // Children are other programs, which may well compile at run time. Kernels before 6.6 cannot tell the two apart,
    // and there we do without.
    let flags = libc::c_ulong::from(libc::PR_MDWE_REFUSE_EXEC_GAIN | libc::PR_MDWE_NO_INHERIT);
    let none: libc::c_ulong = 0;
    // SAFETY: only restricts later mmap and mprotect calls of this process; no memory is read or written.
    unsafe { libc::prctl(libc::PR_SET_MDWE, flags, none, none, none) == 0 }
}

/// The two lines of `/proc/self/status` that matter here.
#[derive(Clone, Copy, Debug)]
struct Status {
    threads: u32,
    tracer: u32,
}

impl Status {
    fn read() -> Result<Self, EntryError> {
        // Room for all of it, which the kernel then writes at once.
        let mut text = String::with_capacity(4096);
        File::open("/proc/self/status")
            .and_then(|mut status| status.read_to_string(&mut text))
            .map_err(|source| EntryError::Status { source })?;
        let number = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
                .ok_or_else(|| EntryError::Status { source: io::ErrorKind::InvalidData.into() })
        };
        Ok(Self { threads: number("Threads:")?, tracer: number("TracerPid:")? })
    }
}
