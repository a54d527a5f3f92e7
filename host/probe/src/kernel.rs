//! Probes of the kernel itself: which walls it can build, and which ways around them it leaves open.

use crate::machine::{Look, Machine};
use crate::{Answer, good, lacking, unknown};
use rustix::io::Errno;

/// The broker believes the kernel about who connected.
pub(crate) fn peer_pidfd(machine: &Machine) -> Answer {
    match &machine.tried.peer_pidfd {
        Ok(()) => good("a socket's peer was pinned by a pidfd", "the broker knows who connected, and when it ended"),
        Err(error) => lacking(
            error,
            "the broker cannot tell a process from the one that comes after it under the same number: it refuses all",
            "run Linux 6.5 or later",
        ),
    }
}

/// Front, vault, broker and the device process of a TPM give up system calls.
pub(crate) fn seccomp(machine: &Machine) -> Answer {
    match machine.tried.filtered_calls {
        Ok(()) => good("a filter was put in force, and held", "our processes give up the calls that they do not need"),
        Err(error) => lacking(
            error.to_string(),
            "front, vault, broker and the TPM's device process do not start without filters of system calls",
            "run a kernel with CONFIG_SECCOMP_FILTER, and allow prctl(PR_SET_SECCOMP) in this container",
        ),
    }
}

/// The version that the broker and the vault ask for: Linux 6.12.
const LANDLOCK_ABI: u32 = 6;

pub(crate) fn landlock(machine: &Machine) -> Answer {
    match machine.tried.landlock_abi {
        Ok(abi) if abi >= LANDLOCK_ABI => {
            good(format!("ABI {abi}"), "our processes give up files, ports, and signals to the outside")
        }
        Ok(abi) => lacking(
            format!("ABI {abi}, all of it since {LANDLOCK_ABI}"),
            "our processes give up files, but not all of ports, signals and abstract sockets; the filters stand",
            "run Linux 6.12 or later",
        ),
        Err(error @ Errno::OPNOTSUPP) => lacking(
            error.to_string(),
            "only the filters of system calls and file permissions keep our processes from files",
            "on the kernel's command line: add landlock to lsm=",
        ),
        Err(error) => lacking(
            error.to_string(),
            "only the filters of system calls and file permissions keep our processes from files",
            "run a kernel with CONFIG_SECURITY_LANDLOCK, and allow landlock_create_ruleset in this container",
        ),
    }
}

pub(crate) fn io_uring(machine: &Machine) -> Answer {
    let remedy = sysctl!("kernel.io_uring_disabled = 2");
    let shut = "no program gets past a filter of system calls by io_uring";
    if let Err(error) = machine.tried.io_uring {
        return good(format!("refused: {error}"), shut);
    }
    match machine.look("proc/sys/kernel", "io_uring_disabled") {
        // Who tried may do what others may not.
        Look::Text(value) if value == "1" || value == "2" => good(format!("io_uring_disabled is {value}"), shut),
        Look::Text(_) | Look::Absent => lacking(
            "a ring was made",
            "front, vault, broker and the TPM's device process forbid it to themselves; filters on other programs do not see what \
             goes through it",
            remedy,
        ),
        Look::Unreadable(why) => unknown(why, "whether others may use io_uring is not known", MOUNT_PROC),
    }
}

pub(crate) fn bpf(machine: &Machine) -> Answer {
    let shut = "no user's program gets code into the kernel this way";
    match machine.look("proc/sys/kernel", "unprivileged_bpf_disabled") {
        Look::Text(value) if value == "0" => lacking(
            "unprivileged_bpf_disabled is 0",
            "any user can load programs into the kernel, whose verifier has had holes that end in reading all memory",
            sysctl!("kernel.unprivileged_bpf_disabled = 1"),
        ),
        Look::Text(value) => good(format!("unprivileged_bpf_disabled is {value}"), shut),
        Look::Absent => good("not in this kernel", shut),
        Look::Unreadable(why) => unknown(why, "whether any user can load programs is not known", MOUNT_PROC),
    }
}

pub(crate) fn userfaultfd(machine: &Machine) -> Answer {
    let shut = "no user's program stops the kernel in the middle of a copy";
    match machine.look("proc/sys/vm", "unprivileged_userfaultfd") {
        Look::Text(value) if value == "1" => lacking(
            "unprivileged_userfaultfd is 1",
            "any user can stop the kernel in the middle of a copy, which makes races in it easy to win",
            sysctl!("vm.unprivileged_userfaultfd = 0"),
        ),
        Look::Text(value) => good(format!("unprivileged_userfaultfd is {value}"), shut),
        Look::Absent => good("not in this kernel", shut),
        Look::Unreadable(why) => unknown(why, "whether any user can do so is not known", MOUNT_PROC),
    }
}

pub(crate) fn lockdown(machine: &Machine) -> Answer {
    let open = "root can put code into the kernel, and code there reads everything, secret memory too";
    let remedy = "on the kernel's command line: lockdown=confidentiality, with Secure Boot or a measured command line";
    match machine.look("sys/kernel/security", "lockdown") {
        Look::Text(modes) => match modes.split(['[', ']']).nth(1) {
            Some(mode @ ("integrity" | "confidentiality")) => {
                good(mode, "root cannot put code into the kernel by the ways that the kernel knows of")
            }
            Some(mode) => lacking(mode, open, remedy),
            None => unknown(modes, "what the kernel says of it is not understood", remedy),
        },
        Look::Absent => lacking("not in this kernel", open, remedy),
        Look::Unreadable(why) => unknown(
            why,
            "whether root can put code into the kernel is not known",
            "mount -t securityfs securityfs /sys/kernel/security",
        ),
    }
}

/// What the broker needs, when nothing was backported.
const OLDEST: (u32, u32) = (6, 5);

pub(crate) fn version(machine: &Machine) -> Answer {
    let release = match machine.look("proc/sys/kernel", "osrelease") {
        Look::Text(release) => release,
        Look::Absent => return unknown("no release", "which kernel runs is not known", MOUNT_PROC),
        Look::Unreadable(why) => return unknown(why, "which kernel runs is not known", MOUNT_PROC),
    };
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST => {
            good(release, "of an age that Blindferry is made for")
        }
        (Some(Ok(_)), Some(Ok(_))) => lacking(
            release,
            "older than Linux 6.5: what was tried above decides, since distributions carry some of it back",
            "run Linux 6.12 or later, which has all that Blindferry uses",
        ),
        _ => unknown(release, "which kernel runs is not understood", "run Linux 6.12 or later"),
    }
}

/// Where a sysctl cannot be read.
pub(crate) const MOUNT_PROC: &str = "mount -t proc proc /proc";
