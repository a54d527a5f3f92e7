//! What the vault gives up before it reads a byte from outside, in one list in one function.
//!
//! It keeps what it was handed: its sockets, its memory, the clock and the kernel's randomness. A descriptor to anything
//! new can only come to it from the front, over a socket that it has already.

use std::fs;
use std::io;

use blindferry_handle::secret::{MAX_POOL, Protection, SecretError, protection, reserve};
use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getpid, getrlimit, getuid, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::policy::{Policy, Problem};

mod calls;

/// This process has given up its powers. Only [`confine`] makes one, and serving takes it by value: nobody can serve
/// before.
///
/// It cannot be built:
///
/// ```compile_fail,E0451
/// let forged = blindferry_vault::confine::Confined { landlock_abi: 6, ..todo!() };
/// ```
///
/// Nor can it be copied:
///
/// ```compile_fail,E0277
/// fn copies<T: Clone>() {}
/// copies::<blindferry_vault::confine::Confined>();
/// ```
#[must_use = "who is confined should serve"]
#[derive(Debug)]
pub struct Confined {
    memory: Protection,
    locked: bool,
    landlock_abi: u32,
    notes: Vec<&'static str>,
}

/// Why this process could not give up its powers. It must end then, having served nobody.
#[derive(Debug, Error)]
pub enum ConfineError {
    /// Capabilities and Landlock are a thread's own, so there must be no other.
    #[error("{threads} threads run, confinement would miss all but one")]
    Threads {
        /// How many.
        threads: usize,
    },
    /// `/proc` is missing.
    #[error("cannot count the threads of this process")]
    CountThreads(#[source] io::Error),
    /// Secret memory for the first secrets is not to be had.
    #[error("cannot reserve secret memory")]
    Reserve(#[source] SecretError),
    /// The engine of the policies does not work even now.
    #[error("cannot make the policy engine ready: {}", .0.first().map(Problem::message).unwrap_or_default())]
    Policy(Vec<Problem>),
    /// There is no tokio runtime yet, or one without signals.
    #[error("cannot take the signal for files that grow too large; the runtime must exist before this")]
    Signal(#[source] io::Error),
    /// setrlimit(2) failed.
    #[error("cannot limit {what}")]
    Limit {
        /// What should have been limited.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// capset(2) or prctl(2) failed.
    #[error("cannot give up capabilities")]
    Capabilities(#[source] io::Error),
    /// prctl(2) failed.
    #[error("cannot hide from other processes of this user")]
    Dumpable(#[source] io::Error),
    /// prctl(2) failed.
    #[error("cannot give up new privileges")]
    NoNewPrivileges(#[source] io::Error),
    /// Landlock refused the rules.
    #[error("cannot give up files and the network")]
    Landlock(#[source] RulesetError),
    /// A filter could not be compiled.
    #[error("cannot compile the filters of system calls")]
    Compile(#[source] seccompiler::BackendError),
    /// The kernel refused a filter.
    #[error("cannot give up system calls")]
    Filter(#[source] seccompiler::Error),
}

/// Gives up, for good: files, new sockets, new threads, processes and programs, code made at run time, looking into
/// other processes or being looked into, core files, capabilities.
///
/// To be called once, inside the current-thread runtime, when the sockets that this process inherited are open and
/// before a byte from outside is read. No other thread may run, and none can be started from then on: not by
/// `spawn_blocking` either.
///
/// # Errors
///
/// [`ConfineError`]. What this kernel cannot give up is no error but one of [`Confined::notes`]: without Landlock the
/// filter of system calls still stands, and without locked memory the secrets still lie in pages that are never swapped.
pub fn confine() -> Result<Confined, ConfineError> {
    let mut notes = Vec::new();
    require_one_thread()?; // first: most of what follows holds for this thread alone
    let memory = prepare_memory(&mut notes)?; // before the limits and the filter
    prepare_policies()?; // before files go: the engine looks up the end of its stack in /proc
    survive_full_files()?; // before the limit on files
    let locked = lock_memory(&mut notes)?; // before capabilities go: a privileged process may raise its own limit
    limit_resources()?; // the same
    drop_capabilities()?;
    if getuid().is_root() {
        notes.push("runs as root: give the vault a user of its own");
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| ConfineError::Dumpable(e.into()))?; // after capabilities: changing those can reset it
    set_no_new_privs(true).map_err(|e| ConfineError::NoNewPrivileges(e.into()))?; // before both walls, which need it
    let landlock_abi = give_up_files(&mut notes)?; // before the filter, which forbids it
    give_up_calls()?; // last: every step above needs more
    Ok(Confined { memory, locked, landlock_abi, notes })
}

impl Confined {
    /// What protects secrets in memory.
    #[must_use]
    pub fn memory(&self) -> Protection {
        self.memory
    }

    /// Whether all memory is locked against swapping, not only that of secrets.
    #[must_use]
    pub fn locked(&self) -> bool {
        self.locked
    }

    /// The version of Landlock's interface that holds; 0 where the kernel has none.
    #[must_use]
    pub fn landlock_abi(&self) -> u32 {
        self.landlock_abi
    }

    /// What an operator should know, loudly, a line each.
    #[must_use]
    pub fn notes(&self) -> &[&'static str] {
        &self.notes
    }
}

fn require_one_thread() -> Result<(), ConfineError> {
    match fs::read_dir("/proc/self/task").map_err(ConfineError::CountThreads)?.count() {
        1 => Ok(()),
        threads => Err(ConfineError::Threads { threads }),
    }
}

/// Finds out what protects secrets, while a kernel without secret memory may still say so.
fn prepare_memory(notes: &mut Vec<&'static str>) -> Result<Protection, ConfineError> {
    /// Small secrets of an idle vault: its keys, and some sessions' worth.
    const SLOTS: usize = 64;
    let memory = protection();
    notes.extend(memory.warning());
    reserve(SLOTS).map_err(ConfineError::Reserve)?;
    Ok(memory)
}

/// Has Cedar read its schema and, once for this thread, `/proc/self/maps` for the end of the stack: a check of its
/// against deep recursion that would silently do without, were the file out of reach.
fn prepare_policies() -> Result<(), ConfineError> {
    Policy::parse("forbid(principal, action, resource) when { context.session_age < 0 };", 0)
        .map(drop)
        .map_err(ConfineError::Policy)
}

/// A write beyond RLIMIT_FSIZE, for instance to a log file as standard error, shall be an error and not the end of the
/// vault. The handler stays when the value that installed it goes.
fn survive_full_files() -> Result<(), ConfineError> {
    tokio::runtime::Handle::try_current().map_err(|e| ConfineError::Signal(io::Error::other(e)))?;
    signal(SignalKind::from_raw(libc::SIGXFSZ)).map(drop).map_err(ConfineError::Signal)
}

/// Locks all memory, present and future, as it is touched; where the limit allows it. Under a limit it is worse than
/// nothing: it would use up what secret memory needs, and the allocator would fail when it is reached.
fn lock_memory(notes: &mut Vec<&'static str>) -> Result<bool, ConfineError> {
    let unlimited = Rlimit { current: None, maximum: None };
    let limit = getrlimit(Resource::Memlock);
    let raised = match setrlimit(Resource::Memlock, unlimited) {
        Ok(()) => true,
        // No privilege for that: as far up as allowed then.
        Err(_) => {
            let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
            set_limit("locked memory", Resource::Memlock, raised)?;
            limit.maximum.is_none()
        }
    };
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    let locked = raised && mlockall(all).is_ok();
    if !locked {
        notes.push(
            "memory outside of secrets is not locked and may be swapped; raise RLIMIT_MEMLOCK (LimitMEMLOCK=infinity)",
        );
    }
    Ok(locked)
}

fn limit_resources() -> Result<(), ConfineError> {
    /// One session or upstream each, with room; the front is bounded below this.
    const DESCRIPTORS: u64 = 16_384;
    /// No file may grow beyond this. Not zero: secret memory is a file too, and this is the most of it.
    const FILE: u64 = MAX_POOL as u64;

    let most = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
    let descriptors = getrlimit(Resource::Nofile).maximum.map_or(DESCRIPTORS, |hard| hard.min(DESCRIPTORS));
    set_limit("core files", Resource::Core, most(0))?;
    set_limit("descriptors", Resource::Nofile, most(descriptors))?;
    set_limit("the size of files", Resource::Fsize, most(FILE))?;
    set_limit("processes", Resource::Nproc, most(0)) // not for root, of whom the kernel counts none
}

fn set_limit(what: &'static str, resource: Resource, limit: Rlimit) -> Result<(), ConfineError> {
    setrlimit(resource, limit).map_err(|error| ConfineError::Limit { what, source: error.into() })
}

fn drop_capabilities() -> Result<(), ConfineError> {
    let failed = |error: Errno| ConfineError::Capabilities(error.into());
    clear_ambient_capability_set().map_err(failed)?;
    // The bounding set matters to execve alone, and only who has CAP_SETPCAP can change it: before the others go.
    if capabilities(None).map_err(failed)?.effective.contains(CapabilitySet::SETPCAP) {
        for bit in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << bit);
            match capability_is_in_bounding_set(capability) {
                Ok(true) => remove_capability_from_bounding_set(capability).map_err(failed)?,
                Ok(false) => {}
                Err(_) => break, // beyond the last one that this kernel knows
            }
        }
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none }).map_err(failed)
}

/// The second wall: no file, no TCP connection or port, no signal or abstract socket to anybody outside. What is open
/// stays so.
fn give_up_files(notes: &mut Vec<&'static str>) -> Result<u32, ConfineError> {
    /// The newest interface whose rights we name; an older kernel enforces what it knows.
    const KNOWN: ABI = ABI::V6;

    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(KNOWN)))
        .and_then(|rules| rules.scope(Scope::from_all(KNOWN)))
        .and_then(Ruleset::create)
        .and_then(|rules| rules.restrict_self())
        .map_err(ConfineError::Landlock)?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => {}
        RulesetStatus::PartiallyEnforced => {
            notes.push(
                "this kernel's Landlock is an old one: the second wall has gaps, the filter of system calls stands",
            );
        }
        RulesetStatus::NotEnforced => {
            notes.push("this kernel has no Landlock: the second wall is missing, the filter of system calls stands");
        }
    }
    Ok(match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as u32,
        _ => 0,
    })
}

/// For all threads, although there is one: the kernel says so if that is not true.
fn give_up_calls() -> Result<(), ConfineError> {
    let pid = u64::from(getpid().as_raw_pid().cast_unsigned());
    let calls::Filters { kill, allow } = calls::filters(pid).map_err(ConfineError::Compile)?;
    // In this order: the second does not allow another.
    for filter in [kill, allow] {
        seccompiler::apply_filter_all_threads(&filter).map_err(ConfineError::Filter)?;
    }
    Ok(())
}
