//! The runtime data of a blob: the vTPM's keys and the machine's configuration, in JSON.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{question::Question, refusal::AzureRefusal};
use crate::tpm::key::Key;

/// The most keys in runtime data; there are one or two.
const MAX_KEYS: usize = 8;

/// What the paravisor says of its vTPM and of the machine. Holding one tells you that it parsed; only
/// [`Vouched`](super::Vouched) tells you that a report vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeData {
    ak: Key,
    ek: Option<Key>,
    user_data: Option<[u8; 64]>,
    claims: AzureClaims,
}

/// Facts about a confidential machine of Azure, as its paravisor tells them. Having these proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AzureClaims {
    /// The name of the reference values that accepted the paravisor; none until it was judged.
    pub paravisor: Option<String>,
    /// `vmUniqueId`.
    pub vm_id: Option<String>,
    /// `secure-boot`. PCR 7 says more, and says it of what has been booted.
    pub secure_boot: Option<bool>,
    /// `tpm-persisted`: whether the vTPM's state outlives the machine's being stopped. Older blobs do not tell.
    pub tpm_persisted: Option<bool>,
    /// `console-enabled`.
    pub console_enabled: Option<bool>,
    /// `user-data`, in hexadecimal, where it is not all zero: what the guest wrote to NV index 0x01400002.
    pub user_data: Option<String>,
}

impl RuntimeData {
    /// Parses the JSON: HCLAkPub must be there, once, and an RSA key of 2048 to 4096 bits; HCLEkPub, `vm-configuration` and
    /// `user-data` may be. `key_ops` are not looked at: older paravisors wrote "encrypt" for the key that signs.
    ///
    /// # Errors
    ///
    /// When it is not JSON of this form.
    pub fn parse(json: &[u8]) -> Result<Self, AzureRefusal> {
        let document: Document = serde_json::from_slice(json)
            .map_err(|error| AzureRefusal::new(Question::Runtime, error.to_string(), "JSON of runtime data"))?;
        if document.keys.len() > MAX_KEYS {
            let found = format!("{} keys", document.keys.len());
            return Err(AzureRefusal::new(Question::Runtime, found, format!("at most {MAX_KEYS}")));
        }
        let ak = document.key("HCLAkPub")?;
        let ak = ak.ok_or_else(|| AzureRefusal::new(Question::RuntimeKey, "no HCLAkPub", "one key of that name"))?;
        let ek = document.key("HCLEkPub")?;
        let user_data = document.user_data()?;
        let Document { configuration, .. } = document;
        let configuration = configuration.unwrap_or_default();
        let written = user_data.filter(|bytes| bytes.iter().any(|byte| *byte != 0));
        let claims = AzureClaims {
            paravisor: None,
            vm_id: configuration.vm_unique_id.map(|id| id.chars().filter(|c| c.is_ascii_graphic()).take(64).collect()),
            secure_boot: configuration.secure_boot,
            tpm_persisted: configuration.tpm_persisted,
            console_enabled: configuration.console_enabled,
            user_data: written.map(hex::encode),
        };
        Ok(Self { ak, ek, user_data, claims })
    }

    /// HCLAkPub: the key with which the vTPM quotes.
    #[must_use]
    pub fn ak(&self) -> &Key {
        &self.ak
    }

    /// HCLEkPub: the vTPM's endorsement key, where it is told.
    #[must_use]
    pub fn ek(&self) -> Option<&Key> {
        self.ek.as_ref()
    }

    /// `user-data`: zeros until the guest writes something.
    #[must_use]
    pub fn user_data(&self) -> Option<&[u8; 64]> {
        self.user_data.as_ref()
    }

    /// The rest, as plain data.
    #[must_use]
    pub fn claims(&self) -> &AzureClaims {
        &self.claims
    }
}

impl AzureClaims {
    pub(crate) fn beside(self, paravisor: &str) -> Self {
        Self { paravisor: Some(paravisor.to_owned()), ..self }
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Jwk>,
    #[serde(rename = "vm-configuration")]
    configuration: Option<Configuration>,
    #[serde(rename = "user-data")]
    user_data: Option<String>,
}

#[derive(Deserialize)]
struct Jwk {
    kid: String,
    kty: String,
    n: Option<String>,
    e: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Configuration {
    secure_boot: Option<bool>,
    tpm_persisted: Option<bool>,
    console_enabled: Option<bool>,
    #[serde(rename = "vmUniqueId")]
    vm_unique_id: Option<String>,
}

impl Document {
    /// The key of this name, if there is one; two of a name are none.
    fn key(&self, kid: &'static str) -> Result<Option<Key>, AzureRefusal> {
        let refused = |found: &str| AzureRefusal::new(Question::RuntimeKey, format!("{kid}: {found}"), RSA);
        let mut named = self.keys.iter().filter(|key| key.kid == kid);
        let Some(jwk) = named.next() else { return Ok(None) };
        if named.next().is_some() {
            return Err(refused("there twice"));
        }
        let (Some(modulus), Some(exponent), "RSA") = (&jwk.n, &jwk.e, jwk.kty.as_str()) else {
            return Err(refused("of another kind"));
        };
        let number = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| refused("not base64url"));
        let (modulus, exponent) = (number(modulus)?, number(exponent)?);
        Key::rsa(&modulus, &exponent).map(Some).ok_or_else(|| refused("of another size or exponent"))
    }

