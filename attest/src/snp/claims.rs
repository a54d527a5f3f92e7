//! What an authentic report says, as plain data for a policy, an audit or a person.

use serde::Serialize;

use super::{anchor::Root, authentic::Authentic, vek::Holder};

/// Facts about a guest. Having these proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnpClaims {
    /// The product name in the certificate, such as `Genoa` or `Milan-B0`.
    pub product: String,
    /// `"vcek"` or `"vlek"`.
    pub signed_by: &'static str,
    /// The id of the chip in hexadecimal, from the VCEK; none when a VLEK signed.
    pub chip_id: Option<String>,
    /// The cloud provider (csp_id), from the VLEK; none when a VCEK signed.
    pub provider: Option<String>,
    /// REPORT_ID, in hexadecimal.
    pub report_id: String,
    /// MEASUREMENT, in hexadecimal.
    pub measurement: String,
    /// HOST_DATA, in hexadecimal.
    pub host_data: String,
    /// ID_KEY_DIGEST, in hexadecimal; none when the guest was launched without an id block.
    pub id_key: Option<String>,
    /// AUTHOR_KEY_DIGEST, in hexadecimal; none when there was no author key.
    pub author_key: Option<String>,
    /// GUEST_SVN.
    pub guest_svn: u32,
    /// VMPL.
    pub vmpl: u32,
    /// REPORTED_TCB, in words.
    pub tcb: String,
    /// The SHA-256 of the root, in hexadecimal, where it is not AMD's but one that was trusted dangerously.
    pub dangerous_root: Option<String>,
}

impl SnpClaims {
    pub(crate) fn of(authentic: &Authentic<'_>) -> Self {
        let (body, vek) = (authentic.body(), authentic.vek());
        let (chip_id, provider) = match vek.holder() {
            Holder::Chip(chip) => (Some(chip.to_string()), None),
            Holder::Provider(provider) => (None, Some(provider.clone())),
        };
        Self {
            product: vek.product_name().to_owned(),
            signed_by: vek.kind().word(),
            chip_id,
            provider,
            report_id: body.report_id.to_string(),
            measurement: body.measurement.to_string(),
            host_data: body.host_data.to_string(),
            id_key: (!body.id_key_digest.is_zero()).then(|| body.id_key_digest.to_string()),
            author_key: body.author_key_enabled.then(|| body.author_key_digest.to_string()),
            guest_svn: body.guest_svn,
            vmpl: body.vmpl,
            // The certificate's is the reported one: the questions saw to that.
            tcb: vek.tcb().to_string(),
            dangerous_root: match vek.root() {
                Root::Amd(_) => None,
                Root::Dangerous(fingerprint) => Some(hex::encode(fingerprint)),
            },
        }
    }
}
