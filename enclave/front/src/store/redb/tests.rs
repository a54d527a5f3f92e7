use super::*;
use ::redb::StorageBackend;
use ::redb::backends::InMemoryBackend;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

pub(super) fn key(bytes: &[u8]) -> Key {
    Key::new(bytes.to_vec()).unwrap()
}

pub(super) fn value(bytes: &[u8]) -> Value {
    Value::new(bytes.to_vec()).unwrap()
}

fn put(at: &[u8], to: &[u8]) -> Operation {
    Operation::Put { table: Table::Masters, key: key(at), value: value(to) }
}

fn create(at: &[u8], to: &[u8]) -> Operation {
    Operation::Create { table: Table::Masters, key: key(at), value: value(to) }
}

fn delete(at: &[u8]) -> Operation {
    Operation::Delete { table: Table::Masters, key: key(at) }
}

pub(super) fn transaction(operations: impl IntoIterator<Item = Operation>) -> Transaction {
    Transaction::new(operations.into_iter().collect()).unwrap()
}

pub(super) fn in_memory() -> Redb {
    let open = || prepared(builder().create_with_backend(InMemoryBackend::new()).unwrap(), Path::new("memory"));
    Redb::opened_by(Box::new(open)).unwrap()
}

pub(super) fn all(store: &mut Redb, table: Table) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut after = None;
    loop {
        let StoreReply::Page(page) = store.list(table, after.as_ref(), 3) else { panic!("no page") };
        assert!(page.len() <= 3);
        let Some((last, _)) = page.last() else { return found };
        assert!(after.as_ref().is_none_or(|after| after.as_slice() < last.as_slice()));
        after = Some(last.clone());
        found.extend(page.into_iter().map(|(key, value)| (key.into_vec(), value.into_vec())));
    }
}

type Model = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// What the protocol says, on a map.
fn apply_to(model: &mut Model, operations: &[Operation]) -> StoreReply {
    let mut changed = model.clone();
    for operation in operations {
        match operation.clone() {
            Operation::Put { table, key, value } => {
                changed.insert((table, key.into_vec()), value.into_vec());
            }
            Operation::Create { table, key, value } => {
                if changed.insert((table, key.into_vec()), value.into_vec()).is_some() {
                    return StoreReply::Exists;
                }
            }
            Operation::Delete { table, key } => {
                changed.remove(&(table, key.into_vec()));
            }
        }
    }
    *model = changed;
    StoreReply::Committed
}

fn some_operation() -> impl Strategy<Value = Operation> {
    let table = prop_oneof![Just(Table::Masters), Just(Table::Hosts), Just(Table::Audit)];
    // Few keys, so that operations meet; the empty one is a key too.
    let at = prop::collection::vec(0u8..3, 0..3).prop_map(|bytes| key(&bytes));
    let to = prop::collection::vec(any::<u8>(), 0..8).prop_map(|bytes| value(&bytes));
    (table, at, to, 0..3).prop_map(|(table, key, value, kind)| match kind {
        0 => Operation::Put { table, key, value },
        1 => Operation::Create { table, key, value },
        _ => Operation::Delete { table, key },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn groups_of_transactions_do_what_the_same_transactions_do_to_a_map_one_by_one(
        groups in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(some_operation(), 0..6), 1..5), 1..8)
    ) {
        let mut store = in_memory();
        let mut model = Model::new();
        for group in groups {
            let expected: Vec<_> = group.iter().map(|operations| apply_to(&mut model, operations)).collect();
            let group: Vec<_> = group.into_iter().map(transaction).collect();
            prop_assert_eq!(store.commit_group(&group), expected);
            for table in [Table::Masters, Table::Hosts, Table::Audit, Table::Sealed] {
                let of_table: BTreeMap<_, _> = model
                    .iter()
                    .filter(|((of, _), _)| *of == table)
                    .map(|((_, key), value)| (key.clone(), value.clone()))
                    .collect();
                let last = of_table.last_key_value().map(|(at, to)| (key(at), value(to)));
                prop_assert_eq!(store.last(table), StoreReply::Last(last));
                for (at, to) in &of_table {
                    prop_assert_eq!(store.get(table, &key(at)), StoreReply::Got(Some(value(to))));
                }
                prop_assert_eq!(all(&mut store, table), of_table);
            }
        }
    }
}

#[test]
fn a_create_that_finds_something_undoes_its_own_transaction_and_no_other_of_the_group() {
    let mut store = in_memory();
    let answers = store.commit_group(&[
        transaction([create(b"a", b"1")]),
        transaction([put(b"b", b"2"), create(b"a", b"3")]),
        transaction([put(b"c", b"4")]),
    ]);
    assert_eq!(answers, [StoreReply::Committed, StoreReply::Exists, StoreReply::Committed]);
    assert_eq!(all(&mut store, Table::Masters), [(b"a".into(), b"1".into()), (b"c".into(), b"4".into())].into());
}

#[test]
fn a_create_sees_what_its_own_transaction_did_before_it() {
    let mut store = in_memory();
    let group = [
        transaction([put(b"a", b"1"), create(b"a", b"2")]),
        transaction([put(b"b", b"1"), delete(b"b"), create(b"b", b"2")]),
    ];
    assert_eq!(store.commit_group(&group), [StoreReply::Exists, StoreReply::Committed]);
    assert_eq!(all(&mut store, Table::Masters), [(b"b".into(), b"2".into())].into());
}

