//! Namespaces of one's own, and mounts that can no longer be written: two calls that have no safe form elsewhere.

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What a process can have for itself (namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Users and capabilities; with it the others need no privilege.
    User,
    /// Mounts.
    Mount,
    /// Processes: of those that are started from now on, the first is process 1.
    Process,
    /// System V objects and POSIX queues.
    Ipc,
    /// Network, abstract Unix sockets among it.
    Network,
}

/// Leaves these namespaces for new ones. This process must have one thread if [`Namespace::User`] is among them.
///
/// # Errors
/// What the kernel said; then none was left.
pub fn leave(namespaces: &[Namespace]) -> io::Result<()> {
    let flags = namespaces.iter().fold(0, |flags, namespace| flags | namespace.flag());
    // SAFETY: flags of namespaces alone, none of which concerns memory or the table of descriptors.
    done(unsafe { libc::unshare(flags) })
}

impl Namespace {
    fn flag(self) -> libc::c_int {
        match self {
            Self::User => libc::CLONE_NEWUSER,
            Self::Mount => libc::CLONE_NEWNS,
            Self::Process => libc::CLONE_NEWPID,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Network => libc::CLONE_NEWNET,
        }
    }
}

/// What is given up at a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restriction {
    /// Set-user-ID programs and device nodes.
    Privileges,
    /// The same, and writing.
    PrivilegesAndWriting,
    /// Set-user-ID programs alone, since it is a device node.
    PrivilegesOfNode,
}

/// Gives that up at a mount and at all that is mounted below it, in one step. mount_setattr(2), Linux 5.12.
///
/// # Errors
/// What the kernel said.
pub fn restrict(mount: &Path, restriction: Restriction) -> io::Result<()> {
    let path = CString::new(mount.as_os_str().as_bytes())?;
    let set = match restriction {
        Restriction::Privileges => libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        Restriction::PrivilegesAndWriting => libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_RDONLY,
        Restriction::PrivilegesOfNode => libc::MOUNT_ATTR_NOSUID,
    };
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the kernel reads a path that ends with a NUL, and as many bytes as the structure has; both outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
