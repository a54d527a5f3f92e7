//! The questions that are asked of an SEV-SNP report, each with its stable code.

use std::fmt;

/// A question that an SEV-SNP report and its certificates have to answer, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Question {
    /// Report length.
    Length,
    /// Report version.
    Version,
    /// Signature algorithm.
    SignatureAlgorithm,
    /// Signature padding.
    SignatureEncoding,
    /// Reserved bytes.
    Reserved,
    /// Certificate form.
    CertificateForm,
    /// Endorsement certificate.
    CertificateMissing,
    /// Root certificate.
    Root,
    /// Certificate chain.
    ChainSignature,
    /// Certificate extensions.
    CertificateExtension,
    /// Certificate has begun.
    CertificateNotYetValid,
    /// Certificate has not ended.
    CertificateExpired,
    /// Revocation list form.
    Crl,
    /// Revocation.
    CertificateRevoked,
    /// Revocation list.
    CrlMissing,
    /// Revocation list is current.
    CrlStale,
    /// Report signature.
    Signature,
    /// Signing key.
    SigningKey,
    /// Product.
    Product,
    /// Reserved bytes of TCBs.
    TcbEncoding,
    /// TCB of the certificate.
    TcbCertificate,
    /// Reported TCB not above current.
    TcbOrder,
    /// Committed firmware is current.
    TcbProvisional,
    /// Chip of the certificate.
    ChipId,
    /// Chip id told.
    ChipMasked,
    /// Same chip as before.
    ChipPinned,
    /// Chip on the list.
    ChipAllowed,
    /// Cloud provider.
    Provider,
    /// Reserved bits of the guest policy.
    PolicyReserved,
    /// Guest policy: no debugging.
    PolicyDebug,
    /// Guest policy: no migration agent.
    PolicyMigration,
    /// Guest policy: ABI version.
    PolicyAbi,
    /// Guest policy: SMT.
    PolicySmt,
    /// Guest policy: single socket.
    PolicySingleSocket,
    /// Guest policy: CXL.
    PolicyCxl,
    /// Guest policy: AES-256-XTS.
    PolicyXts,
    /// Guest policy: RAPL off.
    PolicyRapl,
    /// Guest policy: ciphertext hiding.
    PolicyCiphertext,
    /// Guest policy: page swap off.
    PolicyPageSwap,
    /// Asked for by the guest.
    HostMade,
    /// Privilege level.
    Vmpl,
    /// TCB floor.
    TcbFloor,
    /// TCB at launch.
    LaunchTcbFloor,
    /// Reserved bits of platform info.
    PlatformReserved,
    /// Memory alias check.
    AliasCheck,
    /// Platform: SMT.
    PlatformSmt,
    /// Platform: TSME.
    PlatformTsme,
    /// Platform: ECC memory.
    PlatformEcc,
    /// Platform: RAPL off.
    PlatformRapl,
    /// Platform: ciphertext hiding.
    PlatformCiphertext,
    /// Platform: IOMMU writes safe.
    PlatformIommu,
    /// Platform: trusted I/O.
    PlatformTio,
    /// Mitigations at launch.
    MitigationLaunch,
    /// Mitigations now.
    MitigationCurrent,
    /// Launch measurement.
    Measurement,
    /// Id key.
    IdKey,
    /// Author key.
    AuthorKey,
    /// Family id.
    FamilyId,
    /// Image id.
    ImageId,
    /// Guest security version.
    GuestSvn,
    /// Host data.
    HostData,
    /// Report data.
    ReportData,
    /// Same guest as before.
    ReportId,
    /// Product line allowed.
    ProductAllowed,
    /// Product line trusted.
    ProductDistrusted,
}

