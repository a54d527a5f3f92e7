//! `platform`: who this machine's TPM is, or what guest it is.

use crate::device::{Hardware, PlatformArguments};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::pairs;
use blindferry_attest::snp::Report;
use blindferry_attest::tpm::public::Public;
use blindferry_device::protocol::{Description, SnpDescription, TpmDescription};
use ring::digest::{SHA256, digest};
use serde::Serialize;

/// Show who this machine's TPM is, or what SEV-SNP guest it is: what an operator needs to approve it
#[derive(Debug, clap::Args)]
pub(crate) struct Tpm {
    #[command(flatten)]
    hardware: PlatformArguments,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Shown {
    Tpm(ShownTpm),
    Guest(ShownGuest),
}

#[derive(Serialize)]
struct ShownGuest {
    chip_id: String,
    measurement: String,
    reported_tcb: String,
    committed_tcb: String,
    signed_by: &'static str,
    guest_policy: String,
    vmpl: u32,
    interface: String,
    certificates: usize,
    certificate_address: Option<String>,
}

#[derive(Serialize)]
struct ShownTpm {
    ek_hash: String,
    ak_name: String,
    manufacturer: String,
    vendor: String,
    firmware: String,
    software: bool,
    azure: bool,
    ek_certificates: usize,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation, tpm: &Tpm) -> Result<(), Failure> {
    let hardware = Hardware::of(invocation, &tpm.hardware)?;
    let progress = invocation.progress("asking the platform");
    let description = hardware.with("ask the platform who it is", async |device| device.describe().await)?;
    drop(progress);
    let shown = shown(&description)?;
    invocation.output.show(&shown, || render(&shown))
}

fn shown(description: &Description) -> Result<Shown, Failure> {
    match description {
        Description::Tpm(tpm) => shown_tpm(tpm).map(Shown::Tpm),
        Description::Snp(guest) => shown_guest(guest).map(Shown::Guest),
    }
}

fn shown_guest(guest: &SnpDescription) -> Result<ShownGuest, Failure> {
    let report = Report::parse(&guest.report).map_err(|source| Failure::Report { source: Box::new(source) })?;
    let body = report.body();
    Ok(ShownGuest {
        chip_id: body.chip_id.to_string(),
        measurement: body.measurement.to_string(),
        reported_tcb: body.reported_tcb.to_string(),
        committed_tcb: body.committed_tcb.to_string(),
        signed_by: match body.signing_key {
            0 => "vcek",
            1 => "vlek",
            _ => "nothing",
        },
        guest_policy: format!("{:#x}", body.policy.0),
        vmpl: body.vmpl,
        interface: guest.interface.clone(),
        certificates: guest.certificates.len(),
        certificate_address: guest.certificate_address.clone(),
    })
}

fn shown_tpm(description: &TpmDescription) -> Result<ShownTpm, Failure> {
    let ek = Public::parse(&description.ek_public).map_err(|source| Failure::EndorsementKey { source })?;
    Ok(ShownTpm {
        ek_hash: hex::encode(digest(&SHA256, &ek.key().spki())),
        ak_name: hex::encode(&description.ak_name),
        manufacturer: description.manufacturer.clone(),
        vendor: description.vendor.clone(),
        firmware: description.firmware.clone(),
        software: description.software,
        azure: description.azure,
        ek_certificates: description.ek_certificates.len(),
    })
}

fn render(shown: &Shown) -> String {
    match shown {
        Shown::Tpm(tpm) => render_tpm(tpm),
        Shown::Guest(guest) => render_guest(guest),
    }
}

fn render_guest(guest: &ShownGuest) -> String {
    let mut text = pairs(&[
        ("Chip id", guest.chip_id.clone()),
        ("Measurement", guest.measurement.clone()),
        ("Reported TCB", guest.reported_tcb.clone()),
        ("Committed TCB", guest.committed_tcb.clone()),
        ("Signed by", guest.signed_by.to_owned()),
        ("Guest policy", guest.guest_policy.clone()),
        ("VMPL", guest.vmpl.to_string()),
        ("Reports from", guest.interface.clone()),
        ("Certificates", guest.certificates.to_string()),
    ]);
    if guest.certificates == 0 {
        let missing = guest.certificate_address.as_ref().map_or_else(
            || "! the host gives no certificate, and the report does not tell where it would be\n".to_owned(),
            |address| {
                format!(
                    "! there is no certificate: fetch {address}\n  and keep it with `blindferry-device-snp provision \
                     --certificates DIRECTORY --import FILE`\n"
                )
            },
        );
        text.push_str(&missing);
    }
    text
}

fn render_tpm(shown: &ShownTpm) -> String {
    let kind = if shown.azure {
        "a confidential machine of Azure: approve it by its AK name"
    } else if shown.software {
        "software: its keys are worth what guards its files"
    } else {
        "hardware"
    };
    pairs(&[
        ("EK hash", shown.ek_hash.clone()),
        ("AK name", shown.ak_name.clone()),
        ("Maker", format!("{} {}", shown.manufacturer, shown.vendor)),
        ("Firmware", shown.firmware.clone()),
        ("Kind", kind.to_owned()),
        ("Certificates", shown.ek_certificates.to_string()),
    ])
}
