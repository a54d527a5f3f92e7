//! Seals a key to this guest as it is, by a key that the firmware derives, and unseals it.
//!
//! ```text
//! BFSG ‖ 1 ‖ header ‖ salt (32) ‖ ciphertext (32) ‖ tag (16)
//! ```
//!
//! The firmware derives one key for each choice of fields (MSG_KEY_REQ, AMD 56860 section 7.2); HKDF-SHA256 with a salt
//! of 256 random bits makes of it a ChaCha20-Poly1305 key that encrypts this one message. The header says what the guest
//! was: it is authenticated, and it is for a clear refusal and for asking again with the TCB version and SVN of then; it
//! decides nothing. What decides is the derived key, which another guest does not get.
//!
//! There is no counter here, as a TPM has one: a blob that once opened on this guest opens on it for ever.

use blindferry_attest::snp::report::Body;
use blindferry_attest::snp::tcb::{RawTcb, Tcb};
use blindferry_attest::snp::{Product, Report};
use blindferry_device::protocol::{BLOB_LIMIT, DeviceRefusal, DifferingField, KEY_LEN};
use blindferry_handle::secret::{InitError, SecretBytes, SecretError, SharedSecret};
use blindferry_handle::sev_guest::{DERIVED_KEY_LEN, KeyRequest};
use blindferry_proto::key_mix::{KeyMix, RootKey};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};

use crate::guest::Guest;

/// Seals `key` to the guest as it is now.
///
/// # Errors
/// [`DeviceRefusal`], the guest's, or that there is no memory or no randomness.
pub fn seal(
    guest: &impl Guest,
    key: &SecretBytes,
    mix: KeyMix,
    random: &dyn SecureRandom,
) -> Result<Vec<u8>, DeviceRefusal> {
    let now = look(guest)?;
    let header = Header::of(now.body(), mix, guest.vmpl());
    let mut salt = [0; SALT];
    random.fill(&mut salt).map_err(|_| process("draw random bytes", "the kernel gives none"))?;
    let mut blob = header.encode();
    let once = once(&derive(guest, &header)?, &salt)?;
    let mut body = [0; KEY_LEN];
    #[expect(clippy::disallowed_methods, reason = "encrypted in place; the process is executed anew afterwards")]
    let plain = key.expose();
    if plain.len() != KEY_LEN {
        return Err(process("seal", "the key has another length"));
    }
    body.copy_from_slice(plain);
    let tag = once
        .seal_in_place_separate_tag(zero(), Aad::from(blob.as_slice()), &mut body)
        .map_err(|_| process("seal", "the cipher refuses"))?;
    blob.extend_from_slice(&salt);
    blob.extend_from_slice(&body);
    blob.extend_from_slice(tag.as_ref());
    Ok(blob)
}

/// A key that was unsealed.
#[derive(Debug)]
pub struct Unsealed {
    /// The key, to be handed over.
    pub secret: SharedSecret,
    /// What it was sealed with.
    pub mix: KeyMix,
    /// What has risen since.
    pub risen: Vec<DifferingField>,
}

/// Unseals a key, and says what has risen since it was sealed.
///
/// # Errors
/// [`DeviceRefusal::GuestDiffers`] when the guest is another by what the blob says, [`DeviceRefusal::GuestForeign`] when
/// it is by its key alone, [`DeviceRefusal::BlobMalformed`], and the guest's.
pub fn unseal(guest: &impl Guest, blob: &[u8]) -> Result<Unsealed, DeviceRefusal> {
    let Parts { header, authenticated, salt, body } = Parts::of(blob).ok_or(DeviceRefusal::BlobMalformed)?;
    let now = look(guest)?;
    let risen = header.compare(now.body(), guest.vmpl())?;
    let once = once(&derive(guest, &header)?, salt)?;
    let opened = SecretBytes::init(body.len(), |slot| {
        slot.copy_from_slice(body);
        let opened = once.open_in_place(zero(), Aad::from(authenticated), slot).map(|plain| plain.len());
        opened.map_err(|_| DeviceRefusal::GuestForeign)
    });
    let opened = opened.map_err(|error| match error {
        InitError::Secret(error) => memory(&error),
        InitError::Fill(refusal) => refusal,
    })?;
    Ok(Unsealed { secret: shared(&opened)?, mix: header.mix, risen })
}

