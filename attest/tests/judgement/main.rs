//! One question for each file: is everything refused that should be, by its own code, and nothing else?

#[cfg(test)]
mod activation;
#[cfg(test)]
mod appraisal;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod codes;
#[cfg(test)]
mod guest;
#[cfg(test)]
mod guest_parsers;
#[cfg(test)]
mod guest_reference;
#[cfg(test)]
mod parsers;
#[cfg(test)]
mod questions;
#[cfg(test)]
mod real_evidence;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod software_tpm;
#[cfg(test)]
mod synthetic;
