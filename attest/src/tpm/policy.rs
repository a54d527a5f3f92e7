//! Policy digests as a TPM computes them, in software: what a sealed object or a signed PCR policy must carry.
//!
//! All are of SHA-256 policy sessions (Part 3, the commands named below).

use super::{
    algorithm::{HashAlg, sha256},
    pcr::PcrValues,
};

/// The policy digest after TPM2_PolicyPCR alone, from a fresh session:
/// SHA-256(0³² ‖ TPM_CC_PolicyPCR ‖ selection ‖ SHA-256(values)).
#[must_use]
pub fn policy_pcr(values: &PcrValues) -> [u8; 32] {
    const TPM_CC_POLICY_PCR: [u8; 4] = 0x0000_017f_u32.to_be_bytes();
    sha256(&[&[0; 32], &TPM_CC_POLICY_PCR, &values.selection().to_tpml(), &values.digest(HashAlg::Sha256)])
}

/// The policy digest after TPM2_PolicyAuthorize, which forgets what came before:
/// SHA-256(SHA-256(0³² ‖ TPM_CC_PolicyAuthorize ‖ Name of the authority's key) ‖ policyRef).
#[must_use]
pub fn policy_authorize(key_name: &[u8], policy_ref: &[u8]) -> [u8; 32] {
    const TPM_CC_POLICY_AUTHORIZE: [u8; 4] = 0x0000_016a_u32.to_be_bytes();
    let with_key = sha256(&[&[0; 32], &TPM_CC_POLICY_AUTHORIZE, key_name]);
    sha256(&[&with_key, policy_ref])
}

/// What the authority signs so that TPM2_PolicyAuthorize accepts a policy (aHash): SHA-256(approvedPolicy ‖ policyRef).
#[must_use]
pub fn authorized_hash(approved_policy: &[u8; 32], policy_ref: &[u8]) -> [u8; 32] {
    sha256(&[approved_policy, policy_ref])
}
