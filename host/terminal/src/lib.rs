//! Stands in for a program that runs elsewhere, so that whoever started us notices no difference: its terminal, its
//! signals, its job control and its end are ours.
//!
//! ```text
//!   the user's terminal                                        a terminal of the program's own
//!        │                                                                │
//!   ┌────▼─────────────────┐   Link: signals, stops, the end   ┌──────────▼─────────────┐
//!   │ accompany            ├───────────────────────────────────┤ keep                   │── starts ─▶ program
//!   │ in the caller's      │   and the master of the terminal  │ leads the program's    │   and buries whatever
//!   │ session              │                                   │ session                │   loses its parent
//!   └──────────────────────┘                                   └────────────────────────┘
//! ```
//!
//! [`accompany`] is the half in the caller's session: it relays a terminal in both directions with bounded buffers, passes
//! signals and window sizes on, stops when the program stops, and says how it ended. [`keep`] is the half beside the
//! program. The two may be in different namespaces, or started by different users; between them is a [`Link`].
//!
//! A program that shall have the caller's descriptors and no terminal needs neither [`PseudoTerminal`] nor [`Terminal`].
//!
//! No threads, no clock but the monotonic one, and nothing here waits for longer than its caller said.

pub use crate::accompany::{Accompany, Finished, Limits, TimedOut, accompany};
pub use crate::end::End;
pub use crate::keep::{KeepError, Kept, keep, lead};
pub use crate::link::{FromKeeper, Link, LinkError, ToKeeper};
pub use crate::pseudo::PseudoTerminal;
pub use crate::signals::Signals;
pub use crate::terminal::Terminal;

mod accompany;
mod end;
mod flow;
mod job;
mod keep;
mod link;
mod pseudo;
mod signals;
mod terminal;
