//! TPM2_Certify: an attestation key vouches that another key is loaded beside it, and under which Name.

use subtle::ConstantTimeEq as _;

use super::{
    ClockInfo, algorithm::HashAlg, attestation_key::attesting, name::AkName, public::Public, signature::Signature,
};
use crate::reader::{Malformed, Reader};

/// A key that is loaded in the TPM with a certain attestation key, with exactly this public area: so its attributes are
/// true. Only [`certify`] makes one; it is spent where the key is accepted.
///
/// ```compile_fail,E0451
/// use blindferry_attest::tpm::certify::Certified;
/// let forged = Certified { ..panic!() };
/// ```
#[must_use = "a certified key that nobody accepts is good for nothing"]
#[derive(Debug)]
pub struct Certified {
    public: Public,
    qualified_name: Vec<u8>,
    firmware: u64,
    clock: ClockInfo,
}

/// What TPM2_Certify gave. Holding one tells you nothing.
#[derive(Clone, Copy, Debug)]
pub struct Certification<'a> {
    /// TPMS_ATTEST of type TPM_ST_ATTEST_CERTIFY.
    pub attest: &'a [u8],
    /// TPMT_SIGNATURE over it.
    pub signature: &'a [u8],
    /// TPMT_PUBLIC of the key that signed.
    pub ak_public: &'a [u8],
    /// TPMT_PUBLIC of the key that is certified.
    pub public: &'a [u8],
}

/// Why a certification was refused: the first check that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertifyError {
    /// The caller gave no challenge, so that any old certification would do.
    #[error("a certification cannot be judged without a challenge; draw one, or use the binder of the session")]
    NoChallenge,
    /// The public area of the attestation key does not parse.
    #[error("cannot parse the public area of the attestation key")]
    AkPublic(#[source] Malformed),
    /// It is by another attestation key than the pinned one.
    #[error("the certification is by {found}, pinned is {wanted}: this is another TPM or a new key")]
    AkName {
        /// The Name of the key that came with it.
        found: AkName,
        /// The pinned Name.
        wanted: AkName,
    },
    /// The attestation key could sign what no TPM made, or signs by any scheme.
    #[error("the attestation key is not restricted to what its TPM makes, or has no fixed scheme")]
    AkForm,
    /// The signature does not parse.
    #[error("cannot parse the signature of the certification")]
    SignatureForm(#[source] Malformed),
    /// The attestation key did not sign these bytes by its scheme.
    #[error("the signature of the certification does not hold under the attestation key {ak}")]
    Signature {
        /// The Name of the key.
        ak: AkName,
    },
    /// The signed structure does not parse.
    #[error("cannot parse TPMS_ATTEST, although its signature holds")]
    Attest(#[source] Malformed),
    /// The signed structure is not one that a TPM made, or attests something else.
    #[error(
        "the signed structure begins with {magic:#010x} and has type {kind:#06x}: a TPM's certification has 0xff544347, 0x8017"
    )]
    Kind {
        /// Its first four bytes.
        magic: u32,
        /// Its type.
        kind: u16,
    },
    /// It answers another challenge.
    #[error("the certification answers another challenge than this one: it is old, or another's")]
    Challenge,
    /// The public area of the certified key does not parse.
    #[error("cannot parse the public area of the certified key; it must be RSA of 2048 to 4096 bits, P-256 or P-384")]
    Public(#[source] Malformed),
    /// Another key is certified than the one whose public area came with it.
    #[error("{found} is certified, the public area is that of {wanted}")]
    Name {
        /// The certified Name, in hexadecimal.
        found: String,
        /// The Name of the public area.
        wanted: AkName,
    },
    /// The qualified name is not of the form of one.
    #[error("the qualified name of the certified key is of another form than its Name")]
    QualifiedName,
}

impl CertifyError {
    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoChallenge => "certify-no-challenge",
            Self::AkPublic(_) => "certify-ak-public",
            Self::AkName { .. } => "certify-ak-name",
            Self::AkForm => "certify-ak-form",
            Self::SignatureForm(_) => "certify-signature-form",
            Self::Signature { .. } => "certify-signature",
            Self::Attest(_) => "certify-attest",
            Self::Kind { .. } => "certify-kind",
            Self::Challenge => "certify-challenge",
            Self::Public(_) => "certify-public",
            Self::Name { .. } => "certify-name",
            Self::QualifiedName => "certify-qualified-name",
        }
    }
}

