//! Sockets that the service manager bound before this process began, by their names (`FileDescriptorName=`).

use blindferry_handle::inherit::{InheritError, take_inherited};
use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};
use thiserror::Error;

/// The sockets that were passed to this process and not taken yet.
#[derive(Debug)]
pub struct Passed(Vec<(String, RawFd)>);

/// A socket cannot be taken over.
#[derive(Debug, Error)]
pub enum PassedError {
    /// LISTEN_FDS is no number, or one that no unit of ours has.
    #[error("LISTEN_FDS is {value:?}, expected a number up to {LIMIT}")]
    Count {
        /// What it is.
        value: OsString,
    },
    /// LISTEN_FDNAMES does not fit.
    #[error("LISTEN_FDNAMES has {names} names for {sockets} sockets")]
    Names {
        /// Names in it.
        names: usize,
        /// Sockets that were passed.
        sockets: usize,
    },
    /// Some sockets were passed, and this one was not, or twice.
    #[error(
        "the service manager passed {count} sockets with the name {name:?}, expected one: see FileDescriptorName= of the socket units"
    )]
    NotOne {
        /// The name.
        name: &'static str,
        /// How many have it.
        count: usize,
    },
    /// What was passed is not needed.
    #[error("the service manager passed sockets that nobody here wants: {}", names.join(", "))]
    Left {
        /// Their names.
        names: Vec<String>,
    },
    /// The descriptor cannot be taken.
    #[error("cannot take over the socket {name:?}")]
    Take {
        /// Its name.
        name: &'static str,
        /// Why not.
        source: InheritError,
    },
}

impl Passed {
    /// What `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` say. `None` when they are not there, or meant for another
    /// process, such as one that was started by the one they were meant for.
    ///
    /// # Errors
    /// [`PassedError::Count`], [`PassedError::Names`].
    pub fn find(variable: impl Fn(&str) -> Option<OsString>, own_id: u32) -> Result<Option<Self>, PassedError> {
        if variable("LISTEN_PID").is_none_or(|id| id.to_str() != Some(own_id.to_string().as_str())) {
            return Ok(None);
        }
        let Some(value) = variable("LISTEN_FDS") else { return Ok(None) };
        let count = value.to_str().and_then(|value| value.parse().ok()).filter(|count| *count <= LIMIT);
        let Some(sockets) = count else { return Err(PassedError::Count { value }) };
        if sockets == 0 {
            return Ok(None);
        }
        let names = variable("LISTEN_FDNAMES").and_then(|names| names.into_string().ok()).unwrap_or_default();
        let names: Vec<&str> = names.split(':').collect();
        if names.len() != sockets {
            return Err(PassedError::Names { names: names.len(), sockets });
        }
        Ok(Some(Self(names.into_iter().map(str::to_owned).zip(FIRST..).collect())))
    }

    /// The socket of this name.
    ///
    /// # Errors
    /// [`PassedError::NotOne`], [`PassedError::Take`].
    pub fn take(&mut self, name: &'static str) -> Result<OwnedFd, PassedError> {
        let (named, others) = std::mem::take(&mut self.0).into_iter().partition(|(of, _)| of == name);
        self.0 = others;
        match Vec::as_slice(&named) {
            [(_, number)] => take_inherited(*number).map_err(|source| PassedError::Take { name, source }),
            several => Err(PassedError::NotOne { name, count: several.len() }),
        }
    }

    /// Nothing else was passed: clients of such a socket would wait for ever.
    ///
    /// # Errors
    /// [`PassedError::Left`].
    pub fn nothing_else(self) -> Result<(), PassedError> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(PassedError::Left { names: self.0.into_iter().map(|(name, _)| name).collect() })
    }
}

/// `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;
/// More than any unit of ours has.
const LIMIT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn find(id: &'static str, count: &'static str, names: &'static str) -> Result<Option<Passed>, PassedError> {
        let variable = move |name: &str| match name {
            "LISTEN_PID" => Some(id.into()),
            "LISTEN_FDS" => Some(count.into()),
            "LISTEN_FDNAMES" => Some(names.into()),
            _ => None,
        };
        Passed::find(variable, 7)
    }

    #[test]
    fn sockets_are_known_by_their_names_in_whatever_order() {
        let passed = find("7", "2", "workers:parents").unwrap().unwrap();
        assert_eq!(passed.0, [("workers".to_owned(), 3), ("parents".to_owned(), 4)]);
    }

    #[test]
    fn what_is_meant_for_another_process_is_not_taken() {
        assert!(find("8", "2", "workers:parents").unwrap().is_none());
        assert!(Passed::find(|_| None, 7).unwrap().is_none());
        assert!(find("7", "0", "").unwrap().is_none());
    }

    #[test]
    fn numbers_and_names_that_do_not_fit_are_refused() {
        assert!(matches!(find("7", "two", "a:b"), Err(PassedError::Count { .. })));
        assert!(matches!(find("7", "1000000000000", "a:b"), Err(PassedError::Count { .. })));
        assert!(matches!(find("7", "2", "a"), Err(PassedError::Names { names: 1, sockets: 2 })));
        assert!(matches!(find("7", "1", "a:b"), Err(PassedError::Names { .. })));
    }

    #[test]
    fn a_socket_that_lacks_is_there_twice_or_is_not_wanted_is_named() {
        let mut twice = find("7", "2", "parents:parents").unwrap().unwrap();
        assert!(matches!(twice.take("parents"), Err(PassedError::NotOne { name: "parents", count: 2 })));
        let mut lacking = find("7", "1", "parents").unwrap().unwrap();
        assert!(matches!(lacking.take("workers"), Err(PassedError::NotOne { name: "workers", count: 0 })));
        assert!(matches!(lacking.nothing_else(), Err(PassedError::Left { .. })));
    }
}
