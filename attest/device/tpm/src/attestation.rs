//! What the attestation key does: describe the TPM, quote, and prove by activation that it lives beside the EK.

use blindferry_attest::evidence::TpmEvidence;
use blindferry_attest::tpm::{PcrSelection, PcrValues};
use blindferry_device::protocol::{DeviceRefusal, KEY_LEN, TpmDescription};
use blindferry_handle::secret::SharedSecret;
use ring::digest;
use tss_esapi::constants::PropertyTag;
use tss_esapi::constants::response_code::Tss2ResponseCodeKind;
use tss_esapi::handles::{AuthHandle, KeyHandle};
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{AttestInfo, Data, Digest, EncryptedSecret, IdObject, Nonce, Public, SignatureScheme};
use tss_esapi::traits::Marshall;

use crate::azure;
use crate::endorsement::{self, EndorsementKey};
use crate::failure::{During, Failure};
use crate::pcrs;
use crate::pins::Pins;
use crate::sealing;
use crate::template;
use crate::transaction::{Protect, Transaction, name};

/// The attestation key, in the TPM for the length of a transaction.
pub(crate) struct AttestationKey {
    pub(crate) handle: KeyHandle,
    pub(crate) public: Public,
    pub(crate) name: Vec<u8>,
}

/// Creates the attestation key, the same every time.
pub(crate) fn create(transaction: &mut Transaction) -> Result<AttestationKey, Failure> {
    let template = template::attestation_key().during("build the attestation key's template")?;
    let (handle, public) = transaction.primary(Hierarchy::Endorsement, template, "create the attestation key")?;
    let name = name(&public)?;
    Ok(AttestationKey { handle, public, name })
}

/// Says who the TPM is.
pub(crate) fn describe(transaction: &mut Transaction, pins: &Pins) -> Result<TpmDescription, Failure> {
    let attestation_key = pinned_attestation_key(transaction, pins)?;
    if !pins.azure {
        transaction.flush(attestation_key.handle)?;
    }
    let endorsement_key = pinned_endorsement_key(transaction, pins)?;
    if endorsement_key.transient {
        transaction.flush(endorsement_key.handle)?;
    }
    let ek_certificates = endorsement::certificates(transaction, pins.ek_kind)?;
    let manufacturer = text(transaction, &[PropertyTag::Manufacturer])?;
    let vendor = text(
        transaction,
        &[
            PropertyTag::VendorString1,
            PropertyTag::VendorString2,
            PropertyTag::VendorString3,
            PropertyTag::VendorString4,
        ],
    )?;
    let firmware = [PropertyTag::FirmwareVersion1, PropertyTag::FirmwareVersion2]
        .iter()
        .map(|tag| property(transaction, *tag).map(|value| format!("{}.{}", value >> 16, value & 0xffff)))
        .collect::<Result<Vec<_>, _>>()?
        .join(".");
    Ok(TpmDescription {
        // libtpms, which swtpm runs, says `IBM` and `SW   TPM`. A hypervisor's own TPM says otherwise.
        software: manufacturer == "IBM" && vendor.starts_with("SW"),
        manufacturer,
        vendor,
        firmware,
        ek_public: endorsement_key.public.marshall().during("marshal the endorsement key")?,
        ek_certificates,
        ak_public: attestation_key.public.marshall().during("marshal the attestation key")?,
        ak_name: attestation_key.name,
        salt_key_name: transaction.salt_key_name().to_vec(),
        azure: pins.azure,
    })
}

/// Quotes these PCRs. What was read and what was quoted agree, or it is done again.
pub(crate) fn quote(
    transaction: &mut Transaction,
    pins: &Pins,
    binder: [u8; 32],
    selection: PcrSelection,
) -> Result<TpmEvidence, Failure> {
    let key = pinned_attestation_key(transaction, pins)?;
    let ak_public = key.public.marshall().during("marshal the attestation key")?;
    let list = pcrs::selection_list(selection).during("select PCRs")?;
    for _ in 0..ATTEMPTS {
        let values = pcrs::read(transaction, selection)?;
        let challenge = Data::try_from(&binder[..]).during("pass the binder")?;
        let list = list.clone();
        // The signature carries its own proof, but an interposer who swaps the binder should be noticed here already.
        let (attest, signature) = transaction.protected(Protect::Both, "quote", |context| {
            context.quote(key.handle, challenge, SignatureScheme::Null, list)
        })?;
        let AttestInfo::Quote { info } = attest.attested() else {
            return Err(Failure::Refused(DeviceRefusal::Tpm {
                operation: "quote".to_owned(),
                reason: "what it signed is no quote".to_owned(),
            }));
        };
        if info.pcr_digest().value() != composite(&values) {
            continue;
        }
        let evidence = TpmEvidence::new(
            attest.marshall().during("marshal the quote")?,
            signature.marshall().during("marshal the signature")?,
            ak_public,
            values.iter().map(|(index, value)| (index, *value)).collect(),
        );
        let evidence = evidence
            .map_err(|error| DeviceRefusal::Tpm { operation: "quote".to_owned(), reason: error.to_string() })?;
        return Ok(evidence);
    }
    Err(Failure::Refused(DeviceRefusal::PcrsChanging))
}

