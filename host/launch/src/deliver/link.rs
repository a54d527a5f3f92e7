//! A path that leads every process to a descriptor of its own: a link to `/proc/self/fd/N`.
//!
//! Whoever has the descriptor finds the token there, and for everybody else the path leads to whatever he himself has
//! under that number. So nothing secret lies in a file system, and the link may stay when the program has ended: the
//! next launch takes it as it is. No privilege is needed, and no namespace: one that its user makes himself is open to
//! every process of that user. What a process of this user can do is put something else there.

use crate::deliver::DeliverError;
use blindferry_proto::identifier::Digest;
use ring::digest::{SHA256, digest};
use rustix::fs::{FileType, Mode, lstat, mkdir, readlink, symlink};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::geteuid;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::{env, io};

/// Makes `path` lead to `descriptor`, which gets another number for that.
///
/// # Errors
/// [`DeliverError::Link`]; [`DeliverError::Occupied`] when something of another kind lies there.
pub(super) fn lead(path: &Path, descriptor: &OwnedFd) -> Result<OwnedFd, DeliverError> {
    // Another launch may make the same link at the same time.
    for _ in 0..ATTEMPTS {
        match target(path)? {
            Some(number) => return numbered(path, descriptor, number),
            None => {
                let own = number_from(descriptor, LOWEST)?;
                match symlink(format!("{OWN_DESCRIPTORS}{}", own.as_raw_fd()), path) {
                    Ok(()) => return Ok(own),
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(failed(path, error)),
                }
            }
        }
    }
    Err(failed(path, Errno::AGAIN))
}

/// A directory of such links, one for each name, read-only and nobody else's; made once for each set of names.
///
/// # Errors
/// As [`lead`]; [`DeliverError::Directory`] when the directory above it is not this user's alone.
pub(super) fn directory(names: &[&str]) -> Result<PathBuf, DeliverError> {
    let above = private_directory()?;
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    let named = digest(&SHA256, sorted.join("/").as_bytes());
    let mut name = Digest([0; Digest::LEN]);
    name.0.copy_from_slice(named.as_ref());
    let directory = above.join(name.to_string());
    make_own(&directory)?;
    Ok(directory)
}

/// The number to which a path leads already, if it is one of our links.
fn target(path: &Path) -> Result<Option<RawFd>, DeliverError> {
    match readlink(path, Vec::new()) {
        Ok(target) => {
            let number = target.to_str().ok().and_then(|target| target.strip_prefix(OWN_DESCRIPTORS)?.parse().ok());
            number.filter(|number| *number >= LOWEST).map(Some).ok_or_else(|| occupied(path))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::INVAL) => Err(occupied(path)),
        Err(error) => Err(failed(path, error)),
    }
}

fn numbered(path: &Path, descriptor: &OwnedFd, number: RawFd) -> Result<OwnedFd, DeliverError> {
    let own = number_from(descriptor, number)?;
    if own.as_raw_fd() == number { Ok(own) } else { Err(DeliverError::Number { path: path.to_owned(), number }) }
}

fn number_from(descriptor: impl AsFd, lowest: RawFd) -> Result<OwnedFd, DeliverError> {
    fcntl_dupfd_cloexec(descriptor, lowest).map_err(|error| DeliverError::MakeMemfd(error.into()))
}

/// `$XDG_RUNTIME_DIR/blindferry`, or a directory of the same kind in `/tmp`.
fn private_directory() -> Result<PathBuf, DeliverError> {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute() && path.is_dir());
    let directory = match runtime {
        Some(runtime) => runtime.join("blindferry-credentials"),
        None => Path::new("/tmp").join(OsString::from(format!("blindferry-credentials-{}", geteuid().as_raw()))),
    };
    make_own(&directory)?;
    Ok(directory)
}

/// Sees to it that `directory` is there, and that nobody but its user may write to it.
fn make_own(directory: &Path) -> Result<(), DeliverError> {
    match mkdir(directory, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(failed(directory, error)),
    }
    let status = lstat(directory).map_err(|error| failed(directory, error))?;
    let others = Mode::from_raw_mode(status.st_mode).intersects(Mode::RWXG | Mode::RWXO);
    let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
    if !is_directory || others || status.st_uid != geteuid().as_raw() {
        return Err(DeliverError::Directory { path: directory.to_owned() });
    }
    Ok(())
}

fn occupied(path: &Path) -> DeliverError {
    DeliverError::Occupied { path: path.to_owned() }
}

fn failed(path: &Path, error: Errno) -> DeliverError {
    DeliverError::Link { path: path.to_owned(), source: io::Error::from(error) }
}

/// What every process finds its own descriptors under.
const OWN_DESCRIPTORS: &str = "/proc/self/fd/";

/// Above the numbers that programs use by themselves, and shells redirect.
const LOWEST: RawFd = 64;

const ATTEMPTS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::fill::{memfd, replace};
    use std::fs;

    fn place(name: &str) -> PathBuf {
        let path = env::temp_dir().join(format!("blindferry-link-{}-{name}", std::process::id()));
        let _left_over = fs::remove_file(&path);
        path
    }

    #[test]
    fn the_path_is_the_descriptor_and_the_next_launch_takes_the_link_as_it_is() {
        let path = place("again");
        let first = memfd().unwrap();
        replace(&first, b"one").unwrap();
        let led = lead(&path, &first).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        let number = led.as_raw_fd();
        drop(led);
        assert!(fs::read(&path).is_err(), "without the descriptor it leads nowhere");
        let second = memfd().unwrap();
        replace(&second, b"two").unwrap();
        let led = lead(&path, &second).unwrap();
        assert_eq!((led.as_raw_fd(), fs::read(&path).unwrap()), (number, b"two".to_vec()));
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_a_directory_and_a_link_to_elsewhere_are_left_alone() {
        let token = memfd().unwrap();
        for make in [
            (|path| fs::write(path, "mine")) as fn(&Path) -> io::Result<()>,
            |path| std::os::unix::fs::symlink("/etc/passwd", path),
            |path| std::os::unix::fs::symlink("/proc/self/fd/1", path),
            |path| std::os::unix::fs::symlink("/proc/self/fd/64/x", path),
        ] {
            let path = place("occupied");
            make(&path).unwrap();
            assert!(matches!(lead(&path, &token), Err(DeliverError::Occupied { .. })));
            fs::remove_file(&path).unwrap();
        }
        assert!(matches!(lead(Path::new("/tmp"), &token), Err(DeliverError::Occupied { .. })));
        assert!(matches!(lead(Path::new("/no/such/place"), &token), Err(DeliverError::Link { .. })));
    }

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let path = place("directory");
        make_own(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(make_own(&path), Err(DeliverError::Directory { .. })));
        fs::remove_dir(&path).unwrap();
    }
}
