//! `roots`: the TPM makers' certificates for hosts that are approved by certificate.

use crate::document;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::policy::{Applied, applied};
use crate::session::with_session;
use blindferry_proto::operator::OperatorRequest;
use clap::Subcommand;
use std::path::PathBuf;

/// Certificates of the TPM makers' CAs
#[derive(Debug, Subcommand)]
pub(crate) enum Roots {
    /// Replace them
    Apply {
        /// Certificates in PEM, one after the other; - is standard input
        file: PathBuf,
    },
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation, Roots::Apply { file }: Roots) -> Result<(), Failure> {
    let text = document::read(&file)?;
    let doing = "apply the roots";
    let reply =
        with_session(invocation, async |session| session.ask(doing, OperatorRequest::EndorsementRoots { text }).await)?;
    let version = applied(doing, &file, reply)?;
    invocation.output.show(&Applied { applied: true, version }, || format!("roots applied{}", version.shown()))
}
