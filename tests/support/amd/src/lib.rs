//! An AMD of our own, for tests: certificates and reports with AMD's structure, byte for byte, under keys that everybody
//! has. No verifier accepts them unless its reference values name the root by `dangerously_trusted_root`.
//!
//! Everything has a good default, and every field can be made wrong alone:
//!
//! ```ignore
//! let amd = Amd::of("Genoa");
//! let chip = amd.vcek(&VekSpec::genoa());
//! let report = chip.sign(&ReportSpec { vmpl: 3, ..ReportSpec::genoa() });
//! ```
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "only tests use it: what fails here fails the test"
)]

pub mod certificate;
pub mod der;
pub mod report;

pub use certificate::{Amd, CaSpec, Crl, Vek, VekSpec};
pub use report::ReportSpec;

/// The table of certificates that firmware and hosts pass to guests (GHCB specification, "SNP Extended Guest Request"):
/// entries of GUID, offset and length, one of zeros, then the certificates.
#[must_use]
pub fn certificate_table(certificates: &[([u8; 16], &[u8])]) -> Vec<u8> {
    let mut offset = 24 * (certificates.len() + 1);
    let mut table = Vec::new();
    for (guid, certificate) in certificates {
        table.extend_from_slice(guid);
        for number in [offset, certificate.len()] {
            table.extend_from_slice(&u32::try_from(number).expect("a small table").to_le_bytes());
        }
        offset += certificate.len();
    }
    table.extend_from_slice(&[0; 24]);
    for (_, certificate) in certificates {
        table.extend_from_slice(certificate);
    }
    table
}

/// GUIDs of that table, as bytes in it (mixed-endian, as UEFI writes them): ARK, ASK, VCEK, VLEK, ASVK, CRL.
pub mod guid {
    /// c0b406a4-a803-4952-9743-3fb6014cd0ae.
    pub const ARK: [u8; 16] = *b"\xa4\x06\xb4\xc0\x03\xa8\x52\x49\x97\x43\x3f\xb6\x01\x4c\xd0\xae";
    /// 4ab7b379-bbac-4fe4-a02f-05aef327c782.
    pub const ASK: [u8; 16] = *b"\x79\xb3\xb7\x4a\xac\xbb\xe4\x4f\xa0\x2f\x05\xae\xf3\x27\xc7\x82";
    /// 63da758d-e664-4564-adc5-f4b93be8accd.
    pub const VCEK: [u8; 16] = *b"\x8d\x75\xda\x63\x64\xe6\x64\x45\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd";
    /// a8074bc2-a25a-483e-aae6-39c045a0b8a1.
    pub const VLEK: [u8; 16] = *b"\xc2\x4b\x07\xa8\x5a\xa2\x3e\x48\xaa\xe6\x39\xc0\x45\xa0\xb8\xa1";
}
