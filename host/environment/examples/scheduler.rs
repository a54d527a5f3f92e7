//! A scheduler that starts a job with no more of its own environment than the job needs:
//!
//! ```text
//! GITHUB_TOKEN=secret DEPLOY_STAGE=test cargo run -p blindferry-environment --example scheduler -- env
//! ```

use blindferry_environment::{Policy, Switch};
use std::error::Error;
use std::os::unix::process::CommandExt;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().ok_or("scheduler PROGRAM [ARGUMENT...]")?;

    let mut policy = Policy::default();
    policy.pass(Switch::Proxy);
    policy.ask("DEPLOY_STAGE")?; // by name: this scheduler's own contract with its jobs
    policy.ask("JOB_NUMBER=17")?;

    let selection = policy.select(std::env::vars_os())?;
    for (name, reason) in selection.left_out() {
        eprintln!("left out: {}: {reason} ({})", name.display(), reason.remedy(name));
    }
    Err(Command::new(program).args(words).env_clear().envs(selection.into_environment().into_pairs()).exec().into())
}
