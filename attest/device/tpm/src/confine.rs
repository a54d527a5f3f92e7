//! What the device process gives up before its first request: all that libtss2 would only do in other hands.
//!
//! It links two large libraries in C, and what a TPM answers goes through them. It executes itself anew after each request
//! that touched a secret, and opens the TPM anew for each request; so it keeps executing, reading libraries, and the way
//! to the TPM. Landlock and seccomp outlive execve(2) and pile up: Landlock ends at 16 layers. So a process that is
//! confined already, by the program that it was a moment ago, is not confined once more; it asks the kernel which it is.

use std::io;
use std::path::{Path, PathBuf};

use blindferry_calls::{
    BackendError, DenyError, DenyList, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule, other_families,
};
use blindferry_proto::logs::LogPaths;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpgid, set_parent_process_death_signal};
use thiserror::Error;

use crate::tcti::Tcti;

/// This process is confined. Only [`confine`] makes one; serving takes it.
#[derive(Debug)]
#[must_use = "who is confined should serve"]
pub(crate) struct Confined(());

/// Why this process is not confined; it must not serve then.
#[derive(Debug, Error)]
pub(crate) enum ConfineError {
    /// prctl(2) failed.
    #[error("cannot ask to end with whoever started this process")]
    ParentDeath(#[source] io::Error),
    /// Landlock refused the rules.
    #[error("cannot restrict the files and ports that this process may reach")]
    Files(#[source] RulesetError),
    /// There is no filter of system calls.
    #[error("cannot restrict the system calls of this process")]
    Calls(#[source] DenyError),
}

/// Gives up, for good and also for the programs that this process becomes: other processes and threads, all files but
/// libraries, pins and logs, and all of the network but the TPM.
///
/// [`blindferry_handle::entry::enter`] came before: non-dumpable, no core files, no new privileges.
pub(crate) fn confine(tcti: &Tcti, pins: &Path, logs: Option<&LogPaths>) -> Result<Confined, ConfineError> {
    // Each time, since it is a process's own and the kernel takes it away when ids change. Nobody is left to ask us then,
    // and a request under way may hold a key.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| ConfineError::ParentDeath(error.into()))?;
    if !is_confined() {
        restrict_files(tcti, pins, logs).map_err(ConfineError::Files)?; // before the filters, which say that it was done
        restrict_calls(tcti).map_err(ConfineError::Calls)?; // last
    }
    Ok(Confined(()))
}

/// Whether [`restrict_calls`] came to its end in this process, before or after it became this program: only our filter
/// answers in this way to that question.
fn is_confined() -> bool {
    getpgid(Some(NOBODY)) == Err(Errno::NOTUNIQ)
}

fn restrict_files(tcti: &Tcti, pins: &Path, logs: Option<&LogPaths>) -> Result<(), RulesetError> {
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        // The dynamic linker is executed with us, and libtss2 opens the library of its TCTI by name.
        .add_rules(path_beneath_rules(LIBRARIES, read | AccessFs::Execute))?
        // ld.so.cache and openssl.cnf. All of it: both are replaced by renaming, and a rule stays with the old file.
        .add_rules(path_beneath_rules(["/etc"], read))?
        // Entering reads of itself there, and a rule for `/proc/self` alone would be forgotten with its directory entry.
        // Memory of others stays closed, which is tracing to Landlock; ours are not dumpable and show nothing at all.
        .add_rules(path_beneath_rules(["/proc"], read))?
        // The directory, so that a new pin file in the place of the old one can be read.
        .add_rules(path_beneath_rules([directory(pins)], AccessFs::ReadFile))?;
    if let Some(LogPaths { events, ima }) = logs {
        // These files alone, where they are there. One that is not is an error of whoever asks for it.
        rules = rules.add_rules(path_beneath_rules([events, ima], AccessFs::ReadFile))?;
    }
    if let Ok(own) = std::fs::read_link("/proc/self/exe")
        && !own.as_os_str().as_encoded_bytes().starts_with(b"/memfd:")
    {
        // A memfd cannot be named in a rule and needs none. To Landlock, execve(2) reads too.
        rules = rules.add_rules(path_beneath_rules(["/proc/self/exe"], AccessFs::ReadFile | AccessFs::Execute))?;
    }
    rules = match tcti {
        Tcti::Device(node) => rules.add_rules(path_beneath_rules([node], AccessFs::ReadFile | AccessFs::WriteFile))?,
        // The TPM, and its control channel, where libtss2 looks for it.
        Tcti::Swtpm { port, .. } => [*port, port.saturating_add(1)]
            .into_iter()
            .try_fold(rules, |rules, port| rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp)))?,
    };
    match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => {}
        RulesetStatus::PartiallyEnforced => warn("this kernel's Landlock knows only a part of the confinement"),
        RulesetStatus::NotEnforced => {
            warn("this kernel has no Landlock: the device process can reach its user's files")
        }
    }
    Ok(())
}

