//! A signing key made here, for which nobody else ever had a copy: PKCS#8 in PEM, in secret memory.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blindferry_handle::secret::{InitError, SecretBytes, SecretError};
use blindferry_proto::credential::SigningAlgorithm;
use ring::pkcs8::Document;
use ring::rand::SecureRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};

/// Makes a key for `algorithm`.
///
/// # Errors
/// [`GenerateError`].
pub(crate) fn signing_key(
    algorithm: SigningAlgorithm,
    random: &dyn SecureRandom,
) -> Result<SecretBytes, GenerateError> {
    let document = match algorithm {
        SigningAlgorithm::Es256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, random),
        SigningAlgorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(random),
    };
    // ring keeps the document on the stack and cannot wipe it there: it ends with this process, which nobody can read.
    pem(&document.map_err(|_| GenerateError::Random)?)
}

fn pem(document: &Document) -> Result<SecretBytes, GenerateError> {
    let der = document.as_ref();
    let lines = (der.len().div_ceil(3) * 4).div_ceil(LINE);
    let capacity = BEGIN.len() + lines * (LINE + 1) + END.len();
    let made = SecretBytes::init(capacity, |place| {
        let mut used = 0;
        let mut put = |write: &mut dyn FnMut(&mut [u8]) -> Option<usize>| {
            used += write(place.get_mut(used..)?)?;
            Some(used)
        };
        let text = |text: &'static str| {
            move |rest: &mut [u8]| {
                rest.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
                Some(text.len())
            }
        };
        let written = (|| {
            put(&mut text(BEGIN))?;
            for line in der.chunks(LINE / 4 * 3) {
                put(&mut |rest| STANDARD.encode_slice(line, rest).ok())?;
                put(&mut text("\n"))?;
            }
            put(&mut text(END))
        })();
        written.ok_or(GenerateError::Encode)
    });
    made.map_err(|error| match error {
        InitError::Fill(error) => error,
        InitError::Secret(source) => GenerateError::Keep { source },
    })
}

/// There is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GenerateError {
    #[error("the system has no random numbers")]
    Random,
    #[error("the key does not fit its place")]
    Encode,
    #[error("cannot keep the key in secret memory")]
    Keep { source: SecretError },
}

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----\n";
const END: &str = "-----END PRIVATE KEY-----\n";
/// Characters of a line (RFC 7468 section 2).
const LINE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    fn der_of(secret: &SecretBytes) -> Vec<u8> {
        #[expect(clippy::disallowed_methods, reason = "a test key")]
        let text = str::from_utf8(secret.expose()).unwrap();
        assert!(text.starts_with(BEGIN) && text.ends_with(END) && text.lines().all(|line| line.len() <= LINE));
        STANDARD.decode(text.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap()
    }

    #[test]
    fn what_is_made_is_a_key_of_that_algorithm() {
        let random = SystemRandom::new();
        let es256 = der_of(&signing_key(SigningAlgorithm::Es256, &random).unwrap());
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &es256, &random).unwrap();
        let eddsa = der_of(&signing_key(SigningAlgorithm::EdDsa, &random).unwrap());
        Ed25519KeyPair::from_pkcs8(&eddsa).unwrap();
    }
}
