//! `host`: which machines may talk to the vault.

use crate::confirm::confirm;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::{Table, moment};
use crate::session::{Session, with_session};
use blindferry_proto::identifier::{ChipId, EkDigest, KeyName, Machine};
use blindferry_proto::name::HostName;
use blindferry_proto::operator::{Approvee, HostEntry, OperatorReply, OperatorRequest, Standing};
use blindferry_proto::role::Role;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use std::collections::BTreeSet;

/// Machines: enrolled, allowed and waiting
#[derive(Debug, Subcommand)]
pub(crate) enum Host {
    /// List the hosts
    List,
    /// Allow a TPM, or a processor of SEV-SNP guests, to enrol under a name
    Approve(Approve),
    /// Remove a host: its sessions and leases end, and its name is free again
    Remove {
        /// Its name
        name: HostName,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Whom to allow.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("whom").required(true))]
pub(crate) struct Approve {
    /// What the host calls itself
    name: HostName,
    /// The TPM whose endorsement key has this hash, as `blindferry tpm` shows it there
    #[arg(long, value_name = "HASH", group = "whom")]
    ek: Option<EkDigest>,
    /// An SEV-SNP guest on this processor, as `blindferry tpm` shows its chip id there
    #[arg(long, value_name = "HEX", group = "whom")]
    chip_id: Option<ChipId>,
    /// A confidential machine of Azure, by the AK name that `blindferry tpm` shows there
    #[arg(long, value_name = "HEX", group = "whom")]
    vtpm: Option<KeyName>,
    /// The machine that waits under that name now
    #[arg(long, group = "whom")]
    waiting: bool,
    /// The first TPM whose EK certificate leads to one of the applied roots
    #[arg(long, group = "whom")]
    certified: bool,
    /// What it may be
    #[arg(long, value_enum, default_value_t = PeerRole::Broker)]
    role: PeerRole,
}

/// What a host may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PeerRole {
    /// A worker host
    Broker,
    /// An operator's machine
    Operator,
    /// The vault's next guest, which takes its key over
    Successor,
}

impl From<PeerRole> for Role {
    fn from(role: PeerRole) -> Self {
        match role {
            PeerRole::Broker => Self::Broker,
            PeerRole::Operator => Self::Operator,
            PeerRole::Successor => Self::Successor,
        }
    }
}

#[derive(Serialize)]
struct Hosts {
    hosts: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    name: HostName,
    role: &'static str,
    standing: Standing,
    since: String,
    ek: Option<EkDigest>,
    chip_id: Option<ChipId>,
    vtpm: Option<KeyName>,
}

#[derive(Serialize)]
struct Approved<'a> {
    approved: &'a HostName,
    role: PeerRole,
}

#[derive(Serialize)]
struct Removed<'a> {
    removed: &'a HostName,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation, host: Host) -> Result<(), Failure> {
    match host {
        Host::List => {
            let entries = with_session(invocation, async |session| all(session).await)?;
            let hosts = Hosts { hosts: entries.into_iter().map(shown).collect() };
            invocation.output.show(&hosts, || render(&hosts))
        }
        Host::Approve(approve) => {
            let whom = approve.whom();
            let Approve { name, role, .. } = approve;
            let request = OperatorRequest::HostApprove { host: name.clone(), whom, role: role.into() };
            with_session(invocation, async |session| session.order("approve the host", request).await)?;
            invocation.output.show(&Approved { approved: &name, role }, || format!("approved {name}"))
        }
        Host::Remove { name, yes } => {
            confirm(&format!("The sessions and leases of {name} end, and it has to be approved anew."), yes)?;
            let request = OperatorRequest::HostRemove { host: name.clone() };
            with_session(invocation, async |session| session.order("remove the host", request).await)?;
            invocation.output.show(&Removed { removed: &name }, || format!("removed {name}"))
        }
    }
}

impl Approve {
    fn whom(&self) -> Approvee {
        match (self.ek, self.chip_id, self.vtpm, self.certified) {
            (Some(ek), ..) => Approvee::Ek(ek),
            (None, Some(chip), ..) => Approvee::Chip(chip),
            (None, None, Some(key), _) => Approvee::Vtpm(key),
            (None, None, None, true) => Approvee::Certified,
            (None, None, None, false) => Approvee::Waiting,
        }
    }
}

