//! Certificates with AMD's structure: ARK, ASK, ASVK, VCEK, VLEK, and revocation lists.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PSS_SHA384, RsaKeyPair},
};

use crate::der::{amd_oid, bits, extension, name, pss_sha384, seq, time, tlv, unsigned};

/// The certificates of a product: root, authority of VCEKs, authority of VLEKs.
macro_rules! certificates {
    ($product:literal) => {
        [
            from_pem(include_str!(concat!("../keys/ARK-", $product, ".pem"))),
            from_pem(include_str!(concat!("../keys/SEV-", $product, ".pem"))),
            from_pem(include_str!(concat!("../keys/SEV-VLEK-", $product, ".pem"))),
        ]
    };
}

/// Root and authorities of one product line.
#[derive(Debug)]
pub struct Amd {
    product: &'static str,
    ark: RsaKeyPair,
    ask: RsaKeyPair,
    asvk: RsaKeyPair,
    /// The root's certificate.
    pub ark_der: Vec<u8>,
    /// The certificate that signs VCEKs.
    pub ask_der: Vec<u8>,
    /// The certificate that signs VLEKs.
    pub asvk_der: Vec<u8>,
}

/// What a CA's certificate says.
#[derive(Clone, Debug)]
pub struct CaSpec {
    /// Serial number.
    pub serial: u32,
    /// basicConstraints: CA.
    pub ca: bool,
    /// keyUsage, one byte of bits: 0x04 certificates, 0x02 lists.
    pub key_usage: u8,
    /// First and last second of validity, since 1970.
    pub validity: (i64, i64),
    /// Further extensions, whole.
    pub further: Vec<Vec<u8>>,
}

/// What a VCEK or VLEK says.
#[derive(Clone, Debug)]
pub struct VekSpec {
    /// Common name: `SEV-VCEK` or `SEV-VLEK`.
    pub common_name: String,
    /// productName; none leaves the extension away.
    pub product_name: Option<String>,
    /// Last numbers of the OIDs below 1.3.6.1.4.1.3704.1.3, and values.
    pub spls: Vec<(u8, u8)>,
    /// hwID, if there is one.
    pub hwid: Option<Vec<u8>>,
    /// csp_id, if there is one.
    pub csp_id: Option<String>,
    /// First and last second of validity, since 1970.
    pub validity: (i64, i64),
    /// Whether the algorithm has the trailerField written out.
    pub trailer: bool,
    /// Further extensions, whole.
    pub further: Vec<Vec<u8>>,
}

/// A key that signs reports, and its certificate.
#[derive(Debug)]
pub struct Vek {
    key: EcdsaKeyPair,
    /// Its certificate.
    pub der: Vec<u8>,
}

/// What a revocation list says.
#[derive(Clone, Debug)]
pub struct Crl {
    /// Serial numbers.
    pub revoked: Vec<u32>,
    /// thisUpdate and nextUpdate, in seconds since 1970.
    pub validity: (i64, i64),
    /// Further extensions of the list, whole.
    pub further: Vec<Vec<u8>>,
}

/// 2020-01-01 to 2045-01-01, the validity that everything has unless it says otherwise.
pub const VALIDITY: (i64, i64) = (1_577_836_800, 2_366_841_600);

/// The chip of [`VekSpec::genoa`] and the other specs, as far as its product has bytes.
pub const HWID: [u8; 64] = [0xc4; 64];

impl Amd {
    /// The root and authorities of `Milan`, `Genoa` or `Turin`. Keys are the same for all; certificates are those in
    /// `keys/`, the same in each process, since a root is pinned byte for byte.
    #[must_use]
    pub fn of(product: &'static str) -> Self {
        let [ark_der, ask_der, asvk_der] = match product {
            "Milan" => certificates!("Milan"),
            "Genoa" => certificates!("Genoa"),
            "Turin" => certificates!("Turin"),
            other => panic!("certificates are kept for Milan, Genoa and Turin, not for {other}"),
        };
        let (ark, ask, asvk) = (key(ARK), key(ASK), key(ASVK));
        Self { product, ark, ask, asvk, ark_der, ask_der, asvk_der }
    }

    /// A root and authorities like those in `keys/`, signed afresh.
    #[must_use]
    pub fn anew(product: &'static str) -> Self {
        let ca = |serial| CaSpec { serial, ca: true, key_usage: 0x04, validity: VALIDITY, further: vec![] };
        Self::with(product, &CaSpec { key_usage: 0x06, ..ca(0x70000) }, &ca(0x70001), &ca(0x70101))
    }