fn directory(pins: &Path) -> PathBuf {
    match pins.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn restrict_calls(tcti: &Tcti) -> Result<(), DenyError> {
    let answer = DenyList::default().and_when(libc::SYS_getpgid, vec![about_nobody().map_err(DenyError::Filter)?]);
    let dumpable = vec![becoming_dumpable().map_err(DenyError::Filter)?];
    let list = DenyList::common()?.and(FORBIDDEN).and_when(libc::SYS_prctl, dumpable);
    let list = match tcti {
        Tcti::Device(_) => list.and(NETWORK),
        Tcti::Swtpm { .. } => list.and_when(libc::SYS_socket, all_but_tcp().map_err(DenyError::Filter)?),
    };
    answer.apply(libc::ENOTUNIQ)?;
    list.apply(libc::EPERM) // last: it forbids a further one
}

fn about_nobody() -> Result<SeccompRule, BackendError> {
    rule(0, SeccompCmpOp::Eq, u64::from(i32::MAX.cast_unsigned()))
}

/// prctl(2) that would make this process readable to others of its user.
fn becoming_dumpable() -> Result<SeccompRule, BackendError> {
    let option = u64::from(libc::PR_SET_DUMPABLE.cast_unsigned());
    SeccompRule::new(vec![
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, option)?,
        SeccompCondition::new(1, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?,
    ])
}

/// Sockets other than the one to swtpm: of another family, or of a type that Landlock's rule for ports does not reach.
fn all_but_tcp() -> Result<Vec<SeccompRule>, BackendError> {
    // `SOCK_STREAM` is 1 in the four bits of `SOCK_TYPE_MASK` (linux/net.h), above which there are flags.
    let mut rules = vec![other_families(&[libc::AF_INET])?];
    for (bit, wrong) in [(1, 0), (2, 2), (4, 4), (8, 8)] {
        rules.push(rule(1, SeccompCmpOp::MaskedEq(bit), wrong)?);
    }
    Ok(rules)
}

fn rule(argument: u8, operation: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operation, value)?])
}

fn warn(what: &str) {
    eprintln!("blindferry-device: WARNING: {what}");
}

/// What else is never needed. Executing is: a program that is started so has no more powers than this one.
const FORBIDDEN: &[(i64, &str)] = &[
    (libc::SYS_clone, "another process or thread"),
    (libc::SYS_clone3, "another process or thread"),
    (libc::SYS_kill, "ending another process of this user"),
    (libc::SYS_rt_sigqueueinfo, "ending another process of this user"),
    (libc::SYS_pidfd_send_signal, "ending another process of this user"),
    (libc::SYS_bind, "a port, or the name of a socket"),
    (libc::SYS_listen, "being called from outside"),
    (libc::SYS_accept, "being called from outside"),
    (libc::SYS_accept4, "being called from outside"),
];

/// What a process with a device node does not need either.
const NETWORK: &[(i64, &str)] =
    &[(libc::SYS_socket, "a way out of the machine"), (libc::SYS_connect, "a way out of the machine")];

/// Where the dynamic linker looks, on distributions with and without a merged /usr.
const LIBRARIES: [&str; 7] =
    ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/nix/store"];

/// No process has this id: the kernel's bound is 2^22.
const NOBODY: Pid = match Pid::from_raw(i32::MAX) {
    Some(nobody) => nobody,
    None => Pid::INIT,
};

/// The newest Landlock whose rights we name; an older kernel enforces what it knows.
const KNOWN: ABI = ABI::V6;

#[cfg(test)]
mod tests;
