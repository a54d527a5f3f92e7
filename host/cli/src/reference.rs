//! `reference`: which software and firmware peers may run.

use crate::device::{Hardware, PlatformArguments};
use crate::document;
use crate::failure::Failure;
use crate::host::{PeerRole, role_name};
use crate::invocation::Invocation;
use crate::output::note;
use crate::policy::{Version, applied, show_document};
use crate::session::{danger_line, with_session};
use blindferry_attest::evidence::{Evidence, EvidenceError};
use blindferry_attest::reference::{Firmware, ReferenceValues};
use blindferry_attest::snp::{Anchors, EndorsedVek, KeyKind, Report};
use blindferry_attest::tpm::PcrSelection;
use blindferry_attest::tpm::events::EventPolicy;
use blindferry_attest::tpm::quote::{Quote, QuoteError};
use blindferry_device::client::Device;
use blindferry_device::pcr::never_extended;
use blindferry_device::protocol::Description;
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::operator::OperatorRequest;
use blindferry_proto::role::Role;
use clap::{Args, Subcommand, ValueEnum};
use rustix::system::uname;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) mod compute;
mod difference;
pub(crate) mod sign;
mod snp;
mod uki;

/// Reference values: which software peers may run
#[derive(Debug, Subcommand)]
pub(crate) enum Reference {
    /// Show the reference values in force
    Show {
        /// For peers of this role
        #[arg(long, value_enum, default_value_t = PeerRole::Broker)]
        role: PeerRole,
    },
    /// Write reference values that accept what this machine runs now: a file to begin with
    Capture(Capture),
    #[command(subcommand)]
    Compute(Box<compute::Compute>),
    Diff(difference::Diff),
    Sign(sign::Sign),
    /// Replace the reference values for the role that the file names
    Apply {
        /// Reference values in TOML; - is standard input
        file: PathBuf,
        /// Only when FILE.sig is a signature by this public Ed25519 key, in PEM
        #[arg(long, value_name = "FILE")]
        signed_by: Option<PathBuf>,
    },
}

/// What to capture.
#[derive(Debug, Args)]
pub(crate) struct Capture {
    /// Whose evidence they shall judge
    #[arg(long, value_enum, default_value_t = CapturedRole::Broker)]
    role: CapturedRole,
    /// What the platform is called in audit and errors [default: host name and kernel release]
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Which firmware of the TPM they shall accept
    #[arg(long, value_enum, default_value_t = CapturedFirmware::Exact)]
    firmware: CapturedFirmware,
    /// Accept a TPM's machine by the events of its boot, which an update of its firmware leaves as they are, and not by PCR
    /// values
    #[arg(long, conflicts_with = "pcrs")]
    events: bool,
    #[command(flatten)]
    hardware: PlatformArguments,
}

/// Whose evidence reference values judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CapturedRole {
    /// A worker host's
    Broker,
    /// An operator's machine's
    Operator,
    /// The vault's; for `enclave approve`
    Vault,
    /// The vault's next guest's; for `succeed`
    Successor,
}

/// Which firmware reference values accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CapturedFirmware {
    /// The version that the TPM has now, as its quotes name it
    Exact,
    /// Every version
    Any,
}

#[derive(Serialize)]
struct Captured<'a> {
    role: &'static str,
    name: &'a str,
    /// As its quotes name it; nothing where any version is accepted.
    firmware: Option<String>,
    never_extended: Vec<u8>,
    text: &'a str,
}

/// Reference values that were applied.
#[derive(Serialize)]
struct AppliedReference {
    applied: bool,
    version: Version,
    /// What they accept in words that start with `dangerously`, a line each.
    dangers: Vec<String>,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation, reference: Reference) -> Result<(), Failure> {
    match reference {
        Reference::Show { role } => {
            let doing = "show the reference values";
            let request = OperatorRequest::ReferenceShow { role: role.into() };
            let reply = with_session(invocation, async |session| session.ask(doing, request).await)?;
            show_document(invocation, doing, &reply)
        }
        Reference::Apply { file, signed_by } => {
            let doing = "apply the reference values";
            let text = document::read(&file)?;
            // Here first: the parser names the place of a mistake, a refusal has one line.
            let values = parse(&file, text.as_str())?;
            let dangers: Vec<String> = values.dangers().iter().map(danger_line).collect();
            for danger in &dangers {
                note(&format!("warning: {danger}: every audit record will say so, status and metrics too"));
            }
            if let Some(trusted) = signed_by {
                let (_by, _signed) = sign::check(&file, values, &trusted)?;
            }
            let reply = with_session(invocation, async |session| {
                session.ask(doing, OperatorRequest::Reference { text }).await
            })?;
            let version = applied(doing, &file, reply)?;
            invocation.output.show(&AppliedReference { applied: true, version, dangers }, || {
                format!("reference values in force{}", version.shown())
            })
        }
        Reference::Capture(capture) => run_capture(invocation, capture),
        Reference::Compute(compute) => compute::run(invocation, &compute),
        Reference::Diff(diff) => difference::run(invocation, &diff),
        Reference::Sign(sign) => sign::run(invocation, &sign),
    }
}