/// What the guest is now, by a report that is nobody's evidence.
fn look(guest: &impl Guest) -> Result<Report, DeviceRefusal> {
    let made = guest.report(&crate::answer::no_binder())?;
    Report::parse(&made.report)
        .map_err(|error| DeviceRefusal::Guest { operation: "make a report".to_owned(), reason: error.to_string() })
}

/// What the guest was when a key was sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    mix: KeyMix,
    vmpl: u32,
    signing_key: u8,
    chip_id: Vec<u8>,
    measurement: Vec<u8>,
    policy: u64,
    family_id: [u8; 16],
    image_id: [u8; 16],
    guest_svn: u32,
    tcb: [u8; 8],
}

impl Header {
    fn of(body: &Body, mix: KeyMix, vmpl: u32) -> Self {
        Self {
            mix,
            vmpl,
            signing_key: body.signing_key,
            chip_id: body.chip_id.as_bytes().to_vec(),
            measurement: body.measurement.as_bytes().to_vec(),
            policy: body.policy.0,
            family_id: body.family_id,
            image_id: body.image_id,
            guest_svn: body.guest_svn,
            tcb: body.committed_tcb.0,
        }
    }

    fn encode(&self) -> Vec<u8> {
        // Serialising plain arrays and integers into a growing vector has no way to fail.
        postcard::to_extend(self, MAGIC.to_vec()).unwrap_or_default()
    }

    /// What the firmware is asked for: what was mixed in then, with the versions of then.
    fn request(&self) -> KeyRequest {
        let KeyMix { root, tcb, guest_svn, family_id, image_id } = self.mix;
        let optional = [(image_id, IMAGE_ID), (family_id, FAMILY_ID), (guest_svn, GUEST_SVN), (tcb, TCB_VERSION)];
        let chosen = optional.into_iter().filter(|(chosen, _)| *chosen).fold(0, |fields, (_, field)| fields | field);
        KeyRequest {
            root: match root {
                RootKey::Vcek => 0,
                RootKey::Vmrk => 1,
            },
            fields: GUEST_POLICY | MEASUREMENT | chosen,
            vmpl: self.vmpl,
            guest_svn: if guest_svn { self.guest_svn } else { 0 },
            tcb: if tcb { u64::from_le_bytes(self.tcb) } else { 0 },
        }
    }

    /// Finds what differs in a way that changes the key, and what has merely risen.
    fn compare(&self, now: &Body, vmpl: u32) -> Result<Vec<DifferingField>, DeviceRefusal> {
        let found = Self::of(now, self.mix, vmpl);
        let mut differing = Vec::new();
        let mut must_equal = |name: &str, sealed: String, found: String| {
            if sealed != found {
                differing.push(DifferingField { name: name.to_owned(), sealed, found });
            }
        };
        must_equal("the measurement", hex::encode(&self.measurement), hex::encode(&found.measurement));
        must_equal("the guest policy", format!("{:#x}", self.policy), format!("{:#x}", found.policy));
        must_equal("the VMPL", self.vmpl.to_string(), found.vmpl.to_string());
        if self.mix.root == RootKey::Vcek {
            must_equal("the signing key", key_name(self.signing_key), key_name(found.signing_key));
            // A cloud's key is the same on all of its chips.
            if self.signing_key == VCEK {
                must_equal("the chip", hex::encode(&self.chip_id), hex::encode(&found.chip_id));
            }
        }
        if self.mix.family_id {
            must_equal("the family id", hex::encode(self.family_id), hex::encode(found.family_id));
        }
        if self.mix.image_id {
            must_equal("the image id", hex::encode(self.image_id), hex::encode(found.image_id));
        }
        if self.mix.guest_svn && found.guest_svn < self.guest_svn {
            must_equal("the guest SVN", self.guest_svn.to_string(), found.guest_svn.to_string());
        }
        let [sealed_tcb, found_tcb] = [self.tcb, found.tcb].map(|tcb| layered(tcb, now));
        if self.mix.tcb && !matches!((sealed_tcb, found_tcb), (Some(sealed), Some(found)) if found.reaches(&sealed)) {
            must_equal("the committed TCB", hex::encode(self.tcb), hex::encode(found.tcb));
        }
        if !differing.is_empty() {
            return Err(DeviceRefusal::GuestDiffers { differing });
        }
        let mut risen = Vec::new();
        let mut rose = |name: &str, sealed: String, found: String| {
            if sealed != found {
                risen.push(DifferingField { name: name.to_owned(), sealed, found });
            }
        };
        if self.mix.tcb {
            rose("the committed TCB", hex::encode(self.tcb), hex::encode(found.tcb));
        }
        if self.mix.guest_svn {
            rose("the guest SVN", self.guest_svn.to_string(), found.guest_svn.to_string());
        }
        Ok(risen)
    }
}

