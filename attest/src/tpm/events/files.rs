//! Rules for the files that Linux measured: listed by digest, or signed by a listed key.

use std::collections::{BTreeMap, BTreeSet};

use super::EventRefusal;
use crate::tpm::ima::{Entry, FileDigest, Replayed, signer::Signer};

/// Which files may have been run or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRules {
    pub(super) listed: BTreeMap<String, BTreeSet<FileDigest>>,
    pub(super) signers: Vec<Signer>,
    pub(super) unjudged_below: BTreeSet<String>,
}

impl FileRules {
    pub(super) fn refusals(&self, replayed: &Replayed<'_>) -> Vec<EventRefusal> {
        let begins = replayed.entries().first().is_some_and(|first| first.path() == "boot_aggregate");
        let begin = (!begins).then_some(EventRefusal::ImaBegin);
        begin.into_iter().chain(replayed.entries().iter().skip(1).filter_map(|entry| self.refusal(entry))).collect()
    }

    fn refusal(&self, entry: &Entry) -> Option<EventRefusal> {
        let path = entry.path();
        if self.unjudged_below.iter().any(|below| path.starts_with(below) && !path.contains("/../")) {
            return None;
        }
        if entry.is_violation() {
            return Some(EventRefusal::ImaViolation { path: path.to_owned() });
        }
        let listed = self.listed.get(path).is_some_and(|digests| digests.contains(entry.file()));
        let accepted = listed || self.signers.iter().any(|signer| signer.signed(entry).is_some());
        (!accepted).then(|| EventRefusal::ImaFile { path: path.to_owned(), digest: entry.file().to_string() })
    }
}
