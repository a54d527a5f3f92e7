//! Confidential machines of Azure: a paravisor at VMPL 0 keeps a vTPM, and a report of SEV-SNP vouches for its key.
//!
//! [`Hcl::parse`](hcl::Hcl::parse) takes the paravisor's blob apart; the report in it is judged as any other of SEV-SNP
//! ([`crate::snp`]); [`Vouched::open`] then lets the runtime data be read, because the report has their hash; and the key in
//! them must be the one that signed the TPM's quote, which answers the session's binder.
//!
//! What is trusted: the processor, and the paravisor that the report measures. The attributes of the vTPM's key are told
//! by the guest alone; that it signs only what the vTPM made is the paravisor's doing.
//!
//! Other clouds: a vTPM that a hypervisor keeps (Google's SEV-SNP machines, AWS NitroTPM) leaves that hypervisor trusted, and
//! is judged as a plain TPM. One that a measured paravisor keeps would be a module beside this one.

use ring::digest;
use subtle::ConstantTimeEq as _;

use crate::{
    binder::Binder,
    snp::Authentic,
    tpm::{algorithm::sha256, key::Key, public::Public},
};

mod advice;
pub mod evidence;
pub mod examine;
pub mod hcl;
mod judge;
pub mod question;
pub mod refusal;
pub mod runtime;

pub use evidence::AzureEvidence;
pub use examine::{Examination, Files, Request, examine};
pub use hcl::Hcl;
pub(crate) use judge::{Judged, judge};
pub use question::Question;
pub use refusal::AzureRefusal;
pub use runtime::{AzureClaims, RuntimeData};

/// Runtime data that an authentic report vouches for, made by a paravisor at VMPL 0. Only [`Vouched::open`] makes one.
///
/// ```compile_fail,E0451
/// use blindferry_attest::azure::Vouched;
/// let forged = Vouched { ..panic!() };
/// ```
#[must_use = "runtime data that nobody looks at bind no vTPM"]
#[derive(Debug)]
pub struct Vouched {
    runtime: RuntimeData,
}

/// Proof that a paravisor was asked for its report after a binder was made: the binder is in its user data. It says nothing
/// of what the guest booted; for that, a quote is needed.
#[must_use = "freshness that nobody asks for proves nothing"]
#[derive(Debug)]
pub struct Fresh {
    _private: (),
}

/// The attestation key of a vTPM that a report vouches for. Only [`Vouched::vtpm_key`] makes one.
///
/// ```compile_fail,E0423
/// use blindferry_attest::{azure::VtpmKey, tpm::public::Public};
/// fn forged(public: Public) -> VtpmKey {
///     VtpmKey(public)
/// }
/// ```
#[must_use = "a key that no quote is checked by proves nothing"]
#[derive(Debug)]
pub struct VtpmKey(Public);

impl VtpmKey {
    /// Its public area.
    #[must_use]
    pub fn public(&self) -> &Public {
        &self.0
    }
}

impl Vouched {
    /// Reads the runtime data of a blob, when the report of that blob has their SHA-256 and nothing else, and comes from
    /// VMPL 0, where the guest's own software cannot be.
    ///
    /// # Errors
    ///
    /// The first question that is not answered as it must be. Nothing is parsed before the hash has been compared.
    pub fn open(hcl: &Hcl<'_>, report: &Authentic<'_>) -> Result<Self, AzureRefusal> {
        let body = report.body();
        Self::vouched_for(hcl.runtime(), body.report_data.as_bytes(), body.vmpl)
    }

    fn vouched_for(runtime: &[u8], report_data: &[u8; 64], vmpl: u32) -> Result<Self, AzureRefusal> {
        let (hash, rest) = report_data.split_at(32);
        let found = digest::digest(&digest::SHA256, runtime);
        if !bool::from(found.as_ref().ct_eq(hash)) {
            return Err(AzureRefusal::new(Question::Binding, hex::encode(found), hex::encode(hash)));
        }
        if rest.iter().any(|byte| *byte != 0) {
            return Err(AzureRefusal::new(Question::BindingTail, hex::encode(rest), "zeros"));
        }
        if vmpl != 0 {
            return Err(AzureRefusal::new(Question::Vmpl, vmpl.to_string(), "0"));
        }
        Ok(Self { runtime: RuntimeData::parse(runtime)? })
    }

    /// What the paravisor says.
    #[must_use]
    pub fn runtime(&self) -> &RuntimeData {
        &self.runtime
    }

