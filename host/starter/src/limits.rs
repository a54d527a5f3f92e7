//! A caller's resource limits, as the kernel tells them of its process, and taken over by the stage.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// Soft and hard limit, by the name of the line in `/proc/PID/limits`. None is unlimited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limit {
    name: String,
    soft: Option<u64>,
    hard: Option<u64>,
}

/// What stands in `/proc/PID/limits` (proc_pid_limits(5)).
///
/// # Errors
/// [`BadLimits`]; nothing is guessed, since a limit may confine.
pub(crate) fn parse(text: &str) -> Result<Vec<Limit>, BadLimits> {
    RESOURCES.iter().map(|(name, _)| line(text, name).ok_or(BadLimits { name })).collect()
}

/// Takes them over, where this process has no lower ones.
///
/// # Errors
/// What the kernel said.
pub(crate) fn apply(limits: &[Limit]) -> rustix::io::Result<()> {
    for limit in limits {
        let Some((_, resource)) = RESOURCES.iter().find(|(name, _)| *name == limit.name) else { continue };
        let own = getrlimit(*resource).maximum;
        let maximum = lower(own, limit.hard);
        setrlimit(*resource, Rlimit { current: lower(maximum, limit.soft), maximum })?;
    }
    Ok(())
}

fn lower(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

fn line(text: &str, name: &str) -> Option<Limit> {
    let mut words = text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace();
    let mut bound = || match words.next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    };
    Some(Limit { name: name.to_owned(), soft: bound()?, hard: bound()? })
}

/// A limit is not told as expected.
#[derive(Debug, thiserror::Error)]
#[error("no limit called {name:?}")]
pub(crate) struct BadLimits {
    name: &'static str,
}

/// Core files are none, whatever the caller's limit is.
const RESOURCES: &[(&str, Resource)] = &[
    ("Max cpu time", Resource::Cpu),
    ("Max file size", Resource::Fsize),
    ("Max data size", Resource::Data),
    ("Max stack size", Resource::Stack),
    ("Max resident set", Resource::Rss),
    ("Max processes", Resource::Nproc),
    ("Max open files", Resource::Nofile),
    ("Max locked memory", Resource::Memlock),
    ("Max address space", Resource::As),
    ("Max file locks", Resource::Locks),
    ("Max pending signals", Resource::Sigpending),
    ("Max msgqueue size", Resource::Msgqueue),
    ("Max nice priority", Resource::Nice),
    ("Max realtime priority", Resource::Rtprio),
    ("Max realtime timeout", Resource::Rttime),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_list_is_understood_and_says_what_getrlimit_says() {
        let text = std::fs::read_to_string("/proc/self/limits").unwrap();
        let limits = parse(&text).unwrap();
        for (limit, (_, resource)) in limits.iter().zip(RESOURCES) {
            let own = getrlimit(*resource);
            assert_eq!((limit.soft, limit.hard), (own.current, own.maximum), "{}", limit.name);
        }
        assert!(parse(&text.replace("Max open files", "Max files")).is_err());
        assert!(parse(&text.replace("unlimited", "boundless")).is_err());
    }

    #[test]
    fn the_lower_of_two_bounds_counts() {
        assert_eq!(lower(None, Some(3)), Some(3));
        assert_eq!(lower(Some(2), Some(3)), Some(2));
        assert_eq!(lower(None, None), None);
    }
}
