//! The system calls that the program is denied: those that look into others, leave the confinement, or pass it by.

use blindferry_calls::{
    BackendError, DenyError, DenyList, IO_URING, OF_OTHERS, Reasoned, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompRule, deny_clone3, other_families, typing_for_others,
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
        .and(OF_OTHERS)
        .and(IO_URING)
        .and(DENIED)
        .and_when(libc::SYS_ioctl, rules(typing_for_others())?)
        .and_user_namespaces()?
        .and_when(libc::SYS_prlimit64, rules(limits_of_others())?);
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
    deny_clone3()
}

/// A process names itself by 0. Landlock does not know this call, which stops or starves whoever it names.
fn limits_of_others() -> Result<Vec<SeccompRule>, BackendError> {
    let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, 0)?;
    Ok(vec![SeccompRule::new(vec![other])?])
}

/// Beside those that look into others ([`OF_OTHERS`]).
const DENIED: &[Reasoned] = &[
    (libc::SYS_ptrace, "looking into another process; a debugger does not run in here"),
    (libc::SYS_mount, "taking a cover off a secret"),
    (libc::SYS_umount2, "taking a cover off a secret"),
    (libc::SYS_pivot_root, "another root"),
    (libc::SYS_chroot, "another root"),
    (libc::SYS_open_tree, "the files below a mount"),
    (libc::SYS_mount_setattr, "writing where only reading is allowed"),
    (libc::SYS_settimeofday, "another time for everybody"),
    (libc::SYS_clock_settime, "another time for everybody"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_call_is_listed_twice_or_without_a_reason() {
        let all: Vec<_> = OF_OTHERS.iter().chain(IO_URING).chain(DENIED).collect();
        let distinct: BTreeSet<i64> = all.iter().map(|(call, _)| *call).collect();
        assert_eq!(distinct.len(), all.len());
        assert!(all.iter().all(|(_, reason)| !reason.is_empty()));
    }
}
