//! Probes of memory: what keeps a secret in it out of others' reach.

use crate::machine::Machine;
use crate::{Answer, good, lacking};
use rustix::io::Errno;

pub(crate) fn secret_memory(machine: &Machine) -> Answer {
    let without = "secrets are in locked pages, which root and whoever may trace a process of ours can read";
    match machine.tried.secret_memory {
        Ok(()) => good(
            "memfd_secret gave a page",
            "secrets are out of reach of root's reading, of core files, of swap and of hibernation",
        ),
        Err(error @ Errno::AGAIN) => lacking(
            format!("no more memory may be locked: {error}"),
            "there is secret memory, and the limit leaves none of it for secrets: who needs it refuses to go on",
            LOCK_ALL,
        ),
        Err(error @ Errno::NOSYS) => lacking(
            error.to_string(),
            without,
            "run a kernel with CONFIG_SECRETMEM; before Linux 6.5 also secretmem.enable=1 on its command line",
        ),
        Err(error) => {
            lacking(error.to_string(), without, "allow memfd_secret in this container's filter of system calls")
        }
    }
}

/// The limit is that of whoever asks; a service has that of its unit.
pub(crate) fn locked_memory(machine: &Machine) -> Answer {
    match machine.tried.locked_memory {
        None => good("without limit, here", "the vault locks all of its memory: none of it reaches swap"),
        Some(limit) => lacking(
            format!("{limit} bytes, here"),
            "secrets count against it and fit; what else a vault started from here holds may be swapped",
            LOCK_ALL,
        ),
    }
}

pub(crate) fn no_writable_code(machine: &Machine) -> Answer {
    match machine.tried.no_writable_code {
        Ok(()) => good(
            "memory that is written and executed was refused",
            "a flaw in a process of ours cannot be used to bring code of one's own",
        ),
        Err(error) => lacking(
            error.to_string(),
            "the vault's filter forbids such memory itself; our other processes do without",
            "run Linux 6.6 or later",
        ),
    }
}

pub(crate) fn protection_keys(machine: &Machine) -> Answer {
    match machine.tried.protection_keys {
        Ok(()) => good("a key was allotted", "nothing of Blindferry uses protection keys today"),
        Err(error) => lacking(
            error.to_string(),
            "nothing of Blindferry uses protection keys today, so nothing is lost",
            "a processor that has them (PKU of x86, POE of Arm), and a guest that is shown them",
        ),
    }
}

const LOCK_ALL: &str = "in the service's unit: LimitMEMLOCK=infinity";
