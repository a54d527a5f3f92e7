//! Seals a key under a signed PCR policy, and unseals it.
//!
//! What passes through here in the clear passes through libtss2 and libcrypto too, which keep copies on the heap and on the
//! stack that nobody can find: the marshalled command, the plaintext of the encrypted parameter, the AES key schedule.
//! So the process executes itself anew after each of these requests; see [`crate::serve`].

use blindferry_attest::tpm::PcrValues;
use blindferry_device::approval::{Approval, POLICY_LEN, PolicyRef, Terms, authorize_policy};
use blindferry_device::authority::Authority;
use blindferry_device::pcr::differing;
use blindferry_device::protocol::{BLOB_LIMIT, DeviceRefusal};
use blindferry_handle::secret::{InitError, SecretBytes, SharedSecret};
use serde::{Deserialize, Serialize};
use tss_esapi::constants::response_code::Tss2ResponseCodeKind;
use tss_esapi::handles::ObjectHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::PolicySession;
use tss_esapi::structures::{
    Digest, DigestList, EccParameter, EccSignature, Name, Nonce, Private, Public, SensitiveData, Signature,
};
use tss_esapi::traits::{Marshall, UnMarshall};

use crate::counter;
use crate::failure::{During, Failure};
use crate::pcrs;
use crate::template;
use crate::transaction::{Protect, Transaction};

/// Seals `key` so that approvals by `authority` with `policy_ref` open it.
pub(crate) fn seal(
    transaction: &mut Transaction,
    key: &SecretBytes,
    authority: &Authority,
    policy_ref: PolicyRef,
) -> Result<Vec<u8>, Failure> {
    let template =
        template::sealed(authorize_policy(authority, policy_ref)).during("build the sealed key's template")?;
    #[expect(clippy::disallowed_methods, reason = "the bytes go into the TPM; the process is executed anew afterwards")]
    let sensitive = SensitiveData::try_from(key.expose()).during("pass the key")?;
    let parent = transaction.salt_key();
    let created = transaction.protected(Protect::Both, "seal", |context| {
        context.create(parent, template, None, Some(sensitive), None, None)
    })?;
    let blob = Blob {
        public: created.out_public.marshall().during("marshal the sealed key")?,
        private: created.out_private.value().to_vec(),
        authority: authority.name(),
        policy_ref,
    };
    Ok(blob.encode())
}

/// Unseals, if the PCRs are as approved.
pub(crate) fn unseal(
    transaction: &mut Transaction,
    blob: &[u8],
    authority: &Authority,
    approval: &Approval,
) -> Result<SharedSecret, Failure> {
    let blob = Blob::decode(blob).ok_or(DeviceRefusal::BlobMalformed)?;
    let terms = blob.admit(authority, approval)?;
    if let Some(counter) = counter::value(transaction)?
        && terms.version() < counter
    {
        return Err(Failure::Refused(DeviceRefusal::ApprovalReplaced { version: terms.version(), counter }));
    }
    require_pcrs(transaction, terms.values())?;

    let sealed = load(transaction, &blob)?;
    let policy = transaction.policy_session()?;
    satisfy(transaction, policy, authority, approval)?;
    let opened = transaction.by_policy(policy, Protect::Response, "unseal", |context| context.unseal(sealed)).map_err(
        |failure| match failure.kind() {
            // The PCRs were right a moment ago.
            Some(Tss2ResponseCodeKind::PcrChanged | Tss2ResponseCodeKind::PolicyFail) => {
                Failure::Refused(DeviceRefusal::PcrsChanging)
            }
            _ => failure,
        },
    )?;
    shared(opened.value())
}

/// Puts a secret that came out of the TPM into memory that can be handed over.
pub(crate) fn shared(secret: &[u8]) -> Result<SharedSecret, Failure> {
    SharedSecret::create(secret.len(), |slot| {
        slot.copy_from_slice(secret);
        Ok::<(), std::convert::Infallible>(())
    })
    .map_err(|error| {
        let (InitError::Secret(error), operation) = (error, "make secret memory".to_owned());
        Failure::Refused(DeviceRefusal::Process { operation, reason: error.to_string() })
    })
}

/// A sealed key at rest.
#[derive(Serialize, Deserialize)]
struct Blob {
    /// TPMT_PUBLIC, which carries the policy.
    public: Vec<u8>,
    /// The content of TPM2B_PRIVATE: encrypted by, and only for, the parent.
    private: Vec<u8>,
    /// The Name of the authority: for a clear message, since the policy in `public` decides, and the TPM with it.
    authority: Vec<u8>,
    policy_ref: PolicyRef,
}

