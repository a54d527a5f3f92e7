//! The fixed templates of our primary keys and of sealed objects.
//!
//! A primary key is derived from its hierarchy's seed and its template (TPM 2.0 Part 1, section 14.3), so the same template
//! gives the same key for as long as the TPM is not cleared: there are no key files. Changing a byte here changes every
//! key, and with it every pin and every sealed blob.

use tss_esapi::Result;
use tss_esapi::attributes::{ObjectAttributes, ObjectAttributesBuilder};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::structures::{
    Digest, EccParameter, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, KeyedHashScheme, Public,
    PublicBuilder, PublicEccParametersBuilder, PublicKeyedHashParameters, SymmetricDefinitionObject,
};

/// The key to which sessions are salted, and under which keys are sealed: a restricted decryption key (a storage key) on
/// P-256, with AES-128-CFB for what it protects. In the owner hierarchy.
pub(crate) fn salt_key() -> Result<Public> {
    let attributes = primary().with_restricted(true).with_decrypt(true).with_no_da(true).build()?;
    let parameters = PublicEccParametersBuilder::new()
        .with_symmetric(SymmetricDefinitionObject::AES_128_CFB)
        .with_ecc_scheme(EccScheme::Null)
        .with_curve(EccCurve::NistP256)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .with_is_decryption_key(true)
        .with_restricted(true)
        .build()?;
    p256(attributes, |builder| builder.with_ecc_parameters(parameters), b"blindferry salt and storage key")
}

/// The attestation key: a restricted signing key on P-256, so it signs what the TPM made and nothing else. In the
/// endorsement hierarchy, beside the endorsement key.
pub(crate) fn attestation_key() -> Result<Public> {
    let attributes = primary().with_restricted(true).with_sign_encrypt(true).with_no_da(true).build()?;
    let parameters = PublicEccParametersBuilder::new()
        .with_symmetric(SymmetricDefinitionObject::Null)
        .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)))
        .with_curve(EccCurve::NistP256)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .with_is_signing_key(true)
        .with_restricted(true)
        .build()?;
    p256(attributes, |builder| builder.with_ecc_parameters(parameters), b"blindferry attestation key")
}

/// A sealed key: opened by its policy alone (no `userWithAuth`, and `adminWithPolicy`), bound to this TPM and this parent,
/// and no object of dictionary attack protection, since it has no password to guess.
pub(crate) fn sealed(policy: [u8; 32]) -> Result<Public> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_admin_with_policy(true)
        .with_no_da(true)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(Digest::try_from(&policy[..])?)
        .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
        .with_keyed_hash_unique_identifier(Digest::default())
        .build()
}

fn primary() -> ObjectAttributesBuilder {
    ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
}

/// `label` goes into `unique`, padded to the size of a coordinate, so that the key is ours alone.
fn p256(
    attributes: ObjectAttributes,
    parameters: impl FnOnce(PublicBuilder) -> PublicBuilder,
    label: &[u8],
) -> Result<Public> {
    let mut x = label.to_vec();
    x.resize(32, 0);
    let builder = PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(Digest::default());
    parameters(builder)
        .with_ecc_unique_identifier(EccPoint::new(EccParameter::try_from(x)?, EccParameter::try_from(vec![0; 32])?))
        .build()
}
