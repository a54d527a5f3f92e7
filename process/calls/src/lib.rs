//! System calls that front, broker, device process and command do not need once they run, and that programs in a sandbox
//! or a group of their own must not have: lists, made into seccomp filters.
//!
//! It lists what is forbidden, since all three link libraries that call what they like. The vault has a list of its own,
//! of what is allowed.

use std::collections::BTreeMap;

pub use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use thiserror::Error;

/// A call and what it would be good for in other hands.
pub type Reasoned = (i64, &'static str);

/// What a process forbids itself.
#[derive(Clone, Debug, Default)]
pub struct DenyList(BTreeMap<i64, Vec<SeccompRule>>);

/// A filter is not in force.
#[derive(Debug, Error)]
pub enum DenyError {
    /// It could not be made.
    #[error("cannot make the filter of system calls")]
    Filter(#[source] BackendError),
    /// The kernel refused it.
    #[error("cannot restrict the system calls of this process")]
    Apply(#[source] seccompiler::Error),
}

impl DenyList {
    /// What none of the three needs.
    ///
    /// # Errors
    /// [`DenyError::Filter`], which is a fault of this program.
    pub fn common() -> Result<Self, DenyError> {
        let typing = typing_for_others().map_err(DenyError::Filter)?;
        Ok(Self::default().and(OF_OTHERS).and(COMMON).and(IO_URING).and_when(libc::SYS_ioctl, typing))
    }

    /// These as well, whatever their arguments.
    #[must_use]
    pub fn and(mut self, calls: &[Reasoned]) -> Self {
        self.0.extend(calls.iter().map(|(call, _)| (*call, Vec::new())));
        self
    }

    /// This as well, when one of the rules holds for its arguments.
    #[must_use]
    pub fn and_when(mut self, call: i64, rules: Vec<SeccompRule>) -> Self {
        self.0.insert(call, rules);
        self
    }

    /// Making a user namespace as well, by unshare(2) and clone(2). The other namespaces need capabilities, which only a
    /// user namespace would give. With [`deny_clone3`], or it is made unseen.
    ///
    /// # Errors
    /// [`DenyError::Filter`], which is a fault of this program.
    pub fn and_user_namespaces(self) -> Result<Self, DenyError> {
        let rules = new_user_namespace().map_err(DenyError::Filter)?;
        Ok(self.and_when(libc::SYS_unshare, rules.clone()).and_when(libc::SYS_clone, rules))
    }

    /// Forbids the calls for good, to every thread: they are answered with `error`, and the rest is let through.
    ///
    /// # Errors
    /// [`DenyError`].
    pub fn apply(self, error: libc::c_int) -> Result<(), DenyError> {
        let program = self.program(error).map_err(DenyError::Filter)?;
        seccompiler::apply_filter_all_threads(&program).map_err(DenyError::Apply)
    }

    fn program(self, error: libc::c_int) -> Result<BpfProgram, BackendError> {
        let answer = SeccompAction::Errno(error.cast_unsigned());
        let architecture = std::env::consts::ARCH.try_into()?;
        SeccompFilter::new(self.with_x32(), SeccompAction::Allow, answer, architecture)?.try_into()
    }

    /// The same calls by their numbers in the x32 ABI, where the kernel has it: the filter sees the same architecture, so
    /// a list of what is forbidden must name them.
    #[cfg(target_arch = "x86_64")]
    fn with_x32(mut self) -> BTreeMap<i64, Vec<SeccompRule>> {
        /// `__X32_SYSCALL_BIT` of the kernel's asm/unistd.h.
        const X32: i64 = 0x4000_0000;
        for (call, rules) in self.0.clone() {
            let own = OWN_NUMBERS.iter().find(|(native, _)| *native == call).map(|(_, own)| *own);
            self.0.extend(own.map(|own| (own | X32, rules.clone())));
            self.0.insert(call | X32, rules);
        }
        self.0
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn with_x32(self) -> BTreeMap<i64, Vec<SeccompRule>> {
        self.0
    }
}

/// Forbids io_uring alone, for good, to every thread and to every program that this process executes or starts: for a
/// process that keeps everything else.
///
/// # Errors
/// [`DenyError`].
pub fn deny_io_uring() -> Result<(), DenyError> {
    DenyList::default().and(IO_URING).apply(libc::EPERM)
}

/// Has clone3(2) answered as unknown: its flags are in memory, where a filter does not look. C libraries go back to
/// clone(2).
///
/// # Errors
/// [`DenyError`].
pub fn deny_clone3() -> Result<(), DenyError> {
    DenyList::default().and(&[(libc::SYS_clone3, "a user namespace, unseen")]).apply(libc::ENOSYS)
}

fn new_user_namespace() -> Result<Vec<SeccompRule>, BackendError> {
    let flag = u64::from(libc::CLONE_NEWUSER.cast_unsigned());
    let given = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag)?;
    Ok(vec![SeccompRule::new(vec![given])?])
}

/// fork(2) in the form of clone(2), which has no `CLONE_VM`: threads are still made.
///
/// # Errors
/// None but by a fault of this program.
pub fn new_process() -> Result<SeccompRule, BackendError> {
    let flag = u64::from(libc::CLONE_VM.cast_unsigned());
    SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), 0)?])
}

/// Sockets of other families than these.
///
/// # Errors
/// None but by a fault of this program.
pub fn other_families(known: &[libc::c_int]) -> Result<SeccompRule, BackendError> {
    let differs = |family: &libc::c_int| {
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, u64::from(family.cast_unsigned()))
    };
    SeccompRule::new(known.iter().map(differs).collect::<Result<_, _>>()?)
}

