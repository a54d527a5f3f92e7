use super::super::Redb;
use super::super::tests::{all, key, value};
use super::*;
use blindferry_proto::backup::Piece;
use blindferry_proto::bounded::{Bytes, Text};
use blindferry_proto::identifier::{AuditKey, Digest};
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;

fn piece(table: Table, at: &[u8], stored: &[u8]) -> Part {
    let length = u32::try_from(stored.len()).unwrap();
    Part::Piece(Piece { table, key: key(at), length, offset: 0, bytes: Bytes::new(stored.to_vec()).unwrap() })
}

fn begin() -> Part {
    let (version, audit_key) = (Text::cut("0"), AuditKey([1; 32]));
    Part::Begin(Manifest { taken: 7, version, audit_key, record: 9, hash: Digest([2; 32]) })
}

fn whole() -> Vec<Part> {
    let of = |table, at| piece(table, at, b"stored");
    vec![begin(), of(Table::Sealed, b"recovery"), of(Table::Manifest, b"root"), of(Table::Masters, b"api")]
}

fn file_of(parts: &[Part]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for part in parts {
        bytes.extend(part.to_bytes().unwrap());
    }
    let digest = Digest(Sha256::digest(&bytes).into());
    let pieces = parts.iter().filter(|part| matches!(part, Part::Piece(_))).count();
    bytes.extend(Part::End { pieces: u64::try_from(pieces).unwrap(), digest }.to_bytes().unwrap());
    bytes
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_was_backed_up_is_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let restored = restore(&path, &mut file_of(&whole()).as_slice(), Present::Refuse).unwrap();
    assert_eq!((restored.values, restored.manifest.record), (3, 9));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut store = Redb::open(&path).unwrap();
    assert_eq!(
        all(&mut store, Table::Masters).into_iter().collect::<Vec<_>>(),
        [(b"api".to_vec(), b"stored".to_vec())]
    );
    assert_eq!(names(directory.path()), ["store.redb"]);
}

#[test]
fn a_store_that_is_there_stays_unless_it_may_go_and_one_in_use_stays_in_any_case() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let mut there = Redb::open(&path).unwrap();
    let put = Operation::Put { table: Table::Masters, key: key(b"old"), value: value(b"old") };
    let _committed = there.commit_group(&[Transaction::new(vec![put]).unwrap()]);
    let backup = file_of(&whole());

    let in_use = restore(&path, &mut backup.as_slice(), Present::Replace).unwrap_err();
    assert_eq!(Refusal::from(&in_use).code, RefusalCode::Busy, "{in_use}");
    drop(there);
    let exists = restore(&path, &mut backup.as_slice(), Present::Refuse).unwrap_err();
    assert_eq!(Refusal::from(&exists).code, RefusalCode::Exists, "{exists}");
    let damaged = restore(&path, &mut &backup[..backup.len() - 1], Present::Replace).unwrap_err();
    assert_eq!(Refusal::from(&damaged).code, RefusalCode::Malformed, "{damaged}");
    assert_eq!(all(&mut Redb::open(&path).unwrap(), Table::Masters).len(), 1);
    assert!(all(&mut Redb::open(&path).unwrap(), Table::Masters).contains_key(&b"old"[..]));
    assert_eq!(names(directory.path()), ["store.redb"]);

    restore(&path, &mut backup.as_slice(), Present::Replace).unwrap();
    assert!(all(&mut Redb::open(&path).unwrap(), Table::Masters).contains_key(&b"api"[..]));
}

#[test]
fn what_is_left_of_a_restore_that_was_killed_is_in_nobodys_way() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    fs::write(directory.path().join("store.redb.restoring"), vec![7; 100_000]).unwrap();
    restore(&path, &mut file_of(&whole()).as_slice(), Present::Refuse).unwrap();
    assert_eq!(names(directory.path()), ["store.redb"]);
}

#[test]
fn a_file_that_is_whole_and_no_backup_of_a_vault_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let mut without_root = whole();
    without_root.remove(2);
    let mut doubled = whole();
    doubled.push(begin());
    let mut disordered = whole();
    disordered.swap(1, 2);
    let mut followed = file_of(&whole());
    followed.push(0);
    let huge = [MAGIC, &u32::MAX.to_be_bytes()].concat();
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("another file", b"# a configuration, and quite a long one".to_vec()),
        ("no vault", file_of(&without_root)),
        ("empty", file_of(&[begin()])),
        ("no manifest", file_of(&whole()[1..])),
        ("two manifests", file_of(&doubled)),
        ("disorder", file_of(&disordered)),
        ("more after its end", followed),
        ("a length that lies", huge),
    ] {
        let error = restore(&path, &mut bytes.as_slice(), Present::Refuse).unwrap_err();
        assert_eq!(Refusal::from(&error).code, RefusalCode::Malformed, "{what}: {error}");
        assert!(names(directory.path()).is_empty(), "{what}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_changed_bit_and_any_cut_is_told(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        let good = file_of(&whole());
        let at = at.index(good.len());
        let mut changed = good.clone();
        changed[at] ^= 1 << bit;
        prop_assert!(restore(&path, &mut changed.as_slice(), Present::Refuse).is_err());
        prop_assert!(restore(&path, &mut &good[..at], Present::Refuse).is_err());
        prop_assert!(names(directory.path()).is_empty());
    }
}
