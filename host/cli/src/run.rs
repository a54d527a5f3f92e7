//! `run`: runs a program as a worker.

use crate::environment::{Wanted, show};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::launch::{Launch, explain as explain_launch, launch, launch_via};
use crate::sandbox::Sandbox;
use crate::via::{LEVEL, Via, ViaError};
use crate::wait::Wait;
use crate::wish::{Wish, delivered, of_wishes};
use blindferry_proto::name::Audience;
use blindferry_proto::protection::ProtectionLevel;
use blindferry_proto::start::MAX_GRANTS;
use std::ffi::OsString;

/// Run a program with tokens
///
/// Asks this host's broker for grants and becomes blindferry-launch, which redeems them, hands the tokens to PROGRAM and
/// becomes PROGRAM. This command never sees a token. Ends as PROGRAM ends; see `blindferry-launch --help` for the rest.
/// BLINDFERRY_PARENTS and BLINDFERRY_WORKERS name the broker's sockets where they are not the usual ones.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The credentials, each with the forms in which PROGRAM gets it: `deploy-key`, `db:env:DB_PASSWORD`
    #[arg(value_name = "NAME[:FORM]", required_unless_present_any = ["credential", "sandbox"])]
    names: Vec<Wish>,
    /// The same, as an option; may be given several times
    #[arg(long, value_name = "NAME[:FORM]")]
    credential: Vec<Wish>,
    /// Whom the tokens shall be for
    #[arg(long)]
    audience: Option<Audience>,
    /// How PROGRAM gets a token: pipe (default), memfd, stdin, descriptor, credentials-directory, env:VARNAME or file:PATH;
    /// with several credentials NAME=FORM; may be given several times
    #[arg(long, value_name = "[NAME=]FORM")]
    deliver: Vec<OsString>,
    /// Render a file that embeds tokens as {{ credential NAME }}, and deliver that; may be given several times
    #[arg(long, value_name = "SOURCE:FORM")]
    template: Vec<OsString>,
    /// Renew tokens before they expire, where they can be read again: memfd, file:PATH, credentials-directory
    #[arg(long)]
    renew: bool,
    /// Send PROGRAM this signal after each renewal: HUP, USR1 or USR2
    #[arg(long, value_name = "SIGNAL", requires = "renew")]
    renew_signal: Option<OsString>,
    /// Run this after each renewal, without any token; divided at blanks
    #[arg(long, value_name = "COMMAND", requires = "renew")]
    renew_command: Option<OsString>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    wanted: Wanted,
    /// How well PROGRAM is kept from other processes of its user: exec-only (default), own-group, own-namespace (with --via
    /// broker, whose default it is) or none; exactly so, or it is not started
    #[arg(long, value_name = "LEVEL")]
    protection: Option<ProtectionLevel>,
    /// Let the starter of this machine's broker start PROGRAM: in a user namespace where neither another process of this
    /// user, nor what is loaded into this command or traces it, can look (--protection own-namespace, and no other)
    #[arg(long, value_name = "WHO", value_enum)]
    via: Option<Via>,
    /// Say which levels hold on this machine, what they keep out, and who could read each token for how long; ask for
    /// nothing and start nothing
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    sandbox: Sandbox,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// Runs it.
///
/// # Errors
/// [`Failure`], when PROGRAM could not be become.
pub(crate) fn run(invocation: &Invocation, run: Run) -> Result<(), Failure> {
    let Run {
        names,
        credential,
        audience,
        deliver,
        template,
        wait,
        wanted,
        protection,
        via,
        explain,
        sandbox,
        program,
        ..
    } = run;
    let wishes = [names, credential].concat();
    if wishes.is_empty() {
        // Only where `--sandbox` is, which the arguments see to.
        return crate::sandbox::run(invocation, &sandbox, &wanted, program);
    }
    let credentials = of_wishes(&wishes);
    // Before the broker is asked: what is refused here costs no grant.
    let selection = wanted.select()?;
    let forms = wishes.iter().filter_map(Wish::as_delivery).chain(deliver).collect::<Vec<_>>();
    if wanted.dry_run {
        return show(invocation.output, &selection, &delivered(&credentials, &forms, &template));
    }
    let mut options: Vec<OsString> = Vec::new();
    options.extend(forms.into_iter().flat_map(|form| ["--deliver".into(), form]));
    options.extend(template.into_iter().flat_map(|template| ["--template".into(), template]));
    options.extend(run.renew.then(|| "--renew".into()));
    options.extend(run.renew_signal.into_iter().flat_map(|signal| ["--renew-signal".into(), signal]));
    options.extend(run.renew_command.into_iter().flat_map(|command| ["--renew-command".into(), command]));
    options.extend((explain && invocation.output.is_json()).then(|| "--json".into()));
    options.extend(wanted.into_options());
    let called = program.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
    if via == Some(Via::Broker) {
        if protection.is_some_and(|level| level != LEVEL) {
            return Err(ViaError::Level.into());
        }
        if credentials.len() > MAX_GRANTS {
            return Err(ViaError::Credentials.into());
        }
        let launch = Launch { credentials, audience, protection: LEVEL, wait, called, options, program };
        return launch_via(launch, explain, selection.into_environment());
    }
    let protection = protection.unwrap_or(ProtectionLevel::ExecOnly);
    if explain {
        options.push("--explain".into());
        return explain_launch(invocation, &credentials, protection, options, program);
    }
    launch(invocation, Launch { credentials, audience, protection, wait, called, options, program })
}
