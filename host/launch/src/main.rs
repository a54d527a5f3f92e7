//! Becomes the worker: redeems a grant, delivers the token in the form that a program expects, and executes it.
//!
//! ```text
//!   blindferry-launch   holds: the grant, then for a moment the token, in secret pages
//!                       talks to: the broker, over its socket for workers
//!                       gave up: being read by others, new privileges, core files, every descriptor and variable
//!                                that it was not told to keep
//!        │ execve(2): the same process, so the same lease
//!        ▼
//!   PROGRAM             gets: the token, in one form; is unreadable from its first instruction
//! ```

use crate::arguments::Arguments;
use crate::confine::{become_unreadable, end_with, let_through, say, take_along, warn};
use crate::deliver::Outlets;
use crate::environment::{inherited, present, told};
use crate::explain::explain;
use crate::failure::{Failure, OWN_FAILURE};
use crate::program::Program;
use crate::protect::{Prepared, Protection};
use crate::redeem::{Leases, Told};
use blindferry_proto::causes::with_causes;
use blindferry_worker::{receive, workers_socket};
use clap::Parser;
use std::convert::Infallible;
use std::process::ExitCode;

mod arguments;
mod confine;
mod deliver;
mod environment;
mod explain;
mod failure;
mod group;
mod level;
mod outside;
mod probe;
mod program;
mod protect;
mod redeem;
mod renew;

fn main() -> ExitCode {
    // First, before a byte of the command line is looked at: it may start this executable again.
    if let Err(error) = become_unreadable() {
        return report(&error.into());
    }
    if let Some(number) = Arguments::outsider() {
        return outside::serve(number).map_or_else(|error| report(&error.into()), |()| ExitCode::SUCCESS);
    }
    match Arguments::try_parse() {
        Ok(arguments) if arguments.explain => match explain(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => report(&failure),
        },
        Ok(arguments) => match launch(arguments) {
            Err(failure) => report(&failure),
        },
        Err(error) => {
            let status = if error.use_stderr() { OWN_FAILURE } else { 0 };
            // Nobody is left to tell when this fails.
            let _printed = error.print();
            ExitCode::from(status)
        }
    }
}

/// The launch, in order. Whatever can fail without a token comes before the first: a grant buys one.
fn launch(arguments: Arguments) -> Result<Infallible, Failure> {
    arguments.keeper.map_or(Ok(()), end_with)?;
    let plan = arguments.plan()?;
    let protection = Protection::establish(arguments.protection, arguments.outsider_fd)?;
    protection.warning().into_iter().for_each(warn);
    let present = present(arguments.environment_fd)?;
    let numbers: Vec<_> = arguments.grant_fd.iter().map(|grant| grant.number).collect();
    let kept = take_along(&arguments.keep_fd, &numbers)?;
    let grants = numbers.into_iter().map(receive::from_inherited).collect::<Result<Vec<_>, _>>();
    let grants = grants.map_err(Failure::Grant)?;

    let selection = arguments.environment.select(present.into_iter())?;
    inherited(&selection).iter().for_each(|names| warn(names));
    let told_of = told(&selection)?;
    let mut environment = selection.into_environment();
    let program = Program::find(&arguments.command, environment.get("PATH"))?;
    let prepared = Prepared::new(program, &protection)?;
    let notice = arguments.renew.then(|| arguments.notice(&environment)).transpose()?;
    let outlets = Outlets::open(plan)?;

    let workers = arguments.workers.clone().unwrap_or_else(workers_socket);
    // The renewer connects again from another directory.
    let workers = std::path::absolute(&workers).unwrap_or(workers);
    let told = Told { executable: prepared.digest(), protection: protection.level(), inherited: told_of };
    let leases = Leases::redeem(grants, outlets.credentials(), &workers, &told)?;
    let filled = outlets.fill(&leases.tokens());
    let (leases, filled) = leases.unless_failed(filled)?;
    let (leases, delivery) = match notice {
        Some(notice) => {
            // From here on the renewer has the connections, and the leases end with this process.
            renew::start(&outlets, &leases, &notice)?;
            let delivery = outlets.finish(filled, &leases.tokens())?;
            (leases, delivery)
        }
        None => {
            let delivery = outlets.finish(filled, &leases.tokens());
            leases.unless_failed(delivery)?
        }
    };
    drop(leases); // wipes the tokens here
    for (name, value) in &delivery.variables {
        environment.set(name.clone(), value.clone());
    }
    let_through(kept.iter().chain(&delivery.descriptors))?;
    Err(prepared.execute(environment).into())
}

/// One line: what failed, and why, from the outside in.
fn report(failure: &Failure) -> ExitCode {
    say(&with_causes(failure));
    ExitCode::from(failure.exit_status())
}
