//! The words for each question: its name as people read it, and what an operator can do when it is answered wrongly.

use super::question::Question;

impl Question {
    /// What is asked about, in a few words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.words().0
    }

    /// What an operator can do about a refusal.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        self.words().1
    }

    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Length => {
                ("report length", "a report has exactly 1184 bytes; cut it out of what surrounds it, and do not pad it")
            }
            Self::Version => {
                ("report version", "versions 2 to 5 are known; another is of other firmware, or no report")
            }
            Self::SignatureAlgorithm => (
                "signature algorithm",
                "only ECDSA P-384 with SHA-384 (1) is defined; the report was altered or is not AMD's",
            ),
            Self::SignatureEncoding => (
                "signature padding",
                "the bytes behind R and S are not signed and have to be zero; the report was altered",
            ),
            Self::Reserved => (
                "reserved bytes",
                "newer firmware gave these bytes a meaning that this program does not know; update the program",
            ),
            Self::CertificateForm => (
                "certificate form",
                "give AMD's certificates as the key distribution service or the host gives them, in DER",
            ),
            Self::CertificateMissing => (
                "endorsement certificate",
                "fetch the VCEK or VLEK of this chip and TCB from AMD's key distribution service, or have the host provide it",
            ),
            Self::Root => (
                "root certificate",
                "only AMD's roots are trusted; a test root has to be named in the reference values by dangerously_trusted_root",
            ),
            Self::ChainSignature => {
                ("certificate chain", "the certificates were altered, or do not belong together; fetch them again")
            }
            Self::CertificateExtension => (
                "certificate extensions",
                "the certificate is not of the form that AMD specifies for VCEKs and VLEKs; fetch it again",
            ),
            Self::CertificateNotYetValid => ("certificate has begun", "check the clock of the judging machine"),
            Self::CertificateExpired => (
                "certificate has not ended",
                "fetch a newer certificate; VLEKs live for a year and the provider has to renew them",
            ),
            Self::Crl => {
                ("revocation list form", "fetch the list of this product again from AMD's key distribution service")
            }
            Self::CertificateRevoked => (
                "revocation",
                "AMD revoked the certificate: fetch newer ones; if there are none, stop trusting this product line",
            ),
            Self::CrlMissing => (
                "revocation list",
                "have a list of this product's root at hand, or write crl = \"optional\" in the reference values",
            ),
            Self::CrlStale => (
                "revocation list is current",
                "fetch the list of this product again from AMD's key distribution service",
            ),
            Self::Signature => {
                ("report signature", "the report was altered or forged, or the certificate is of another chip or TCB")
            }
            Self::SigningKey => (
                "signing key",
                "the key has to be of the kind that the report names and the reference values expect (signed_by)",
            ),
            Self::Product => {
                ("product", "the certificate is of another product line than the processor; fetch the right one")
            }
            Self::TcbEncoding => (
                "reserved bytes of TCBs",
                "newer firmware gave these bytes a meaning that this program does not know; update the program",
            ),
            Self::TcbCertificate => {
                ("TCB of the certificate", "fetch the certificate for the TCB that the report tells")
            }
            Self::TcbOrder => {
                ("reported TCB not above current", "the platform claims newer firmware than it runs; do not trust it")
            }
            Self::TcbProvisional => (
                "committed firmware is current",
                "the host can still roll its firmware back: have it commit (SNP_COMMIT), or name the reason in dangerously_accept_provisional_firmware",
            ),
            Self::ChipId => {
                ("chip of the certificate", "the certificate is of another chip; fetch the one of this chip")
            }
            Self::ChipMasked => (
                "chip id told",
                "have the host clear MASK_CHIP_ID, or name the reason in dangerously_accept_masked_chip",
            ),
            Self::ChipPinned => (
                "same chip as before",
                "the peer moved to another machine or is another; if on purpose, remove it and enrol it again",
            ),
            Self::ChipAllowed => {
                ("chip on the list", "if the machine is yours, add its chip id to chips in the reference values")
            }
            Self::Provider => {
                ("cloud provider", "if its VLEKs are to be trusted, add the id to providers in the reference values")
            }
            Self::PolicyReserved => (
                "reserved bits of the guest policy",
                "newer firmware gave these bits a meaning that this program does not know; update the program",
            ),
            Self::PolicyDebug => (
                "guest policy: no debugging",
                "the host can read and write this guest; launch it without DEBUG in its policy",
            ),
            Self::PolicyMigration => (
                "guest policy: no migration agent",
                "a migration agent can move this guest anywhere; launch it without MIGRATE_MA in its policy",
            ),
            Self::PolicyAbi => {
                ("guest policy: ABI version", "launch the guest with a policy of at least this ABI version")
            }
            Self::PolicySmt => (
                "guest policy: SMT",
                "launch the guest with the wanted bit of its policy, or change guest.smt in the reference values",
            ),
            Self::PolicySingleSocket => (
                "guest policy: single socket",
                "launch the guest with the wanted bit of its policy, or change guest.single_socket in the reference values",
            ),
            Self::PolicyCxl => (
                "guest policy: CXL",
                "launch the guest with the wanted bit of its policy, or change guest.cxl in the reference values",
            ),
            Self::PolicyXts => (
                "guest policy: AES-256-XTS",
                "launch the guest with the wanted bit of its policy, or change guest.memory_aes_256_xts in the reference values",
            ),
            Self::PolicyRapl => (
                "guest policy: RAPL off",
                "launch the guest with the wanted bit of its policy, or change guest.rapl_disabled in the reference values",
            ),
            Self::PolicyCiphertext => (
                "guest policy: ciphertext hiding",
                "launch the guest with the wanted bit of its policy, or change guest.ciphertext_hiding in the reference values",
            ),
            Self::PolicyPageSwap => (
                "guest policy: page swap off",
                "launch the guest with the wanted bit of its policy, or change guest.page_swap_disabled in the reference values",
            ),
            Self::HostMade => (
                "asked for by the guest",
                "the host asked for this report, not the guest; it proves nothing about who answers",
            ),
            Self::Vmpl => {
                ("privilege level", "ask for the report from the wanted VMPL, or change vmpl in the reference values")
            }
            Self::TcbFloor => (
                "TCB floor",
                "update the firmware of the host (BIOS, SEV firmware, microcode), or lower the floor knowingly",
            ),
            Self::LaunchTcbFloor => (
                "TCB at launch",
                "the guest was launched under older firmware: launch it again, or lower the floor knowingly",
            ),
            Self::PlatformReserved => (
                "reserved bits of platform info",
                "newer firmware gave these bits a meaning that this program does not know; update the program",
            ),
            Self::AliasCheck => (
                "memory alias check",
                "update the BIOS of the host so that it checks for aliased memory (BadRAM, CVE-2024-21944)",
            ),
            Self::PlatformSmt => {
                ("platform: SMT", "change the setting of the host's BIOS, or platform.smt in the reference values")
            }
            Self::PlatformTsme => {
                ("platform: TSME", "change the setting of the host's BIOS, or platform.tsme in the reference values")
            }
            Self::PlatformEcc => {
                ("platform: ECC memory", "use a host with ECC memory, or change platform.ecc in the reference values")
            }
            Self::PlatformRapl => (
                "platform: RAPL off",
                "change the setting of the host's BIOS, or platform.rapl_disabled in the reference values",
            ),
            Self::PlatformCiphertext => (
                "platform: ciphertext hiding",
                "have the host enable it, or change platform.ciphertext_hiding in the reference values",
            ),
            Self::PlatformIommu => (
                "platform: IOMMU writes safe",
                "update the firmware of the host, or change platform.iommu_write_safe in the reference values",
            ),
            Self::PlatformTio => {
                ("platform: trusted I/O", "change the setting of the host, or platform.tio in the reference values")
            }
            Self::MitigationLaunch => (
                "mitigations at launch",
                "update the firmware of the host and launch the guest again, or change mitigation.launch in the reference values",
            ),
            Self::MitigationCurrent => (
                "mitigations now",
                "update the firmware of the host, or change mitigation.current in the reference values",
            ),
            Self::Measurement => {
                ("launch measurement", "if this image is meant to run, add its measurement to the reference values")
            }
            Self::IdKey => {
                ("id key", "launch the guest with an id block that a listed key signed, or add the key to id_keys")
            }
            Self::AuthorKey => (
                "author key",
                "launch the guest with an id block whose id key a listed author signed, or add the key to author_keys",
            ),
            Self::FamilyId => {
                ("family id", "launch the image of the wanted family, or change family_id in the reference values")
            }
            Self::ImageId => ("image id", "launch the wanted image, or change image_id in the reference values"),
            Self::GuestSvn => ("guest security version", "update the image; an older one is not to come back"),
            Self::HostData => {
                ("host data", "launch the guest with the wanted configuration, or add the value to host_data")
            }
            Self::ReportData => {
                ("report data", "the report answers another challenge, or none: it is stale, relayed or reflected")
            }
            Self::ReportId => {
                ("same guest as before", "the guest was started again or is another; it has to begin a new session")
            }
            Self::ProductAllowed => (
                "product line allowed",
                "if such processors are to be trusted, add the line to products in the reference values",
            ),
            Self::ProductDistrusted => (
                "product line trusted",
                "software can extract the keys of Milan chips, so any report can be forged: use Genoa or Turin, or name the reason in dangerously_trust_milan",
            ),
        }
    }
}