    fn user_data(&self) -> Result<Option<[u8; 64]>, AzureRefusal> {
        let Some(text) = &self.user_data else { return Ok(None) };
        let mut bytes = [0; 64];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| {
            AzureRefusal::new(Question::Runtime, "user-data of another form", "64 bytes in hexadecimal")
        })?;
        Ok(Some(bytes))
    }
}

const RSA: &str = "an RSA key of 2048, 3072 or 4096 bits";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(kid: &str, modulus: &[u8], exponent: &str) -> String {
        let n = URL_SAFE_NO_PAD.encode(modulus);
        format!(r#"{{"kid":"{kid}","key_ops":["sign"],"kty":"RSA","e":"{exponent}","n":"{n}"}}"#)
    }

    fn with(keys: &[String], rest: &str) -> Result<RuntimeData, AzureRefusal> {
        RuntimeData::parse(format!(r#"{{"keys":[{}]{rest}}}"#, keys.join(",")).as_bytes())
    }

    fn code(keys: &[String], rest: &str) -> &'static str {
        with(keys, rest).unwrap_err().code()
    }

    fn ak() -> String {
        key("HCLAkPub", &[0xc1; 256], "AQAB")
    }

    #[test]
    fn what_the_paravisor_says_is_told() {
        let rest = r#","vm-configuration":{"console-enabled":true,"secure-boot":false,"tpm-persisted":true,
            "vmUniqueId":"A-1","new-field":[1]},"user-data":"HEX""#;
        let data =
            with(&[ak(), key("HCLEkPub", &[0xc3; 256], "AQAB")], &rest.replace("HEX", &"ab".repeat(64))).unwrap();
        assert_eq!(*data.ak(), Key::Rsa { modulus: vec![0xc1; 256], exponent: 65537 });
        assert_eq!(data.ek(), Some(&Key::Rsa { modulus: vec![0xc3; 256], exponent: 65537 }));
        let claims = AzureClaims {
            paravisor: None,
            vm_id: Some("A-1".to_owned()),
            secure_boot: Some(false),
            tpm_persisted: Some(true),
            console_enabled: Some(true),
            user_data: Some("ab".repeat(64)),
        };
        assert_eq!(*data.claims(), claims);
    }

    #[test]
    fn there_is_one_attestation_key_and_it_is_strong() {
        assert!(with(&[ak()], "").is_ok());
        for keys in [
            vec![],
            vec![key("HCLEkPub", &[0xc1; 256], "AQAB")],
            vec![ak(), ak()],
            vec![ak(), key("HCLAkPub", &[0xc3; 256], "AQAB")],
            vec![key("HCLAkPub", &[0xc1; 128], "AQAB")],
            vec![key("HCLAkPub", &[0x41; 256], "AQAB")],
            vec![key("HCLAkPub", &[0xc1; 256], "Aw")],
            vec![key("HCLAkPub", &[0xc1; 256], "")],
            vec![ak().replace("RSA", "EC")],
            vec![ak().replace(r#","e":"AQAB""#, "")],
            vec![ak().replace("AQAB", "not base64")],
        ] {
            assert_eq!(code(&keys, ""), "azure-runtime-key", "{keys:?}");
        }
    }

    #[test]
    fn other_json_is_refused() {
        for json in ["", "{}", "[]", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, r#"{"keys":[]} "#] {
            let refused = RuntimeData::parse(json.as_bytes()).unwrap_err();
            let wanted = if json.ends_with(' ') { "azure-runtime-key" } else { "azure-runtime" };
            assert_eq!(refused.code(), wanted, "{json}");
        }
        assert_eq!(code(&vec![ak(); MAX_KEYS + 1], ""), "azure-runtime");
        for user_data in ["00", &"zz".repeat(64), &"00".repeat(65)] {
            assert_eq!(code(&[ak()], &format!(r#","user-data":"{user_data}""#)), "azure-runtime");
        }
        // Nesting does not reach the end of the stack.
        assert_eq!(RuntimeData::parse("[".repeat(4000).as_bytes()).unwrap_err().code(), "azure-runtime");
    }

    proptest! {
        #[test]
        fn no_runtime_data_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = RuntimeData::parse(&bytes);
        }
    }
}