    /// The vTPM's attestation key, when this public area is of it. Attributes and scheme are those of the public area, which
    /// the report does not have: see the head of this module.
    ///
    /// # Errors
    ///
    /// When it is of another key.
    pub fn vtpm_key(&self, ak: Public) -> Result<VtpmKey, AzureRefusal> {
        if ak.key() != self.runtime.ak() {
            let hash = |key: &Key| format!("a key with SHA-256 {}", hex::encode(sha256(&[&key.spki()])));
            return Err(AzureRefusal::new(Question::Ak, hash(ak.key()), hash(self.runtime.ak())));
        }
        Ok(VtpmKey(ak))
    }

    /// Whether the blob was made for this binder: user data must be the binder with zeros behind it. The second road to
    /// freshness, for where no quote can be had.
    ///
    /// # Errors
    ///
    /// When user data are missing, zero, or anything else.
    pub fn fresh(&self, binder: Binder) -> Result<Fresh, AzureRefusal> {
        let mut wanted = [0; 64];
        wanted.iter_mut().zip(binder.as_bytes()).for_each(|(to, from)| *to = *from);
        match self.runtime.user_data() {
            Some(found) if bool::from(found.ct_eq(&wanted)) => Ok(Fresh { _private: () }),
            found => {
                let found = found.map_or_else(|| "none".to_owned(), hex::encode);
                Err(AzureRefusal::new(Question::UserData, found, hex::encode(wanted)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use blindferry_proto::role::Role;

    use super::*;

    /// Runtime data with an attestation key and these user data.
    fn runtime(user_data: &str) -> Vec<u8> {
        let modulus = URL_SAFE_NO_PAD.encode([0xc1; 256]);
        format!(
            r#"{{"keys":[{{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"{modulus}"}}],"user-data":"{user_data}"}}"#
        )
        .into_bytes()
    }

    fn data_of(runtime: &[u8]) -> [u8; 64] {
        let mut data = [0; 64];
        data[..32].copy_from_slice(digest::digest(&digest::SHA256, runtime).as_ref());
        data
    }

    fn code(runtime: &[u8], data: [u8; 64], vmpl: u32) -> &'static str {
        Vouched::vouched_for(runtime, &data, vmpl).unwrap_err().code()
    }

    fn binder() -> Binder {
        Binder::compute(Role::Broker, b"a TLS key", &[7; 32]).unwrap()
    }

    #[test]
    fn runtime_data_are_read_when_the_report_has_their_hash() {
        let json = runtime(&"00".repeat(64));
        let vouched = Vouched::vouched_for(&json, &data_of(&json), 0).unwrap();
        assert!(vouched.runtime().ek().is_none());
        assert_eq!(vouched.runtime().claims().user_data, None);
    }

    #[test]
    fn altered_runtime_data_are_refused_before_they_are_parsed() {
        let json = runtime("");
        for at in 0..json.len() {
            let mut altered = json.clone();
            altered[at] ^= 1;
            assert_eq!(code(&altered, data_of(&json), 0), "azure-runtime-binding");
        }
        assert_eq!(code(b"not JSON", [0; 64], 0), "azure-runtime-binding");
    }

    #[test]
    fn a_report_that_says_more_than_the_hash_is_refused() {
        let json = runtime("");
        for at in 32..64 {
            let mut data = data_of(&json);
            data[at] = 1;
            assert_eq!(code(&json, data, 0), "azure-report-data");
        }
    }

    #[test]
    fn a_report_that_the_guest_or_the_host_asked_for_is_refused() {
        let json = runtime("");
        for vmpl in [1, 2, 3, u32::MAX] {
            assert_eq!(code(&json, data_of(&json), vmpl), "azure-vmpl");
        }
    }

    #[test]
    fn user_data_are_fresh_only_when_they_are_the_binder() {
        let fresh = |user_data: &str| {
            let json = runtime(user_data);
            let vouched = Vouched::vouched_for(&json, &data_of(&json), 0).unwrap();
            vouched.fresh(binder()).err().map(|refusal| refusal.code())
        };
        let binder = hex::encode(binder().as_bytes());
        assert_eq!(fresh(&format!("{binder}{}", "00".repeat(32))), None);
        assert_eq!(fresh(&format!("{binder}{}", "01".repeat(32))), Some("azure-user-data"));
        assert_eq!(fresh(&"00".repeat(64)), Some("azure-user-data"));
        let json = br#"{"keys":[]}"#;
        assert_eq!(code(json, data_of(json), 0), "azure-runtime-key");
    }
}