/// All pages. Those that wait come with the first, whatever their names, so a page goes on after the last stored one.
///
/// # Errors
/// [`Failure`].
pub(crate) async fn all(session: &Session<'_>) -> Result<Vec<HostEntry>, Failure> {
    let doing = "list the hosts";
    let mut all: Vec<HostEntry> = Vec::new();
    let mut asked = BTreeSet::new();
    let mut after: Option<HostName> = None;
    loop {
        let OperatorReply::Hosts(page) = session.ask(doing, OperatorRequest::Hosts { after }).await? else {
            return Err(Failure::Unexpected { doing });
        };
        let last =
            page.iter().filter(|entry| entry.standing != Standing::Waiting).map(|entry| entry.name.clone()).max();
        all.extend(page);
        let Some(last) = last else { break };
        // A page that does not go on would be asked for again and again.
        if !asked.insert(last.clone()) {
            return Err(Failure::Unexpected { doing });
        }
        after = Some(last);
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

fn shown(entry: HostEntry) -> Shown {
    let HostEntry { name, machine, role, standing, since } = entry;
    let (ek, chip_id, vtpm) = match machine {
        Some(Machine::Ek(ek)) => (Some(ek), None, None),
        Some(Machine::Chip(chip)) => (None, Some(chip), None),
        Some(Machine::Vtpm(key)) => (None, None, Some(key)),
        None => (None, None, None),
    };
    Shown { name, role: role_name(role), standing, since: moment(since), ek, chip_id, vtpm }
}

/// A role in a word.
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Vault => "vault",
        Role::Broker => "broker",
        Role::Operator => "operator",
        Role::Successor => "successor",
    }
}

fn render(hosts: &Hosts) -> String {
    let mut table = Table::new(&["NAME", "ROLE", "STANDING", "SINCE", "EK, CHIP OR KEY"]);
    for Shown { name, role, standing, since, ek, chip_id, vtpm } in &hosts.hosts {
        let standing = match standing {
            Standing::Waiting => "waiting",
            Standing::Allowed => "allowed",
            Standing::Enrolled => "enrolled",
            Standing::Connected => "connected",
        };
        let machine = match (ek, chip_id, vtpm) {
            (Some(ek), ..) => ek.to_string(),
            (None, Some(chip), _) => chip.to_string(),
            (None, None, Some(key)) => key.to_string(),
            (None, None, None) => "any TPM that is certified".to_owned(),
        };
        table.row([name.to_string(), (*role).to_owned(), standing.to_owned(), since.clone(), machine]);
    }
    if table.is_empty() { "There are no hosts.\n".to_owned() } else { table.render() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        approve: Approve,
    }

    fn whom(words: &[&str]) -> Option<Approvee> {
        Only::try_parse_from([&["approve"], words].concat()).ok().map(|only| only.approve.whom())
    }

    #[test]
    fn exactly_one_way_of_naming_the_tpm_is_taken() {
        let hash = "0f".repeat(32);
        assert_eq!(whom(&["h", "--ek", &hash]), Some(Approvee::Ek(EkDigest([15; 32]))));
        let chip = "0f".repeat(64);
        assert_eq!(whom(&["h", "--chip-id", &chip]), Some(Approvee::Chip(ChipId([15; 64]))));
        assert_eq!(whom(&["h", "--chip-id", &hash]), None);
        assert_eq!(whom(&["h", "--chip-id", &chip, "--ek", &hash]), None);
        let name = format!("000b{hash}");
        assert!(matches!(whom(&["h", "--vtpm", &name]), Some(Approvee::Vtpm(_))));
        assert_eq!(whom(&["h", "--vtpm", &hash]), None);
        assert_eq!(whom(&["h", "--waiting"]), Some(Approvee::Waiting));
        assert_eq!(whom(&["h", "--certified"]), Some(Approvee::Certified));
        assert_eq!(whom(&["h"]), None);
        assert_eq!(whom(&["h", "--waiting", "--certified"]), None);
        assert_eq!(whom(&["h", "--ek", "short"]), None);
        assert_eq!(whom(&["h", "--waiting", "--role", "vault"]), None);
    }

    #[test]
    fn hosts_have_stable_names_and_moments_of_rfc_3339() {
        let entry = HostEntry {
            name: "h".parse().unwrap(),
            machine: None,
            role: Role::Broker,
            standing: Standing::Allowed,
            since: 0,
        };
        let hosts = Hosts { hosts: vec![shown(entry)] };
        assert_eq!(
            serde_json::to_value(&hosts).unwrap(),
            serde_json::json!({"hosts": [{"name": "h", "role": "broker", "standing": "allowed",
                "since": "1970-01-01T00:00:00Z", "ek": null, "chip_id": null, "vtpm": null}]})
        );
        assert!(render(&hosts).contains("any TPM that is certified"));
    }
}
