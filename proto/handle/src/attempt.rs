//! What the kernel says when it is asked in earnest: calls that are tried, in a process that ends with the answer.
//!
//! A sysctl or a version number says what should be; filters of containers, security modules and backports make it
//! otherwise. Each attempt is a child made by fork(2) that makes a few calls and ends, so that nothing of it stays
//! behind, and a filter that kills whoever tries kills the child.

use std::io;
use std::ptr;

/// Whether there is secret memory: memfd_secret(2), mapped and written to.
///
/// # Errors
/// What the kernel said. `ENOSYS` without it, `EAGAIN` when `RLIMIT_MEMLOCK` is used up.
pub fn secret_memory() -> io::Result<()> {
    in_child(|| {
        // SAFETY: makes a descriptor that nobody else knows, and touches no memory of ours.
        let memory = unsafe { libc::syscall(libc::SYS_memfd_secret, 0) };
        let memory = libc::c_int::try_from(memory).map_err(|_| libc::EINVAL)?;
        done(memory)?;
        // SAFETY: the descriptor is the one just made.
        done(unsafe { libc::ftruncate(memory, PAGE_OFF) })?;
        let page = map(libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, memory)?;
        // SAFETY: `map` returned writable memory of at least one byte, which nobody else holds.
        unsafe { page.write_volatile(1) };
        Ok(())
    })
}

/// The version of Landlock's interface, which its kernel tells only where Landlock was enabled at boot.
///
/// # Errors
/// What the kernel said. `ENOSYS` without Landlock, `EOPNOTSUPP` where it was not enabled.
pub fn landlock_abi() -> io::Result<u32> {
    const VERSION: libc::c_uint = 1; // LANDLOCK_CREATE_RULESET_VERSION of linux/landlock.h
    let nothing: *const libc::c_void = ptr::null();
    // SAFETY: with this flag the call takes no memory and makes nothing: it returns a number.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, VERSION) };
    u32::try_from(version).map_err(|_| io::Error::last_os_error())
}

/// Whether this user may make a user namespace that is good for something: a mount namespace within it is made too.
///
/// # Errors
/// What the kernel said. `EPERM` or `ENOSPC` where it is forbidden.
pub fn user_namespace() -> io::Result<()> {
    in_child(|| {
        // SAFETY: concerns the child alone, which has one thread and ends.
        done(unsafe { libc::unshare(libc::CLONE_NEWUSER) })?;
        // SAFETY: the same.
        done(unsafe { libc::unshare(libc::CLONE_NEWNS) })
    })
}

/// Whether this process may use io_uring.
///
/// # Errors
/// What the kernel said. `EPERM` where `kernel.io_uring_disabled` forbids it, `ENOSYS` without it.
pub fn io_uring() -> io::Result<()> {
    in_child(|| {
        let mut parameters = [0_u64; 16]; // struct io_uring_params of linux/io_uring.h, 120 bytes
        // SAFETY: the kernel reads and writes 120 bytes of what is 128 bytes long.
        let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
        if ring < 0 { Err(errno()) } else { Ok(()) }
    })
}

/// Whether the processor and the kernel have protection keys for memory (pkeys(7)).
///
/// # Errors
/// What the kernel said. `EINVAL` or `ENOSPC` where the processor has none, `ENOSYS` where the kernel has none.
pub fn protection_keys() -> io::Result<()> {
    in_child(|| {
        // SAFETY: allots a number, and changes no memory's protection.
        let key = unsafe { libc::syscall(libc::SYS_pkey_alloc, 0, 0) };
        if key < 0 { Err(errno()) } else { Ok(()) }
    })
}

/// Whether memory can be kept from becoming executable (`PR_SET_MDWE`, for one program and not for those that it
/// starts: Linux 6.6). Afterwards such memory is asked for, and must be refused.
///
/// # Errors
/// What the kernel said. `EINVAL` without it; `EALREADY` when it was accepted and does not hold.
pub fn no_writable_code() -> io::Result<()> {
    in_child(|| {
        let flags = libc::c_ulong::from(libc::PR_MDWE_REFUSE_EXEC_GAIN | libc::PR_MDWE_NO_INHERIT);
        let none: libc::c_ulong = 0;
        // SAFETY: only restricts later calls of the child.
        done(unsafe { libc::prctl(libc::PR_SET_MDWE, flags, none, none, none) })?;
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        match map(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC, private, -1) {
            Ok(_) => Err(libc::EALREADY),
            Err(_) => Ok(()),
        }
    })
}