    /// The same with certificates that say something else.
    #[must_use]
    pub fn with(product: &'static str, ark_spec: &CaSpec, ask_spec: &CaSpec, asvk_spec: &CaSpec) -> Self {
        let (ark, ask, asvk) = (key(ARK), key(ASK), key(ASVK));
        let root = format!("ARK-{product}");
        let ark_der = ark_spec.issue(&root, &ark, &root, &ark);
        let ask_der = ask_spec.issue(&format!("SEV-{product}"), &ask, &root, &ark);
        let asvk_der = asvk_spec.issue(&format!("SEV-VLEK-{product}"), &asvk, &root, &ark);
        Self { product, ark, ask, asvk, ark_der, ask_der, asvk_der }
    }

    /// The root in PEM: what `dangerously_trusted_root` takes.
    #[must_use]
    pub fn ark_pem(&self) -> String {
        pem(&self.ark_der)
    }

    /// A VCEK with a fresh key.
    #[must_use]
    pub fn vcek(&self, spec: &VekSpec) -> Vek {
        spec.issue(&format!("SEV-{}", self.product), &self.ask)
    }

    /// A VLEK with a fresh key.
    #[must_use]
    pub fn vlek(&self, spec: &VekSpec) -> Vek {
        spec.issue(&format!("SEV-VLEK-{}", self.product), &self.asvk)
    }

    /// A signing key whose certificate the root itself signed, as AMD never does.
    #[must_use]
    pub fn vek_under_root(&self, spec: &VekSpec) -> Vek {
        spec.issue(&format!("ARK-{}", self.product), &self.ark)
    }

    /// A revocation list of the root.
    #[must_use]
    pub fn crl(&self, crl: &Crl) -> Vec<u8> {
        crl.issue(&format!("ARK-{}", self.product), &self.ark)
    }

    /// A list that calls itself the root's, signed by another key.
    #[must_use]
    pub fn forged_crl(&self, crl: &Crl) -> Vec<u8> {
        crl.issue(&format!("ARK-{}", self.product), &self.ask)
    }
}

