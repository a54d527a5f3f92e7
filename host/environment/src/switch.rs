//! The named switches: groups of variables that stripping takes from people who need them.

use crate::switch::code::CODE;
use crate::switch::reach::REACH;
use std::fmt;
use std::str::FromStr;

mod code;
mod reach;

/// A group of variables that passes when its switch is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Switch {
    /// Where the AWS SDKs look for credentials, and their region.
    Aws,
    /// The same for Azure.
    Azure,
    /// The same for Google Cloud.
    Google,
    /// Which cluster `kubectl` speaks to.
    Kubernetes,
    /// Which daemon `docker` speaks to, and its configuration.
    Docker,
    /// The agent of OpenSSH.
    SshAgent,
    /// The agent and home of GnuPG.
    Gpg,
    /// The bus of the user's session.
    SessionBus,
    /// X11 and Wayland.
    Display,
    /// Proxies of HTTP.
    Proxy,
    /// Roots that programs trust.
    Certificates,
    /// Python's virtual environments, and what of Python loads no code.
    VirtualEnv,
    /// Where tool chains are installed.
    Toolchain,
    /// What says that this is a run of continuous integration, and which.
    Ci,
    /// `LD_LIBRARY_PATH`.
    LibraryPath,
    /// What else the dynamic linker and the C library listen to.
    Preload,
    /// What shells run.
    ShellCode,
    /// What Python loads.
    PythonCode,
    /// What Node.js loads.
    NodeCode,
    /// What a JVM loads.
    JavaCode,
    /// What Perl, Ruby, PHP, Lua, Tcl, R, Erlang and .NET load.
    ScriptCode,
    /// What `git` runs, and its configuration.
    GitCode,
    /// What compilers and their drivers run.
    BuildCode,
    /// Programs that other programs start: editors, pagers, browsers, askers of passwords.
    Programs,
}

/// What a switch that is on can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Danger {
    /// It tells facts.
    None,
    /// It leads to credentials, to other processes, or says whom to trust.
    Reach,
    /// It makes programs load or run other code: these variables pass by their switch alone.
    Code,
}

/// One row of the table.
pub(crate) struct Row {
    pub(crate) switch: Switch,
    pub(crate) name: &'static str,
    pub(crate) danger: Danger,
    /// What does not work without it.
    pub(crate) about: &'static str,
    /// Names, and beginnings with `*` behind them.
    pub(crate) variables: &'static [&'static str],
}

fn rows() -> impl Iterator<Item = &'static Row> {
    REACH.iter().chain(CODE)
}

impl Switch {
    /// All of them, those that load code last.
    pub fn all() -> impl Iterator<Item = Self> {
        rows().map(|row| row.switch)
    }

    /// As command lines write it: `ssh-agent`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().map_or("", |row| row.name)
    }

    /// What it can do.
    #[must_use]
    pub fn danger(self) -> Danger {
        self.row().map_or(Danger::Code, |row| row.danger)
    }

    /// What does not work without it, in a line.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.row().map_or("", |row| row.about)
    }

    /// Its variables: names, and beginnings with `*` behind them.
    #[must_use]
    pub fn variables(self) -> &'static [&'static str] {
        self.row().map_or(&[], |row| row.variables)
    }

    /// A test shows that each has a row; were one missing, it would have no variables.
    fn row(self) -> Option<&'static Row> {
        rows().find(|row| row.switch == self)
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Danger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "facts",
            Self::Reach => "reach",
            Self::Code => "code",
        })
    }
}

/// No switch has that name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such switch: there are {}", Switch::all().map(Switch::name).collect::<Vec<_>>().join(", "))]
pub struct UnknownSwitch;

impl FromStr for Switch {
    type Err = UnknownSwitch;
    fn from_str(text: &str) -> Result<Self, UnknownSwitch> {
        rows().find(|row| row.name == text).map(|row| row.switch).ok_or(UnknownSwitch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_switch_has_a_name_of_its_own_that_leads_back_to_it() {
        let switches: BTreeSet<Switch> = Switch::all().collect();
        assert_eq!(switches.len(), rows().count());
        // The last of the enum, so that one without a row is noticed.
        assert_eq!(rows().count(), usize::from(Switch::Programs as u8) + 1);
        for switch in switches {
            assert_eq!(switch.name().parse(), Ok(switch));
            assert!(!switch.about().is_empty() && !switch.variables().is_empty(), "{switch}");
        }
        assert!("".parse::<Switch>().is_err());
        assert!("AWS".parse::<Switch>().unwrap_err().to_string().contains("aws, azure"));
    }

    #[test]
    fn what_loads_code_is_in_the_table_of_code_and_nothing_else_is() {
        assert!(CODE.iter().all(|row| row.danger == Danger::Code));
        assert!(REACH.iter().all(|row| row.danger != Danger::Code));
    }

    #[test]
    fn no_variable_has_two_switches() {
        let all: Vec<&str> = rows().flat_map(|row| row.variables).copied().collect();
        assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len());
    }
}
