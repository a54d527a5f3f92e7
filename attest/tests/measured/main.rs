//! What a machine will measure, against what others published and what their tools compute.

#[cfg(test)]
mod firmware;
#[cfg(test)]
mod image;
#[cfg(test)]
mod launch;
#[cfg(test)]
mod pe;
#[cfg(test)]
mod tools;
#[cfg(test)]
mod uki;
