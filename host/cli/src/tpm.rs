//! `tpm`: who this machine's TPM is.

use crate::device::{TpmArguments, TpmPlace};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::pairs;
use blindferry_attest::tpm::public::Public;
use blindferry_device::protocol::Description;
use ring::digest::{SHA256, digest};
use serde::Serialize;

/// Show who this machine's TPM is: what an operator needs to approve it
#[derive(Debug, clap::Args)]
pub(crate) struct Tpm {
    #[command(flatten)]
    place: TpmArguments,
}

#[derive(Serialize)]
struct Shown {
    ek_hash: String,
    ak_name: String,
    manufacturer: String,
    vendor: String,
    firmware: String,
    software: bool,
    ek_certificates: usize,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation, tpm: &Tpm) -> Result<(), Failure> {
    let place = TpmPlace::of(invocation, &tpm.place)?;
    let progress = invocation.progress("asking the TPM");
    let description = place.with("ask the TPM who it is", async |device| device.describe().await)?;
    drop(progress);
    let shown = shown(&description)?;
    invocation.output.show(&shown, || render(&shown))
}

fn shown(description: &Description) -> Result<Shown, Failure> {
    let ek = Public::parse(&description.ek_public).map_err(|source| Failure::EndorsementKey { source })?;
    Ok(Shown {
        ek_hash: hex::encode(digest(&SHA256, &ek.key().spki())),
        ak_name: hex::encode(&description.ak_name),
        manufacturer: description.manufacturer.clone(),
        vendor: description.vendor.clone(),
        firmware: description.firmware.clone(),
        software: description.software,
        ek_certificates: description.ek_certificates.len(),
    })
}

fn render(shown: &Shown) -> String {
    let kind = if shown.software { "software: its keys are worth what guards its files" } else { "hardware" };
    pairs(&[
        ("EK hash", shown.ek_hash.clone()),
        ("AK name", shown.ak_name.clone()),
        ("Maker", format!("{} {}", shown.manufacturer, shown.vendor)),
        ("Firmware", shown.firmware.clone()),
        ("Kind", kind.to_owned()),
        ("Certificates", shown.ek_certificates.to_string()),
    ])
}
