//! The form that an attestation key must have, whoever asks: enrolment, and every quote.

use super::{
    algorithm::HashAlg,
    key::{Curve, Key},
    public::{Attributes, Public, Scheme},
};

/// What is wrong with the form of a key that should attest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AkForm {
    /// Its attributes.
    Attributes { missing: Attributes, forbidden: Attributes },
    /// It signs by whatever scheme it is asked to.
    NoScheme,
}

/// The one scheme of a key that can attest: it stays in its TPM, which made it, and signs nothing that merely looks like
/// an attestation; for that it must be restricted, and must not decrypt as well.
pub(crate) fn attesting(ak: &Public) -> Result<Scheme, AkForm> {
    const NEEDED: Attributes = Attributes::FIXED_TPM
        .with(Attributes::FIXED_PARENT)
        .with(Attributes::SENSITIVE_DATA_ORIGIN)
        .with(Attributes::RESTRICTED)
        .with(Attributes::SIGN);
    let missing = NEEDED.without(ak.attributes());
    let forbidden = ak.attributes().shared(Attributes::DECRYPT);
    if !missing.is_empty() || !forbidden.is_empty() {
        return Err(AkForm::Attributes { missing, forbidden });
    }
    ak.scheme().ok_or(AkForm::NoScheme)
}

/// TPMT_PUBLIC that a key by this scheme has, if it was made as an attestation key: it signs alone, restricted. For a key
/// whose public area is not known; whoever uses it has to say so.
pub(crate) fn template(key: &Key, scheme: Scheme) -> Vec<u8> {
    let (id, hash) = match scheme {
        Scheme::RsaSsa(hash) => (0x0014_u16, hash),
        Scheme::RsaPss(hash) => (0x0016, hash),
        Scheme::Ecdsa(hash) => (0x0018, hash),
    };
    let kind: u16 = if matches!(key, Key::Rsa { .. }) { 0x0001 } else { 0x0023 };
    let mut out = Vec::new();
    let number = |out: &mut Vec<u8>, number: u16| out.extend_from_slice(&number.to_be_bytes());
    number(&mut out, kind);
    number(&mut out, HashAlg::Sha256.id());
    // fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign; no policy, no symmetric algorithm.
    out.extend_from_slice(&[0x00, 0x05, 0x00, 0x72, 0, 0, 0x00, 0x10]);
    number(&mut out, id);
    number(&mut out, hash.id());
    match key {
        Key::Rsa { modulus, exponent } => {
            number(&mut out, u16::try_from(modulus.len().saturating_mul(8)).unwrap_or(u16::MAX));
            out.extend_from_slice(&exponent.to_be_bytes());
            sized(&mut out, modulus);
        }
        Key::Ecc { curve, point } => {
            number(&mut out, if *curve == Curve::P256 { 0x0003 } else { 0x0004 });
            number(&mut out, 0x0010);
            point.get(1..).unwrap_or_default().chunks(curve.field_len()).for_each(|number| sized(&mut out, number));
        }
    }
    out
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}
