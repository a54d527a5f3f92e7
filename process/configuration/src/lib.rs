//! A service's configuration file: read within a bound, parsed whole, and refused with place, cause and fix.
//!
//! One way for front, broker and command, so that a service that does not start says what `check-config` says:
//!
//! ```text
//! error: unknown key `stor`
//!   --> enclave.toml: line 3, column 1
//!    |
//!  3 | stor = "/var/lib/blindferry/store.redb"
//!    | ^^^^
//!    = cause: the keys here are `listen`, `public`, `store`
//!    = fix: write `store`
//! ```
//!
//! What each service may say is in its own crate, as a type that [`Source::parse`] is told; what must be there on the
//! machine is asked with [`Checks`]. No secret belongs into such a file: one that plainly has one is refused
//! before it is parsed, and the line is not repeated.
//!
//! | file | its job |
//! |---|---|
//! | `source` | reads and parses |
//! | `fault` | what is wrong, as people and programs get it |
//! | `place` | where in the text that is |
//! | `secret` | lines that hold a credential |
//! | `checks` | what must be there on this machine |
//! | `example` | whether an example explains every key |

pub use crate::checks::Checks;
pub use crate::example::{switched_on, unexplained};
pub use crate::fault::{Fault, Faults, Severity};
pub use crate::place::Place;
pub use crate::source::{MAX_CONFIGURATION, Source};

mod checks;
mod example;
mod fault;
mod place;
mod secret;
mod source;
