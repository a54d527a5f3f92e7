//! What a report of SEV-SNP says, and a blob of Azure's paravisor around one.

use super::unreadable;
use crate::attest::said::Said;
use blindferry_attest::azure::{Hcl, RuntimeData};
use blindferry_attest::snp::report::{Body, GuestPolicy, PlatformInfo, VMPL_HOST};
use blindferry_attest::snp::tcb::RawTcb;
use blindferry_attest::snp::{KeyKind, Product, Report};

pub(super) fn report(bytes: &[u8]) -> Said {
    match Report::parse(bytes) {
        Ok(report) => body(report.body()),
        Err(refusal) => unreadable("SEV-SNP report", &refusal),
    }
}

pub(super) fn hcl(bytes: &[u8]) -> Said {
    let hcl = match Hcl::parse(bytes) {
        Ok(hcl) => hcl,
        Err(refusal) => return unreadable("Azure HCL report", &refusal),
    };
    let runtime = match RuntimeData::parse(hcl.runtime()) {
        Ok(runtime) => {
            let claims = runtime.claims();
            let flag = |flag: Option<bool>| flag.map_or(Said::from("not told"), Said::Flag);
            Said::fields([
                ("attestation key", super::tpm::key(runtime.ak())),
                ("endorsement key told", Said::Flag(runtime.ek().is_some())),
                ("machine", claims.vm_id.as_deref().unwrap_or("not told").into()),
                ("secure boot", flag(claims.secure_boot)),
                ("vTPM persisted", flag(claims.tpm_persisted)),
                ("console enabled", flag(claims.console_enabled)),
                ("user data", claims.user_data.as_deref().unwrap_or("none").into()),
            ])
        }
        Err(refusal) => unreadable("runtime data", &refusal),
    };
    Said::fields([
        ("blob version", Said::Number(hcl.version().into())),
        ("report", report(hcl.report())),
        ("runtime data", runtime),
    ])
}

fn body(body: &Body) -> Said {
    let product = body.cpu.and_then(|cpu| Product::of_cpu(cpu.family, cpu.model));
    let cpu = match body.cpu {
        Some(cpu) => {
            let line = product.map_or("of no known line", Product::name);
            format!("{line} (family {:02x}h, model {:02x}h, stepping {})", cpu.family, cpu.model, cpu.stepping)
        }
        None => "not told before version 3; the certificate tells".to_owned(),
    };
    let signing = match (KeyKind::of_signing_key(body.signing_key), body.signing_key) {
        (Some(kind), _) => kind.name().to_owned(),
        (None, 7) => "none: not signed".to_owned(),
        (None, other) => format!("reserved value {other}"),
    };
    let vmpl = match body.vmpl {
        VMPL_HOST => "none: the host asked for it, not the guest".to_owned(),
        level @ 0..=3 => format!("{level} of 0 to 3, 0 the most privileged"),
        other => format!("{other}, which does not exist"),
    };
    let author = if body.author_key_enabled { body.author_key_digest.to_string() } else { "none".to_owned() };
    let chip = match body.chip_id.is_zero() {
        true => "masked by the host, or a VLEK signed".to_owned(),
        false => body.chip_id.to_string(),
    };
    let tcb = |raw: RawTcb| Said::from(tcb(raw, product));
    let mut fields = vec![
        ("version", Said::Number(body.version.into())),
        ("processor", cpu.into()),
        ("signing key", signing.into()),
        ("chip id", chip.into()),
        ("privilege level (VMPL)", vmpl.into()),
        ("measurement", body.measurement.to_string().into()),
        ("report data", body.report_data.to_string().into()),
        ("host data", body.host_data.to_string().into()),
        ("report id", body.report_id.to_string().into()),
        (
            "migration agent",
            if body.report_id_ma.as_bytes().iter().all(|byte| *byte == 0xff) {
                "none".into()
            } else {
                body.report_id_ma.to_string().into()
            },
        ),
        (
            "id key",
            if body.id_key_digest.is_zero() {
                "none: launched without an id block".into()
            } else {
                body.id_key_digest.to_string().into()
            },
        ),
        ("author key", author.into()),
        ("family id", Said::hex(&body.family_id)),
        ("image id", Said::hex(&body.image_id)),
        ("guest security version", Said::Number(body.guest_svn.into())),
        ("reported TCB", tcb(body.reported_tcb)),
        ("current TCB", tcb(body.current_tcb)),
        ("committed TCB", tcb(body.committed_tcb)),
        ("launch TCB", tcb(body.launch_tcb)),
        ("firmware", format!("{}, committed {}", body.current_version, body.committed_version).into()),
        ("chip key masked", Said::Flag(body.chip_key_masked)),
    ];
    if let Some(mitigations) = body.mitigations {
        let told = format!("{:#x} at launch, {:#x} now", mitigations.launch, mitigations.current);
        fields.push(("mitigations", told.into()));
    }
    fields.push(("guest policy", policy(body.policy)));
    fields.push(("platform", platform(body.platform)));
    Said::fields(fields)
}

