//! An approval: the authority's signed word that a key may be unsealed while the PCRs hold certain values.
//!
//! A key is sealed under `PolicyAuthorize(authority, policy reference)`: whatever policy the authority signs opens it,
//! so an update of firmware or kernel needs a new approval and no new sealing. The policy that is signed is
//!
//! ```text
//! PolicyOR( PolicyPCR(selection, H(values) ),  H("blindferry approval terms v1" ‖ version) )
//! ```
//!
//! The second branch is no policy digest of anything, so no session can ever satisfy it: it is there because the TPM
//! checks one signature over one digest, and it puts the version under that signature. The version is compared with an
//! NV counter, so that an approval which was replaced can be told from the current one.
//!
//! That comparison is made by software (the device process before it unseals, the vault after): tss-esapi 7.7 has no
//! TPM2_PolicyNV. So it stops an old approval from being replayed to *our* software, and does not stop somebody who
//! runs software of their own under PCR values that were once approved. Those PCR values name a system that was once
//! trusted; where that is not enough, seal anew under a new policy reference.

use blindferry_attest::tpm::{PcrSelection, PcrValues, pcr::PcrError, policy};
use ring::{digest, signature};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::authority::Authority;

/// The length of a policy reference and of a policy digest, in bytes.
pub const POLICY_LEN: usize = 32;

/// No approval is longer, encoded: 24 PCRs of 33 bytes and their frame.
pub const APPROVAL_LIMIT: usize = 1024;

/// Names what an approval is for, so that one authority can serve several seals: 32 bytes, usually
/// [`PolicyRef::of`] a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRef(pub [u8; POLICY_LEN]);

impl PolicyRef {
    /// The reference of a deployment or purpose by its name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self(sha256(&[b"blindferry policy reference v1", name.as_bytes()]))
    }
}

/// What the authority signs: these values, for this purpose, as this version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WireTerms", into = "WireTerms")]
pub struct Terms {
    values: PcrValues,
    policy_ref: PolicyRef,
    version: u64,
}

impl Terms {
    /// Puts terms together. `version` rises with every approval of a deployment.
    #[must_use]
    pub fn new(values: PcrValues, policy_ref: PolicyRef, version: u64) -> Self {
        Self { values, policy_ref, version }
    }

    /// The 64 bytes to sign with ECDSA P-256 and SHA-256: the digest of the policy, then the policy reference. Their
    /// SHA-256 is the `aHash` of TPM2_PolicyAuthorize (TPM 2.0 Part 3, section 23.16).
    #[must_use]
    pub fn to_sign(&self) -> [u8; 2 * POLICY_LEN] {
        let mut bytes = [0; 2 * POLICY_LEN];
        let (policy, policy_ref) = bytes.split_at_mut(POLICY_LEN);
        policy.copy_from_slice(&self.policy());
        policy_ref.copy_from_slice(&self.policy_ref.0);
        bytes
    }

    /// SHA-256 of [`Terms::to_sign`]: what TPM2_VerifySignature takes.
    #[must_use]
    pub fn signed_digest(&self) -> [u8; POLICY_LEN] {
        policy::authorized_hash(&self.policy(), &self.policy_ref.0)
    }

    /// The digest of the policy: what a session's policy digest is after TPM2_PolicyPCR and TPM2_PolicyOR.
    #[must_use]
    pub fn policy(&self) -> [u8; POLICY_LEN] {
        // TPM_CC_PolicyOR (TPM 2.0 Part 2, section 6.5.2). PolicyOR begins from an empty digest.
        const POLICY_OR: [u8; 4] = 0x0000_0171_u32.to_be_bytes();
        let [values, version] = self.branches();
        sha256(&[&[0; POLICY_LEN], &POLICY_OR, &values, &version])
    }

    /// The two branches of the policy, in the order in which TPM2_PolicyOR takes them.
    #[must_use]
    pub fn branches(&self) -> [[u8; POLICY_LEN]; 2] {
        let version = sha256(&[b"blindferry approval terms v1", &self.version.to_be_bytes()]);
        [policy::policy_pcr(&self.values), version]
    }