/// Two ioctls that put characters into a terminal's input, as if its user had typed them.
///
/// # Errors
/// None but by a fault of this program.
pub fn typing_for_others() -> Result<Vec<SeccompRule>, BackendError> {
    [libc::TIOCSTI, libc::TIOCLINUX]
        .into_iter()
        .map(|request| {
            SeccompRule::new(vec![SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, request)?])
        })
        .collect()
}

/// Calls that only a process needs which executes another program, or itself anew.
pub const EXECUTING: &[Reasoned] = &[
    (libc::SYS_execve, "another program"),
    (libc::SYS_execveat, "another program, out of a memfd too"),
    (libc::SYS_capset, "what is left of capabilities"),
];

/// io_uring: a list of its own, since it is all that some processes give up.
pub const IO_URING: &[Reasoned] = &[
    (libc::SYS_io_uring_setup, "system calls that no filter sees"),
    (libc::SYS_io_uring_enter, "system calls that no filter sees"),
    (libc::SYS_io_uring_register, "system calls that no filter sees"),
];

/// Looking into others, the user's keyrings, the machine and its kernel: what a process needs neither for itself nor for a
/// program that it confines.
pub const OF_OTHERS: &[Reasoned] = &[
    (libc::SYS_process_vm_readv, "another process's memory"),
    (libc::SYS_process_vm_writev, "another process's memory"),
    (libc::SYS_process_madvise, "pushing out another process's memory"),
    (libc::SYS_pidfd_getfd, "another process's descriptors"),
    (libc::SYS_kcmp, "comparing descriptors with another process's"),
    (libc::SYS_perf_event_open, "watching another process's timing"),
    (libc::SYS_userfaultfd, "stopping the kernel in the middle of a copy"),
    (libc::SYS_bpf, "programs in the kernel"),
    (libc::SYS_keyctl, "keyrings of the user"),
    (libc::SYS_add_key, "keyrings of the user"),
    (libc::SYS_request_key, "keyrings of the user, and a program of the kernel's choice"),
    (libc::SYS_move_mount, "other files under known names"),
    (libc::SYS_fsopen, "other files under known names"),
    (libc::SYS_fsmount, "other files under known names"),
    (libc::SYS_fspick, "other files under known names"),
    (libc::SYS_fsconfig, "other files under known names"),
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
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_iopl, "the hardware"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_ioperm, "the hardware"),
];

const COMMON: &[Reasoned] = &[
    (libc::SYS_ptrace, "looking into another process of this user: the vault, the device process"),
    (libc::SYS_mount, "other files under known names"),
    (libc::SYS_umount2, "other files under known names"),
    (libc::SYS_pivot_root, "other files under known names"),
    (libc::SYS_chroot, "other files under known names"),
    (libc::SYS_open_tree, "other files under known names"),
    (libc::SYS_mount_setattr, "other files under known names"),
    (libc::SYS_unshare, "namespaces, and the powers that come with them"),
    (libc::SYS_settimeofday, "certificates that have expired"),
    (libc::SYS_clock_settime, "certificates that have expired"),
    (libc::SYS_adjtimex, "certificates that have expired"),
    (libc::SYS_clock_adjtime, "certificates that have expired"),
    (libc::SYS_personality, "a weaker memory layout"),
    (libc::SYS_seccomp, "filters that answer in the kernel's place"),
    (libc::SYS_setuid, "another user, if started as root"),
    (libc::SYS_setgid, "another group, if started as root"),
    (libc::SYS_setreuid, "another user, if started as root"),
    (libc::SYS_setregid, "another group, if started as root"),
    (libc::SYS_setresuid, "another user, if started as root"),
    (libc::SYS_setresgid, "another group, if started as root"),
    (libc::SYS_setgroups, "other groups, if started as root"),
    (libc::SYS_setfsuid, "another user's files, if started as root"),
    (libc::SYS_setfsgid, "another group's files, if started as root"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_fork, "another process"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_vfork, "another process"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_modify_ldt, "segments that mislead the kernel"),
];

/// Calls that have a number of their own in x32: arch/x86/entry/syscalls/syscall_64.tbl, from 512 on.
#[cfg(target_arch = "x86_64")]
const OWN_NUMBERS: &[(i64, i64)] = &[
    (libc::SYS_ioctl, 514),
    (libc::SYS_execve, 520),
    (libc::SYS_ptrace, 521),
    (libc::SYS_kexec_load, 528),
    (libc::SYS_process_vm_readv, 539),
    (libc::SYS_process_vm_writev, 540),
    (libc::SYS_execveat, 545),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_call_is_listed_twice_or_without_a_reason() {
        let all: Vec<_> = OF_OTHERS.iter().chain(COMMON).chain(IO_URING).chain(EXECUTING).collect();
        let distinct: BTreeSet<i64> = all.iter().map(|(call, _)| *call).collect();
        assert_eq!(all.len(), distinct.len());
        assert!(all.iter().all(|(_, reason)| !reason.is_empty()));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn x32_is_no_way_around() {
        const X32: i64 = 0x4000_0000;
        let list = DenyList::common().unwrap().and(EXECUTING);
        let rules = list.clone().with_x32();
        for (call, conditions) in &list.0 {
            assert_eq!(rules.get(&(call | X32)), Some(conditions), "call {call}");
        }
        for (call, own) in OWN_NUMBERS {
            assert_eq!(rules.get(&(own | X32)), list.0.get(call), "call {call}");
        }
        let without = DenyList::common().unwrap().with_x32();
        assert!(!without.contains_key(&(520 | X32)), "what a process may do, it may do as x32 too");
    }

    #[test]
    fn the_filter_can_be_made() {
        assert!(!DenyList::common().unwrap().and(EXECUTING).program(libc::EPERM).unwrap().is_empty());
    }
}
