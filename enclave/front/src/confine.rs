//! What the front gives up before it listens: new programs, other processes, and all files but its own.
//!
//! The front speaks to everybody and links a database and an HTTP server, so it is the process to be taken over. It
//! keeps what it needs: sockets, the store's directory, and reading what the resolver reads. A list of what is forbidden
//! is enough here, since a front in other hands learns no secret; the vault has a list of what is allowed.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use blindferry_calls::{DenyError, DenyList, EXECUTING, new_process, other_families};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};
use thiserror::Error;

/// This process is confined, with every thread it will ever have. Only [`confine`] makes one.
#[derive(Debug)]
pub struct Confined(());

/// Why this process is not confined; it must not listen then.
#[derive(Debug, Error)]
pub enum ConfineError {
    /// Landlock holds for the calling thread and those it starts, so there must be no other yet.
    #[error("{threads} threads run already, confinement would miss all but one")]
    Threads {
        /// How many.
        threads: usize,
    },
    /// `/proc` is missing.
    #[error("cannot count the threads of this process")]
    CountThreads(#[source] io::Error),
    /// prctl(2) failed.
    #[error("cannot give up new privileges")]
    NoNewPrivileges(#[source] io::Error),
    /// Landlock refused the rules.
    #[error("cannot restrict the files that this process may reach")]
    Files(#[source] RulesetError),
    /// There is no filter of system calls.
    #[error(transparent)]
    Calls(DenyError),
}

/// Gives up, for good: new programs and privileges, looking into other processes, all files but the store's directory
/// and those of the resolver, and listening anywhere but on `listening`.
///
/// The store must be open and the children started; no thread may run but this one.
///
/// # Errors
/// [`ConfineError`]. A kernel without Landlock is not an error: the log says so.
pub fn confine(store: &Path, listening: &[SocketAddr]) -> Result<Confined, ConfineError> {
    require_one_thread()?; // first: what follows holds for threads started later, not for those that run
    rustix::thread::set_no_new_privs(true).map_err(|error| ConfineError::NoNewPrivileges(error.into()))?; // both walls need it
    restrict_files(store, listening).map_err(ConfineError::Files)?; // before the filter, which forbids adding to it
    restrict_calls()?; // last
    Ok(Confined(()))
}

fn require_one_thread() -> Result<(), ConfineError> {
    match std::fs::read_dir("/proc/self/task").map_err(ConfineError::CountThreads)?.count() {
        1 => Ok(()),
        threads => Err(ConfineError::Threads { threads }),
    }
}

fn restrict_files(store: &Path, listening: &[SocketAddr]) -> Result<(), RulesetError> {
    let directory = match store.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    // In the store's directory: what opening a store anew needs, and no removing, linking, or making of anything else.
    let keep: BitFlags<AccessFs> =
        AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::ReadDir | AccessFs::MakeReg;
    let look: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::AbstractUnixSocket)?
        .create()?
        .add_rules(path_beneath_rules([directory], keep))?
        .add_rules(path_beneath_rules(RESOLVER, look))?;
    for address in listening {
        rules = rules.add_rule(NetPort::new(address.port(), AccessNet::BindTcp))?;
    }
    match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => {}
        RulesetStatus::PartiallyEnforced => {
            tracing::warn!(name: "less-confined", "this kernel's Landlock is an old one: files are restricted, other things may not be");
        }
        RulesetStatus::NotEnforced => {
            tracing::warn!(name: "less-confined", "this kernel has no Landlock: the front can reach every file that its user can");
        }
    }
    Ok(())
}

/// For all threads, although there is one: the kernel then says so if that is not true.
fn restrict_calls() -> Result<(), ConfineError> {
    let made = |error| ConfineError::Calls(DenyError::Filter(error));
    // A filter has one answer for all that it refuses, and the C library makes threads another way only when clone3(2)
    // is said not to exist. Its flags are behind a pointer, where no filter can see a new process among new threads.
    let unknown = DenyList::default().and(&[(libc::SYS_clone3, "a new process that looks like a thread")]);
    // The Internet, this machine's resolvers, and the routes that getaddrinfo asks for.
    let families = other_families(&[libc::AF_INET, libc::AF_INET6, libc::AF_UNIX, libc::AF_NETLINK]).map_err(made)?;
    let forbidden = DenyList::common()
        .map_err(ConfineError::Calls)?
        .and(EXECUTING)
        .and(&[(libc::SYS_memfd_secret, "memory that an inspector cannot read")])
        .and_when(libc::SYS_clone, vec![new_process().map_err(made)?])
        .and_when(libc::SYS_socket, vec![families]);
    unknown.apply(libc::ENOSYS).map_err(ConfineError::Calls)?;
    forbidden.apply(libc::EPERM).map_err(ConfineError::Calls) // last: it forbids a third
}

/// What getaddrinfo(3) reads. All of `/etc`, since resolv.conf is replaced by renaming whenever the network changes and
/// a rule for the file would stay with the old one; and the places that it is a link to. The rest are the modules of
/// nsswitch.conf.
const RESOLVER: [&str; 9] = [
    "/etc",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/nix/store",
];

/// The newest Landlock whose rights we name; an older kernel enforces what it knows.
const KNOWN: ABI = ABI::V6;
