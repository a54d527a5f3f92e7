//! `blindferry`: the command of operators and of people.
//!
//! ```text
//!  holds     on `put` a master, on `init` and `recover` the recovery key, on `read` a token: in secret memory, for as long
//!            as it is needed
//!  talks to  the vault, over an attested session; its device process; the enclave's executable while it is set up;
//!            the broker: on `run` as a parent that hands its grant on and sees no token, on `read` as a worker too
//!  is        non-dumpable from its first instruction, without core files and new privileges
//! ```

use crate::arguments::{Arguments, Command, wants_json};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::{Output, note};
use crate::told::tell;
use blindferry_calls::deny_io_uring;
use blindferry_handle::entry::{Entered, Entry, EntryError, enter};
use blindferry_handle::wiping::WipingAllocator;
use blindferry_probe::Start;
use clap::Parser;
use rustix::thread::set_no_new_privs;
use std::process::ExitCode;

mod approve;
mod arguments;
mod attest;
mod audit;
mod backup;
mod check_config;
mod completions;
mod configuration;
mod confirm;
mod deposit;
mod device;
mod doctor;
mod document;
mod enclave;
mod env;
mod environment;
mod exit;
mod failure;
mod fixes;
mod generate;
mod host;
mod init;
mod invocation;
mod kind;
mod launch;
mod list;
mod man;
mod output;
mod page;
mod policy;
mod progress;
mod prompt;
mod put;
mod read;
mod recover;
mod reference;
mod remove;
mod reserve;
mod restore;
mod roots;
mod rotate;
mod run;
mod sandbox;
mod secret_input;
mod session;
mod setup;
mod status;
mod succeed;
mod told;
mod tpm;
mod via;
mod wait;
mod wish;

#[global_allocator]
static HEAP: WipingAllocator = WipingAllocator;

fn main() -> ExitCode {
    // First, before a byte of the command line is looked at: it may start this executable again.
    let entered = match enter(&Entry::new().keep_new_privileges().allow_debugger_by_option()) {
        Ok(entered) => entered,
        Err(error) => return consult(&error).unwrap_or_else(|| fail(&Failure::Enter(error), wants_json())),
    };
    let Arguments { general, command } = match Arguments::parse_or_end(std::env::args_os().collect()) {
        Ok(arguments) => arguments,
        Err(end) => return end,
    };
    // The launcher may be installed set-group-ID. Becoming it is the one use for a new privilege.
    if !matches!(command, Command::Run(_))
        && let Err(error) = set_no_new_privs(true)
    {
        return fail(&Failure::Enter(EntryError::NoNewPrivileges { source: error.into() }), general.json);
    }
    // What `run` and `env` become would inherit it, and the doctor tries it.
    if !matches!(command, Command::Run(_) | Command::Env(_) | Command::Doctor(_))
        && let Err(error) = deny_io_uring()
    {
        return fail(&Failure::Calls(error), general.json);
    }
    if let Some(warning) = entered.warning().filter(|_| entered.traced()) {
        note(&format!("warning: {warning}"));
    }
    let invocation = Invocation::new(&entered, general.config, general.json, !general.no_progress);
    match obey(&entered, &invocation, command) {
        Ok(end) => end,
        Err(failure) => fail(&failure, general.json),
    }
}

fn obey(entered: &Entered, invocation: &Invocation, command: Command) -> Result<ExitCode, Failure> {
    match command {
        // A verdict is no failure: the evidence was judged, or the machine.
        Command::Attest(attest) => return attest::run(invocation, attest),
        Command::Status(status) => return status::run(invocation, &status),
        Command::CheckConfig(check) => return check_config::run(invocation, check),
        Command::Doctor(doctor) => return doctor::run(invocation.output, Start::of(Ok(entered)), &doctor),
        Command::Init(init) => init::run(invocation, &init),
        Command::Recover(recover) => recover::run(invocation, &recover),
        Command::Backup(backup) => backup::run(invocation, &backup),
        Command::Restore(restore) => restore::run(invocation, &restore),
        Command::Succeed(succeed) => succeed::run(invocation, &succeed),
        Command::Put(put) => put::run(invocation, *put),
        Command::List(_) => list::run(invocation),
        Command::Remove(remove) => remove::run(invocation, remove),
        Command::Host(host) => host::run(invocation, host),
        Command::Roots(roots) => roots::run(invocation, roots),
        Command::Policy(policy) => policy::run(invocation, policy),
        Command::Reference(reference) => reference::run(invocation, reference),
        Command::Enclave(enclave) => enclave::run(invocation, enclave),
        Command::Rotate(rotate) => rotate::run(invocation, rotate),
        Command::Tpm(tpm) => tpm::run(invocation, &tpm),
        Command::Page(_) => page::run(invocation),
        Command::Approve(approve) => approve::run(invocation, approve),
        Command::Audit(audit) => audit::run(invocation, audit),
        Command::Run(run) => run::run(invocation, run),
        Command::Env(env) => env::run(invocation, env),
        Command::Read(read) => read::run(entered, read),
        Command::Completions(completions) => completions::run(invocation.output, &completions),
        Command::Man(man) => man::run(invocation.output, &man),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Where a process of ours refuses to start, the doctor starts all the same, since it is who says why. It holds no secret.
fn consult(refusal: &EntryError) -> Option<ExitCode> {
    if !std::env::args_os().any(|word| word == "doctor") {
        return None;
    }
    match Arguments::try_parse() {
        Ok(Arguments { general, command: Command::Doctor(doctor) }) => {
            let ended = doctor::run(Output::new(general.json), Start::of(Err(refusal)), &doctor);
            Some(ended.unwrap_or_else(|failure| fail(&failure, general.json)))
        }
        _ => None,
    }
}

fn fail(failure: &Failure, json: bool) -> ExitCode {
    tell(failure, json);
    failure.exit().into()
}
