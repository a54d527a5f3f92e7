//! The worker library against a broker and a vault of the tests.

#[cfg(test)]
mod acknowledgement;
#[cfg(test)]
mod delivered;
#[cfg(test)]
mod fake_broker;
#[cfg(test)]
mod fake_vault;
#[cfg(test)]
mod leaks;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod redeem;
#[cfg(test)]
mod start;