/// Read as the product lays it out; where the report does not tell the product, as Milan and Genoa do if that fits.
fn tcb(raw: RawTcb, product: Option<Product>) -> String {
    let read = raw.of(product.unwrap_or(Product::Milan));
    read.map_or_else(|| format!("{raw}, with reserved bytes that are not zero"), |tcb| format!("{tcb} ({raw})"))
}

fn policy(policy: GuestPolicy) -> Said {
    let (major, minor) = policy.abi();
    let set = |bit: u64| policy.0 & bit != 0;
    let say = |bit, yes: &str, no: &str| if set(bit) { yes.to_owned() } else { no.to_owned() };
    let mut lines = vec![
        format!("{:#x}: ABI {major}.{minor} or newer", policy.0),
        say(GuestPolicy::DEBUG, "debugging ALLOWED: the host can read and write this guest", "debugging forbidden"),
        say(
            GuestPolicy::MIGRATE_MA,
            "a migration agent ALLOWED: it can move this guest anywhere",
            "no migration agent",
        ),
        say(GuestPolicy::SMT, "SMT may be on", "SMT has to be off"),
        say(GuestPolicy::SINGLE_SOCKET, "one socket alone", "several sockets may be used"),
        say(GuestPolicy::CXL_ALLOW, "CXL allowed", "CXL forbidden"),
        say(GuestPolicy::MEM_AES_256_XTS, "memory by AES-256-XTS alone", "memory by AES-128 too"),
        say(GuestPolicy::RAPL_DIS, "RAPL has to be off", "RAPL may be on"),
        say(GuestPolicy::CIPHERTEXT_HIDING, "ciphertext hiding needed", "ciphertext hiding not needed"),
        say(GuestPolicy::PAGE_SWAP_DISABLE, "page swap forbidden", "page swap allowed"),
    ];
    if !set(GuestPolicy::RESERVED_ONE) || policy.0 & !GuestPolicy::KNOWN != 0 {
        lines.push("reserved bits are not as they must be".to_owned());
    }
    Said::lines(lines)
}

fn platform(platform: PlatformInfo) -> Said {
    let say = |bit: u64, yes: &str, no: &str| if platform.0 & bit != 0 { yes.to_owned() } else { no.to_owned() };
    let mut lines = vec![
        format!("{:#x}", platform.0),
        say(PlatformInfo::SMT, "SMT on", "SMT off"),
        say(PlatformInfo::TSME, "transparent memory encryption on", "transparent memory encryption off"),
        say(PlatformInfo::ECC, "memory with error correction", "memory without error correction"),
        say(PlatformInfo::RAPL_DIS, "RAPL off", "RAPL on"),
        say(PlatformInfo::CIPHERTEXT_HIDING, "ciphertext hidden", "ciphertext not hidden"),
        say(PlatformInfo::ALIAS_CHECK, "memory checked for aliases", "memory NOT checked for aliases (BadRAM)"),
        say(PlatformInfo::IOMMU_WRITE_SAFE, "IOMMU writes safe", "IOMMU writes not known to be safe"),
        say(PlatformInfo::TIO, "trusted I/O on", "trusted I/O off"),
    ];
    if platform.0 & !PlatformInfo::KNOWN != 0 {
        lines.push("reserved bits are set".to_owned());
    }
    Said::lines(lines)
}
