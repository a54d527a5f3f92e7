//! One question for each file: is everything refused that should be, by its own code, and nothing else?

#[cfg(test)]
mod activation;
#[cfg(test)]
mod appraisal;
#[cfg(test)]
mod azure;
#[cfg(test)]
mod boot;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod capture;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod certify;
#[cfg(test)]
mod codes;
#[cfg(test)]
mod differential_snp;
#[cfg(test)]
mod differential_tpm;
#[cfg(test)]
mod event_log;
#[cfg(test)]
mod events;
#[cfg(test)]
mod examination;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod guest;
#[cfg(test)]
mod guest_parsers;
#[cfg(test)]
mod guest_reference;
#[cfg(test)]
mod ima;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod parsers;
#[cfg(test)]
mod questions;
#[cfg(test)]
#[path = "../differential/quotes.rs"]
mod quotes;
#[cfg(test)]
mod real_evidence;
#[cfg(test)]
mod reference;
#[cfg(test)]
#[path = "../../../enclave/vault/tests/support/registry.rs"]
mod registry;
#[cfg(test)]
mod result;
#[cfg(test)]
#[path = "../differential/sev_crate.rs"]
mod sev_crate;
#[cfg(test)]
mod software_tpm;
#[cfg(test)]
mod synthetic;