impl CaSpec {
    fn issue(&self, subject: &str, key: &RsaKeyPair, issuer: &str, signer: &RsaKeyPair) -> Vec<u8> {
        let public = key.public_key().as_ref();
        let spki = seq(&[&seq(&[b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", b"\x05\x00"]), &bits(public)]);
        let unused = u8::try_from(self.key_usage.trailing_zeros().min(7)).expect("small");
        let ca: &[u8] = if self.ca { b"\x01\x01\xff" } else { b"" };
        let mut extensions = vec![
            extension(b"\x06\x03\x55\x1d\x13", true, &seq(&[ca])),
            extension(b"\x06\x03\x55\x1d\x0f", true, &tlv(3, &[&[unused, self.key_usage]])),
        ];
        extensions.extend(self.further.iter().cloned());
        let body = Body { serial: self.serial, issuer, subject, validity: self.validity, spki: &spki, trailer: true };
        body.sign(&extensions, signer)
    }
}

impl VekSpec {
    /// A VCEK of a Genoa chip.
    #[must_use]
    pub fn genoa() -> Self {
        Self {
            common_name: "SEV-VCEK".to_owned(),
            product_name: Some("Genoa".to_owned()),
            spls: vec![(1, 10), (2, 0), (4, 0), (5, 0), (6, 0), (7, 0), (3, 23), (8, 84)],
            hwid: Some(HWID.to_vec()),
            csp_id: None,
            validity: VALIDITY,
            trailer: false,
            further: vec![],
        }
    }

    /// A VCEK of a Milan chip.
    #[must_use]
    pub fn milan() -> Self {
        let spls = vec![(1, 4), (2, 0), (4, 0), (5, 0), (6, 0), (7, 0), (3, 24), (8, 219)];
        Self { product_name: Some("Milan-B0".to_owned()), spls, ..Self::genoa() }
    }

    /// A VCEK of a Turin chip.
    #[must_use]
    pub fn turin() -> Self {
        let spls = vec![(9, 1), (1, 1), (2, 1), (3, 4), (5, 0), (6, 0), (7, 0), (8, 81)];
        let hwid = HWID.iter().take(8).copied().collect();
        Self { product_name: Some("Turin".to_owned()), spls, hwid: Some(hwid), ..Self::genoa() }
    }

    /// The VLEK of a provider, for the same firmware.
    #[must_use]
    pub fn loaded(self, csp_id: &str) -> Self {
        Self { common_name: "SEV-VLEK".to_owned(), hwid: None, csp_id: Some(csp_id.to_owned()), ..self }
    }

    fn issue(&self, issuer: &str, signer: &RsaKeyPair) -> Vek {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8.as_ref(), &random).expect("a key");
        let algorithm = seq(&[b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", b"\x06\x05\x2b\x81\x04\x00\x22"]);
        let spki = seq(&[&algorithm, &bits(key.public_key().as_ref())]);
        let mut extensions = vec![extension(&amd_oid(&[1]), false, &unsigned(&[1]))];
        if let Some(product) = &self.product_name {
            extensions.push(extension(&amd_oid(&[2]), false, &tlv(0x16, &[product.as_bytes()])));
        }
        for (number, value) in &self.spls {
            extensions.push(extension(&amd_oid(&[3, *number]), false, &unsigned(&[*value])));
        }
        if let Some(hwid) = &self.hwid {
            extensions.push(extension(&amd_oid(&[4]), false, hwid));
        }
        if let Some(csp_id) = &self.csp_id {
            extensions.push(extension(&amd_oid(&[5]), false, &tlv(0x16, &[csp_id.as_bytes()])));
        }
        extensions.extend(self.further.iter().cloned());
        let (subject, validity, trailer) = (self.common_name.as_str(), self.validity, self.trailer);
        let der = Body { serial: 0, issuer, subject, validity, spki: &spki, trailer }.sign(&extensions, signer);
        Vek { key, der }
    }
}

impl Vek {
    /// R and S over a message, 48 bytes each, most significant byte first.
    #[must_use]
    pub fn sign_bytes(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(&SystemRandom::new(), message).expect("a signature").as_ref().to_vec()
    }
}

impl Crl {
    /// A list that revokes nothing, for the usual time.
    #[must_use]
    pub fn empty() -> Self {
        Self { revoked: vec![], validity: VALIDITY, further: vec![] }
    }

    fn issue(&self, issuer: &str, signer: &RsaKeyPair) -> Vec<u8> {
        let (from, until) = (time(self.validity.0), time(self.validity.1));
        let entries: Vec<_> =
            self.revoked.iter().map(|serial| seq(&[&unsigned(&serial.to_be_bytes()), &from])).collect();
        let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
        let revoked = if entries.is_empty() { vec![] } else { seq(&entries) };
        let number = extension(b"\x06\x03\x55\x1d\x14", false, &unsigned(&[6]));
        let extensions = [vec![number], self.further.clone()].concat();
        let extensions: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
        let algorithm = pss_sha384(false);
        let extensions = tlv(0xa0, &[&seq(&extensions)]);
        let tbs = seq(&[&unsigned(&[1]), &algorithm, &name(issuer), &from, &until, &revoked, &extensions]);
        signed(&tbs, &algorithm, signer)
    }
}

struct Body<'a> {
    serial: u32,
    issuer: &'a str,
    subject: &'a str,
    validity: (i64, i64),
    spki: &'a [u8],
    trailer: bool,
}

impl Body<'_> {
    fn sign(&self, extensions: &[Vec<u8>], signer: &RsaKeyPair) -> Vec<u8> {
        let extensions: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
        let algorithm = pss_sha384(self.trailer);
        let tbs = seq(&[
            b"\xa0\x03\x02\x01\x02",
            &unsigned(&self.serial.to_be_bytes()),
            &algorithm,
            &name(self.issuer),
            &seq(&[&time(self.validity.0), &time(self.validity.1)]),
            &name(self.subject),
            self.spki,
            &tlv(0xa3, &[&seq(&extensions)]),
        ]);
        signed(&tbs, &algorithm, signer)
    }
}

fn signed(tbs: &[u8], algorithm: &[u8], signer: &RsaKeyPair) -> Vec<u8> {
    let mut signature = vec![0; signer.public().modulus_len()];
    signer.sign(&RSA_PSS_SHA384, &SystemRandom::new(), tbs, &mut signature).expect("a signature");
    seq(&[tbs, algorithm, &bits(&signature)])
}

fn key(pem: &str) -> RsaKeyPair {
    RsaKeyPair::from_pkcs8(&from_pem(pem)).expect("an RSA key")
}

fn from_pem(pem: &str) -> Vec<u8> {
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    BASE64.decode(text).expect("base64")
}

const ARK: &str = include_str!("../keys/ark.pem");
const ASK: &str = include_str!("../keys/ask.pem");
const ASVK: &str = include_str!("../keys/asvk.pem");

/// A certificate in PEM.
#[must_use]
pub fn pem(der: &[u8]) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in der.chunks(48) {
        BASE64.encode_string(line, &mut text);
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}