    /// Adds the authority's signature, `r ‖ s`. Whether it is one is for [`Approval::verify`].
    #[must_use]
    pub fn signed(self, signature: [u8; 64]) -> Approval {
        let [mut r, mut s] = [[0; 32]; 2];
        let (first, second) = signature.split_at(32);
        r.copy_from_slice(first);
        s.copy_from_slice(second);
        Approval { terms: self, r, s }
    }

    /// The approved values.
    #[must_use]
    pub fn values(&self) -> &PcrValues {
        &self.values
    }

    /// What the approval is for.
    #[must_use]
    pub fn policy_ref(&self) -> PolicyRef {
        self.policy_ref
    }

    /// Which of the deployment's approvals this is. One that is below the NV counter was replaced.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }
}

/// [`Terms`] as they are written; read, they are checked.
#[derive(Serialize, Deserialize)]
struct WireTerms {
    values: Vec<(u8, [u8; 32])>,
    policy_ref: PolicyRef,
    version: u64,
}

impl From<Terms> for WireTerms {
    fn from(terms: Terms) -> Self {
        let values = terms.values.iter().map(|(index, value)| (index, *value)).collect();
        Self { values, policy_ref: terms.policy_ref, version: terms.version }
    }
}

impl TryFrom<WireTerms> for Terms {
    type Error = PcrError;

    fn try_from(wire: WireTerms) -> Result<Self, PcrError> {
        let selection = PcrSelection::new(wire.values.iter().map(|(index, _)| *index))?;
        let values = PcrValues::new(selection, &wire.values)?;
        Ok(Self { values, policy_ref: wire.policy_ref, version: wire.version })
    }
}

/// Terms with a signature that is yet to be verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    terms: Terms,
    r: [u8; 32],
    s: [u8; 32],
}

impl Approval {
    /// Reads what [`Approval::encode`] wrote, and nothing else: one approval has one encoding.
    ///
    /// # Errors
    /// When the bytes are too long, of another version, not an approval, or not the canonical form of one.
    pub fn decode(bytes: &[u8]) -> Result<Self, ApprovalError> {
        if bytes.len() > APPROVAL_LIMIT {
            return Err(ApprovalError::TooLong { len: bytes.len() });
        }
        let body = bytes.strip_prefix(&ENCODING).ok_or(ApprovalError::NotAnApproval)?;
        let (approval, rest) = postcard::take_from_bytes::<Self>(body).map_err(|_| ApprovalError::NotAnApproval)?;
        if !rest.is_empty() || approval.encode() != bytes {
            return Err(ApprovalError::NotCanonical);
        }
        Ok(approval)
    }

    /// The approval as bytes, at most [`APPROVAL_LIMIT`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Serialising plain arrays and integers into a growing vector has no way to fail.
        postcard::to_extend(self, ENCODING.to_vec()).unwrap_or_default()
    }

    /// Checks the signature, and gives the terms as the authority's word.
    ///
    /// # Errors
    /// When the terms are not signed by this authority.
    pub fn verify(&self, authority: &Authority) -> Result<Approved<'_>, ApprovalError> {
        signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, authority.to_point())
            .verify(&self.terms.to_sign(), &self.signature())
            .map_err(|_| ApprovalError::NotSignedByAuthority)?;
        Ok(Approved { terms: &self.terms })
    }

    /// What the approval says, before anybody has verified it.
    #[must_use]
    pub fn unverified_terms(&self) -> &Terms {
        &self.terms
    }

    /// The signature, `r ‖ s`.
    #[must_use]
    pub fn signature(&self) -> Vec<u8> {
        [self.r, self.s].concat()
    }
}

/// Terms that the authority was found to have signed. Only [`Approval::verify`] makes one.
#[derive(Debug)]
pub struct Approved<'a> {
    terms: &'a Terms,
}

impl<'a> Approved<'a> {
    /// What the authority approved.
    #[must_use]
    pub fn terms(&self) -> &'a Terms {
        self.terms
    }
}

/// The `authPolicy` of an object under PolicyAuthorize: computed here, so that no trial session is needed.
#[must_use]
pub fn authorize_policy(authority: &Authority, policy_ref: PolicyRef) -> [u8; POLICY_LEN] {
    policy::policy_authorize(&authority.name(), &policy_ref.0)
}