#[test]
fn a_page_of_the_largest_values_fits_a_packet_and_is_never_empty_before_the_end() {
    use blindferry_proto::bounded::encode;
    use blindferry_proto::front::FromFront;
    use blindferry_proto::limits::MAX_STORED;
    for length in [MAX_STORED, MAX_STORED / 3, 1000, 0] {
        let mut store = in_memory();
        for number in 0..70u8 {
            let mut at = vec![number; 159];
            at.push(0);
            assert_eq!(store.commit_group(&[transaction([put(&at, &vec![7; length])])]), [StoreReply::Committed]);
        }
        let (mut after, mut seen) = (None, 0);
        loop {
            let StoreReply::Page(page) = store.list(Table::Masters, after.as_ref(), u16::MAX) else { panic!() };
            assert!(page.len() <= MAX_PAGE);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            seen += page.len();
            encode(&FromFront::Stored { id: u64::MAX, reply: StoreReply::Page(page) }, MAX_PACKET).unwrap();
        }
        assert_eq!(seen, 70, "with values of {length} bytes");
    }
}

#[test]
fn a_transaction_over_its_bound_is_refused() {
    let operations = |count| (0..count).map(|_| put(b"a", b"")).collect();
    assert!(Transaction::new(operations(MAX_OPERATIONS)).is_ok());
    assert!(Transaction::new(operations(MAX_OPERATIONS + 1)).is_err());
}

#[test]
fn a_second_front_on_the_same_store_is_refused_and_told_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let first = Redb::open(&path).unwrap();
    let second = Redb::open(&path).unwrap_err();
    assert!(matches!(second, OpenStoreError::InUse { .. }));
    assert!(second.to_string().starts_with("another front is using "));
    drop(first);
    Redb::open(&path).unwrap();
}

#[test]
fn a_store_that_was_left_half_made_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    // As redb leaves it: long enough, and without its first bytes, which it writes last.
    std::fs::write(directory.path().join("store.redb.new"), vec![0; 1 << 20]).unwrap();
    drop(Redb::open(&path).unwrap());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    Redb::open(&path).unwrap();
}

#[test]
fn the_store_is_its_owners_alone_even_if_it_was_not_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    drop(Redb::open(&path).unwrap());
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    drop(Redb::open(&path).unwrap());
    assert_eq!(mode(), 0o600);
}

#[test]
fn a_symbolic_link_and_a_file_that_is_no_store_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    symlink("elsewhere", &path).unwrap();
    assert!(matches!(Redb::open(&path), Err(OpenStoreError::File { .. })));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, vec![b'x'; 10_000]).unwrap();
    assert!(matches!(Redb::open(&path), Err(OpenStoreError::Database { .. })));
}

/// A disk that works, until it is told to fail: then the next write or flush fails, and so does every one after it,
/// until the store is opened anew.
#[derive(Clone, Debug, Default)]
struct FailingDisk {
    file: Arc<InMemoryBackend>,
    /// Writes and flushes until failure begins; `u32::MAX` is never.
    left: Arc<AtomicU32>,
    failed: Arc<AtomicBool>,
}

impl FailingDisk {
    fn step(&self) -> io::Result<()> {
        match self.left.load(Ordering::SeqCst) {
            u32::MAX => Ok(()),
            0 => {
                self.failed.store(true, Ordering::SeqCst);
                Err(io::ErrorKind::StorageFull.into())
            }
            left => {
                self.left.store(left - 1, Ordering::SeqCst);
                Ok(())
            }
        }
    }
}

impl StorageBackend for FailingDisk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.step()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.step()?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.step()?;
        self.file.write(offset, data)
    }
}

#[test]
fn when_the_disk_fails_at_any_step_the_answer_is_what_is_found_after_it() {
    let mut failures = 0;
    for steps in 0..40 {
        let disk = FailingDisk { left: Arc::new(AtomicU32::new(u32::MAX)), ..FailingDisk::default() };
        let opened = disk.clone();
        let mut store = Redb::opened_by(Box::new(move || {
            // The disk has room again when the store is opened anew.
            opened.left.store(u32::MAX, Ordering::SeqCst);
            let database = builder()
                .create_with_backend(opened.clone())
                .map_err(|source| OpenStoreError::Database { path: PathBuf::from("disk"), source })?;
            prepared(database, Path::new("disk"))
        }))
        .unwrap();
        assert_eq!(store.commit_group(&[transaction([put(b"before", b"1")])]), [StoreReply::Committed]);

        disk.left.store(steps, Ordering::SeqCst);
        let answers = store.commit_group(&[transaction([put(b"a", &[1; 9000])]), transaction([put(b"b", &[2; 9000])])]);
        let failed = disk.failed.load(Ordering::SeqCst);
        disk.left.store(u32::MAX, Ordering::SeqCst);

        let found = all(&mut store, Table::Masters);
        assert_eq!(found.get(b"before".as_slice()), Some(&b"1".to_vec()), "at step {steps}");
        let there = [b"a", b"b"].map(|at| found.contains_key(at.as_slice()));
        match answers.as_slice() {
            [StoreReply::Committed, StoreReply::Committed] => assert_eq!(there, [true, true], "at step {steps}"),
            [StoreReply::Failed { .. }, StoreReply::Failed { .. }] => {
                failures += 1;
                assert!(failed);
                assert_eq!(there, [false, false], "at step {steps}");
            }
            other => panic!("{other:?} at step {steps}"),
        }
        // And it goes on.
        assert_eq!(store.commit_group(&[transaction([put(b"after", b"1")])]), [StoreReply::Committed]);
    }
    assert!(failures > 3, "the disk failed within a commit only {failures} times");
}
