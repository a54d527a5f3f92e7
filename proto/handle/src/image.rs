//! An executable that can be run but not read: a copy in a memfd of mode 0111.
//!
//! When the caller of execve(2) may not read the file, the kernel makes the new image non-dumpable in the same step
//! (`would_dump` in fs/exec.c). There is then no moment in which another process of the same user can open its memory
//! or environment, attach to it, or take its descriptors. `prctl(PR_SET_DUMPABLE, 0)` in `main` leaves such a moment,
//! and a handle opened in it stays usable. It holds until the process executes something else.
//!
//! Root is not kept from reading, so for root the kernel would not do this; [`ExecOnlyImage::exec`] therefore puts
//! CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH aside for the call, and execve gives them back.

use std::ffi::{CStr, CString, c_void};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::{ptr, slice};

use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, sendfile};
use rustix::io::{Errno, pread};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::thread::CapabilitySet;
use thiserror::Error;

use crate::memfd::{self, Execution};
use crate::power::PutAside;
use crate::seals;

/// The largest executable that is copied, in bytes.
pub const MAX_IMAGE: u64 = 1 << 30;

/// A sealed copy of an ELF executable, which nothing can change any more. Costs its size in memory while it runs.
#[derive(Debug)]
pub struct ExecOnlyImage {
    memfd: OwnedFd,
    len: u64,
}

/// Why an executable could not be copied or run.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The file could not be opened for reading.
    #[error("cannot open executable {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A script, or no executable at all. A script's interpreter would have to read it, which is the very thing
    /// that an exec-only image forbids: run the interpreter instead.
    #[error("not an ELF executable")]
    NotElf,
    /// A directory, a device, a pipe.
    #[error("not a regular file")]
    NotRegular,
    /// More than [`MAX_IMAGE`] bytes.
    #[error("an executable of {len} bytes is too large to copy")]
    TooLarge {
        /// Its size, in bytes, as far as it was read.
        len: u64,
    },
    /// memfd_create(2) failed; `EACCES` means that `vm.memfd_noexec` is 2.
    #[error("cannot create an executable memfd")]
    Create {
        /// What the kernel said.
        source: io::Error,
    },
    /// Copying failed.
    #[error("cannot copy an executable into a memfd")]
    Copy {
        /// What the kernel said.
        source: io::Error,
    },
    /// Making the copy exec-only and immutable failed.
    #[error("cannot seal an executable memfd")]
    Seal {
        /// What the kernel said.
        source: io::Error,
    },
    /// Looking at the copy failed.
    #[error("cannot read an executable memfd")]
    Read {
        /// What the kernel said.
        source: io::Error,
    },
    /// execveat(2) failed.
    #[error("cannot execute a memfd")]
    Exec {
        /// What the kernel said.
        source: io::Error,
    },
}

impl ExecOnlyImage {
    /// Copies the executable at `path`.
    ///
    /// # Errors
    ///
    /// [`ImageError::Open`] when this process may not read it, and those of [`Self::from_fd`].
    pub fn from_path(path: &Path) -> Result<Self, ImageError> {
        // Non-blocking, so that opening a pipe does not wait; on a regular file it means nothing.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|source| ImageError::Open { path: path.to_owned(), source })?;
        Self::copy(&file, path.file_name().and_then(|name| name.to_str()).unwrap_or("image"))
    }

    /// Copies the executable that `file` is open on, from its beginning. Set-user-ID bits and file capabilities are
    /// not copied.
    ///
    /// # Errors
    ///
    /// [`ImageError::NotRegular`], [`ImageError::NotElf`], [`ImageError::TooLarge`], or what the kernel said.
    pub fn from_fd(file: OwnedFd) -> Result<Self, ImageError> {
        Self::copy(&File::from(file), "image")
    }

