//! `roots`: the TPM makers' certificates for hosts that are approved by certificate.

use crate::document;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::policy::{Applied, applied, show_document};
use crate::session::with_session;
use blindferry_proto::operator::OperatorRequest;
use clap::Subcommand;
use std::path::PathBuf;

/// Certificates of the TPM makers' CAs
#[derive(Debug, Subcommand)]
pub(crate) enum Roots {
    /// Show those in force
    Show,
    /// Replace them
    Apply {
        /// Certificates in PEM, one after the other, none to withdraw all; - is standard input
        file: PathBuf,
    },
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation, roots: Roots) -> Result<(), Failure> {
    match roots {
        Roots::Show => {
            let doing = "show the roots";
            let request = OperatorRequest::EndorsementRootsShow;
            let reply = with_session(invocation, async |session| session.ask(doing, request).await)?;
            show_document(invocation, doing, &reply)
        }
        Roots::Apply { file } => {
            let text = document::read(&file)?;
            let doing = "apply the roots";
            let request = OperatorRequest::EndorsementRoots { text };
            let reply = with_session(invocation, async |session| session.ask(doing, request).await)?;
            let version = applied(doing, &file, reply)?;
            invocation.output.show(&Applied { applied: true, version }, || format!("roots applied{}", version.shown()))
        }
    }
}
