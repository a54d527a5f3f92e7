//! What the executable does as a whole, where no vault is needed for it.

mod bench;
mod set_up;
mod usage;
mod vault_away;
