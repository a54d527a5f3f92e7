//! `read`: writes a token to standard output.

use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::launch::{Launch, launch};
use crate::wait::Wait;
use blindferry_proto::name::{Audience, CredentialName};
use blindferry_proto::protection::ProtectionLevel;
use std::io::{self, IsTerminal};

/// Write a token to standard output, in plaintext
///
/// For programs that read a token from a pipe. Whoever reads standard output has the token: a file, a pipe's reader, a
/// log. `blindferry run` gives it to one program alone and is to be preferred. Ends as blindferry-launch ends. The lease
/// ends with this process.
#[derive(Debug, clap::Args)]
pub(crate) struct Read {
    /// The credential
    name: CredentialName,
    /// Whom the token shall be for
    #[arg(long)]
    audience: Option<Audience>,
    #[command(flatten)]
    wait: Wait,
    /// Write it although standard output is a terminal
    #[arg(long)]
    force: bool,
}

/// Runs it.
///
/// # Errors
/// [`Failure`], when the token was not read.
pub(crate) fn run(invocation: &Invocation, Read { name, audience, wait, force }: Read) -> Result<(), Failure> {
    if io::stdout().is_terminal() && !force {
        return Err(Failure::TokenOnTerminal);
    }
    let options = vec!["--deliver".into(), "stdin".into()];
    let called = "blindferry read: standard output".to_owned();
    let launched = Launch {
        credentials: vec![name],
        audience,
        protection: ProtectionLevel::ExecOnly,
        wait,
        called,
        options,
        program: vec!["cat".into()],
    };
    launch(invocation, launched)
}
