//! Which system calls the vault may still make, each with its reason: a list of what is allowed, and one of what kills.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// The two filters. The kernel asks both and the stricter answer holds, so that what kills is not merely refused.
pub(super) struct Filters {
    /// Ends the process at a call that no fault of ours would make, only somebody else's code.
    pub(super) kill: BpfProgram,
    /// Answers `EPERM` to every call that is not on the list.
    pub(super) allow: BpfProgram,
}

/// Compiles the filters for the process `pid`, which may send signals to itself.
///
/// # Errors
///
/// What the compiler says; an empty list too, since it would make a filter that allows all.
pub(super) fn filters(pid: u64) -> Result<Filters, BackendError> {
    let target = std::env::consts::ARCH.try_into()?;
    let hostile: Rules = HOSTILE.iter().map(|(call, _)| (*call, vec![])).collect();
    let mut allowed: Rules = ALLOWED.iter().map(|(call, _)| (*call, vec![])).collect();
    for (call, arguments, _) in SOMETIMES {
        allowed.insert(*call, arguments(pid)?);
    }
    if hostile.is_empty() || allowed.is_empty() {
        return Err(BackendError::EmptyRule);
    }
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    Ok(Filters {
        kill: SeccompFilter::new(hostile, SeccompAction::Allow, SeccompAction::KillProcess, target)?.try_into()?,
        allow: SeccompFilter::new(allowed, refuse, SeccompAction::Allow, target)?.try_into()?,
    })
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Arguments = fn(u64) -> Result<Vec<SeccompRule>, BackendError>;

/// Calls that are allowed whatever their arguments.
///
/// None of them makes a descriptor that leads anywhere new, a thread or a process. The runtime needs no thread, and
/// anything that would start one (tokio's pool for blocking work) gets an error.
const ALLOWED: &[(i64, &str)] = &[
    // Sockets and pipes that we were handed.
    (libc::SYS_read, "the socket of a session or an upstream; the runtime's own eventfd"),
    (libc::SYS_readv, "the same, into several buffers"),
    (libc::SYS_write, "the same; standard error; waking the runtime"),
    (libc::SYS_writev, "the same, from several buffers"),
    (libc::SYS_recvfrom, "the socket of a session or an upstream"),
    (libc::SYS_recvmsg, "packets with descriptors from the front and the device"),
    (libc::SYS_sendmsg, "packets to them"),
    (libc::SYS_shutdown, "the orderly end of a session"),
    (libc::SYS_close, "a session that is over"),
    (libc::SYS_getsockname, "tokio, taking over a stream"),
    (libc::SYS_getpeername, "the same"),
    (libc::SYS_fstat, "the size of a received secret, before it is mapped"),
    (libc::SYS_fstatfs, "that it is secret memory"),
    (libc::SYS_pread64, "evidence with logs, out of the device process's sealed memfd"),
    // Waiting and time.
    (libc::SYS_epoll_ctl, "the runtime: sockets come and go"),
    (libc::SYS_epoll_pwait, "the runtime, waiting"),
    (libc::SYS_epoll_pwait2, "the same, to the nanosecond"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "the same, by its older name"),
    (libc::SYS_ppoll, "one descriptor, outside the runtime"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "the same, by its older name"),
    (libc::SYS_restart_syscall, "the kernel itself, after a stop"),
    (libc::SYS_clock_gettime, "where the clock is not in the vdso"),
    (libc::SYS_futex, "locks, also those that nobody else wants"),
    (libc::SYS_sched_yield, "the same, in its polite form"),
    // Memory.
    (libc::SYS_munmap, "the allocator; secret pages that are done with"),
    (libc::SYS_brk, "the allocator"),
    (libc::SYS_mremap, "the allocator, growing a large piece"),
    (libc::SYS_memfd_secret, "secret pages"),
    (libc::SYS_ftruncate, "their size, which can be set once"),
    (libc::SYS_mlock, "secret pages on a kernel without secret memory"),
    (libc::SYS_getrandom, "keys and nonces"),
    // Ending, well or badly.
    (libc::SYS_rt_sigaction, "abort, and the runtime's signals"),
    (libc::SYS_rt_sigprocmask, "the same"),
    (libc::SYS_rt_sigreturn, "the way back from a signal"),
    (libc::SYS_sigaltstack, "the end of the main thread"),
    (libc::SYS_getpid, "abort, which names itself"),
    (libc::SYS_gettid, "the same"),
    (libc::SYS_exit, "the end"),
    (libc::SYS_exit_group, "the end"),
];

/// Calls that are allowed with some arguments.
const SOMETIMES: &[(i64, Arguments, &str)] = &[
    (libc::SYS_mmap, |_| Ok(vec![without(2, libc::PROT_EXEC)?]), "the allocator and secret pages; never code"),
    (libc::SYS_mprotect, |_| Ok(vec![without(2, libc::PROT_EXEC)?]), "guard pages; never code"),
    (
        libc::SYS_madvise,
        |_| {
            one_of(
                2,
                &[
                    libc::MADV_DONTNEED,
                    libc::MADV_FREE,
                    libc::MADV_DONTFORK,
                    libc::MADV_DONTDUMP,
                    libc::MADV_WIPEONFORK,
                ],
            )
        },
        "giving memory back, keeping it out of core files; never into them (MADV_DODUMP)",
    ),
    (
        libc::SYS_sendto,
        |_| Ok(vec![rule(&[SeccompCondition::new(4, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?])?]),
        "the socket of a session or an upstream; never to an address, which could dial",
    ),
    (libc::SYS_ioctl, |_| Ok(vec![rule(&[equals(1, libc::FIONBIO)?])?]), "a socket that does not block"),
    (
        libc::SYS_fcntl,
        |_| {
            one_of(
                1,
                &[libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC, libc::F_GET_SEALS],
            )
        },
        "flags of a handed socket, a second descriptor of it, the seals of a received secret",
    ),
    (
        libc::SYS_getsockopt,
        |_| Ok(vec![rule(&[equals(1, constant(libc::SOL_SOCKET))?])?]),
        "its type and its error; nothing of IP or TCP",
    ),
    (
        libc::SYS_setsockopt,
        |_| {
            Ok(vec![
                rule(&[equals(1, constant(libc::SOL_SOCKET))?, equals(2, constant(libc::SO_SNDBUF))?])?,
                rule(&[equals(1, constant(libc::IPPROTO_TCP))?, equals(2, constant(libc::TCP_NODELAY))?])?,
            ])
        },
        "room for a packet; small frames at once",
    ),
    (libc::SYS_tgkill, |pid| Ok(vec![rule(&[equals(0, pid)?])?]), "abort: a signal to ourselves, nobody else"),
];

/// Calls that end the process: nothing that we link makes them once it runs, so whoever does is not us.
const HOSTILE: &[(i64, &str)] = &[
    (libc::SYS_execve, "another program"),
    (libc::SYS_execveat, "another program"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_fork, "another process"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_vfork, "another process"),
    (libc::SYS_ptrace, "another process's memory"),
    (libc::SYS_process_vm_readv, "another process's memory"),
    (libc::SYS_process_vm_writev, "another process's memory"),
    (libc::SYS_process_madvise, "another process's memory"),
    (libc::SYS_pidfd_getfd, "another process's descriptors"),
    (libc::SYS_kcmp, "another process's descriptors"),
    (libc::SYS_io_uring_setup, "system calls that no filter sees"),
    (libc::SYS_io_uring_enter, "system calls that no filter sees"),
    (libc::SYS_io_uring_register, "system calls that no filter sees"),
    (libc::SYS_bpf, "programs in the kernel"),
    (libc::SYS_perf_event_open, "watching others run"),
    (libc::SYS_userfaultfd, "stopping the kernel in the middle of a copy"),
    (libc::SYS_keyctl, "keyrings"),
    (libc::SYS_add_key, "keyrings"),
    (libc::SYS_request_key, "keyrings, and a program of the kernel's choice"),
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
    (libc::SYS_reboot, "the end of the machine"),
    (libc::SYS_personality, "a weaker memory layout"),
];

fn rule(conditions: &[SeccompCondition]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.to_vec())
}

/// One rule for each value that the argument may have.
fn one_of(argument: u8, values: &[libc::c_int]) -> Result<Vec<SeccompRule>, BackendError> {
    values.iter().map(|value| rule(&[equals(argument, constant(*value))?])).collect()
}

/// The argument as the kernel's `int` or `unsigned int`: the upper half of the register is not looked at, by neither.
fn equals(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

/// The argument, an `unsigned long` of flags, does not have this one.
fn without(argument: u8, flag: libc::c_int) -> Result<SeccompRule, BackendError> {
    let flag = constant(flag);
    rule(&[SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), 0)?])
}

