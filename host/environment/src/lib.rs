//! What of a parent's environment a program gets: a short list, what was asked for by name, and nothing that looks like a
//! credential or makes programs load code.
//!
//! One policy for everybody who starts programs: `blindferry-launch`, `blindferry run`, `blindferry env`, and schedulers
//! and agent runtimes that link this crate. It reads no file, no clock and no environment of its own: the caller hands
//! the variables in.
//!
//! # The rule
//!
//! A variable passes when there is a reason for it to pass and no lock on it is shut.
//!
//! | reason | said by |
//! |---|---|
//! | it is [ordinary]: `PATH`, `HOME`, locale, terminal, base directories | nobody |
//! | it belongs to a [`Switch`] that is on | [`Policy::pass`] |
//! | it was asked for by name, or given with a value | [`Policy::ask`] |
//! | it was named as a credential | [`Policy::inherit_credential`] |
//! | everything harmless shall pass | [`Policy::pass_everything_harmless`] |
//!
//! | lock | opened by |
//! |---|---|
//! | it can make programs load or run other code ([`Danger::Code`]) | its switch, and nothing else |
//! | its name is that of a [credential], or its [value] holds one | [`Policy::inherit_credential`], and nothing else |
//!
//! What was asked for by name and is behind a lock is a [`Refusal`], not a variable that is silently missing. What
//! nobody asked for is left out, and [`Selection::left_out`] says why, and what would let it in.
//!
//! ```
//! use blindferry_environment::{Origin, Policy, Switch};
//!
//! let mut policy = Policy::default();
//! policy.pass(Switch::Proxy);
//! policy.ask("RUST_LOG")?;
//! let present = [("PATH", "/bin"), ("GITHUB_TOKEN", "…"), ("https_proxy", "http://proxy:3128"), ("RUST_LOG", "debug")];
//! let selection = policy.select(present.map(|(name, value)| (name.into(), value.into())))?;
//! assert_eq!(selection.environment().get("RUST_LOG"), Some("debug".as_ref()));
//! assert_eq!(selection.environment().get("GITHUB_TOKEN"), None);
//! let (name, reason) = selection.left_out().next().ok_or("nothing was left out")?;
//! assert_eq!(reason.remedy(name), "--inherit-credentials GITHUB_TOKEN");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it is not
//!
//! Names are a convention: a secret in a variable called `BANNER` is left out because nobody listed it, and passes when
//! it is asked for. Nor does the list end what a program can do: with `HOME` it finds `~/.aws/credentials`.

pub use crate::asked::Asked;
pub use crate::delivered::{descriptor_variable, file_variable};
pub use crate::environment::Environment;
pub use crate::policy::Policy;
pub use crate::refusal::Refusal;
pub use crate::selection::{Origin, Passed, Reason, Selection};
pub use crate::standing::{Listed, Standing, standing};
pub use crate::switch::{Danger, Switch, UnknownSwitch};

pub mod credential;
pub mod limits;
pub mod ordinary;
pub mod value;

mod asked;
mod delivered;
mod environment;
mod pattern;
mod policy;
mod refusal;
mod selection;
mod standing;
mod switch;