/// Decrypts a credential made for this EK and this AK.
pub(crate) fn activate(
    transaction: &mut Transaction,
    pins: &Pins,
    credential: &[u8],
    encrypted_secret: &[u8],
) -> Result<SharedSecret, Failure> {
    let credential = sized(credential).and_then(|bytes| IdObject::try_from(bytes).ok());
    let encrypted_secret = sized(encrypted_secret).and_then(|bytes| EncryptedSecret::try_from(bytes).ok());
    let (Some(credential), Some(encrypted_secret)) = (credential, encrypted_secret) else {
        let what = "a credential is TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET, with their lengths".to_owned();
        return Err(Failure::Refused(DeviceRefusal::BadRequest { what }));
    };
    // Two keys and the salt key fill the three slots of a TPM without resource manager.
    let attestation_key = pinned_attestation_key(transaction, pins)?;
    let endorsement_key = pinned_endorsement_key(transaction, pins)?;
    let use_endorsement_key = authorise(transaction, &endorsement_key)?;
    let secret = transaction.with_second(use_endorsement_key, Protect::Both, ACTIVATE, |context| {
        context.activate_credential(attestation_key.handle, endorsement_key.handle, credential, encrypted_secret)
    });
    let secret = secret.map_err(|failure| match failure.kind() {
        Some(Tss2ResponseCodeKind::Integrity | Tss2ResponseCodeKind::Value | Tss2ResponseCodeKind::Size) => {
            Failure::Refused(DeviceRefusal::CredentialForeign)
        }
        _ => failure,
    })?;
    if secret.value().len() != KEY_LEN {
        let what = format!("an activation secret has {KEY_LEN} bytes, this has {}", secret.value().len());
        return Err(Failure::Refused(DeviceRefusal::BadRequest { what }));
    }
    sealing::shared(secret.value())
}

/// The session that lets the endorsement key be used. Keys of the low-range templates ask for PolicySecret of the endorsement
/// hierarchy, those of the high range take their own, empty, password too (EK Credential Profile, section B.6).
fn authorise(transaction: &mut Transaction, key: &EndorsementKey) -> Result<AuthSession, Failure> {
    if key.public.object_attributes().user_with_auth() {
        return transaction.second_session();
    }
    let policy = transaction.policy_session()?;
    transaction.protected(Protect::Both, "authorise the endorsement key", |context| {
        let (nonce, cp_hash, policy_ref) = (Nonce::default(), Digest::default(), Nonce::default());
        context.policy_secret(policy, AuthHandle::Endorsement, nonce, cp_hash, policy_ref, None).map(drop)
    })?;
    Ok(policy.into())
}

fn pinned_attestation_key(transaction: &mut Transaction, pins: &Pins) -> Result<AttestationKey, Failure> {
    let key = if pins.azure { azure::attestation_key(transaction)? } else { create(transaction)? };
    if key.name != pins.ak_name {
        return Err(Failure::Refused(DeviceRefusal::AttestationKeyChanged {
            pinned: hex::encode(&pins.ak_name),
            found: hex::encode(&key.name),
        }));
    }
    Ok(key)
}

fn pinned_endorsement_key(transaction: &mut Transaction, pins: &Pins) -> Result<EndorsementKey, Failure> {
    let key = endorsement::load(transaction, pins.ek_kind)?;
    if key.hash != pins.ek_hash {
        return Err(Failure::Refused(DeviceRefusal::EndorsementKeyChanged {
            pinned: hex::encode(&pins.ek_hash),
            found: hex::encode(&key.hash),
        }));
    }
    Ok(key)
}

/// The content of a TPM2B, if that is what the bytes are.
fn sized(bytes: &[u8]) -> Option<&[u8]> {
    let (len, content) = bytes.split_first_chunk()?;
    (usize::from(u16::from_be_bytes(*len)) == content.len()).then_some(content)
}

fn composite(values: &PcrValues) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    for (_, value) in values.iter() {
        context.update(value);
    }
    context.finish().as_ref().to_vec()
}

/// Properties that hold four characters each, padded with zeros or spaces.
fn text(transaction: &mut Transaction, tags: &[PropertyTag]) -> Result<String, Failure> {
    let mut text = String::new();
    for tag in tags {
        let characters = property(transaction, *tag)?.to_be_bytes();
        text.extend(
            characters.iter().filter(|byte| byte.is_ascii_graphic() || **byte == b' ').map(|byte| char::from(*byte)),
        );
    }
    Ok(text.trim().to_owned())
}

fn property(transaction: &mut Transaction, tag: PropertyTag) -> Result<u32, Failure> {
    transaction
        .plain("read the TPM's properties", |context| context.get_tpm_property(tag))
        .map(Option::unwrap_or_default)
}

/// PCRs that change between reading and quoting are read again this often.
const ATTEMPTS: u32 = 3;

const ACTIVATE: &str = "activate a credential";
