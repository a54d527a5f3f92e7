//! What the broker gives up before the first connection: one list, in order.

use crate::configuration::Address;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, PathFdError, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::collections::BTreeMap;
use std::path::Path;
use tracing::warn;

/// What the broker still needs, once its device process runs and its sockets are bound.
#[derive(Clone, Copy, Debug)]
pub struct Needs<'a> {
    /// Whom it dials.
    pub vault: &'a Address,
    /// The directories of its sockets, out of which it removes them at its end.
    pub sockets: [&'a Path; 2],
}

/// Proof that the powers are gone; without it nothing is served.
#[derive(Debug)]
pub struct Confined(());

/// Gives up, for this thread and all that come after it, everything but the needs. There must be no other thread yet.
///
/// [`blindferry_handle::entry::enter`] came before: non-dumpable, no core, no new privileges.
///
/// # Errors
/// [`ConfineError`]; the process should end then.
pub fn confine(needs: &Needs<'_>) -> Result<Confined, ConfineError> {
    forbid_new_privileges()?; // before the other two, which need it or root
    shut_files_and_ports(needs)?; // before the filter: opens what it allows
    deny_calls()?; // last: for good
    Ok(Confined(()))
}

fn forbid_new_privileges() -> Result<(), ConfineError> {
    rustix::thread::set_no_new_privs(true).map_err(|error| ConfineError::NewPrivileges { source: error.into() })
}

/// Landlock: no file but the sockets' own, no port but the vault's, no signal and no abstract socket to the outside.
fn shut_files_and_ports(needs: &Needs<'_>) -> Result<(), ConfineError> {
    let abi = ABI::V6;
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(abi)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(abi)))
        .and_then(Ruleset::create)
        .map_err(|source| ConfineError::Landlock { source })?;
    let mut ruleset = ruleset
        .add_rule(NetPort::new(needs.vault.port(), AccessNet::ConnectTcp))
        .map_err(|source| ConfineError::Landlock { source })?;
    for directory in needs.sockets {
        let descriptor = PathFd::new(directory).map_err(|source| ConfineError::Open { source })?;
        ruleset = ruleset
            .add_rule(PathBeneath::new(descriptor, AccessFs::RemoveFile))
            .map_err(|source| ConfineError::Landlock { source })?;
    }
    if needs.vault.is_name() {
        for path in RESOLVER {
            // One that does not exist, the resolver does without as well.
            let Ok(descriptor) = PathFd::new(path) else { continue };
            let access = if Path::new(path).is_dir() {
                AccessFs::ReadFile | AccessFs::ReadDir
            } else {
                AccessFs::ReadFile.into()
            };
            ruleset = ruleset
                .add_rule(PathBeneath::new(descriptor, access))
                .map_err(|source| ConfineError::Landlock { source })?;
        }
    }
    let status = ruleset.restrict_self().map_err(|source| ConfineError::Landlock { source })?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => {}
        RulesetStatus::PartiallyEnforced => {
            warn!("this kernel's Landlock knows only a part of the confinement (all of it since Linux 6.12)");
        }
        RulesetStatus::NotEnforced => {
            warn!("this kernel has no Landlock: only file permissions keep the broker from files and ports");
        }
    }
    Ok(())
}

/// Seccomp: a deny list, since tokio and the resolver of libc call what they like; what is on it is never needed.
fn deny_calls() -> Result<(), ConfineError> {
    let denied: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
        denied_calls().into_iter().map(|call| (call, Vec::new())).collect();
    let architecture =
        TargetArch::try_from(std::env::consts::ARCH).map_err(|source| ConfineError::Filter { source })?;
    // EPERM and not death: a library that merely tries (a resolver's plug-in) must not be able to stop the host's broker.
    let filter = SeccompFilter::new(denied, SeccompAction::Allow, SeccompAction::Errno(EPERM), architecture)
        .map_err(|source| ConfineError::Filter { source })?;
    let program: BpfProgram = filter.try_into().map_err(|source| ConfineError::Filter { source })?;
    seccompiler::apply_filter_all_threads(&program).map_err(|source| ConfineError::Apply { source })
}

