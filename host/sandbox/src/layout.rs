//! Lays out, in a mount namespace of its own, what the program will see: an empty root with the places of a [`View`].

use crate::view::{Access, Place, View};
use blindferry_handle::namespace::{Restriction, restrict};
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, unmount,
};
use rustix::process::{chdir, pivot_root};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

/// A step that did not succeed. All of them are in namespaces that go away with us.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}", path = path.display())]
pub(crate) struct LayoutError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Lays it out below [`STAGING`], where nobody else looks.
///
/// # Errors
/// [`LayoutError`].
pub(crate) fn lay_out(view: &View) -> Result<(), LayoutError> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|error| failed("keep to ourselves", "/", error))?;
    // Opened before anything is mounted over them.
    let sources = view.places.iter().cloned().map(Source::open).collect::<Result<Vec<_>, _>>()?;
    let node = |path: &&str| Source::open(Place { path: PathBuf::from(path), access: Access::Write });
    let nodes = NODES.iter().map(node).collect::<Result<Vec<_>, _>>()?;
    mount("tmpfs", STAGING, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755")
        .map_err(|error| failed("mount a tmpfs on", STAGING, error))?;
    for (name, mode) in OWN_DIRECTORIES {
        directory(&below(name), *mode)?;
    }
    if let Some(home) = &view.home {
        directory(&below(home), 0o700)?;
    }
    for source in &sources {
        source.show(Restriction::Privileges)?;
    }
    for node in &nodes {
        node.show(Restriction::PrivilegesOfNode)?;
    }
    for (name, target) in LINKS {
        symlink(target, below(name)).map_err(|source| at("link", name, source))?;
    }
    hide(view)
}

/// Enters what was laid out, as the first process of a PID namespace: with a `/proc` and terminals of its own. What was before is out of
/// reach afterwards.
///
/// # Errors
/// [`LayoutError`].
pub(crate) fn enter(directory: &Path) -> Result<(), LayoutError> {
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", below("/proc"), "proc", strict, None).map_err(|error| failed("mount a procfs on", "/proc", error))?;
    // What of it can be written concerns the machine, or is the owner's alone.
    restrict(&below("/proc"), Restriction::PrivilegesAndWriting)
        .map_err(|source| at("make read-only", "/proc", source))?;
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", below("/dev/pts"), "devpts", quiet, c"newinstance,ptmxmode=0666,mode=0620")
        .map_err(|error| failed("mount terminals on", "/dev/pts", error))?;
    chdir(STAGING).map_err(|error| failed("enter", STAGING, error))?;
    // The old root is then on top of the new one, and is taken off it: pivot_root(2), `pivot_root(".", ".")`.
    pivot_root(".", ".").map_err(|error| failed("change the root to", STAGING, error))?;
    unmount(".", UnmountFlags::DETACH).map_err(|error| failed("let go of", "/", error))?;
    if chdir(directory).is_err() {
        chdir("/").map_err(|error| failed("enter", "/", error))?;
    }
    Ok(())
}

struct Source {
    place: Place,
    kind: Kind,
}

enum Kind {
    /// Kept as the link that it is.
    Link(PathBuf),
    Directory(OwnedFd),
    File(OwnedFd),
}

impl Source {
    fn open(place: Place) -> Result<Self, LayoutError> {
        let path = &place.path;
        let data = fs::symlink_metadata(path).map_err(|source| at("look at", path, source))?;
        if data.is_symlink() {
            let target = fs::read_link(path).map_err(|source| at("read the link", path, source))?;
            return Ok(Self { place, kind: Kind::Link(target) });
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = open(path, flags, Mode::empty()).map_err(|error| failed("open", path, error))?;
        let kind = if data.is_dir() { Kind::Directory(descriptor) } else { Kind::File(descriptor) };
        Ok(Self { place, kind })
    }

    fn show(&self, restriction: Restriction) -> Result<(), LayoutError> {
        let path = &self.place.path;
        let target = below(path);
        let parent = target.parent().unwrap_or(Path::new(STAGING));
        directory(parent, 0o755)?;
        let descriptor = match &self.kind {
            Kind::Link(link) => {
                return match symlink(link, &target) {
                    // Part of a place that is shown already.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                    linked => linked.map_err(|source| at("link", path, source)),
                };
            }
            Kind::Directory(descriptor) => {
                directory(&target, 0o755)?;
                descriptor
            }
            Kind::File(descriptor) => {
                if !target.exists() {
                    File::create(&target).map_err(|source| at("make", path, source))?;
                }
                descriptor
            }
        };
        // By its descriptor, since something may be mounted over its name by now.
        mount_bind_recursive(format!("/proc/self/fd/{}", descriptor.as_raw_fd()), &target)
            .map_err(|error| failed("show", path, error))?;
        let restriction = match (restriction, self.place.access) {
            (Restriction::Privileges, Access::Read) => Restriction::PrivilegesAndWriting,
            (restriction, _) => restriction,
        };
        restrict(&target, restriction).map_err(|source| at("restrict", path, source))
    }
}

/// Puts something that nobody can open over each secret. A mount can neither be renamed nor removed by who did not make it.
fn hide(view: &View) -> Result<(), LayoutError> {
    let (nothing, nowhere) = (below("/.hidden/file"), below("/.hidden/directory"));
    directory(&below("/.hidden"), 0o755)?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o000)
        .open(&nothing)
        .map_err(|source| at("make", &nothing, source))?;
    directory(&nowhere, 0)?;
    for secret in &view.hidden {
        let target = below(secret);
        // Not shown, or behind another that is hidden already.
        let Ok(data) = fs::symlink_metadata(&target) else { continue };
        if data.is_symlink() {
            continue;
        }
        let cover = if data.is_dir() { &nowhere } else { &nothing };
        mount_bind_recursive(cover, &target).map_err(|error| failed("hide", secret, error))?;
    }
    Ok(())
}

fn directory(path: &Path, mode: u32) -> Result<(), LayoutError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        directory(parent, 0o755)?;
    }
    DirBuilder::new().mode(mode).create(path).map_err(|source| at("make", path, source))
}

fn below(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    Path::new(STAGING).join(path.strip_prefix("/").unwrap_or(path))
}

fn at(doing: &'static str, path: impl AsRef<Path>, source: io::Error) -> LayoutError {
    LayoutError { doing, path: path.as_ref().to_owned(), source }
}

fn failed(doing: &'static str, path: impl AsRef<Path>, error: rustix::io::Errno) -> LayoutError {
    at(doing, path, error.into())
}

/// Exists everywhere; covered in our namespace alone.
const STAGING: &str = "/tmp";

/// What is in every root, whatever is shown: with what rights.
const OWN_DIRECTORIES: &[(&str, u32)] = &[
    ("/proc", 0o755),
    ("/dev", 0o755),
    ("/dev/pts", 0o755),
    ("/dev/shm", 0o700),
    ("/run", 0o755),
    ("/tmp", 0o700),
    ("/var", 0o755),
    ("/var/tmp", 0o700),
];

const NODES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

const LINKS: &[(&str, &str)] = &[
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/var/run", "/run"),
];