/// Judges a certification: it is by the pinned attestation key, over `challenge` (its qualifying data, 1 to 64 bytes), and of
/// the key with this public area (Part 3, TPM2_Certify; Part 2 sections 10.12.3 and 10.12.12).
///
/// # Errors
///
/// The first check that failed. What the structure says is looked at only after its signature held.
pub fn certify(
    certification: Certification<'_>,
    pinned_ak: &AkName,
    challenge: &[u8],
) -> Result<Certified, CertifyError> {
    if challenge.is_empty() {
        return Err(CertifyError::NoChallenge);
    }
    let ak = Public::parse(certification.ak_public).map_err(CertifyError::AkPublic)?;
    if ak.name() != pinned_ak {
        return Err(CertifyError::AkName { found: ak.name().clone(), wanted: pinned_ak.clone() });
    }
    let scheme = attesting(&ak).map_err(|_| CertifyError::AkForm)?;
    let signature = Signature::parse(certification.signature).map_err(CertifyError::SignatureForm)?;
    let signed = if signature.scheme() == scheme { signature.verify(ak.key(), certification.attest) } else { None };
    let signed = signed.ok_or_else(|| CertifyError::Signature { ak: ak.name().clone() })?;
    let said = Said::parse(signed.bytes())?;
    if !bool::from(said.challenge.ct_eq(challenge)) {
        return Err(CertifyError::Challenge);
    }
    let public = Public::parse(certification.public).map_err(CertifyError::Public)?;
    if said.name != public.name().as_bytes() {
        return Err(CertifyError::Name { found: hex::encode(said.name), wanted: public.name().clone() });
    }
    // It depends on the key's ancestors, of whom we know nothing; only its form can be judged.
    let hash = said.qualified_name.split_first_chunk().and_then(|(id, digest)| {
        HashAlg::from_id(u16::from_be_bytes(*id)).filter(|alg| alg.digest_len() == digest.len())
    });
    if hash != Some(public.name_alg()) {
        return Err(CertifyError::QualifiedName);
    }
    let (firmware, clock) = (said.firmware, said.clock);
    Ok(Certified { qualified_name: said.qualified_name.to_vec(), public, firmware, clock })
}

impl Certified {
    /// The key and what its TPM lets be done with it.
    #[must_use]
    pub fn public(&self) -> &Public {
        &self.public
    }

    /// The Name of the key.
    #[must_use]
    pub fn name(&self) -> &AkName {
        self.public.name()
    }

    /// Its qualified name: a digest over its Name and those of its ancestors, to be compared with an earlier one.
    #[must_use]
    pub fn qualified_name(&self) -> &[u8] {
        &self.qualified_name
    }

    /// The TPM's firmware version when it certified.
    #[must_use]
    pub fn firmware(&self) -> u64 {
        self.firmware
    }

    /// The TPM's clock when it certified.
    #[must_use]
    pub fn clock(&self) -> ClockInfo {
        self.clock
    }
}

/// TPMS_ATTEST with TPMS_CERTIFY_INFO.
struct Said<'a> {
    challenge: &'a [u8],
    clock: ClockInfo,
    firmware: u64,
    name: &'a [u8],
    qualified_name: &'a [u8],
}

impl<'a> Said<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, CertifyError> {
        let malformed = CertifyError::Attest;
        let mut reader = Reader::new(bytes);
        let magic = reader.u32("magic").map_err(malformed)?;
        let kind = reader.u16("type").map_err(malformed)?;
        if (magic, kind) != (TPM_GENERATED, TPM_ST_ATTEST_CERTIFY) {
            return Err(CertifyError::Kind { magic, kind });
        }
        let said = Self::read(&mut reader).map_err(malformed)?;
        reader.finish("TPMS_ATTEST").map_err(malformed)?;
        Ok(said)
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        reader.sized(MAX_NAME, "qualifiedSigner")?;
        let challenge = reader.sized(MAX_NAME, "extraData")?;
        let clock = ClockInfo::read(reader)?;
        let firmware = reader.u64("firmwareVersion")?;
        let name = reader.sized(MAX_NAME, "name")?;
        let qualified_name = reader.sized(MAX_NAME, "qualifiedName")?;
        Ok(Self { challenge, clock, firmware, name, qualified_name })
    }
}

/// The longest Name, or qualifying data: an algorithm and a digest of 64 bytes.
const MAX_NAME: usize = 66;
const TPM_GENERATED: u32 = 0xff54_4347;
/// The type of a certification.
const TPM_ST_ATTEST_CERTIFY: u16 = 0x8017;