fn parse(path: &Path, text: &str) -> Result<ReferenceValues, Failure> {
    let parsed = ReferenceValues::parse(text);
    parsed.map_err(|source| Failure::Reference { path: path.to_owned(), source: Box::new(source) })
}

fn run_capture(
    invocation: &Invocation,
    Capture { role, name, firmware, events, hardware }: Capture,
) -> Result<(), Failure> {
    let hardware = Hardware::of(invocation, &hardware)?;
    let role = Role::from(role);
    let name = name.unwrap_or_else(platform_name);
    let (values, firmware, never_extended) = match hardware.pcrs() {
        Some(_) if events => capture_events(invocation, &hardware, firmware, role, &name)?,
        None if events => return Err(Failure::NoEvents),
        Some(selection) => capture_tpm(invocation, &hardware, *selection, firmware, role, &name)?,
        None => (capture_guest(invocation, &hardware, role, &name)?, None, Vec::new()),
    };
    let text = values.to_toml();
    let document = Captured { role: role_name(role), name: &name, firmware, never_extended, text: &text };
    invocation.output.show(&document, || text.clone())
}

/// What this machine has in its PCRs; beside it the firmware version that is accepted alone, and the PCRs that bind to
/// nothing.
fn capture_tpm(
    invocation: &Invocation,
    hardware: &Hardware,
    selection: PcrSelection,
    firmware: CapturedFirmware,
    role: Role,
    name: &str,
) -> Result<(ReferenceValues, Option<String>, Vec<u8>), Failure> {
    let progress = invocation.progress("reading the PCRs");
    let read = async |device: Device| {
        let values = device.pcrs(&selection).await?;
        let evidence = match firmware {
            CapturedFirmware::Exact => Some(device.quote(NOBODYS_CHALLENGE, Some(&selection)).await?),
            CapturedFirmware::Any => None,
        };
        Ok((values, evidence))
    };
    let (values, evidence) = hardware.with("read the PCRs", read)?;
    drop(progress);
    let version = evidence.map(|evidence| quoted_firmware(&evidence)).transpose();
    let version = version.map_err(|source| Failure::Firmware { source })?;
    let never = never_extended(&values);
    if !never.is_empty() {
        note(&format!("warning: PCRs {never:?} were never extended: whatever their values stand for was not measured"));
    }
    let accepted = version.map_or(Firmware::Any, |version| Firmware::Only(BTreeSet::from([version])));
    let captured = ReferenceValues::capture(role, name, accepted, &values);
    let firmware = version.map(|version| format!("{version:016x}"));
    Ok((captured.map_err(|source| Failure::Capture { source: Box::new(source) })?, firmware, never))
}

/// What the boot of this machine was, by its own log; beside it the firmware version that is accepted alone.
fn capture_events(
    invocation: &Invocation,
    hardware: &Hardware,
    firmware: CapturedFirmware,
    role: Role,
    name: &str,
) -> Result<(ReferenceValues, Option<String>, Vec<u8>), Failure> {
    let selection = PcrSelection::new(EventPolicy::CAPTURED).map_err(|source| Failure::EventPcrs { source })?;
    let progress = invocation.progress("reading the event log");
    let wanted = WantedLogs { events: true, ima: false };
    let quote = async |device: Device| device.quote_with(NOBODYS_CHALLENGE, Some(&selection), wanted).await;
    let encoded = hardware.with("quote with the event log", quote)?;
    drop(progress);
    let unread = |source| Failure::Firmware { source };
    let Evidence::Tpm(evidence) =
        Evidence::decode(&encoded).map_err(|source| unread(FirmwareError::Evidence(source)))?
    else {
        return Err(unread(FirmwareError::NotTpm));
    };
    let version = match firmware {
        CapturedFirmware::Exact => Some(quoted_firmware(&encoded).map_err(unread)?),
        CapturedFirmware::Any => None,
    };
    let accepted = version.map_or(Firmware::Any, |version| Firmware::Only(BTreeSet::from([version])));
    let values = ReferenceValues::capture_events(role, name, accepted, &evidence, command_line().as_deref())
        .map_err(|source| Failure::CaptureEvents { source: Box::new(source) })?;
    let pcrs: Vec<u8> = values.selection().iter().flat_map(|selection| selection.indices()).collect();
    note(&format!("these judge a quote of PCRs {pcrs:?}: what makes this machine's evidence must be configured so"));
    Ok((values, version.map(|version| format!("{version:016x}")), Vec::new()))
}

