//! The user's processes, kept out by a group: the launcher's own becomes the program's real group, and stays it.
//!
//! Installed set-group-ID, the launcher starts with the user's real group and another effective one. It turns the two
//! round: the effective group is the user's again, so files are opened and made as ever, and the real one is the
//! launcher's. The kernel lets a process look into another only if its one group equals real, effective and saved group
//! of that other (`__ptrace_may_access` in kernel/ptrace.c); here no group can equal them all. So it does not help to be
//! in the launcher's group, as whoever starts the launcher is. execve(2) keeps real and effective group, and makes every
//! program unreadable in whom they differ (`begin_new_exec` in fs/exec.c).
//!
//! A shell that finds the two different gives the effective one up, and would end the protection. So the calls that
//! change groups do nothing from here on, and say that they did. User namespaces are refused: a process of the same user
//! outside owns them, and may look into everything inside.

use blindferry_calls::{DenyError, DenyList, deny_clone3};
use rustix::process::{DumpableBehavior, Gid, getegid, getgid, set_dumpable_behavior};
use rustix::thread::set_thread_res_gid;
use std::io;

/// Why there is no group of its own for the program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GroupError {
    #[error(
        "the launcher has no group of its own: install it set-group-ID of a group that owns nothing (chgrp, mode 2711), \
         where the file system is not mounted nosuid, and start it without no_new_privs"
    )]
    NotInstalled,
    #[error("cannot change groups")]
    Change(#[source] io::Error),
    #[error("cannot become non-dumpable again")]
    Dumpable(#[source] io::Error),
    #[error("cannot keep programs from giving the group up")]
    Pin(#[source] DenyError),
}

/// This process has real and effective group that differ, and can no longer change that; nor can what it executes.
pub(crate) struct OwnGroup(());

impl OwnGroup {
    /// # Errors
    /// [`GroupError`], when the launcher was not started set-group-ID among others.
    pub(crate) fn enter() -> Result<Self, GroupError> {
        let (users, own) = (getgid(), getegid());
        if users == own {
            return Err(GroupError::NotInstalled);
        }
        set(own, users, users)?;
        if (getgid(), getegid()) == (users, own) {
            // It did nothing and said it did: this is a program of another launcher's, and its pin holds.
            return Ok(Self(()));
        }
        pin()?;
        Ok(Self(()))
    }
}

/// Gives the launcher's own group up, for a program that shall not have it.
pub(crate) fn give_up() -> Result<(), GroupError> {
    let users = getgid();
    if users == getegid() { Ok(()) } else { set(users, users, users) }
}

/// The launcher's own group, out of effect while something else is tried.
pub(crate) struct LaidAside(Gid);

impl LaidAside {
    pub(crate) fn now() -> Result<Self, GroupError> {
        let (users, own) = (getgid(), getegid());
        set(users, users, own).map(|()| Self(own))
    }

    pub(crate) fn take_up(self) -> Result<(), GroupError> {
        set(getgid(), self.0, self.0)
    }
}

fn set(real: Gid, effective: Gid, saved: Gid) -> Result<(), GroupError> {
    // Of this thread alone, which is the only one.
    set_thread_res_gid(real, effective, saved).map_err(|error| GroupError::Change(error.into()))?;
    // A change of groups makes that what fs.suid_dumpable says.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| GroupError::Dumpable(error.into()))
}

fn pin() -> Result<(), GroupError> {
    let namespaces = DenyList::default()
        .and(&[(libc::SYS_setns, "into a user namespace that somebody outside owns")])
        .and_user_namespaces()
        .map_err(GroupError::Pin)?;
    namespaces.apply(libc::EPERM).map_err(GroupError::Pin)?;
    deny_clone3().map_err(GroupError::Pin)?;
    DenyList::default().and(GROUPS).apply(DONE).map_err(GroupError::Pin)
}

/// Calls that change the real or effective group.
const GROUPS: &[(i64, &str)] = &[
    (libc::SYS_setgid, "a shell, which drops a group that is not the real one"),
    (libc::SYS_setregid, "the same"),
    (libc::SYS_setresgid, "the same"),
];

/// Error 0: the call is not made, and reported as made. What a shell wants of it, that nothing can be gained by the
/// other group, holds anyway: that group owns nothing.
const DONE: libc::c_int = 0;
