//! What a machine will measure, computed before it boots from the files that it boots: values for
//! [`reference`](crate::reference).
//!
//! [`snp`] computes the launch measurement of an SEV-SNP guest, [`uki`] the PCRs that firmware, systemd-stub and the
//! kernel extend for a Unified Kernel Image. Nothing here judges anything: a wrong computation makes a reference value
//! that no machine meets, and so refuses; it cannot make one that another machine meets.

pub mod pe;
pub mod snp;
pub mod uki;
