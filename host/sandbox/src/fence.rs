//! The Landlock domain of the program: around what the namespaces show, or alone where there are none.

use crate::view::{Access as Right, View};
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use std::fs;
use std::path::{Path, PathBuf};

/// How much of the domain holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    /// All of it.
    Whole,
    /// What this kernel knows: without signals and abstract sockets before Linux 6.12, for instance.
    Partial,
    /// Nothing: no Landlock.
    None,
}

/// Within namespaces: everything that is shown can be read, and what is the program's own written. What matters most comes
/// by itself: who is in a domain can look into no process outside of it.
///
/// # Errors
/// [`RulesetError`].
pub(crate) fn around(view: &View) -> Result<Fence, RulesetError> {
    let own = OWN.iter().map(PathBuf::from).chain(view.home.clone());
    let written = view.places.iter().filter(|place| place.access == Right::Write).map(|place| place.path.clone());
    let written: Vec<PathBuf> = own.chain(written).collect();
    restrict(&[Rule { path: PathBuf::from("/"), access: reading() }], &written)
}

/// Without namespaces: every place by itself, and around what is hidden.
///
/// # Errors
/// [`RulesetError`].
pub(crate) fn alone(view: &View) -> Result<Fence, RulesetError> {
    let mut read = vec![Rule { path: PathBuf::from("/proc"), access: reading() }];
    let mut written: Vec<PathBuf> = NODES.iter().map(PathBuf::from).collect();
    for place in &view.places {
        let parts = around_hidden(&place.path, &view.hidden);
        match place.access {
            Right::Write => written.extend(parts.whole),
            Right::Read => read.extend(parts.whole.into_iter().map(|path| Rule { path, access: reading() })),
        }
        read.extend(parts.listed.into_iter().map(|path| Rule { path, access: AccessFs::ReadDir.into() }));
    }
    restrict(&read, &written)
}

struct Rule {
    path: PathBuf,
    access: BitFlags<AccessFs>,
}

struct Parts {
    /// In which nothing is hidden.
    whole: Vec<PathBuf>,
    /// In which something is: names can be seen, in them and below.
    listed: Vec<PathBuf>,
}

/// A domain can only allow. So a directory in which something is hidden is allowed entry by entry, and nothing can be made
/// in it.
fn around_hidden(top: &Path, hidden: &[PathBuf]) -> Parts {
    let mut parts = Parts { whole: Vec::new(), listed: Vec::new() };
    let mut next = vec![top.to_owned()];
    while let Some(path) = next.pop() {
        if hidden.iter().any(|secret| path.starts_with(secret)) {
            continue;
        }
        if !hidden.iter().any(|secret| secret.starts_with(&path)) {
            parts.whole.push(path);
            continue;
        }
        // What cannot be listed is not allowed.
        if let Ok(entries) = fs::read_dir(&path) {
            // A link is what it leads to, which has its own place or none.
            let entries = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()));
            next.extend(entries.map(|entry| entry.path()));
        }
        parts.listed.push(path);
    }
    parts
}

fn restrict(read: &[Rule], written: &[PathBuf]) -> Result<Fence, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    for rule in read {
        ruleset = allow(ruleset, &rule.path, rule.access)?;
    }
    for path in written {
        ruleset = allow(ruleset, path, AccessFs::from_all(KNOWN))?;
    }
    Ok(match ruleset.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Fence::Whole,
        RulesetStatus::PartiallyEnforced => Fence::Partial,
        RulesetStatus::NotEnforced => Fence::None,
    })
}

fn allow(ruleset: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    // What is not there needs no rule.
    let Ok(descriptor) = PathFd::new(path) else { return Ok(ruleset) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
    ruleset.add_rule(PathBeneath::new(descriptor, access))
}

/// With executing.
fn reading() -> BitFlags<AccessFs> {
    AccessFs::from_read(KNOWN)
}

/// Linux 6.12: with signals and abstract sockets.
const KNOWN: ABI = ABI::V6;

/// What every layout has.
const OWN: &[&str] = &["/tmp", "/var/tmp", "/dev"];

/// Without a layout, of `/dev`: not the terminals of others.
const NODES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_in_no_part_that_is_allowed_whole() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::create_dir(top.join("c")).unwrap();
        for name in ["a/.env", "a/b/plain", "c/plain"] {
            fs::write(top.join(name), "x").unwrap();
        }
        let hidden = [top.join("a/.env")];
        let mut parts = around_hidden(&top, &hidden);
        parts.whole.sort();
        assert_eq!(parts.whole, [top.join("a/b"), top.join("c")]);
        assert_eq!(parts.listed, [top.clone(), top.join("a")]);
        let nothing = around_hidden(&hidden[0], &hidden);
        assert!(nothing.whole.is_empty() && nothing.listed.is_empty());
    }
}
