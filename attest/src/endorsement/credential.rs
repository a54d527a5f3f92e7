//! TPM2_MakeCredential in software: a secret that only one TPM can open, and only while it holds one key.
//!
//! Source: TPM 2.0 Library, Part 1: section 24 (credential protection), 11.4.10 (KDFa, KDFe), annexes B.10.4 (RSA) and
//! C.6.4 (ECC).

use aes::cipher::KeyIvInit as _;
use p256::elliptic_curve::{
    self, CurveArithmetic, FieldBytesSize, PublicKey, SecretKey,
    sec1::{FromSec1Point, ModulusSize, ToSec1Point},
};
use ring::{digest, hmac};
use rsa::{BoxedUint, Oaep, RsaPublicKey, rand_core, traits::PaddingScheme as _};
use zeroize::{Zeroize as _, Zeroizing};

use super::{ActivationSecret, ChallengeError, CredentialBlob, RandomError, template::Template};
use crate::tpm::{
    AkName,
    algorithm::HashAlg,
    key::{Curve, Key},
    public::Symmetric,
};

/// Where randomness comes from: fills the slice, or says that it cannot.
pub(super) type Random<'a> = dyn FnMut(&mut [u8]) -> Result<(), RandomError> + 'a;

pub(super) fn make(
    ek: &Template,
    ak: &AkName,
    secret: &ActivationSecret,
    random: &mut Random<'_>,
) -> Result<CredentialBlob, ChallengeError> {
    let alg = ek.public.name_alg();
    let (seed, encrypted) = match ek.public.key() {
        Key::Rsa { modulus, exponent } => seed_for_rsa(alg, modulus, *exponent, random)?,
        Key::Ecc { curve: Curve::P256, point } => seed_for_ecc::<p256::NistP256>(alg, point, random)?,
        Key::Ecc { curve: Curve::P384, point } => seed_for_ecc::<p384::NistP384>(alg, point, random)?,
    };
    Ok(CredentialBlob { credential: sized(&protect(ek, &seed, ak, secret)), encrypted_secret: sized(&encrypted) })
}

/// The contents of TPM2B_ID_OBJECT: the HMAC with its length, then the encrypted TPM2B_DIGEST.
fn protect(ek: &Template, seed: &[u8], ak: &AkName, secret: &ActivationSecret) -> Vec<u8> {
    let alg = ek.public.name_alg();
    let key = kdfa(alg, seed, b"STORAGE\0", ak.as_bytes(), ek.symmetric.key_len());
    // In place, so that the secret leaves no copy.
    let mut identity = sized(secret.bytes());
    encrypt(ek.symmetric, &key, &mut identity);
    let integrity_key = kdfa(alg, seed, b"INTEGRITY\0", &[], alg.digest_len());
    let mut integrity = hmac::Context::with_key(&hmac::Key::new(alg.hmac(), &integrity_key));
    integrity.update(&identity);
    integrity.update(ak.as_bytes());
    let mut out = sized(integrity.sign().as_ref());
    out.extend_from_slice(&identity);
    out
}

/// A fresh seed, and the same encrypted with OAEP, the EK's nameAlg and the label "IDENTITY".
fn seed_for_rsa(
    alg: HashAlg,
    modulus: &[u8],
    exponent: u32,
    random: &mut Random<'_>,
) -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), ChallengeError> {
    const LABEL: &[u8] = b"IDENTITY\0";
    let bits = u32::try_from(modulus.len() * 8).map_err(|_| ChallengeError::Key)?;
    let n = BoxedUint::from_be_slice(modulus, bits).map_err(|_| ChallengeError::Key)?;
    let e = BoxedUint::from_be_slice(&exponent.to_be_bytes(), 32).map_err(|_| ChallengeError::Key)?;
    let key = RsaPublicKey::new(n, e).map_err(|_| ChallengeError::Key)?;
    let mut seed = Zeroizing::new(vec![0; alg.digest_len()]);
    random(&mut seed).map_err(ChallengeError::Random)?;
    let mut source = Source(random);
    // By the padding's own method: unlike the key's, it takes a source that can fail.
    let encrypted = match alg {
        HashAlg::Sha256 => Oaep::<sha2::Sha256>::new_with_label(LABEL).encrypt(&mut source, &key, &seed),
        HashAlg::Sha384 => Oaep::<sha2::Sha384>::new_with_label(LABEL).encrypt(&mut source, &key, &seed),
    };
    match encrypted {
        Ok(encrypted) => Ok((seed, encrypted)),
        Err(rsa::Error::Rng) => Err(ChallengeError::Random(RandomError)),
        Err(_) => Err(ChallengeError::Key),
    }
}

