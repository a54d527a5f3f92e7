//! What a VCEK or VLEK says about the chip and the firmware that its key belongs to (VCEK specification, section on
//! certificate extensions).

use x509_parser::{der_parser::Oid, der_parser::oid, oid_registry as oids};

use super::{
    certificate::Certificate,
    der::{ia5_string, small_integer},
    identifier::ChipId,
    product::Product,
    question::Question,
    refusal::SnpRefusal,
    tcb::Tcb,
};

/// The kinds of keys that sign reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// Versioned chip endorsement key: of one chip.
    Vcek,
    /// Versioned loaded endorsement key: of one cloud provider, loaded into its chips.
    Vlek,
}

/// Whom a signing key belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// One chip (hwID).
    Chip(ChipId),
    /// One cloud provider (csp_id).
    Provider(String),
}

/// What the extensions of a certificate say.
pub(super) struct Extensions {
    pub(super) product_name: String,
    pub(super) tcb: Tcb,
    pub(super) holder: Holder,
}

impl KeyKind {
    /// SIGNING_KEY in a report.
    #[must_use]
    pub const fn of_signing_key(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Vcek),
            1 => Some(Self::Vlek),
            _ => None,
        }
    }

    /// The name as people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
        }
    }

    /// The name as reference values and claims write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Vcek => "vcek",
            Self::Vlek => "vlek",
        }
    }

    /// The common name of its certificates.
    pub(super) const fn common_name(self) -> &'static str {
        match self {
            Self::Vcek => "SEV-VCEK",
            Self::Vlek => "SEV-VLEK",
        }
    }

    /// The common name of the certificate above it.
    pub(super) fn issuer_name(self, product: Product) -> String {
        match self {
            Self::Vcek => format!("SEV-{product}"),
            Self::Vlek => format!("SEV-VLEK-{product}"),
        }
    }
}

impl Extensions {
    /// Reads the extensions of a certificate that `product`'s authority signed.
    pub(super) fn read(certificate: &Certificate<'_>, kind: KeyKind, product: Product) -> Result<Self, SnpRefusal> {
        certificate.extensions_are_known()?;
        if certificate.x509().basic_constraints().ok().flatten().is_some_and(|constraints| constraints.value.ca) {
            return Err(refused("a CA", "a key that signs reports alone"));
        }
        let found = |oid: &Oid<'_>| {
            let extensions = certificate.x509().extensions().iter();
            extensions.filter(|extension| extension.oid == *oid).map(|extension| extension.value).next()
        };
        let product_name = found(&PRODUCT_NAME).and_then(ia5_string);
        let product_name =
            product_name.ok_or_else(|| refused("productName missing or of another form", "an IA5String"))?;
        if Product::of_certificate(product_name) != Some(product) {
            return Err(SnpRefusal::new(
                Question::Product,
                format!("productName {product_name:?} under the root of {product}"),
                product.name(),
            ));
        }
        let spl = |oid: &Oid<'_>, name: &str| {
            let value = found(oid).and_then(small_integer);
            value.ok_or_else(|| refused(&format!("{name} missing or of another form"), "an INTEGER from 0 to 255"))
        };
        let fmc = match (product, found(&FMC_SPL)) {
            (Product::Turin, _) => Some(spl(&FMC_SPL, "fmcSPL")?),
            (Product::Milan | Product::Genoa, None) => None,
            (Product::Milan | Product::Genoa, Some(_)) => {
                return Err(refused("fmcSPL", "none, since only Turin has it"));
            }
        };
        for oid in &RESERVED_SPLS {
            if found(oid).is_some_and(|value| small_integer(value) != Some(0)) {
                return Err(refused(&format!("a reserved SPL ({oid}) not zero"), "zero"));
            }
        }
        let tcb = Tcb {
            fmc,
            bootloader: spl(&BOOTLOADER_SPL, "blSPL")?,
            tee: spl(&TEE_SPL, "teeSPL")?,
            snp: spl(&SNP_SPL, "snpSPL")?,
            microcode: spl(&MICROCODE_SPL, "ucodeSPL")?,
        };
        let holder = match (kind, found(&HWID), found(&CSP_ID)) {
            (KeyKind::Vcek, Some(hwid), None) => Holder::Chip(chip(hwid, product)?),
            (KeyKind::Vlek, None, Some(csp_id)) => {
                let csp_id = ia5_string(csp_id).ok_or_else(|| refused("csp_id of another form", "an IA5String"))?;
                Holder::Provider(csp_id.to_owned())
            }
            (KeyKind::Vcek, ..) => return Err(refused("no hwID, or a csp_id", "a VCEK with a hwID alone")),
            (KeyKind::Vlek, ..) => return Err(refused("no csp_id, or a hwID", "a VLEK with a csp_id alone")),
        };
        Ok(Self { product_name: product_name.to_owned(), tcb, holder })
    }
}

/// The key of a certificate: a point of P-384, uncompressed, 97 bytes.
pub(super) fn p384_key(certificate: &Certificate<'_>) -> Result<[u8; 97], SnpRefusal> {
    let key = certificate.x509().public_key();
    let on_p384 = key.algorithm.algorithm == oids::OID_KEY_TYPE_EC_PUBLIC_KEY
        && key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok()) == Some(oids::OID_NIST_EC_P384);
    let point: Option<[u8; 97]> = key.subject_public_key.data.as_ref().try_into().ok();
    match point {
        Some(point) if on_p384 && point.first() == Some(&4) => Ok(point),
        _ => Err(SnpRefusal::new(Question::CertificateForm, "a key of another kind", "an uncompressed key on P-384")),
    }
}

/// On Turin the certificate has 8 bytes, and the report has zeros behind them.
fn chip(hwid: &[u8], product: Product) -> Result<ChipId, SnpRefusal> {
    let wanted = match product {
        Product::Milan | Product::Genoa => 64,
        Product::Turin => 8,
    };
    let mut chip = [0; 64];
    match chip.get_mut(..wanted) {
        Some(head) if hwid.len() == wanted => head.copy_from_slice(hwid),
        _ => return Err(refused(&format!("hwID of {} bytes", hwid.len()), &format!("{wanted} bytes on {product}"))),
    }
    let chip = ChipId::new(chip);
    if chip.is_zero() {
        return Err(refused("hwID all zero", "the id of a chip"));
    }
    Ok(chip)
}

fn refused(found: &str, wanted: &str) -> SnpRefusal {
    SnpRefusal::new(Question::CertificateExtension, found, wanted)
}

const PRODUCT_NAME: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.2);
const BOOTLOADER_SPL: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.3.1);
const TEE_SPL: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.3.2);
const SNP_SPL: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.3.3);
const MICROCODE_SPL: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.3.8);
const FMC_SPL: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.3.9);
const HWID: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.4);
const CSP_ID: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.5);

/// They stand for reserved bytes of TCB_VERSION.
const RESERVED_SPLS: [Oid<'static>; 4] = [
    oid!(1.3.6.1.4.1.3704.1.3.4),
    oid!(1.3.6.1.4.1.3704.1.3.5),
    oid!(1.3.6.1.4.1.3704.1.3.6),
    oid!(1.3.6.1.4.1.3704.1.3.7),
];