/// A TCB version by its components. A report of version 2 does not name its product; those are of Milan and Genoa, which
/// have one layout.
fn layered(tcb: [u8; 8], now: &Body) -> Option<Tcb> {
    let product = now.cpu.map_or(Some(Product::Milan), |cpu| Product::of_cpu(cpu.family, cpu.model));
    RawTcb(tcb).of(product?)
}

fn key_name(signing_key: u8) -> String {
    match signing_key {
        VCEK => "the chip's (VCEK)".to_owned(),
        1 => "the cloud's (VLEK)".to_owned(),
        other => format!("none ({other})"),
    }
}

/// A blob, in its parts.
struct Parts<'a> {
    header: Header,
    authenticated: &'a [u8],
    salt: &'a [u8; SALT],
    body: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(blob: &'a [u8]) -> Option<Self> {
        let encoded = blob.strip_prefix(&MAGIC).filter(|_| blob.len() <= BLOB_LIMIT)?;
        let (header, rest) = postcard::take_from_bytes(encoded).ok()?;
        let authenticated = blob.get(..blob.len() - rest.len())?;
        let (salt, body) = rest.split_first_chunk()?;
        (body.len() == KEY_LEN + CHACHA20_POLY1305.tag_len()).then_some(Self { header, authenticated, salt, body })
    }
}

fn derive(guest: &impl Guest, header: &Header) -> Result<SecretBytes, DeviceRefusal> {
    let request = header.request();
    let derived = SecretBytes::init(DERIVED_KEY_LEN, |slot| match <&mut [u8; DERIVED_KEY_LEN]>::try_from(slot) {
        Ok(slot) => guest.derived_key(&request, slot).map(|()| DERIVED_KEY_LEN),
        Err(_) => Err(process("derive a key", "its place has another length")),
    });
    derived.map_err(|error| match error {
        InitError::Secret(error) => memory(&error),
        InitError::Fill(refusal) => refusal,
    })
}

/// The key of one message.
fn once(derived: &SecretBytes, salt: &[u8; SALT]) -> Result<LessSafeKey, DeviceRefusal> {
    #[expect(clippy::disallowed_methods, reason = "goes into HKDF; the process is executed anew afterwards")]
    let extracted = Salt::new(HKDF_SHA256, salt).extract(derived.expose());
    let key = extracted.expand(&[LABEL], &CHACHA20_POLY1305).map(UnboundKey::from);
    key.map(LessSafeKey::new).map_err(|_| process("derive a key", "HKDF refuses"))
}

fn shared(secret: &SecretBytes) -> Result<SharedSecret, DeviceRefusal> {
    #[expect(clippy::disallowed_methods, reason = "from one secret page into the one that is handed over")]
    let made = SharedSecret::create(secret.len(), |slot| {
        slot.copy_from_slice(secret.expose());
        Ok::<(), std::convert::Infallible>(())
    });
    made.map_err(|error| {
        let InitError::Secret(error) = error;
        memory(&error)
    })
}

/// The key is used for one message.
fn zero() -> Nonce {
    Nonce::assume_unique_for_key([0; ring::aead::NONCE_LEN])
}

fn memory(error: &SecretError) -> DeviceRefusal {
    process("make secret memory", &error.to_string())
}

fn process(operation: &str, reason: &str) -> DeviceRefusal {
    DeviceRefusal::Process { operation: operation.to_owned(), reason: reason.to_owned() }
}

/// What a blob begins with: its kind and the version of its form.
const MAGIC: [u8; 5] = *b"BFSG\x01";
const LABEL: &[u8] = b"blindferry v1 sealed to an SEV-SNP guest";
const SALT: usize = 32;
/// SIGNING_KEY of a report that the chip's key signed.
const VCEK: u8 = 0;

// GUEST_FIELD_SELECT.
const GUEST_POLICY: u64 = 1;
const IMAGE_ID: u64 = 1 << 1;
const FAMILY_ID: u64 = 1 << 2;
const MEASUREMENT: u64 = 1 << 3;
const GUEST_SVN: u64 = 1 << 4;
const TCB_VERSION: u64 = 1 << 5;

#[cfg(test)]
mod tests;
