//! The library of a program that starts workers: it asks for a grant and hands it on, and cannot read what it buys.
//!
//! To a parent a grant is noise in a sealed memfd. It cannot look into it; it can only pass it on, by inheritance or over
//! a socket, or drop it.
//!
//! # A complete parent
//!
//! It starts a worker with the grant on a descriptor, whose number the worker gets as an argument. Where the worker knows
//! nothing of us, the program to start is `blindferry-launch`.
//!
//! ```no_run
//! use blindferry_parent::{Ask, Parent, parents_socket};
//! use std::os::fd::AsRawFd;
//! use std::process::Command;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut parent = Parent::connect(&parents_socket())?;
//! let grant = parent.ask(&Ask::for_credential("github-deploy".parse()?))?.inherit()?;
//! let mut worker = Command::new("blindferry-launch")
//!     .args(["--credential-name", "github-deploy", "--grant-fd", &grant.as_raw_fd().to_string()])
//!     .args(["--", "deploy.sh"])
//!     .spawn()?;
//! drop(grant); // the worker has its own descriptor; ours would go on to the next child
//! worker.wait()?;
//! # Ok(())
//! # }
//! ```

pub mod ask;
pub mod grant;

pub use ask::{Ask, Asking, Parent, ParentError, parents_socket};
pub use grant::GrantHandle;
