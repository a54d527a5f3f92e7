//! `blindferry`, the command, as an operator or a person of the worker host runs it.

use crate::account::USER;
use crate::fleet::{Fleet, OPERATOR};
use crate::program::ours;
use crate::tpm::PCRS;
use std::process::{Child, Command};

/// `blindferry` of the fleet's operator, run as [`USER`]; on the worker host it finds the broker's sockets.
#[must_use]
pub fn blindferry(fleet: &Fleet) -> Command {
    let directory = fleet.user_directory();
    let [configuration, reference] = ["operator.toml", "vault.toml"].map(|name| directory.join(name));
    std::fs::write(&reference, &fleet.enclave.reference).unwrap();
    let text = format!(
        "name = \"{OPERATOR}\"\nvault = \"{}\"\nvault_reference = \"{}\"\ntcti = \"{}\"\npins = \"{}\"\npcrs = {PCRS:?}\n",
        fleet.enclave.listen,
        reference.display(),
        fleet.operator_tpm.tcti(),
        fleet.operator_tpm.pins().display(),
    );
    std::fs::write(&configuration, text).unwrap();
    let mut command = USER.command(&ours("blindferry"));
    command.arg("--config").arg(configuration);
    command.current_dir(directory);
    command.env("BLINDFERRY_PARENTS", fleet.host.parents()).env("BLINDFERRY_WORKERS", fleet.host.workers());
    command
}

/// Whether a child has read all of what was written to its standard input.
#[must_use]
pub fn has_read_all(child: &Child) -> bool {
    let input = child.stdin.as_ref().unwrap();
    rustix::io::ioctl_fionread(input).unwrap() == 0
}
