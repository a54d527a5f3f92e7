//! Whether a level holds on this machine, by trying: a process is protected so, and then attacked.
//!
//! The victim is the smallest executable there is: it waits, and holds nothing. The launcher plays the process of the
//! same user, without the capabilities of root, which no level keeps out. Under root the trial says little, since there
//! the victim's capabilities alone keep such a process out; so a launcher with capabilities to read others warns. Within a
//! namespace of its own it cannot play that process; there the outsider does, which the starter started.

use crate::group::OwnGroup;
use crate::level::Level;
use crate::outside::{OutsideError, Outsider};
use blindferry_handle::image::{ExecOnlyImage, ImageError};
use blindferry_handle::memfd::{Execution, create};
use blindferry_handle::power::PutAside;
use rustix::fs::MemfdFlags;
use rustix::io::pwrite;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use rustix::thread::{CapabilitySet, capabilities};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A process under this level was attacked, and nothing could be read.
pub(crate) struct Held(Level);

impl Held {
    /// Which level it was.
    pub(crate) fn level(&self) -> Level {
        self.0
    }
}

/// Why a level is not offered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("cannot make an executable memfd (is vm.memfd_noexec 2?)")]
    Make(#[source] io::Error),
    #[error("cannot make an executable that cannot be read (is vm.memfd_noexec 2?)")]
    Image(#[source] ImageError),
    #[error("cannot start the process that was to be attacked")]
    Start(#[source] io::Error),
    #[error("cannot have it tried")]
    Outside(#[source] OutsideError),
    #[error("tried on this machine, it does not hold: another process of this user got at {what}")]
    Read { what: &'static str },
}

/// Starts a process from an exec-only copy, and attacks it.
///
/// # Errors
/// [`ProbeError`].
pub(crate) fn exec_only() -> Result<Held, ProbeError> {
    let image = ExecOnlyImage::from_fd(waiter()?).map_err(ProbeError::Image)?;
    attack(&image.exec_path(), Level::ExecOnly)
}

/// Starts a process from what everybody may read, in the group that this process has by now, and attacks it.
///
/// # Errors
/// [`ProbeError`].
pub(crate) fn own_group(_group: &OwnGroup) -> Result<Held, ProbeError> {
    match waiter() {
        Ok(waiter) => attack(&readable_path(&waiter), Level::OwnGroup),
        // A shell waits for its input just as well, where no memfd can be executed.
        Err(_) => attack(Path::new("/bin/sh"), Level::OwnGroup),
    }
}

/// Starts a process from what everybody may read, in the namespace that this process is in, and has it attacked by another
/// process of the user, which is not.
///
/// # Errors
/// [`ProbeError`].
pub(crate) fn own_namespace(outsider: &Outsider) -> Result<Held, ProbeError> {
    let victim = match waiter() {
        Ok(waiter) => start(&readable_path(&waiter))?,
        Err(_) => start(Path::new("/bin/sh"))?,
    };
    judged(outsider.attack(victim.0.id()).map_err(ProbeError::Outside)?, Level::OwnNamespace)
}

fn attack(victim: &Path, level: Level) -> Result<Held, ProbeError> {
    let _put_aside =
        PutAside::of(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH | CapabilitySet::SYS_PTRACE);
    let victim = start(victim)?;
    judged(readable(victim.0.id()), level)
}

fn judged(got_at: Option<&'static str>, level: Level) -> Result<Held, ProbeError> {
    match got_at {
        Some(what) => Err(ProbeError::Read { what }),
        None => Ok(Held(level)),
    }
}

fn start(victim: &Path) -> Result<Victim, ProbeError> {
    let mut command = Command::new(victim);
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // What is returned has executed: before that it would be another image of this process.
    command.spawn().map(Victim).map_err(ProbeError::Start)
}

/// Ended by its process id when dropped.
struct Victim(Child);

/// What of a process this one gets at.
pub(crate) fn readable(id: u32) -> Option<&'static str> {
    if File::open(format!("/proc/{id}/mem")).is_ok() {
        return Some("its memory");
    }
    if std::fs::read(format!("/proc/{id}/environ")).is_ok() {
        return Some("its environment");
    }
    let pidfd = pidfd_open(Pid::from_raw(i32::try_from(id).ok()?)?, PidfdFlags::empty()).ok()?;
    pidfd_getfd(&pidfd, 0, PidfdGetfdFlags::empty()).is_ok().then_some("its descriptors")
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn readable_path(executable: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", executable.as_raw_fd()))
}

/// An executable memfd that everybody may read, with a program that waits for its input.
fn waiter() -> Result<OwnedFd, ProbeError> {
    let memfd = create("probe", Execution::Allowed, MemfdFlags::empty());
    let memfd = memfd.map_err(|error| ProbeError::Make(error.into()))?;
    let written = pwrite(&memfd, &waiting_elf(), 0).map_err(|error| ProbeError::Make(error.into()))?;
    if written == ELF_LENGTH { Ok(memfd) } else { Err(ProbeError::Make(io::ErrorKind::WriteZero.into())) }
}

/// An ELF header, one segment that is the whole file, and a call that waits.
fn waiting_elf() -> Vec<u8> {
    let mut elf = Vec::with_capacity(ELF_LENGTH);
    let mut put = |bytes: &[u8]| elf.extend_from_slice(bytes);
    put(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"); // 64 bits, little-endian, version 1
    put(&2_u16.to_le_bytes()); // e_type: ET_EXEC
    put(&MACHINE.to_le_bytes());
    put(&1_u32.to_le_bytes()); // e_version
    put(&(BASE + HEADERS).to_le_bytes()); // e_entry
    put(&64_u64.to_le_bytes()); // e_phoff
    put(&[0; 12]); // e_shoff, e_flags
    put(&[64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]); // sizes and counts of headers: one segment, no section
    put(&1_u32.to_le_bytes()); // p_type: PT_LOAD
    put(&5_u32.to_le_bytes()); // p_flags: read and execute
    put(&0_u64.to_le_bytes()); // p_offset
    put(&BASE.to_le_bytes()); // p_vaddr
    put(&BASE.to_le_bytes()); // p_paddr
    let length = ELF_LENGTH as u64;
    put(&length.to_le_bytes()); // p_filesz
    put(&length.to_le_bytes()); // p_memsz
    put(&65536_u64.to_le_bytes()); // p_align: the largest page there is
    put(CODE);
    elf
}

/// Whether other processes of this user hold, like this one, what looks into every process.
pub(crate) fn user_sees_everything() -> bool {
    capabilities(None).is_ok_and(|held| held.permitted.contains(CapabilitySet::SYS_PTRACE))
}

const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;
const ELF_LENGTH: usize = 64 + 56 + CODE.len();

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
/// `read(0, sp, 1); exit(0)`: it ends at the latest when its input does, with the launcher.
#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = b"\x31\xff\x48\x89\xe6\xba\x01\0\0\0\x31\xc0\x0f\x05\x31\xff\xb8\x3c\0\0\0\x0f\x05";

#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;
/// The same: `mov x0, 0; mov x1, sp; mov x2, 1; mov x8, 63; svc 0; mov x0, 0; mov x8, 93; svc 0`
#[cfg(target_arch = "aarch64")]
const CODE: &[u8] =
    b"\0\0\x80\xd2\xe1\x03\0\x91\x22\0\x80\xd2\xe8\x07\x80\xd2\x01\0\0\xd4\0\0\x80\xd2\xa8\x0b\x80\xd2\x01\0\0\xd4";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn the_process_that_is_attacked_waits_and_ends_with_whoever_started_it() {
        let waiter = waiter().unwrap();
        let path = format!("/proc/self/fd/{}", waiter.as_raw_fd());
        let start = || Command::new(&path).stdin(Stdio::piped()).spawn().unwrap();
        let mut killed = start();
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(killed.try_wait().unwrap().is_none());
        killed.kill().unwrap();
        assert_eq!(killed.wait().unwrap().signal(), Some(9));
        // As when the launcher is killed: nobody is left to kill this one.
        let mut orphan = start();
        drop(orphan.stdin.take());
        assert!(orphan.wait().unwrap().success());
    }

    #[test]
    fn a_process_that_is_not_protected_is_read() {
        if rustix::process::geteuid().is_root() {
            // Root's processes are kept from each other by their capabilities, whatever their level.
            let mut unprivileged = Command::new("setpriv");
            unprivileged.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", "env"]);
            let name = "probe::tests::a_process_that_is_not_protected_is_read";
            let test = unprivileged.arg(std::env::current_exe().unwrap()).args(["--exact", name]);
            assert!(test.status().unwrap().success());
            return;
        }
        let waiter = waiter().unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", waiter.as_raw_fd()));
        assert!(matches!(attack(&path, Level::OwnGroup), Err(ProbeError::Read { what: "its memory" })));
        assert_eq!(exec_only().unwrap().level(), Level::ExecOnly);
    }
}