/// Whether a process without privileges can filter its system calls: a filter that refuses getppid(2) is put in force,
/// and must refuse it.
///
/// # Errors
/// What the kernel said; `EALREADY` when the filter was accepted and does not hold.
pub fn filtered_calls() -> io::Result<()> {
    in_child(|| {
        let call = u32::try_from(libc::SYS_getppid).map_err(|_| libc::EINVAL)?;
        let step = |code: u32, jt, jf, k| libc::sock_filter { code: u16::try_from(code).unwrap_or(0), jt, jf, k };
        let mut steps = [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0), // the number of the call
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | REFUSED.cast_unsigned()),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: 4, filter: steps.as_mut_ptr() };
        let (one, none): (libc::c_ulong, libc::c_ulong) = (1, 0);
        // SAFETY: only gives something up, in the child.
        done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, one, none, none, none) })?;
        let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
        // SAFETY: the kernel copies the program, whose length is that of the array, and both outlive the call.
        done(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, none, none) })?;
        // SAFETY: takes nothing. By its number, since that is what the filter knows.
        let parent = unsafe { libc::syscall(libc::SYS_getppid) };
        if parent == -1 && errno() == REFUSED { Ok(()) } else { Err(libc::EALREADY) }
    })
}

/// What the filter of [`filtered_calls`] answers; not what a kernel without it would.
const REFUSED: libc::c_int = libc::EXDEV;
/// Enough for any page size of x86-64 and arm64.
const PAGE: usize = 65_536;
const PAGE_OFF: libc::off_t = 65_536;

fn map(protection: libc::c_int, flags: libc::c_int, descriptor: libc::c_int) -> Result<*mut u8, libc::c_int> {
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe { libc::mmap(ptr::null_mut(), PAGE, protection, flags, descriptor, 0) };
    if start == libc::MAP_FAILED { Err(errno()) } else { Ok(start.cast()) }
}

/// Makes `attempt` in a child. It must allocate nothing and take no lock: another thread of ours may have held one when
/// the child was made. All of the above make system calls on their own stack alone.
fn in_child(attempt: impl FnOnce() -> Result<(), libc::c_int>) -> io::Result<()> {
    // SAFETY: the child does nothing that is not safe in the child of a process with threads, see above, and ends
    // without running anything of ours.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = attempt().map_or_else(|error| error, |()| 0);
        // SAFETY: ends the child, without its destructors and buffers, which are copies of ours.
        unsafe { libc::_exit(code) };
    }
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut status = 0;
    // SAFETY: `status` is one integer, and the child is ours and has not been waited for.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (true, 0) => Ok(()),
        // The numbers of Linux' errors end at 133, those of exits at 255.
        (true, error) => Err(io::Error::from_raw_os_error(error)),
        // A filter that kills is a way to refuse.
        (false, _) => Err(io::Error::from_raw_os_error(libc::EPERM)),
    }
}

fn done(result: libc::c_int) -> Result<(), libc::c_int> {
    if result < 0 { Err(errno()) } else { Ok(()) }
}

fn errno() -> libc::c_int {
    // SAFETY: the location is this thread's own and always valid.
    unsafe { *libc::__errno_location() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempts_answer_comes_back_as_it_was_and_a_killed_attempt_is_a_refusal() {
        assert!(in_child(|| Ok(())).is_ok());
        assert_eq!(in_child(|| Err(libc::ENOSYS)).unwrap_err().raw_os_error(), Some(libc::ENOSYS));
        let killed = in_child(|| {
            // SAFETY: ends the child.
            unsafe { libc::abort() }
        });
        assert_eq!(killed.unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn nothing_that_was_tried_holds_for_this_process() {
        let filters = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            status.lines().find(|line| line.starts_with("Seccomp")).map(str::to_owned)
        };
        let before = (std::fs::read_link("/proc/self/ns/user").unwrap(), filters());
        let attempts = [secret_memory, user_namespace, io_uring, protection_keys, no_writable_code, filtered_calls];
        for attempt in attempts {
            let _answer = attempt();
        }
        assert_eq!((std::fs::read_link("/proc/self/ns/user").unwrap(), filters()), before);
        // SAFETY: takes nothing.
        assert_ne!(unsafe { libc::syscall(libc::SYS_getppid) }, -1);
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        assert!(map(libc::PROT_WRITE | libc::PROT_EXEC, private, -1).is_ok());
    }

    #[test]
    fn secret_memory_is_there_when_secrets_are_kept_in_it() {
        use crate::secret::{Protection, protection};
        let full = |error: &io::Error| error.raw_os_error() == Some(libc::EAGAIN);
        let tried = secret_memory().map_or_else(|error| full(&error), |()| true);
        assert_eq!(tried, protection() == Protection::SecretMemory);
    }
}
