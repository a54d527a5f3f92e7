//! Is this peer what it says? Pure judgement of evidence: no I/O, no clock, no randomness but what the caller hands in.
//!
//! Two roads lead through this crate, and each ends in a value that nothing else can make:
//!
//! - [`endorsement`]: a host's TPM is enrolled once. [`endorsement::endorse`] → [`endorsement::Endorsed::challenge`] →
//!   [`endorsement::Activation::answer`] → [`endorsement::Enrolled`], whose attestation key is pinned from then on.
//! - [`attested`]: in each session, [`attested::appraise`] turns [`evidence::Evidence`] into [`attested::Attested`].
//!
//! Each step takes what the step before it made, by value; so none can be skipped, repeated or reordered.
//!
//! A session with a guest of AMD SEV-SNP, as its other end judges it:
//!
//! ```
//! use blindferry_attest::{
//!     attested::{Expected, Identity, Pinned, PinnedGuest, PinnedMachine, appraise},
//!     binder::Binder,
//!     evidence::Evidence,
//!     reference::ReferenceValues,
//! };
//! use blindferry_proto::role::Role;
//! # use blindferry_attest::snp::SnpEvidence;
//! # use blindferry_amd::{Amd, ReportSpec, VekSpec};
//! # let (spki, exporter) = ([4; 91], [7; 32]);
//! # let amd = Amd::of("Genoa");
//! # let vcek = amd.vcek(&VekSpec::genoa());
//! # let mut spec = ReportSpec::genoa();
//! # let same = Binder::compute(Role::Vault, &spki, &exporter).unwrap();
//! # spec.report_data[..32].copy_from_slice(same.as_bytes());
//! # let certificates = vec![vcek.der.clone(), amd.ask_der.clone()];
//! # let received = Evidence::Snp(SnpEvidence::new(vcek.sign(&spec), certificates, vec![]).unwrap()).encode();
//!
//! let reference = r#"
//! version = 2
//! role = "vault"
//!
//! [[snp]]
//! name = "vault image 2026.11"
//! products = ["genoa"]
//! signed_by = "vcek"
//! chips = "any"
//! vmpl = [0]
//! measurements = ["5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f"]
//! crl = "optional"
//!
//! [snp.floor.genoa]
//! bootloader = 10
//! tee = 0
//! snp = 23
//! microcode = 84
//! "#;
//! # let root = "[[dangerously_trusted_root]]\nproduct = 'genoa'\nreason = 'an example'\ncertificate = '''";
//! # let reference = &format!("{reference}{root}\n{}'''", amd.ark_pem());
//! let reference = ReferenceValues::parse(reference)?;
//! let binder = Binder::compute(Role::Vault, &spki, &exporter)?;
//! let guest = PinnedGuest {
//!     machine: PinnedMachine::ByReference, // the first time; then the chip that answered
//!     report_id: None,                     // the first time; then that of the first answer
//!     now: 1_795_219_200,
//!     crls: &[],
//!     endorsed: None,
//! };
//! let expected = Expected { binder, role: Role::Vault, pinned: Pinned::Guest(guest) };
//! let attested = appraise(Evidence::decode(&received)?, expected, &reference)?;
//! assert!(matches!(attested.identity(), Identity::Chip(_)));
//! assert_eq!(attested.reference_name(), "vault image 2026.11");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! For people, [`snp::examine()`] asks the same questions by the same functions and gives all the answers, as plain data
//! that opens nothing.

pub mod attested;
pub mod azure;
pub mod binder;
pub mod checks;
pub mod endorsement;
pub mod evidence;
pub mod kind;
pub mod measure;
mod moment;
mod reader;
pub mod reference;
pub mod refusal;
pub mod result;
pub mod snp;
pub mod tpm;