/// The kernel's command line as it is; only one that was measured goes into reference values.
fn command_line() -> Option<String> {
    let mut text = String::new();
    File::open("/proc/cmdline").ok()?.take(MAX_COMMAND_LINE).read_to_string(&mut text).ok()?;
    let text = text.trim_end_matches('\n');
    (!text.is_empty()).then(|| text.to_owned())
}

/// What this guest is, if AMD vouches for its report.
fn capture_guest(
    invocation: &Invocation,
    hardware: &Hardware,
    role: Role,
    name: &str,
) -> Result<ReferenceValues, Failure> {
    let progress = invocation.progress("asking for a report");
    let description = hardware.with("ask for a report", async |device| device.describe().await)?;
    drop(progress);
    let Description::Snp(guest) = description else {
        return Err(Failure::Unexpected { doing: "ask for a report" });
    };
    let unread = |source| Failure::Report { source: Box::new(source) };
    let report = Report::parse(&guest.report).map_err(unread)?;
    let kind = if report.body().signing_key == 1 { KeyKind::Vlek } else { KeyKind::Vcek };
    let certificates: Vec<&[u8]> = guest.certificates.iter().map(Vec::as_slice).collect();
    let now = now();
    let vek = EndorsedVek::endorse(kind, &certificates, &[], &Anchors::amd(), now).map_err(unread)?;
    let authentic = vek.authenticate(report, now).map_err(unread)?;
    note("warning: this accepts the image that runs now; a measurement computed from its files says which that is");
    ReferenceValues::capture_guest(role, name, &authentic, None)
        .map_err(|source| Failure::Capture { source: Box::new(source) })
}

#[expect(clippy::disallowed_methods, reason = "certificates are judged by this machine's clock")]
fn now() -> u64 {
    // Before 1970 no certificate is valid.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The firmware version that this machine's evidence names: what a verifier will compare. The version among the TPM's
/// properties is the same number on many TPMs, but no specification says that it is on all.
fn quoted_firmware(evidence: &[u8]) -> Result<u64, FirmwareError> {
    let Evidence::Tpm(evidence) = Evidence::decode(evidence).map_err(FirmwareError::Evidence)? else {
        return Err(FirmwareError::NotTpm);
    };
    Ok(Quote::parse(evidence.attest()).map_err(FirmwareError::Quote)?.firmware())
}

/// The firmware version of this machine's own TPM is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirmwareError {
    #[error("the evidence of this machine cannot be read")]
    Evidence(#[source] EvidenceError),
    #[error("the evidence of this machine is not a TPM's")]
    NotTpm,
    #[error("the quote of this machine's TPM cannot be read")]
    Quote(#[source] QuoteError),
}

/// COMMAND_LINE_SIZE of Linux on x86, in bytes, and the end of the line.
const MAX_COMMAND_LINE: u64 = 2049;

/// No verifier asks for it, since theirs are hashes: this quote convinces nobody.
const NOBODYS_CHALLENGE: [u8; 32] = [0; 32];

/// What this machine is, as far as a name goes.
fn platform_name() -> String {
    let system = uname();
    format!("{}, kernel {}", system.nodename().to_string_lossy(), system.release().to_string_lossy())
}

impl From<CapturedRole> for Role {
    fn from(role: CapturedRole) -> Self {
        match role {
            CapturedRole::Broker => Self::Broker,
            CapturedRole::Operator => Self::Operator,
            CapturedRole::Vault => Self::Vault,
            CapturedRole::Successor => Self::Successor,
        }
    }
}
