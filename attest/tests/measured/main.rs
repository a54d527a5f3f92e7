//! What a machine will measure, against what others published and what their tools compute.

mod firmware;
mod launch;
mod pe;
mod tools;
mod uki;