/// The numbers of all denied calls on this architecture.
fn denied_calls() -> Vec<i64> {
    let native = DENIED.iter().map(|(call, _reason)| *call);
    #[cfg(target_arch = "x86_64")]
    {
        // The x32 calls have the same architecture in the filter's eyes, and would pass by another number.
        let x32 = native.clone().map(|call| call | X32).chain(X32_ONLY.iter().map(|call| call | X32));
        native.chain(x32).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    native.collect()
}

/// The powers were not given up.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// prctl(2) failed.
    #[error("cannot give up new privileges")]
    NewPrivileges {
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Landlock refused.
    #[error("cannot shut files and ports with Landlock")]
    Landlock {
        /// Why.
        source: RulesetError,
    },
    /// A directory that stays allowed cannot be opened.
    #[error("cannot open a directory that the broker needs")]
    Open {
        /// Which, and why not.
        source: PathFdError,
    },
    /// The seccomp filter cannot be made.
    #[error("cannot make the seccomp filter")]
    Filter {
        /// Why not.
        source: seccompiler::BackendError,
    },
    /// The seccomp filter was refused.
    #[error("cannot apply the seccomp filter")]
    Apply {
        /// What the kernel said.
        source: seccompiler::Error,
    },
}

/// What a name's resolution reads, and the libraries that glibc loads for it.
const RESOLVER: &[&str] = &[
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/ld.so.cache",
    "/run/systemd/resolve",
    "/lib",
    "/lib64",
    "/usr/lib",
];

const EPERM: u32 = 1;

/// Each with what it could do for somebody who has taken the broker over.
const DENIED: &[(i64, &str)] = &[
    (libc::SYS_execve, "become another program"),
    (libc::SYS_execveat, "become another program, out of a memfd too"),
    (libc::SYS_ptrace, "take over another process of this user: the device process"),
    (libc::SYS_process_vm_readv, "read another process's memory"),
    (libc::SYS_process_vm_writev, "write another process's memory"),
    (libc::SYS_process_madvise, "meddle with another process's memory"),
    (libc::SYS_pidfd_getfd, "take descriptors out of the workers whose pidfds are here"),
    (libc::SYS_kcmp, "compare what processes hold"),
    (libc::SYS_io_uring_setup, "do all of this past the filter"),
    (libc::SYS_io_uring_enter, "the same"),
    (libc::SYS_io_uring_register, "the same"),
    (libc::SYS_keyctl, "read key rings"),
    (libc::SYS_add_key, "fill key rings"),
    (libc::SYS_request_key, "have the kernel start a helper"),
    (libc::SYS_bpf, "load programs into the kernel"),
    (libc::SYS_perf_event_open, "watch other processes"),
    (libc::SYS_userfaultfd, "stop the kernel in the middle of a copy, for exploits"),
    (libc::SYS_unshare, "get capabilities in a new user namespace"),
    (libc::SYS_setns, "enter another namespace"),
    (libc::SYS_mount, "change what paths mean"),
    (libc::SYS_umount2, "the same"),
    (libc::SYS_pivot_root, "the same"),
    (libc::SYS_chroot, "the same"),
    (libc::SYS_move_mount, "the same"),
    (libc::SYS_open_tree, "the same"),
    (libc::SYS_fsopen, "the same"),
    (libc::SYS_fsmount, "the same"),
    (libc::SYS_fsconfig, "the same"),
    (libc::SYS_fspick, "the same"),
    (libc::SYS_mount_setattr, "the same"),
    (libc::SYS_open_by_handle_at, "open files past their directories"),
    (libc::SYS_init_module, "load modules"),
    (libc::SYS_finit_module, "load modules"),
    (libc::SYS_delete_module, "unload modules"),
    (libc::SYS_kexec_load, "start another kernel"),
    (libc::SYS_kexec_file_load, "start another kernel"),
    (libc::SYS_reboot, "stop the host"),
    (libc::SYS_swapon, "write memory to a disk"),
    (libc::SYS_settimeofday, "move the clock"),
    (libc::SYS_clock_settime, "move the clock"),
    (libc::SYS_setuid, "become another user, if started as root"),
    (libc::SYS_setgid, "the same"),
    (libc::SYS_setreuid, "the same"),
    (libc::SYS_setregid, "the same"),
    (libc::SYS_setresuid, "the same"),
    (libc::SYS_setresgid, "the same"),
    (libc::SYS_setgroups, "the same"),
    (libc::SYS_setfsuid, "the same"),
    (libc::SYS_setfsgid, "the same"),
    (libc::SYS_capset, "raise what is left of capabilities"),
];

/// The bit that marks an x32 call, arch/x86/include/uapi/asm/unistd.h.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;

/// execve, ptrace, kexec_load, process_vm_readv, process_vm_writev and execveat have numbers of their own in x32.
#[cfg(target_arch = "x86_64")]
const X32_ONLY: &[i64] = &[520, 521, 528, 539, 540, 545];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_call_is_listed_twice_and_x32_is_no_way_around() {
        let calls = denied_calls();
        let distinct: BTreeSet<i64> = calls.iter().copied().collect();
        assert_eq!(calls.len(), distinct.len());
        #[cfg(target_arch = "x86_64")]
        for (call, _reason) in DENIED {
            assert!(distinct.contains(&(call | 0x4000_0000)));
        }
    }
}