    fn copy(file: &File, name: &str) -> Result<Self, ImageError> {
        let status = file.metadata().map_err(|source| ImageError::Copy { source })?;
        if !status.is_file() {
            return Err(ImageError::NotRegular);
        }
        if status.size() > MAX_IMAGE {
            return Err(ImageError::TooLarge { len: status.size() });
        }
        require_elf(file)?;
        let memfd = create(name).map_err(|error| ImageError::Create { source: error.into() })?;
        let mut len: u64 = 0;
        loop {
            // Within the kernel, with an offset of our own; copy_file_range does not go from one file system to another.
            match sendfile(&memfd, file, Some(&mut len), COPY_CHUNK) {
                Ok(0) => break,
                Ok(_) if len > MAX_IMAGE => return Err(ImageError::TooLarge { len }),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    return Err(ImageError::Copy { source: error.into() });
                }
            }
        }
        let sealed = |error: Errno| ImageError::Seal { source: error.into() };
        fchmod(&memfd, EXEC_ONLY).map_err(sealed)?;
        seals::add(&memfd, SEALS).map_err(sealed)?;
        // Again, now that the bytes are final: the file may have changed while it was copied.
        require_elf(&memfd)?;
        Ok(Self { memfd, len })
    }

    /// Shows the bytes that will run, so that the caller can digest them. Returns how many there were.
    ///
    /// They are shown where they lie: the file was read once, to be copied, and the copy is not read but mapped.
    ///
    /// # Errors
    ///
    /// [`ImageError::Read`].
    pub fn bytes_hashed_by(&self, digest: &mut impl FnMut(&[u8])) -> Result<u64, ImageError> {
        let mapped = Mapped::of(&self.memfd, self.len).map_err(|source| ImageError::Read { source })?;
        digest(mapped.bytes());
        Ok(self.len)
    }

    /// A path under which this process, and a child before it executes, can run the image, for
    /// [`std::process::Command`]. Valid as long as this value lives. As root, prefer [`Self::exec`]: the path alone
    /// does not put root's capabilities aside.
    #[must_use]
    pub fn exec_path(&self) -> PathBuf {
        descriptor_path(self.memfd.as_fd())
    }

    /// Becomes the image. `args` begins with the program's own name. Descriptors without close-on-exec stay open.
    /// Returns only when it fails.
    #[must_use]
    pub fn exec(self, args: &[CString], env: &[CString]) -> ImageError {
        let args = pointers(args);
        let env = pointers(env);
        let put_aside = PutAside::of(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
        // Rust's runtime ignores SIGPIPE, and what is ignored stays so over execve(2); programs expect the default.
        // SAFETY: sets a disposition and installs no handler.
        let broken_pipe = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        // SAFETY: both arrays are null-terminated and point to C strings that outlive the call; on success the call
        // does not return and on failure it has touched nothing.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                self.memfd.as_raw_fd(),
                c"".as_ptr(),
                args.as_ptr(),
                env.as_ptr(),
                libc::AT_EMPTY_PATH,
            )
        };
        let source = io::Error::last_os_error();
        // SAFETY: puts back what was there before.
        unsafe { libc::signal(libc::SIGPIPE, broken_pipe) };
        drop(put_aside);
        ImageError::Exec { source }
    }
}

impl AsFd for ExecOnlyImage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }
}