impl Blob {
    fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, BLOB.to_vec()).unwrap_or_default()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let body = bytes.strip_prefix(&BLOB).filter(|body| body.len() <= BLOB_LIMIT)?;
        match postcard::take_from_bytes(body) {
            Ok((blob, [])) => Some(blob),
            _ => None,
        }
    }

    /// Whether the approval is the authority's word, and meant for this blob.
    fn admit<'a>(&self, authority: &Authority, approval: &'a Approval) -> Result<&'a Terms, DeviceRefusal> {
        if self.authority != authority.name() {
            return Err(DeviceRefusal::WrongAuthority {
                blob: hex::encode(&self.authority),
                asked: hex::encode(authority.name()),
            });
        }
        let policy = authorize_policy(authority, self.policy_ref);
        let sealed = Public::unmarshall(&self.public).map_err(|_| DeviceRefusal::BlobMalformed)?;
        if sealed.auth_policy().value() != policy {
            return Err(DeviceRefusal::BlobForeign);
        }
        let terms = approval.verify(authority).map_err(|_| DeviceRefusal::NotApproved)?.terms();
        if terms.policy_ref() != self.policy_ref {
            return Err(DeviceRefusal::WrongPolicyRef);
        }
        Ok(terms)
    }
}

fn require_pcrs(transaction: &mut Transaction, wanted: &PcrValues) -> Result<(), Failure> {
    let differing = differing(wanted, &pcrs::read(transaction, wanted.selection())?);
    if differing.is_empty() { Ok(()) } else { Err(Failure::Refused(DeviceRefusal::WrongPcrs { differing })) }
}

fn load(transaction: &mut Transaction, blob: &Blob) -> Result<ObjectHandle, Failure> {
    let malformed = |_| Failure::Refused(DeviceRefusal::BlobMalformed);
    let public = Public::unmarshall(&blob.public).map_err(malformed)?;
    let private = Private::try_from(blob.private.clone()).map_err(malformed)?;
    let parent = transaction.salt_key();
    transaction
        .protected(Protect::Both, "load the sealed key", |context| context.load(parent, private, public))
        .map(ObjectHandle::from)
        .map_err(|failure| match failure.kind() {
            Some(Tss2ResponseCodeKind::Integrity | Tss2ResponseCodeKind::Size | Tss2ResponseCodeKind::Value) => {
                Failure::Refused(DeviceRefusal::BlobForeign)
            }
            _ => failure,
        })
}

/// Takes a policy session through the approved policy and its authorisation.
fn satisfy(
    transaction: &mut Transaction,
    policy: PolicySession,
    authority: &Authority,
    approval: &Approval,
) -> Result<(), Failure> {
    let terms = approval.unverified_terms();
    let approved = digest(&terms.policy())?;
    let policy_ref = Nonce::try_from(&terms.policy_ref().0[..]).during("pass the policy reference")?;

    // The key must be in a hierarchy: a ticket of the null hierarchy is empty and authorises nothing.
    let public = Public::unmarshall(&authority.to_tpm_public()).during("pass the authority's key")?;
    let key = transaction
        .plain("load the authority's key", |context| context.load_external_public(public, Hierarchy::Owner))?;
    let signature = signature(&approval.signature()).during("pass the signature")?;
    let signed = digest(&terms.signed_digest())?;
    let ticket = transaction
        .protected(Protect::Command, "verify the approval", |context| context.verify_signature(key, signed, signature))
        .map_err(|failure| match failure.kind() {
            Some(Tss2ResponseCodeKind::Signature) => Failure::Refused(DeviceRefusal::NotApproved),
            _ => failure,
        })?;
    transaction.flush(key)?;

    let list = pcrs::selection_list(terms.values().selection()).during("select PCRs")?;
    // An empty digest: the TPM takes the PCRs as they are, and PolicyOR finds out whether they are the approved ones.
    transaction.protected(Protect::Command, "assert the PCRs", |context| {
        context.policy_pcr(policy, Digest::default(), list)
    })?;
    let mut branches = DigestList::new();
    for branch in terms.branches() {
        branches.add(digest(&branch)?).during("pass the branches")?;
    }
    let changed = |failure: Failure| match failure.kind() {
        Some(Tss2ResponseCodeKind::Value) => Failure::Refused(DeviceRefusal::PcrsChanging),
        _ => failure,
    };
    transaction
        .protected(Protect::Integrity, "assert the approval's version", |context| context.policy_or(policy, branches))
        .map_err(changed)?;
    let name = Name::try_from(authority.name()).during("pass the authority's name")?;
    transaction.protected(Protect::Command, "use the approval", |context| {
        context.policy_authorize(policy, approved, policy_ref, &name, ticket)
    })
}

fn digest(bytes: &[u8; POLICY_LEN]) -> Result<Digest, Failure> {
    Digest::try_from(&bytes[..]).during("pass a digest")
}

fn signature(bytes: &[u8]) -> tss_esapi::Result<Signature> {
    let (r, s) = bytes.split_at(bytes.len() / 2);
    let (r, s) = (EccParameter::try_from(r)?, EccParameter::try_from(s)?);
    EccSignature::create(HashingAlgorithm::Sha256, r, s).map(Signature::EcDsa)
}

/// What a blob begins with: its kind and the version of its form.
const BLOB: [u8; 5] = *b"BFSK\x01";
