//! The launcher against a broker of the tests, with real programs, as an unprivileged user wherever the tests run as root.

#[cfg(test)]
mod attack;
#[cfg(test)]
mod delivery;
#[cfg(test)]
#[path = "../../../worker/tests/worker/fake_broker.rs"]
mod fake_broker;
#[cfg(test)]
#[path = "../../../worker/tests/worker/fake_vault.rs"]
mod fake_vault;
#[cfg(test)]
mod forms;
#[cfg(test)]
mod launched;
#[cfg(test)]
mod protection;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod renewal;
#[cfg(test)]
mod several;
#[cfg(test)]
mod templates;