/// The name of one of our descriptors in the file system.
pub(crate) fn descriptor_path(descriptor: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

fn create(name: &str) -> rustix::io::Result<OwnedFd> {
    // The kernel takes names of up to 249 bytes.
    let name = name.get(..name.len().min(200)).unwrap_or("image");
    memfd::create(name, Execution::Allowed, MemfdFlags::ALLOW_SEALING)
}

fn require_elf(file: impl AsFd) -> Result<(), ImageError> {
    let mut magic = [0; 4];
    let read = pread(file, &mut magic, 0).map_err(|error| ImageError::Read { source: error.into() })?;
    if read == magic.len() && &magic == b"\x7fELF" { Ok(()) } else { Err(ImageError::NotElf) }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(CString::as_c_str).map(CStr::as_ptr).chain([ptr::null()]).collect()
}

/// All of a sealed memfd, mapped to be read.
#[derive(Debug)]
struct Mapped {
    start: *mut c_void,
    len: usize,
}

impl Mapped {
    fn of(memfd: &OwnedFd, len: u64) -> io::Result<Self> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        // Private, since kernels before 6.7 refuse a shared one of what is sealed against writing, whatever it is for.
        // SAFETY: a new mapping at an address of the kernel's choice; it replaces nothing.
        let start = unsafe { mmap(ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, memfd, 0) }?;
        Ok(Self { start, len })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: `start` is valid for `len` bytes as long as `self` lives. The memfd was sealed against writing,
        // shrinking and growing before it became an image, so the bytes are there and nobody changes them.
        unsafe { slice::from_raw_parts(self.start.cast(), self.len) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: exactly what `of` mapped, and no borrow of it outlives `self`.
        let _unmapped = unsafe { munmap(self.start, self.len) };
    }
}

const EXEC_ONLY: Mode = Mode::XUSR.union(Mode::XGRP).union(Mode::XOTH);

const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// At most this much between two looks at the bound, in bytes.
const COPY_CHUNK: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_bytes_shown_to_the_digest_are_the_file_and_they_run() {
        let image = ExecOnlyImage::from_path(Path::new("/bin/true")).unwrap();
        let mut shown = Vec::new();
        let len = image.bytes_hashed_by(&mut |piece| shown.extend_from_slice(piece)).unwrap();
        assert_eq!(shown, std::fs::read("/bin/true").unwrap());
        assert_eq!(len, shown.len() as u64);
        assert!(Command::new(image.exec_path()).status().unwrap().success());
    }

    #[test]
    fn an_executable_is_read_once_to_be_copied_and_measured() {
        let mut large = std::fs::read("/bin/true").unwrap();
        large.resize(4 << 20, 0xa5);
        let path = std::env::temp_dir().join(format!("blindferry-image-{}", std::process::id()));
        std::fs::write(&path, &large).unwrap();
        // Of this thread alone.
        let read = || -> u64 {
            let counts = std::fs::read_to_string("/proc/thread-self/io").unwrap();
            counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
        };
        let before = read();
        let image = ExecOnlyImage::from_path(&path).unwrap();
        let mut shown = 0;
        image.bytes_hashed_by(&mut |piece| shown += piece.len()).unwrap();
        let taken = read() - before;
        std::fs::remove_file(&path).unwrap();
        assert_eq!(shown, large.len());
        assert!((4 << 20..5 << 20).contains(&taken), "{taken} bytes read");
    }

    #[test]
    fn a_copy_cannot_be_changed_after_it_was_hashed() {
        let image = ExecOnlyImage::from_path(Path::new("/bin/true")).unwrap();
        assert_eq!(rustix::io::pwrite(&image, b"X", 0), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&image, 0), Err(Errno::PERM));
    }

    #[test]
    fn scripts_directories_and_giants_are_refused_each_with_its_own_reason() {
        assert!(matches!(ExecOnlyImage::from_path(Path::new("/etc/passwd")), Err(ImageError::NotElf)));
        assert!(matches!(ExecOnlyImage::from_path(Path::new("/etc")), Err(ImageError::NotRegular)));
        assert!(matches!(ExecOnlyImage::from_path(Path::new("/dev/null")), Err(ImageError::NotRegular)));
        assert!(matches!(ExecOnlyImage::from_path(Path::new("/no/such")), Err(ImageError::Open { .. })));
        let giant = memfd::create("giant", Execution::Allowed, MemfdFlags::empty()).unwrap();
        rustix::fs::ftruncate(&giant, MAX_IMAGE + 1).unwrap();
        assert!(matches!(ExecOnlyImage::from_fd(giant), Err(ImageError::TooLarge { .. })));
    }
}
