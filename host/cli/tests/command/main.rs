//! What the executable does as a whole, where no vault is needed for it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bench;
mod set_up;
mod usage;
mod vault_away;
