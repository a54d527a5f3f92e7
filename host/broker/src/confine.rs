//! What the broker gives up before the first connection: one list, in order.

use crate::configuration::Address;
use blindferry_calls::{DenyError, DenyList, EXECUTING};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, PathFdError, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use std::net::SocketAddr;
use std::path::Path;
use tracing::warn;

/// What the broker still needs, once its device process runs and its sockets are bound.
#[derive(Clone, Copy, Debug)]
pub struct Needs<'a> {
    /// Whom it dials.
    pub vault: &'a Address,
    /// The collector that is told of requests.
    pub collector: Option<SocketAddr>,
    /// The directories of the sockets that it bound itself, out of which it removes them at its end.
    pub sockets: &'a [&'a Path],
}

/// Proof that the powers are gone; without it nothing is served.
#[derive(Debug)]
pub struct Confined(());

/// Gives up, for this thread and all that come after it, everything but the needs. There must be no other thread yet.
///
/// [`blindferry_handle::entry::enter`] came before: non-dumpable, no core, no new privileges.
///
/// # Errors
/// [`ConfineError`]; the process should end then.
pub fn confine(needs: &Needs<'_>) -> Result<Confined, ConfineError> {
    forbid_new_privileges()?; // before the other two, which need it or root
    shut_files_and_ports(needs)?; // before the filter: opens what it allows
    deny_calls()?; // last: for good
    Ok(Confined(()))
}

fn forbid_new_privileges() -> Result<(), ConfineError> {
    rustix::thread::set_no_new_privs(true).map_err(|error| ConfineError::NewPrivileges { source: error.into() })
}

/// Landlock: no file but the sockets' own, no port but those of the vault and the collector, no signal and no abstract socket to the outside.
fn shut_files_and_ports(needs: &Needs<'_>) -> Result<(), ConfineError> {
    let abi = ABI::V6;
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(abi)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(abi)))
        .and_then(Ruleset::create)
        .map_err(|source| ConfineError::Landlock { source })?;
    let ports = [Some(needs.vault.port()), needs.collector.map(|collector| collector.port())];
    let mut ruleset = ruleset
        .add_rules(ports.into_iter().flatten().map(|port| Ok(NetPort::new(port, AccessNet::ConnectTcp))))
        .map_err(|source: RulesetError| ConfineError::Landlock { source })?;
    for directory in needs.sockets {
        let descriptor = PathFd::new(directory).map_err(|source| ConfineError::Open { source })?;
        ruleset = ruleset
            .add_rule(PathBeneath::new(descriptor, AccessFs::RemoveFile))
            .map_err(|source| ConfineError::Landlock { source })?;
    }
    if needs.vault.is_name() {
        for path in RESOLVER {
            // One that does not exist, the resolver does without as well.
            let Ok(descriptor) = PathFd::new(path) else { continue };
            let access = if Path::new(path).is_dir() {
                AccessFs::ReadFile | AccessFs::ReadDir
            } else {
                AccessFs::ReadFile.into()
            };
            ruleset = ruleset
                .add_rule(PathBeneath::new(descriptor, access))
                .map_err(|source| ConfineError::Landlock { source })?;
        }
    }
    let status = ruleset.restrict_self().map_err(|source| ConfineError::Landlock { source })?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => {}
        RulesetStatus::PartiallyEnforced => {
            warn!(name: "less-confined", "this kernel's Landlock knows only a part of the confinement (all of it since Linux 6.12)");
        }
        RulesetStatus::NotEnforced => {
            warn!(name: "less-confined", "this kernel has no Landlock: only file permissions keep the broker from files and ports");
        }
    }
    Ok(())
}

/// Seccomp: a deny list, since tokio and the resolver of libc call what they like; what is on it is never needed.
fn deny_calls() -> Result<(), ConfineError> {
    // EPERM and not death: a library that merely tries (a resolver's plug-in) must not be able to stop the host's broker.
    let list = DenyList::common().map(|list| list.and(EXECUTING));
    list.and_then(|list| list.apply(libc::EPERM)).map_err(|source| ConfineError::Calls { source })
}

/// The powers were not given up.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// prctl(2) failed.
    #[error("cannot give up new privileges")]
    NewPrivileges {
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Landlock refused.
    #[error("cannot shut files and ports with Landlock")]
    Landlock {
        /// Why.
        source: RulesetError,
    },
    /// A directory that stays allowed cannot be opened.
    #[error("cannot open a directory that the broker needs")]
    Open {
        /// Which, and why not.
        source: PathFdError,
    },
    /// There is no filter of system calls.
    #[error("cannot deny system calls")]
    Calls {
        /// Why not.
        source: DenyError,
    },
}

/// What a name's resolution reads, and the libraries that glibc loads for it.
const RESOLVER: &[&str] = &[
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/ld.so.cache",
    "/run/systemd/resolve",
    "/lib",
    "/lib64",
    "/usr/lib",
];
