//! The form that an endorsement key must have: the TCG's templates for it.
//!
//! Source: TCG EK Credential Profile for TPM Family 2.0, version 2.5, annex B (low range L, high range H).

use super::EndorsementError;
use crate::tpm::{
    algorithm::HashAlg,
    public::{Attributes, Public, Symmetric},
};

/// An EK whose form says that it stays in its TPM and decrypts only what the TPM then checks (a restricted decryption
/// key): what credential activation rests on.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) public: Public,
    pub(super) symmetric: Symmetric,
}

pub(super) fn from_template(public: Public) -> Result<Template, EndorsementError> {
    const LOW: Attributes = Attributes::FIXED_TPM
        .with(Attributes::FIXED_PARENT)
        .with(Attributes::SENSITIVE_DATA_ORIGIN)
        .with(Attributes::ADMIN_WITH_POLICY)
        .with(Attributes::RESTRICTED)
        .with(Attributes::DECRYPT);
    const HIGH: Attributes = LOW.with(Attributes::USER_WITH_AUTH);

    let differs = |part| EndorsementError::EkTemplate { part };
    let found = public.attributes();
    let policy: &[u8] = match (found, public.name_alg()) {
        (LOW, HashAlg::Sha256) => &POLICY_A_SHA256,
        (LOW, HashAlg::Sha384) => &POLICY_A_SHA384,
        (HIGH, HashAlg::Sha256) => &POLICY_B_SHA256,
        (HIGH, HashAlg::Sha384) => &POLICY_B_SHA384,
        _ => {
            return Err(EndorsementError::EkAttributes { found, low: LOW, high: HIGH });
        }
    };
    if public.auth_policy() != policy {
        return Err(differs("its policy"));
    }
    if public.scheme().is_some() {
        return Err(differs("its scheme"));
    }
    let symmetric = public.symmetric().ok_or_else(|| differs("its symmetric algorithm"))?;
    Ok(Template { public, symmetric })
}

/// PolicyA: TPM2_PolicySecret(TPM_RH_ENDORSEMENT).
const POLICY_A_SHA256: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7,
    0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
const POLICY_A_SHA384: [u8; 48] = [
    0x8b, 0xbf, 0x22, 0x66, 0x53, 0x7c, 0x17, 0x1c, 0xb5, 0x6e, 0x40, 0x3c, 0x4d, 0xc1, 0xd4, 0xb6, 0x4f, 0x43, 0x26,
    0x11, 0xdc, 0x38, 0x6e, 0x6f, 0x53, 0x20, 0x50, 0xc3, 0x27, 0x8c, 0x93, 0x0e, 0x14, 0x3e, 0x8b, 0xb1, 0x13, 0x38,
    0x24, 0xcc, 0xb4, 0x31, 0x05, 0x38, 0x71, 0xc6, 0xdb, 0x53,
];

/// PolicyB: TPM2_PolicyOR of PolicyA and PolicyC (TPM2_PolicyAuthorizeNV with the TCG's index for it).
const POLICY_B_SHA256: [u8; 32] = [
    0xca, 0x3d, 0x0a, 0x99, 0xa2, 0xb9, 0x39, 0x06, 0xf7, 0xa3, 0x34, 0x24, 0x14, 0xef, 0xcf, 0xb3, 0xa3, 0x85, 0xd4,
    0x4c, 0xd1, 0xfd, 0x45, 0x90, 0x89, 0xd1, 0x9b, 0x50, 0x71, 0xc0, 0xb7, 0xa0,
];
const POLICY_B_SHA384: [u8; 48] = [
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a, 0x07, 0x41, 0x48,
    0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca, 0xcb, 0x47, 0xba, 0x09, 0x69, 0x96,
    0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// TPM2_PolicySecret with no policyRef, computed: Part 3, "TPM2_PolicySecret".
    #[test]
    fn policy_a_is_policy_secret_of_the_endorsement_hierarchy() {
        for (alg, wanted) in [(HashAlg::Sha256, &POLICY_A_SHA256[..]), (HashAlg::Sha384, &POLICY_A_SHA384[..])] {
            let with_entity =
                alg.hash(&[&vec![0; alg.digest_len()], &0x151u32.to_be_bytes(), &0x4000_000bu32.to_be_bytes()]);
            assert_eq!(alg.hash(&[&with_entity]), wanted);
        }
    }
}
