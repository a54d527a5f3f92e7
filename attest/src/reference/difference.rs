//! What changed between two files of reference values, set by set and value by value: for who has to approve it.

use std::{collections::BTreeSet, fmt};

use toml::{Table, Value};

use super::ReferenceValues;

/// One value that is in one file and not in the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The kind of set it is in, such as `tpm`; empty for what concerns the whole file.
    pub kind: String,
    /// The name of the set; empty for a set without one, which is compared as a whole.
    pub set: String,
    /// The key of the value, such as `pcrs.4`; empty for a whole set.
    pub key: String,
    /// What it is, as TOML writes it.
    pub value: String,
    /// Whether the second file has it, and not the first, or the other way round.
    pub change: Change,
}

/// Which of two files has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// The first: it is not accepted any more.
    Removed,
    /// The second: it is accepted from now on.
    Added,
}

impl ReferenceValues {
    /// What is different in `next`, sorted by set and key. Sets that keep their name are compared with each other,
    /// whatever their order. Empty exactly when both accept the same.
    #[must_use]
    pub fn differences(&self, next: &Self) -> Vec<Difference> {
        let (before, after) = (self.entries(), next.entries());
        let removed = before.difference(&after).map(|entry| entry.changed(Change::Removed));
        let added = after.difference(&before).map(|entry| entry.changed(Change::Added));
        removed.chain(added).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Every value of the canonical form, which is what is compared: so whatever the form comes to say is compared too.
    fn entries(&self) -> BTreeSet<Entry> {
        // What `to_toml` writes is TOML; were it not, the whole text would be the one value.
        let text = self.to_toml();
        let mut entries = BTreeSet::new();
        match text.parse::<Table>() {
            Ok(document) => document.into_iter().for_each(|(key, value)| match value {
                Value::Array(sets) if sets.iter().all(Value::is_table) => {
                    sets.into_iter().for_each(|set| entries_of_set(&key, set, &mut entries));
                }
                value => flatten(&Entry { key, ..Entry::default() }, value, &mut entries),
            }),
            Err(_) => {
                entries.insert(Entry { value: text, ..Entry::default() });
            }
        }
        entries
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    kind: String,
    set: String,
    key: String,
    value: String,
}

impl Entry {
    fn changed(&self, change: Change) -> Difference {
        let Self { kind, set, key, value } = self.clone();
        Difference { kind, set, key, value, change }
    }
}

fn entries_of_set(kind: &str, set: Value, entries: &mut BTreeSet<Entry>) {
    let kind = kind.to_owned();
    match set.get("name").and_then(Value::as_str).map(str::to_owned) {
        // Deep within, a file has only what the parser took: it is as bounded as the file.
        Some(set_name) => flatten(&Entry { kind, set: set_name, ..Entry::default() }, set, entries),
        // Without a name to compare it by, it is one value, whole.
        None => {
            entries.insert(Entry { kind, value: set.to_string(), ..Entry::default() });
        }
    }
}

fn flatten(at: &Entry, value: Value, entries: &mut BTreeSet<Entry>) {
    match value {
        Value::Table(table) => table.into_iter().for_each(|(key, value)| {
            let key = if at.key.is_empty() { key } else { format!("{}.{key}", at.key) };
            flatten(&Entry { key, ..at.clone() }, value, entries);
        }),
        Value::Array(values) => values.into_iter().for_each(|value| flatten(at, value, entries)),
        value => {
            entries.insert(Entry { value: value.to_string(), ..at.clone() });
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.change {
            Change::Removed => '-',
            Change::Added => '+',
        };
        let Self { kind, set, key, value, .. } = self;
        match (kind.is_empty(), key.is_empty()) {
            (true, _) => write!(formatter, "{sign} {key} = {value}"),
            (false, true) => write!(formatter, "{sign} [[{kind}]] {value}"),
            (false, false) => write!(formatter, "{sign} [[{kind}]] {set:?} {key} = {value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(role: &str, sets: &[(&str, &str, &[u8])]) -> ReferenceValues {
        let mut text = format!("version = 1\nrole = \"{role}\"\n");
        for (name, firmware, values) in sets {
            let values: Vec<_> = values.iter().map(|value| format!("\"{}\"", hex::encode([*value; 32]))).collect();
            let values = values.join(",");
            text.push_str(&format!("[[tpm]]\nname = \"{name}\"\nfirmware = {firmware}\n[tpm.pcrs]\n4 = [{values}]\n"));
        }
        ReferenceValues::parse(&text).unwrap()
    }

    fn shown(before: &ReferenceValues, after: &ReferenceValues) -> Vec<String> {
        before.differences(after).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn order_is_no_difference_and_every_value_is_one() {
        let (a, b) = (("a", "\"any\"", &[1, 2][..]), ("b", "\"any\"", &[3][..]));
        let before = file("broker", &[a, b]);
        assert_eq!(shown(&before, &file("broker", &[b, ("a", "\"any\"", &[2, 1])])), [""; 0]);
        let (one, two) = (hex::encode([1; 32]), hex::encode([2; 32]));
        let after = file("operator", &[("a", "[\"0000000000000007\"]", &[2]), b]);
        assert_eq!(
            shown(&before, &after),
            [
                "- role = \"broker\"".to_owned(),
                "+ role = \"operator\"".to_owned(),
                "+ [[tpm]] \"a\" firmware = \"0000000000000007\"".to_owned(),
                "- [[tpm]] \"a\" firmware = \"any\"".to_owned(),
                format!("- [[tpm]] \"a\" pcrs.4 = \"{one}\""),
            ]
        );
        let gone = file("broker", &[("b", "\"any\"", &[3]), ("c", "\"any\"", &[2])]);
        let lines = shown(&before, &gone);
        assert!(lines.contains(&"- [[tpm]] \"a\" name = \"a\"".to_owned()), "{lines:?}");
        assert!(lines.contains(&format!("+ [[tpm]] \"c\" pcrs.4 = \"{two}\"")), "{lines:?}");
    }
}
