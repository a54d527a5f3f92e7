//! `attest`: judges evidence from files, or says what it says. Offline: no vault, no network, no TPM.

use crate::failure::Failure;
use crate::invocation::Invocation;
use blindferry_attest::reference::ReferenceValues;
use blindferry_attest::snp::{ReportData, ReportId};
use blindferry_attest::tpm::AkName;
use clap::{Args, Subcommand};
use gather::Case;
use input::{Given, InputError};
use judge::Question;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

mod explain;
mod gather;
pub(crate) mod input;
mod judge;
mod pcrs;
mod recognise;
mod said;
mod shown;

/// Evidence from files: judge it, or see what it says
#[derive(Debug, Subcommand)]
pub(crate) enum Attest {
    Verify(Box<Verify>),
    Explain(Explain),
}

/// Judge evidence, point by point
///
/// Give all that belongs to one judgement: an SEV-SNP report and its VCEK or VLEK certificate; a TPM quote with its
/// signature, the attestation key's public part, PCR values, event log and IMA list; a blob of Azure's paravisor with the
/// quote of its vTPM. What each file is, is found out by its content. Where that fails, write PART=FILE, with PART one of
/// report, table, hcl, quote, signature, public, pcrs, event-log, ima, certificate, crl, evidence.
///
/// Without --policy everything is judged that needs no reference value, and the questions that are left open are listed.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Verify {
    /// Reference values in TOML to judge by
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Judge certificates and lists as of this moment, such as 2026-11-21T12:00:00Z [default: now]
    #[arg(long, value_name = "RFC3339", value_parser = moment)]
    at: Option<u64>,
    /// A certificate in DER, or certificates in PEM; may be given several times
    #[arg(long, value_name = "FILE")]
    cert: Vec<PathBuf>,
    /// A revocation list in DER or PEM; may be given several times
    #[arg(long, value_name = "FILE")]
    crl: Vec<PathBuf>,
    /// A CA that is trusted for certificates of TPMs; may be given several times. AMD's roots are built in
    #[arg(long, value_name = "FILE")]
    root: Vec<PathBuf>,
    /// What an SEV-SNP guest has to have asked for: 64 bytes, zeros at the end written out
    #[arg(long, value_name = "HEX", value_parser = report_data)]
    report_data: Option<ReportData>,
    /// The SEV-SNP guest that it has to be: `REPORT_ID`, 32 bytes
    #[arg(long, value_name = "HEX", value_parser = report_id)]
    report_id: Option<ReportId>,
    /// What a TPM's quote has to answer
    #[arg(long, value_name = "HEX", value_parser = challenge)]
    challenge: Option<Challenge>,
    /// The Name of the attestation key that has to have quoted
    #[arg(long, value_name = "HEX")]
    ak_name: Option<AkName>,
    /// Files of evidence; - is standard input
    #[arg(required = true, value_name = "EVIDENCE", value_parser = Given::parse)]
    evidence: Vec<Given>,
}

/// Say in plain words what evidence says, without judging it
///
/// Anybody can write evidence: believe nothing of this before `attest verify` accepted it.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Files of evidence, certificates among them; - is standard input
    #[arg(required = true, value_name = "EVIDENCE", value_parser = Given::parse)]
    evidence: Vec<Given>,
}

const EXIT_CODES: &str = "\
Exit status: 0 accepted, 1 refused, 2 could not be judged (unreadable input, missing certificate, unsupported).";

/// Runs it, and says how to end.
///
/// # Errors
/// [`Failure::Attest`], when a file cannot be read or is nothing that this program knows; [`Failure::Reference`].
pub(crate) fn run(invocation: &Invocation, attest: Attest) -> Result<ExitCode, Failure> {
    match attest {
        Attest::Explain(Explain { evidence }) => explain::run(invocation, &evidence),
        Attest::Verify(verify) => match judgement(&verify) {
            Ok(judgement) => {
                shown::show(invocation, &judgement)?;
                Ok(judgement.verdict.exit())
            }
            Err(error) => {
                // A program that reads JSON gets its one object in any case.
                if invocation.output.is_json() {
                    shown::show_unreadable(invocation, &error)?;
                }
                Err(Failure::Attest(error))
            }
        },
    }
}

fn judgement(verify: &Verify) -> Result<judge::Judgement, InputError> {
    let policy = verify.policy.as_deref().map(input::read_policy).transpose()?;
    let mut case = Case::default();
    for given in &verify.evidence {
        case.add(recognise::recognise(&given.read()?)?)?;
    }
    for path in &verify.cert {
        case.add(recognise::certificates(&Given::certificate(path).read()?)?)?;
    }
    for path in &verify.crl {
        case.add(recognise::crls(&Given::crl(path).read()?)?)?;
    }
    let mut roots = Vec::new();
    for path in &verify.root {
        roots.extend(recognise::certificates(&Given::certificate(path).read()?)?.into_certificates());
    }
    let question = Question {
        reference: policy.as_ref(),
        now: verify.at.unwrap_or_else(now),
        roots,
        report_data: verify.report_data,
        report_id: verify.report_id.as_ref(),
        challenge: verify.challenge.as_ref().map(|challenge| challenge.0.as_slice()),
        ak_name: verify.ak_name.as_ref(),
    };
    let judgement = judge::judge(case, &question)?;
    Ok(judgement.with_dangers(policy.as_ref().map(ReferenceValues::dangers).unwrap_or_default()))
}

/// The qualifying data of a quote.
#[derive(Clone, Debug)]
struct Challenge(Vec<u8>);

fn challenge(text: &str) -> Result<Challenge, String> {
    match hex::decode(text) {
        Ok(bytes) if (1..=64).contains(&bytes.len()) => Ok(Challenge(bytes)),
        _ => Err("1 to 64 bytes in hexadecimal are needed".to_owned()),
    }
}

fn report_data(text: &str) -> Result<ReportData, String> {
    let mut bytes = [0; 64];
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| "128 hexadecimal digits are needed; a shorter value has zeros at its end".to_owned())?;
    Ok(ReportData::new(bytes))
}

fn report_id(text: &str) -> Result<ReportId, String> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| "64 hexadecimal digits are needed".to_owned())?;
    Ok(ReportId::new(bytes))
}

fn moment(text: &str) -> Result<u64, String> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|error| error.to_string())?;
    u64::try_from(moment.unix_timestamp()).map_err(|_| "before 1970 there are no certificates".to_owned())
}

#[expect(clippy::disallowed_methods, reason = "certificates are judged by this machine's clock, unless --at is given")]
fn now() -> u64 {
    // Before 1970 no certificate is valid.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