impl Question {
    /// All of them, in the order in which they are asked.
    pub const ALL: [Self; 65] = [
        Self::Length,
        Self::Version,
        Self::SignatureAlgorithm,
        Self::SignatureEncoding,
        Self::Reserved,
        Self::CertificateForm,
        Self::CertificateMissing,
        Self::Root,
        Self::ChainSignature,
        Self::CertificateExtension,
        Self::CertificateNotYetValid,
        Self::CertificateExpired,
        Self::Crl,
        Self::CertificateRevoked,
        Self::CrlMissing,
        Self::CrlStale,
        Self::Signature,
        Self::SigningKey,
        Self::Product,
        Self::TcbEncoding,
        Self::TcbCertificate,
        Self::TcbOrder,
        Self::TcbProvisional,
        Self::ChipId,
        Self::ChipMasked,
        Self::ChipPinned,
        Self::ChipAllowed,
        Self::Provider,
        Self::PolicyReserved,
        Self::PolicyDebug,
        Self::PolicyMigration,
        Self::PolicyAbi,
        Self::PolicySmt,
        Self::PolicySingleSocket,
        Self::PolicyCxl,
        Self::PolicyXts,
        Self::PolicyRapl,
        Self::PolicyCiphertext,
        Self::PolicyPageSwap,
        Self::HostMade,
        Self::Vmpl,
        Self::TcbFloor,
        Self::LaunchTcbFloor,
        Self::PlatformReserved,
        Self::AliasCheck,
        Self::PlatformSmt,
        Self::PlatformTsme,
        Self::PlatformEcc,
        Self::PlatformRapl,
        Self::PlatformCiphertext,
        Self::PlatformIommu,
        Self::PlatformTio,
        Self::MitigationLaunch,
        Self::MitigationCurrent,
        Self::Measurement,
        Self::IdKey,
        Self::AuthorKey,
        Self::FamilyId,
        Self::ImageId,
        Self::GuestSvn,
        Self::HostData,
        Self::ReportData,
        Self::ReportId,
        Self::ProductAllowed,
        Self::ProductDistrusted,
    ];

    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Length => "snp-length",
            Self::Version => "snp-version",
            Self::SignatureAlgorithm => "snp-signature-algorithm",
            Self::SignatureEncoding => "snp-signature-encoding",
            Self::Reserved => "snp-reserved",
            Self::CertificateForm => "snp-certificate",
            Self::CertificateMissing => "snp-certificate-missing",
            Self::Root => "snp-root",
            Self::ChainSignature => "snp-chain-signature",
            Self::CertificateExtension => "snp-certificate-extension",
            Self::CertificateNotYetValid => "snp-certificate-not-yet-valid",
            Self::CertificateExpired => "snp-certificate-expired",
            Self::Crl => "snp-crl",
            Self::CertificateRevoked => "snp-certificate-revoked",
            Self::CrlMissing => "snp-crl-missing",
            Self::CrlStale => "snp-crl-stale",
            Self::Signature => "snp-signature",
            Self::SigningKey => "snp-signing-key",
            Self::Product => "snp-product",
            Self::TcbEncoding => "snp-tcb-reserved",
            Self::TcbCertificate => "snp-tcb-certificate",
            Self::TcbOrder => "snp-tcb-order",
            Self::TcbProvisional => "snp-tcb-provisional",
            Self::ChipId => "snp-chip-id",
            Self::ChipMasked => "snp-chip-masked",
            Self::ChipPinned => "snp-chip-pinned",
            Self::ChipAllowed => "snp-chip-not-allowed",
            Self::Provider => "snp-provider-not-allowed",
            Self::PolicyReserved => "snp-policy-reserved",
            Self::PolicyDebug => "snp-policy-debug",
            Self::PolicyMigration => "snp-policy-migration",
            Self::PolicyAbi => "snp-policy-abi",
            Self::PolicySmt => "snp-policy-smt",
            Self::PolicySingleSocket => "snp-policy-single-socket",
            Self::PolicyCxl => "snp-policy-cxl",
            Self::PolicyXts => "snp-policy-memory-xts",
            Self::PolicyRapl => "snp-policy-rapl",
            Self::PolicyCiphertext => "snp-policy-ciphertext-hiding",
            Self::PolicyPageSwap => "snp-policy-page-swap",
            Self::HostMade => "snp-host-report",
            Self::Vmpl => "snp-vmpl",
            Self::TcbFloor => "snp-tcb-floor",
            Self::LaunchTcbFloor => "snp-launch-tcb-floor",
            Self::PlatformReserved => "snp-platform-reserved",
            Self::AliasCheck => "snp-alias-check",
            Self::PlatformSmt => "snp-platform-smt",
            Self::PlatformTsme => "snp-platform-tsme",
            Self::PlatformEcc => "snp-platform-ecc",
            Self::PlatformRapl => "snp-platform-rapl",
            Self::PlatformCiphertext => "snp-platform-ciphertext-hiding",
            Self::PlatformIommu => "snp-platform-iommu",
            Self::PlatformTio => "snp-platform-tio",
            Self::MitigationLaunch => "snp-mitigation-launch",
            Self::MitigationCurrent => "snp-mitigation-current",
            Self::Measurement => "snp-measurement",
            Self::IdKey => "snp-id-key",
            Self::AuthorKey => "snp-author-key",
            Self::FamilyId => "snp-family-id",
            Self::ImageId => "snp-image-id",
            Self::GuestSvn => "snp-guest-svn",
            Self::HostData => "snp-host-data",
            Self::ReportData => "snp-report-data",
            Self::ReportId => "snp-report-id",
            Self::ProductAllowed => "snp-product-not-allowed",
            Self::ProductDistrusted => "snp-product-distrusted",
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
