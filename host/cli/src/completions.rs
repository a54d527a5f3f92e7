//! `completions`: what a shell needs to complete this command's words, from the definitions that also parse them.

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output::Output;
use clap::{CommandFactory, ValueEnum};
use clap_complete::generate;
use clap_complete::shells;
use serde::Serialize;

/// Print completions for a shell
///
/// bash: blindferry completions bash > /usr/share/bash-completion/completions/blindferry
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// For which shell
    shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Serialize)]
struct Script<'a> {
    shell: Shell,
    script: &'a str,
}

/// Runs it.
///
/// # Errors
/// [`Failure::Output`].
pub(crate) fn run(output: Output, Completions { shell }: &Completions) -> Result<(), Failure> {
    let script = script(*shell);
    output.show(&Script { shell: *shell, script: &script }, || script.clone())
}

fn script(shell: Shell) -> String {
    let (mut command, mut script) = (Arguments::command(), Vec::new());
    match shell {
        Shell::Bash => generate(shells::Bash, &mut command, NAME, &mut script),
        Shell::Zsh => generate(shells::Zsh, &mut command, NAME, &mut script),
        Shell::Fish => generate(shells::Fish, &mut command, NAME, &mut script),
    }
    String::from_utf8_lossy(&script).into_owned()
}

/// What people type.
const NAME: &str = "blindferry";
