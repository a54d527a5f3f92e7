//! `attest explain`: what evidence says, in plain words. Nothing is judged, and nothing is to be believed for it.

mod snp;
mod tpm;
mod x509;

use super::input::Given;
use super::recognise::{Part, Recognised, recognise};
use super::said::Said;
use super::shown::print_json;
use crate::failure::Failure;
use crate::invocation::Invocation;
use blindferry_proto::causes::with_causes;
use blindferry_proto::shown::visible;
use serde::Serialize;
use std::process::ExitCode;

#[derive(Serialize)]
struct Explained {
    files: Vec<File>,
}

#[derive(Serialize)]
struct File {
    file: String,
    kind: &'static str,
    says: Vec<Section>,
}

/// One part of a file.
#[derive(Serialize)]
struct Section {
    part: &'static str,
    says: Said,
}

/// Explains each file.
///
/// # Errors
/// [`Failure::Attest`] for the first file that cannot be read or is nothing that this program knows.
pub(super) fn run(invocation: &Invocation, evidence: &[Given]) -> Result<ExitCode, Failure> {
    let mut files = Vec::new();
    for given in evidence {
        let content = given.read().map_err(Failure::Attest)?;
        let Recognised { path, name, parts } = recognise(&content).map_err(Failure::Attest)?;
        let says = parts.iter().map(section).collect();
        files.push(File { file: path.display().to_string(), kind: name, says });
    }
    let explained = Explained { files };
    if invocation.output.is_json() {
        print_json(invocation, &explained)?;
    } else {
        invocation.output.print(&text(&explained))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(explained: &Explained) -> String {
    let mut out = String::new();
    for File { file, kind, says } in &explained.files {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&format!("{}: {kind}\n", visible(file)));
        for Section { part, says: said } in says {
            // The name of a part is news only where there are several.
            let several = says.len() > 1;
            if several {
                out.push_str(&format!("  {part}\n"));
            }
            said.render(if several { 4 } else { 2 }, &mut out);
        }
    }
    out.push_str("\nnothing of this was judged: anybody can write it. `blindferry attest verify` judges\n");
    out
}

fn section(part: &Part) -> Section {
    let (part, says) = match part {
        Part::Report(bytes) => ("report", snp::report(bytes)),
        Part::Hcl(bytes) => ("blob", snp::hcl(bytes)),
        Part::Quote(bytes) => ("quote", tpm::quote(bytes)),
        Part::Signature(bytes) => ("signature", tpm::signature(bytes)),
        Part::Public(bytes) => ("public area", tpm::public(bytes)),
        Part::Key(key) => ("public key", tpm::key(key)),
        Part::Pcrs(values) => ("PCR values", tpm::pcrs(values)),
        Part::Bare(bytes) => ("bare bytes", tpm::bare(bytes)),
        Part::EventLog(bytes) => ("event log", tpm::event_log(bytes)),
        Part::Ima(bytes) => ("IMA list", tpm::ima_list(bytes)),
        Part::Certificate(der) => ("certificate", x509::certificate(der)),
        Part::Crl(der) => ("revocation list", x509::crl(der)),
        Part::Tdx(bytes) => ("TDX quote", tdx(bytes)),
    };
    Section { part, says }
}

/// The first fields of the header alone.
fn tdx(bytes: &[u8]) -> Said {
    let version = bytes.first().copied().unwrap_or_default();
    Said::fields([
        ("version", Said::Number(version.into())),
        ("length", Said::from(format!("{} bytes", bytes.len()))),
        ("supported", "no: this program knows AMD SEV-SNP and TPM 2.0".into()),
    ])
}

/// What is said of a part that does not parse.
fn unreadable(what: &str, error: &dyn std::error::Error) -> Said {
    Said::fields([(what, Said::from("does not parse")), ("problem", with_causes(error).into())])
}
