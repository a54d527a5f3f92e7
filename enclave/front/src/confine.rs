//! What the front gives up before it listens: new programs, other processes, and all files but its own.
//!
//! The front speaks to everybody and links a database and an HTTP server, so it is the process to be taken over. It
//! keeps what it needs: sockets, the store's directory, and reading what the resolver reads. A list of what is forbidden
//! is enough here, since a front in other hands learns no secret; the vault has a list of what is allowed.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
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
    /// The filter could not be made.
    #[error("cannot make the filter of system calls")]
    Filter(#[source] seccompiler::BackendError),
    /// The kernel refused the filter.
    #[error("cannot restrict the system calls of this process")]
    Calls(#[source] seccompiler::Error),
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
            tracing::warn!("this kernel's Landlock is an old one: files are restricted, other things may not be");
        }
        RulesetStatus::NotEnforced => {
            tracing::warn!("this kernel has no Landlock: the front can reach every file that its user can");
        }
    }
    Ok(())
}

/// For all threads, although there is one: the kernel then says so if that is not true.
fn restrict_calls() -> Result<(), ConfineError> {
    // A filter has one answer for all that it refuses, and the C library makes threads another way only when clone3(2)
    // is said not to exist. Its flags are behind a pointer, where no filter can see a new process among new threads.
    let unknown = filter([(libc::SYS_clone3, vec![])].into(), libc::ENOSYS).map_err(ConfineError::Filter)?;
    let forbidden = forbidden().and_then(|rules| filter(rules, libc::EPERM)).map_err(ConfineError::Filter)?;
    for filter in [unknown, forbidden] {
        seccompiler::apply_filter_all_threads(&filter).map_err(ConfineError::Calls)?; // the second forbids a third
    }
    Ok(())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn forbidden() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = FORBIDDEN.iter().map(|(call, _)| (*call, vec![])).collect();
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![new_process()?])?]);
    rules.insert(libc::SYS_ioctl, typing_for_others()?);
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(unknown_family()?)?]);
    Ok(rules)
}

/// Answers `error` to what the rules say and lets the rest through.
fn filter(mut rules: Rules, error: libc::c_int) -> Result<BpfProgram, seccompiler::BackendError> {
    with_x32(&mut rules);
    let answer = SeccompAction::Errno(error.cast_unsigned());
    SeccompFilter::new(rules, SeccompAction::Allow, answer, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// clone(2) without `CLONE_VM`, which is fork(2): threads are still made.
fn new_process() -> Result<SeccompCondition, seccompiler::BackendError> {
    let flag = u64::from(libc::CLONE_VM.cast_unsigned());
    SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), 0)
}

/// Two ioctls that put characters into a terminal's input, as if its user had typed them.
fn typing_for_others() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    [libc::TIOCSTI, libc::TIOCLINUX]
        .into_iter()
        .map(|request| {
            SeccompRule::new(vec![SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, request)?])
        })
        .collect()
}

/// Sockets other than those of the Internet, of this machine's resolvers, and of the routes that getaddrinfo asks for.
fn unknown_family() -> Result<Vec<SeccompCondition>, seccompiler::BackendError> {
    [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX, libc::AF_NETLINK]
        .into_iter()
        .map(|family| {
            SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, u64::from(family.cast_unsigned()))
        })
        .collect()
}

/// The same calls by their numbers in the x32 ABI, where the kernel has it: the filter sees the same architecture, so a
/// list of what is forbidden must name them.
#[cfg(target_arch = "x86_64")]
fn with_x32(rules: &mut Rules) {
    /// `__X32_SYSCALL_BIT` of the kernel's asm/unistd.h.
    const X32: i64 = 0x4000_0000;
    /// Calls with a number of their own there: arch/x86/entry/syscalls/syscall_64.tbl, from 512 on.
    const OWN_NUMBERS: [i64; 6] = [514, 520, 521, 539, 540, 545]; // ioctl, execve, ptrace, process_vm_{readv,writev}, execveat
    for (call, conditions) in rules.clone() {
        rules.insert(call | X32, conditions);
    }
    if rules.contains_key(&libc::SYS_execve) {
        rules.extend(OWN_NUMBERS.map(|call| (call | X32, vec![])));
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn with_x32(_: &mut Rules) {}

/// Forbidden system calls, each with what it would be good for in other hands.
const FORBIDDEN: &[(i64, &str)] = &[
    (libc::SYS_execve, "another program"),
    (libc::SYS_execveat, "another program"),
    (libc::SYS_ptrace, "looking into the vault"),
    (libc::SYS_process_vm_readv, "looking into the vault"),
    (libc::SYS_process_vm_writev, "changing the vault"),
    (libc::SYS_process_madvise, "pushing out the vault's memory"),
    (libc::SYS_pidfd_getfd, "taking the vault's descriptors"),
    (libc::SYS_kcmp, "comparing descriptors with the vault's"),
    (libc::SYS_perf_event_open, "watching the vault's timing"),
    (libc::SYS_userfaultfd, "stopping the kernel in the middle of a copy"),
    (libc::SYS_io_uring_setup, "system calls that no filter sees"),
    (libc::SYS_io_uring_enter, "system calls that no filter sees"),
    (libc::SYS_io_uring_register, "system calls that no filter sees"),
    (libc::SYS_bpf, "programs in the kernel"),
    (libc::SYS_memfd_secret, "memory that an inspector cannot read"),
    (libc::SYS_keyctl, "keyrings of the user"),
    (libc::SYS_add_key, "keyrings of the user"),
    (libc::SYS_request_key, "keyrings of the user"),
    (libc::SYS_mount, "other files under known names"),
    (libc::SYS_umount2, "other files under known names"),
    (libc::SYS_pivot_root, "other files under known names"),
    (libc::SYS_chroot, "other files under known names"),
    (libc::SYS_move_mount, "other files under known names"),
    (libc::SYS_open_tree, "other files under known names"),
    (libc::SYS_fsopen, "other files under known names"),
    (libc::SYS_fsmount, "other files under known names"),
    (libc::SYS_fspick, "other files under known names"),
    (libc::SYS_fsconfig, "other files under known names"),
    (libc::SYS_mount_setattr, "other files under known names"),
    (libc::SYS_open_by_handle_at, "files by number, past the directories above them"),
    (libc::SYS_unshare, "namespaces, and the powers that come with them"),
    (libc::SYS_setns, "namespaces of others"),
    (libc::SYS_init_module, "code in the kernel"),
    (libc::SYS_finit_module, "code in the kernel"),
    (libc::SYS_delete_module, "code in the kernel"),
    (libc::SYS_kexec_load, "another kernel"),
    (libc::SYS_kexec_file_load, "another kernel"),
    (libc::SYS_reboot, "ending the machine"),
    (libc::SYS_swapon, "memory on a disk of one's choice"),
    (libc::SYS_swapoff, "memory pressure"),
    (libc::SYS_acct, "a record of all processes"),
    (libc::SYS_quotactl, "limits of others"),
    (libc::SYS_syslog, "the kernel's log"),
    (libc::SYS_settimeofday, "certificates that have expired"),
    (libc::SYS_clock_settime, "certificates that have expired"),
    (libc::SYS_adjtimex, "certificates that have expired"),
    (libc::SYS_clock_adjtime, "certificates that have expired"),
    (libc::SYS_personality, "weaker memory layout"),
    (libc::SYS_seccomp, "filters that answer in the kernel's place"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_fork, "another process"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_vfork, "another process"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_iopl, "the hardware"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_ioperm, "the hardware"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_modify_ldt, "segments that mislead the kernel"),
];

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