/// Why something is no approval.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ApprovalError {
    /// Longer than any approval.
    #[error("an approval has at most {APPROVAL_LIMIT} bytes, this has {len}")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// Not bytes that we wrote.
    #[error("this is not an approval")]
    NotAnApproval,
    /// An approval, but not in its one encoding.
    #[error("this is not the canonical encoding of an approval")]
    NotCanonical,
    /// The signature is not the authority's.
    #[error("the approval is not signed by the authority")]
    NotSignedByAuthority,
}

/// What an encoded approval begins with: its kind and the version of its form.
const ENCODING: [u8; 5] = *b"BFAP\x01";

fn sha256(parts: &[&[u8]]) -> [u8; POLICY_LEN] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; POLICY_LEN];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

    use super::*;

    fn key() -> EcdsaKeyPair {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap()
    }

    fn authority(key: &EcdsaKeyPair) -> Authority {
        Authority::from_point(key.public_key().as_ref()).unwrap()
    }

    fn terms(byte: u8, version: u64) -> Terms {
        let selection = PcrSelection::new([4, 7]).unwrap();
        let values = PcrValues::new(selection, &[(4, [byte; 32]), (7, [1; 32])]).unwrap();
        Terms::new(values, PolicyRef::of("test"), version)
    }

    fn sign(key: &EcdsaKeyPair, terms: Terms) -> Approval {
        let signature = key.sign(&SystemRandom::new(), &terms.to_sign()).unwrap();
        terms.signed(signature.as_ref().try_into().unwrap())
    }

    #[test]
    fn what_the_authority_signed_is_its_word() {
        let key = key();
        let approval = sign(&key, terms(5, 3));
        assert_eq!(approval.verify(&authority(&key)).unwrap().terms(), &terms(5, 3));
    }

    #[test]
    fn another_authority_value_version_or_purpose_is_not_its_word() {
        let key = key();
        let genuine = sign(&key, terms(5, 3));
        let refused = |approval: &Approval, by: &Authority| {
            approval.verify(by).unwrap_err() == ApprovalError::NotSignedByAuthority
        };
        assert!(refused(&genuine, &authority(&self::key())));
        let other_purpose = Terms::new(terms(5, 3).values, PolicyRef::of("other"), 3);
        for terms in [terms(6, 3), terms(5, 4), other_purpose] {
            assert!(refused(&Approval { terms, ..genuine.clone() }, &authority(&key)));
        }
    }

    #[test]
    fn an_approval_has_one_encoding() {
        let approval = sign(&key(), terms(5, 3));
        let bytes = approval.encode();
        assert!(bytes.len() <= APPROVAL_LIMIT);
        assert_eq!(Approval::decode(&bytes).unwrap(), approval);
        assert_eq!(Approval::decode(&[&bytes[..], &[0]].concat()), Err(ApprovalError::NotCanonical));
        assert_eq!(Approval::decode(&bytes[..bytes.len() - 1]), Err(ApprovalError::NotAnApproval));
        assert_eq!(Approval::decode(&bytes[1..]), Err(ApprovalError::NotAnApproval));
        assert_eq!(Approval::decode(&[0; 1025]), Err(ApprovalError::TooLong { len: 1025 }));
        // A longer form of the same count, which postcard reads.
        let padded = [&bytes[..5], &[bytes[5] | 0x80, 0], &bytes[6..]].concat();
        assert_eq!(Approval::decode(&padded), Err(ApprovalError::NotCanonical));
    }

    #[test]
    fn an_approval_of_no_pcrs_or_of_pcrs_out_of_order_is_not_read() {
        let approval = sign(&key(), terms(5, 3));
        for values in [vec![], vec![(7, [0; 32]), (4, [0; 32])], vec![(4, [0; 32]), (4, [0; 32])], vec![(24, [0; 32])]]
        {
            let wire = WireTerms { values, policy_ref: PolicyRef::of("test"), version: 3 };
            let body = postcard::to_stdvec(&(wire, approval.r, approval.s)).unwrap();
            assert_eq!(Approval::decode(&[&ENCODING[..], &body].concat()), Err(ApprovalError::NotAnApproval));
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_any_bytes_as_an_approval_ends_in_an_approval_or_a_refusal(bytes: Vec<u8>) {
            let bytes = [&ENCODING[..], &bytes].concat();
            if let Ok(approval) = Approval::decode(&bytes) {
                proptest::prop_assert_eq!(approval.encode(), bytes);
            }
        }
    }
}
