//! Probes of what processes of one user may do to each other.

use crate::kernel::MOUNT_PROC;
use crate::machine::{Look, Machine};
use crate::tried::Start;
use crate::{Answer, good, lacking, unknown};
use rustix::io::Errno;

/// Everything else rests on it: a process that was readable once may be read for good.
pub(crate) fn unreadable_start(machine: &Machine) -> Answer {
    let open = "a process of the same user that waits for ours can hold its memory open, and read it later";
    match &machine.tried.start {
        Start::Unreadable => good(
            "this process could not be read from its first instruction on",
            "neither can our other processes, nor what the launcher starts",
        ),
        Start::ReadsEverything => lacking(
            "this process holds CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH",
            open,
            "start it without them; in a unit: User=, and no AmbientCapabilities= of that kind",
        ),
        Start::Readable => lacking("this process could be read when it started", open, INSTALL),
        Start::Refused(why) => lacking(why, "our processes refuse to start like that", INSTALL),
    }
}

pub(crate) fn exec_only_memory(machine: &Machine) -> Answer {
    let lost = "the launcher cannot protect the program that it starts, nor the front the vault: both refuse";
    match machine.tried.exec_only_memory {
        Ok(()) => good(
            "a memfd was made that can be executed and not read",
            "programs and the vault run from a copy that cannot be read",
        ),
        Err(error @ Errno::ACCESS) => {
            lacking(format!("{error}: vm.memfd_noexec is 2"), lost, sysctl!("vm.memfd_noexec = 1"))
        }
        Err(error) => lacking(error.to_string(), lost, "allow memfd_create and fchmod in this container"),
    }
}

pub(crate) fn yama(machine: &Machine) -> Answer {
    let open = "a process that is not protected (--unprotected, what a program starts in its turn) is read by any other of its \
                user; ours are not";
    match machine.look("proc/sys/kernel", "yama/ptrace_scope") {
        Look::Text(value) if value == "0" => {
            lacking("ptrace_scope is 0", open, sysctl!("kernel.yama.ptrace_scope = 1"))
        }
        Look::Text(value) => good(
            format!("ptrace_scope is {value}"),
            "no process attaches to one that it did not start; /proc is not what this closes",
        ),
        Look::Absent => lacking(
            "not in this kernel",
            open,
            "run a kernel with CONFIG_SECURITY_YAMA, and yama in lsm= where that is set",
        ),
        Look::Unreadable(why) => {
            unknown(why, "whether processes of one user may attach to each other is not known", MOUNT_PROC)
        }
    }
}

pub(crate) fn suid_dumpable(machine: &Machine) -> Answer {
    let remedy = sysctl!("fs.suid_dumpable = 0");
    match machine.look("proc/sys/fs", "suid_dumpable") {
        Look::Text(value) => match value.as_str() {
            "0" => good("0", "what cannot be read leaves no core either"),
            "1" => lacking(
                "1",
                "an executable that cannot be read is readable all the same once it runs: nothing holds",
                remedy,
            ),
            "2" => lacking(
                "2",
                "a crash of a program that the launcher protects goes to the core handler, if there is one, token and all; \
                 our own processes prevent it",
                remedy,
            ),
            _ => unknown(value, "what the kernel says of it is not understood", remedy),
        },
        Look::Absent => unknown("no such sysctl", "whether what cannot be read leaves a core is not known", MOUNT_PROC),
        Look::Unreadable(why) => unknown(why, "whether what cannot be read leaves a core is not known", MOUNT_PROC),
    }
}

pub(crate) fn core_pattern(machine: &Machine) -> Answer {
    match machine.look("proc/sys/kernel", "core_pattern") {
        // A pipe to a program, or since Linux 6.16 a socket: neither minds a limit of 0.
        Look::Text(pattern) if pattern.starts_with(['|', '@']) => lacking(
            pattern,
            "a crash of what a protected program starts in its turn goes to this handler, although its limit is 0; ours do not",
            sysctl!("kernel.core_pattern = core"),
        ),
        Look::Text(pattern) => good(
            format!("a file, {pattern:?}"),
            "the limit of 0 that the launcher hands on stops cores of all that comes after it",
        ),
        Look::Absent => good("no cores in this kernel", "there are no cores"),
        Look::Unreadable(why) => unknown(why, "where cores go is not known", MOUNT_PROC),
    }
}

pub(crate) fn hidepid(machine: &Machine) -> Answer {
    let table = match machine.look("proc/self", "mountinfo") {
        Look::Text(table) => table,
        Look::Absent => return unknown("no table of mounts", "how /proc is mounted is not known", MOUNT_PROC),
        Look::Unreadable(why) => return unknown(why, "how /proc is mounted is not known", MOUNT_PROC),
    };
    // proc_pid_mountinfo(5): the mount point is the fifth field, the options of the file system are behind the dash. Of
    // several mounts at one place the last is seen.
    let proc = table.lines().rev().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut system = system.split(' ');
        (mount.split(' ').nth(4) == Some("/proc") && system.next() == Some("proc")).then(|| system.nth(1).unwrap_or(""))
    });
    let Some(options) = proc else {
        return unknown("/proc is not in the table of mounts", "how it is mounted is not known", MOUNT_PROC);
    };
    let hidden = options.split(',').find_map(|option| option.strip_prefix("hidepid="));
    match hidden {
        Some(how) if !matches!(how, "0" | "off") => {
            good(format!("hidepid={how}"), "users do not see the arguments of each other's processes")
        }
        _ => lacking(
            "hidepid is off",
            "every user sees names and arguments of all processes; Blindferry puts no secret there, other programs do",
            "in the units of services: ProtectProc=invisible; for all: hidepid=invisible for /proc in /etc/fstab",
        ),
    }
}

pub(crate) fn user_namespaces(machine: &Machine) -> Answer {
    let lost = "a tool that is not trusted cannot be kept by `unshare --user` from looking at its parent; Blindferry makes none";
    if let Err(error) = machine.tried.user_namespace {
        return lacking(error.to_string(), lost, sysctl!("user.max_user_namespaces = 16384"));
    }
    // Root was allowed, which says nothing of others: Debian's switch, and Ubuntu's.
    let switches = [("unprivileged_userns_clone", "0"), ("apparmor_restrict_unprivileged_userns", "1")];
    for (name, shut) in switches.into_iter().filter(|_| machine.tried.is_root) {
        if let Look::Text(value) = machine.look("proc/sys/kernel", name)
            && value == shut
        {
            return lacking(
                format!("for root alone: {name} is {value}"),
                lost,
                "kernel.unprivileged_userns_clone = 1, or a profile of AppArmor for the program that makes them",
            );
        }
    }
    good(
        if machine.tried.is_root { "one was made, by root" } else { "one was made" },
        "a tool that is not trusted can be kept by `unshare --user` from looking at its parent; it hides nothing of the tool",
    )
}

const INSTALL: &str = "install our executables with mode 0711 and owner root, and do not start them under a debugger";