/// A seed agreed with the EK by an ephemeral key, and that key as TPMS_ECC_POINT.
fn seed_for_ecc<C>(
    alg: HashAlg,
    ek: &[u8],
    random: &mut Random<'_>,
) -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), ChallengeError>
where
    C: CurveArithmetic,
    FieldBytesSize<C>: ModulusSize,
    C::AffinePoint: FromSec1Point<C> + ToSec1Point<C>,
{
    // Refuses points that are not on the curve.
    let ek = PublicKey::<C>::from_sec1_bytes(ek).map_err(|_| ChallengeError::Key)?;
    let ephemeral = ephemeral_key::<C>(random)?;
    let agreed = elliptic_curve::ecdh::diffie_hellman::<C>(ephemeral.to_nonzero_scalar(), ek.as_affine());
    let ours = ephemeral.public_key().to_sec1_point(false);
    let theirs = ek.to_sec1_point(false);
    let (Some(our_x), Some(our_y), Some(their_x)) = (ours.x(), ours.y(), theirs.x()) else {
        return Err(ChallengeError::Key);
    };
    let seed = kdfe(alg, agreed.raw_secret_bytes(), b"IDENTITY\0", our_x, their_x);
    let mut point = sized(our_x);
    point.extend_from_slice(&sized(our_y));
    Ok((seed, point))
}

fn ephemeral_key<C: CurveArithmetic>(random: &mut Random<'_>) -> Result<SecretKey<C>, ChallengeError> {
    // A draw is refused when it is not below the order of the curve: with a chance of 2⁻³² for P-256.
    const DRAWS: usize = 8;
    let mut bytes = Zeroizing::new(elliptic_curve::FieldBytes::<C>::default().to_vec());
    for _ in 0..DRAWS {
        random(&mut bytes).map_err(ChallengeError::Random)?;
        if let Ok(key) = SecretKey::from_slice(&bytes) {
            return Ok(key);
        }
    }
    Err(ChallengeError::Random(RandomError))
}

/// KDFa with an empty contextV (Part 1 section 11.4.10.2). `label` has its terminating zero.
fn kdfa(alg: HashAlg, key: &[u8], label: &[u8], context: &[u8], len: usize) -> Zeroizing<Vec<u8>> {
    let key = hmac::Key::new(alg.hmac(), key);
    derive(len, |counter| {
        let mut block = hmac::Context::with_key(&key);
        for part in [&counter.to_be_bytes()[..], label, context, &bits(len)] {
            block.update(part);
        }
        Zeroizing::new(block.sign().as_ref().to_vec())
    })
}

/// KDFe for a key as long as a digest (Part 1 section 11.4.10.3). `label` has its terminating zero.
fn kdfe(alg: HashAlg, z: &[u8], label: &[u8], party_u: &[u8], party_v: &[u8]) -> Zeroizing<Vec<u8>> {
    derive(alg.digest_len(), |counter| Zeroizing::new(alg.hash(&[&counter.to_be_bytes(), z, label, party_u, party_v])))
}

/// `len` bytes out of the blocks for counter 1, 2, and so on.
fn derive(len: usize, block: impl Fn(u32) -> Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    // Never grows, so that no copy is left behind: 48 is the longest block.
    let mut out = Zeroizing::new(Vec::with_capacity(len + digest::SHA384_OUTPUT_LEN));
    let mut counter = 1;
    while out.len() < len {
        out.extend_from_slice(&block(counter));
        counter += 1;
    }
    // The bytes cut off are wiped too: Zeroizing wipes the whole capacity.
    out.truncate(len);
    out
}

fn encrypt(symmetric: Symmetric, key: &[u8], bytes: &mut [u8]) {
    let iv = aes::Block::default();
    match symmetric {
        Symmetric::Aes128Cfb => {
            let mut fixed = aes::cipher::Key::<aes::Aes128>::default();
            fixed.copy_from_slice(key);
            cfb_mode::Encryptor::<aes::Aes128>::new(&fixed, &iv).encrypt(bytes);
            fixed.zeroize();
        }
        Symmetric::Aes256Cfb => {
            let mut fixed = aes::cipher::Key::<aes::Aes256>::default();
            fixed.copy_from_slice(key);
            cfb_mode::Encryptor::<aes::Aes256>::new(&fixed, &iv).encrypt(bytes);
            fixed.zeroize();
        }
    }
}

/// With a 16-bit length before it: a TPM2B. All that we put into one is far shorter than 64 KiB.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + bytes.len());
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
    out
}

/// The length in bits, as KDFa takes it.
fn bits(len: usize) -> [u8; 4] {
    u32::try_from(len * 8).unwrap_or(u32::MAX).to_be_bytes()
}

/// The caller's randomness in the form that `rsa` takes it.
struct Source<'a, 'b>(&'a mut Random<'b>);

impl rand_core::TryRng for Source<'_, '_> {
    type Error = RandomError;

    fn try_next_u32(&mut self) -> Result<u32, RandomError> {
        let mut bytes = [0; 4];
        (self.0)(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, RandomError> {
        let mut bytes = [0; 8];
        (self.0)(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), RandomError> {
        (self.0)(out)
    }
}

impl rand_core::TryCryptoRng for Source<'_, '_> {}