/// A constant of C's `int` as a register holds it.
fn constant(constant: libc::c_int) -> u64 {
    u64::from(constant.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: u64 = 4711;

    /// What the kernel would answer to a call, by running the very programs that it would be given.
    ///
    /// This stands in for calls that cannot be made from safe code; `tests/powers.rs` makes the others for real.
    fn answer(call: i64, arguments: [u64; 6]) -> u32 {
        let Filters { kill, allow } = filters(PID).unwrap();
        let data = seccomp_data(call, arguments);
        // The stricter of two answers is the lower one, as signed numbers: seccomp(2), "precedence".
        [kill, allow].iter().map(|program| run(program, &data)).min_by_key(|answer| answer.cast_signed()).unwrap()
    }

    /// `struct seccomp_data` of linux/seccomp.h.
    fn seccomp_data(call: i64, arguments: [u64; 6]) -> Vec<u8> {
        /// `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_AARCH64` of linux/audit.h.
        const ARCH: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
        let mut data = i32::try_from(call).unwrap().to_ne_bytes().to_vec();
        data.extend(ARCH.to_ne_bytes());
        data.extend(0_u64.to_ne_bytes());
        data.extend(arguments.iter().flat_map(|argument| argument.to_ne_bytes()));
        data
    }

    /// Classic BPF, as much of it as seccompiler uses: linux/bpf_common.h.
    fn run(program: &BpfProgram, data: &[u8]) -> u32 {
        let (mut at, mut accumulator) = (0, 0_u32);
        loop {
            let instruction = &program[at];
            let k = instruction.k;
            at += 1;
            let taken = match instruction.code {
                0x20 => {
                    let k = usize::try_from(k).unwrap();
                    accumulator = u32::from_ne_bytes(data[k..k + 4].try_into().unwrap());
                    continue;
                }
                0x54 => {
                    accumulator &= k;
                    continue;
                }
                0x05 => {
                    at += usize::try_from(k).unwrap();
                    continue;
                }
                0x06 => return k,
                0x15 => accumulator == k,
                0x25 => accumulator > k,
                0x35 => accumulator >= k,
                other => panic!("an instruction that seccompiler did not use before: {other:#x}"),
            };
            at += usize::from(if taken { instruction.jt } else { instruction.jf });
        }
    }

    const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

    #[test]
    fn hostile_calls_end_the_process() {
        for (call, why) in HOSTILE {
            assert_eq!(answer(*call, [0; 6]), KILL, "call {call}: {why}");
        }
    }

    #[test]
    fn no_call_is_on_two_lists() {
        let mut calls: Vec<_> = HOSTILE.iter().chain(ALLOWED).map(|(call, _)| *call).collect();
        calls.extend(SOMETIMES.iter().map(|(call, ..)| *call));
        let all = calls.len();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), all);
    }

    #[test]
    fn every_call_has_a_reason() {
        let reasons = HOSTILE.iter().chain(ALLOWED).map(|(_, why)| *why).chain(SOMETIMES.iter().map(|(.., why)| *why));
        assert!(reasons.into_iter().all(|why| why.len() >= 7));
    }

    #[test]
    fn arguments_that_matter_are_looked_at() {
        let word = |value: i32| constant(value);
        let exec = word(libc::PROT_READ | libc::PROT_EXEC);
        let write = word(libc::PROT_READ | libc::PROT_WRITE);
        for (call, arguments, expected) in [
            (libc::SYS_mmap, [0, 4096, write, 0, 0, 0], ALLOW),
            (libc::SYS_mmap, [0, 4096, exec, 0, 0, 0], REFUSE),
            (libc::SYS_mprotect, [0, 4096, write, 0, 0, 0], ALLOW),
            (libc::SYS_mprotect, [0, 4096, exec, 0, 0, 0], REFUSE),
            (libc::SYS_madvise, [0, 4096, word(libc::MADV_DONTDUMP), 0, 0, 0], ALLOW),
            (libc::SYS_madvise, [0, 4096, word(libc::MADV_DODUMP), 0, 0, 0], REFUSE),
            (libc::SYS_sendto, [3, 0, 0, 0, 0, 0], ALLOW),
            (libc::SYS_sendto, [3, 0, 0, 0, 0x7fff_0000_0000, 16], REFUSE),
            (libc::SYS_ioctl, [3, libc::FIONBIO, 0, 0, 0, 0], ALLOW),
            (libc::SYS_ioctl, [0, libc::TIOCSTI, 0, 0, 0, 0], REFUSE),
            (libc::SYS_fcntl, [3, word(libc::F_DUPFD_CLOEXEC), 0, 0, 0, 0], ALLOW),
            (libc::SYS_fcntl, [3, word(libc::F_SETOWN), 0, 0, 0, 0], REFUSE),
            (libc::SYS_getsockopt, [3, word(libc::SOL_SOCKET), word(libc::SO_ERROR), 0, 0, 0], ALLOW),
            (libc::SYS_getsockopt, [3, word(libc::SOL_IP), 64, 0, 0, 0], REFUSE),
            (libc::SYS_setsockopt, [3, word(libc::IPPROTO_TCP), word(libc::TCP_NODELAY), 0, 0, 0], ALLOW),
            (libc::SYS_setsockopt, [3, word(libc::IPPROTO_TCP), word(libc::TCP_ULP), 0, 0, 0], REFUSE),
            (libc::SYS_setsockopt, [3, word(libc::SOL_SOCKET), word(libc::SO_ATTACH_FILTER), 0, 0, 0], REFUSE),
            (libc::SYS_tgkill, [PID, PID, 6, 0, 0, 0], ALLOW),
            (libc::SYS_tgkill, [PID + 1, PID + 1, 9, 0, 0, 0], REFUSE),
        ] {
            assert_eq!(answer(call, arguments), expected, "call {call} {arguments:x?}");
        }
    }

    #[test]
    fn what_nobody_thought_of_is_refused() {
        for call in [
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_socket,
            libc::SYS_socketpair,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_listen,
            libc::SYS_accept4,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_kill,
            libc::SYS_tkill,
            libc::SYS_rt_sigqueueinfo,
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_send_signal,
            libc::SYS_prctl,
            libc::SYS_prlimit64,
            libc::SYS_seccomp,
            libc::SYS_memfd_create,
            libc::SYS_pkey_mprotect,
            libc::SYS_remap_file_pages,
            libc::SYS_shmat,
            libc::SYS_pwrite64,
            libc::SYS_sendfile,
            libc::SYS_splice,
            libc::SYS_vmsplice,
            libc::SYS_copy_file_range,
            libc::SYS_fallocate,
            libc::SYS_fchmod,
            libc::SYS_unlinkat,
            libc::SYS_capset,
            libc::SYS_setuid,
            9999,
        ] {
            assert_eq!(answer(call, [0; 6]), REFUSE, "call {call}");
        }
    }

    /// The filter sees the same architecture for calls of the x32 ABI, only other numbers.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_x32_numbers_of_allowed_calls_are_refused() {
        for (call, _) in ALLOWED {
            assert_eq!(answer(call | 0x4000_0000, [0; 6]), REFUSE, "call {call}");
        }
    }

    #[test]
    fn calls_of_another_architecture_end_the_process() {
        let mut data = seccomp_data(libc::SYS_read, [0; 6]);
        data[4..8].copy_from_slice(&0x4000_0003_u32.to_ne_bytes()); // AUDIT_ARCH_I386
        let Filters { kill, allow } = filters(PID).unwrap();
        assert_eq!(run(&kill, &data), KILL);
        assert_eq!(run(&allow, &data), KILL);
    }
}
