//! The system calls that the program is denied: those that look into others, leave the confinement, or pass it by.

use blindferry_calls::{
    BackendError, DenyError, DenyList, Reasoned, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule,
    other_families, typing_for_others,
};

/// Which sockets can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sockets {
    /// Internet, Unix and netlink: what programs use, and not VSOCK to the machine around a guest.
    Usual,
    /// No Unix sockets: where nothing keeps the program from connecting to those of services. A pair still can be made.
    NoUnix,
    /// None: where there is no network namespace of its own, and none is wanted.
    None,
}

/// Denies them for good.
///
/// # Errors
/// [`DenyError`].
pub(crate) fn deny(sockets: Sockets) -> Result<(), DenyError> {
    let rules = |rules: Result<Vec<SeccompRule>, BackendError>| rules.map_err(DenyError::Filter);
    let mut list = DenyList::default()
        .and(DENIED)
        .and_when(libc::SYS_ioctl, rules(typing_for_others())?)
        .and_when(libc::SYS_unshare, rules(user_namespace())?)
        .and_when(libc::SYS_clone, rules(user_namespace())?);
    list = match sockets {
        Sockets::Usual => {
            let known = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
            list.and_when(libc::SYS_socket, rules(other_families(&known).map(|rule| vec![rule]))?)
        }
        Sockets::NoUnix => {
            let known = [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
            list.and_when(libc::SYS_socket, rules(other_families(&known).map(|rule| vec![rule]))?)
        }
        Sockets::None => list.and(&[(libc::SYS_socket, "the network, where it is shared")]),
    };
    list.apply(libc::EPERM)?;
    // Its flags are in memory, where a filter does not look; C libraries go back to clone(2).
    DenyList::default().and(&[(libc::SYS_clone3, "a user namespace, unseen")]).apply(libc::ENOSYS)
}

/// The other namespaces need capabilities, which only a user namespace would give.
fn user_namespace() -> Result<Vec<SeccompRule>, BackendError> {
    let flag = u64::from(libc::CLONE_NEWUSER.cast_unsigned());
    let given = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag)?;
    Ok(vec![SeccompRule::new(vec![given])?])
}

const DENIED: &[Reasoned] = &[
    (libc::SYS_ptrace, "looking into another process; a debugger does not run in here"),
    (libc::SYS_process_vm_readv, "another process's memory"),
    (libc::SYS_process_vm_writev, "another process's memory"),
    (libc::SYS_process_madvise, "pushing out another process's memory"),
    (libc::SYS_pidfd_getfd, "another process's descriptors"),
    (libc::SYS_kcmp, "comparing descriptors with another process's"),
    (libc::SYS_perf_event_open, "watching another process's timing"),
    (libc::SYS_userfaultfd, "stopping the kernel in the middle of a copy"),
    (libc::SYS_io_uring_setup, "system calls that no filter sees"),
    (libc::SYS_io_uring_enter, "system calls that no filter sees"),
    (libc::SYS_io_uring_register, "system calls that no filter sees"),
    (libc::SYS_bpf, "programs in the kernel"),
    (libc::SYS_keyctl, "keyrings of the user"),
    (libc::SYS_add_key, "keyrings of the user"),
    (libc::SYS_request_key, "keyrings of the user, and a program of the kernel's choice"),
    (libc::SYS_mount, "taking a cover off a secret"),
    (libc::SYS_umount2, "taking a cover off a secret"),
    (libc::SYS_pivot_root, "another root"),
    (libc::SYS_chroot, "another root"),
    (libc::SYS_move_mount, "other files under known names"),
    (libc::SYS_open_tree, "the files below a mount"),
    (libc::SYS_fsopen, "other files under known names"),
    (libc::SYS_fsmount, "other files under known names"),
    (libc::SYS_fspick, "other files under known names"),
    (libc::SYS_fsconfig, "other files under known names"),
    (libc::SYS_mount_setattr, "writing where only reading is allowed"),
    (libc::SYS_open_by_handle_at, "files by number, past the directories above them"),
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
    (libc::SYS_settimeofday, "another time for everybody"),
    (libc::SYS_clock_settime, "another time for everybody"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_iopl, "the hardware"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_ioperm, "the hardware"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_call_is_listed_twice_or_without_a_reason() {
        let distinct: BTreeSet<i64> = DENIED.iter().map(|(call, _)| *call).collect();
        assert_eq!(distinct.len(), DENIED.len());
        assert!(DENIED.iter().all(|(_, reason)| !reason.is_empty()));
    }
}
