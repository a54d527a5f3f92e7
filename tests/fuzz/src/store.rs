//! Targets of what the vault keeps in a store that it does not trust: a front in other hands answers.

use std::{
    collections::BTreeMap,
    ops::Bound,
    pin::pin,
    sync::{Arc, LazyLock, Mutex},
    task::{Context, Poll, Waker},
};

use blindferry_handle::secret::SecretBytes;
use blindferry_proto::{
    bounded::{Bytes, Text, decode},
    credential::{CredentialSettings, Kind},
    front::{Operation, StoreReply, StoreRequest, Table},
    identifier::{EkDigest, Machine},
    limits::{MAX_OPERATIONS, MAX_PACKET, MAX_PAGE, MAX_STORED},
    role::Role,
};
use blindferry_vault::{
    approvals::{APPROVALS, Approvals},
    host::{HostRecord, Place},
    sealed::{KeyEncryptionKey, PolicyAuthority, RecoveryKey},
    store::{Backing, Document, IfPresent, Records, SealedName, StoreError},
};
use ring::rand::SystemRandom;

use super::{part, patch};

/// A store with a record of each kind, whose front changes what it likes; then the vault starts, and reads. What it reads
/// is what was stored.
///
/// First byte: how many changes; each has a byte of its kind, a byte that picks a record, and a part. Last: a part with
/// an answer to one request, whichever it asks for, that comes instead of the true one.
pub fn store_records(mut data: &[u8]) -> bool {
    let mut contents = STORED.clone();
    let before = contents.clone();
    for _ in 0..usize::from(byte(&mut data)).min(8) {
        change(&mut contents, byte(&mut data), byte(&mut data), part(&mut data));
    }
    let instead = part(&mut data);
    let instead = decode::<StoreReply>(instead, MAX_PACKET).ok().map(|reply| (usize::from(byte(&mut data)), reply));
    let untouched = contents == before && instead.is_none();
    let front = Arc::new(Front { contents: Mutex::new(contents), asked: Mutex::new(0), instead });
    let records = match now(Records::open(Arc::clone(&front), &kek())) {
        Ok(records) => records,
        Err(error) => {
            assert!(!untouched, "{error}");
            return true;
        }
    };
    read(&records, untouched);
    true
}

/// What is sealed by nature, and a recovery key as people type it. First byte: which; then the bytes.
pub fn sealed_blobs(data: &[u8]) -> bool {
    let Some((&choice, rest)) = data.split_first() else { return false };
    let random = SystemRandom::new();
    let Blobs { recovery, wrapped, authority } = &*BLOBS;
    let altered = |good: &[u8]| {
        let mut altered = good.to_vec();
        patch(&mut altered, rest);
        altered
    };
    match choice {
        0 => {
            let Ok(typed) = RecoveryKey::parse(rest) else { return false };
            let printed = print(&typed);
            let again = RecoveryKey::parse(&printed).expect("what is printed can be typed");
            assert_eq!(print(&again), printed);
            // In any case, with O for 0 and I or L for 1, with spaces for dashes.
            assert!(printed.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'-'));
            true
        }
        1 => {
            let altered = altered(wrapped);
            assert_eq!(recovery.unwrap(&altered).is_ok(), altered == *wrapped, "a changed bit opened");
            true
        }
        2 => {
            let key = kek().record_key().expect("a key");
            let altered = altered(authority);
            let opened = PolicyAuthority::open(&key, &altered, &random);
            assert_eq!(opened.is_ok(), altered == *authority, "a changed bit opened");
            true
        }
        3 => {
            let key = kek().record_key().expect("a key");
            assert!(key.open(Table::Hosts, b"a host", rest).is_err(), "a record was made up");
            assert!(recovery.unwrap(rest).is_err(), "a key was made up");
            let sealed = key.seal(&random, Table::Hosts, b"a host", 7, rest).expect("sealed");
            let opened = key.open(Table::Hosts, b"a host", &sealed).expect("what is sealed opens");
            assert_eq!((opened.version, opened.plaintext.as_slice()), (7, rest));
            assert!(key.open(Table::Masters, b"a host", &sealed).is_err(), "opened in another table");
            assert!(key.open(Table::Hosts, b"another", &sealed).is_err(), "opened under another name");
            true
        }
        _ => {
            let Ok(approvals) = loaded(rest) else { return false };
            assert!((1..=APPROVALS).contains(&approvals.list.len()));
            let again = loaded(&approvals.to_blob().expect("what fitted fits")).expect("what we write, we read");
            assert_eq!((again.authority, again.list), (approvals.authority, approvals.list));
            true
        }
    }
}

/// What a store holds, by table and key.
type Contents = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// One change that only a front in other hands makes.
fn change(contents: &mut Contents, kind: u8, which: u8, bytes: &[u8]) {
    let Some(key) = contents.keys().nth(usize::from(which) % contents.len().max(1)).cloned() else { return };
    let picked = contents.get(&key).cloned().unwrap_or_default();
    let (place, value) = match kind {
        // Bytes are written over it, it is cut, or it becomes another.
        0 => {
            let mut patched = picked;
            patch(&mut patched, bytes);
            (key, patched)
        }
        1 => (key, picked.into_iter().take(bytes.len()).collect()),
        2 => (key, bytes.to_vec()),
        // It is lost.
        3 => {
            contents.remove(&key);
            return;
        }
        // It stands in the place of the next as well.
        4 => {
            let next = contents.range((Bound::Excluded(key), Bound::Unbounded)).next().map(|(next, _)| next.clone());
            (next.unwrap_or((Table::Audit, vec![0; 8])), picked)
        }
        // Something is added in its table: nothing, or the same under another key.
        5 => ((key.0, bytes.to_vec()), vec![]),
        6 => ((key.0, bytes.to_vec()), picked),
        // What nobody but the vault could have encrypted, and the vault never would have.
        _ => {
            let record_key = kek().record_key().expect("a key");
            let version = u64::from(kind & 7);
            let sealed = record_key.seal(&SystemRandom::new(), key.0, &key.1, version, bytes).expect("sealed");
            (key, sealed)
        }
    };
    contents.insert(place, value);
}

/// Reads everything: each answer is what was stored, or a refusal. That is a refusal only where something was changed.
fn read(records: &Records<Arc<Front>>, untouched: bool) {
    let name = "a-credential".parse().expect("a name");
    match now(records.master(&name)) {
        Ok(Some(master)) => {
            assert_eq!((master.settings, master.version), (settings(), 1));
            assert!(master.secret.wake().is_ok_and(|secret| secret.ct_eq(MASTER)), "another master");
        }
        Ok(None) => panic!("the master is gone"),
        Err(error) => assert!(!untouched, "{error}"),
    }
    match now(records.masters(None)) {
        Ok(page) => assert_eq!(page, [(name, settings())]),
        Err(error) => assert!(!untouched, "{error}"),
    }
    match now(records.hosts(None)) {
        Ok(page) => assert_eq!(page, [("a-host".parse().expect("a name"), host())]),
        Err(error) => assert!(!untouched, "{error}"),
    }
    match now(records.document(Document::Policy)) {
        Ok(Some(document)) => assert_eq!((document.version, document.text.as_str()), (1, POLICY)),
        Ok(None) => panic!("the policy is gone"),
        Err(error) => assert!(!untouched, "{error}"),
    }
    assert_eq!(now(records.document(Document::EndorsementRoots)).ok().flatten(), None, "a document was added");
}

/// A store that answers at once, and once with what it was told to.
#[derive(Debug)]
struct Front {
    contents: Mutex<Contents>,
    asked: Mutex<usize>,
    instead: Option<(usize, StoreReply)>,
}

impl Backing for Front {
    async fn request(&self, request: StoreRequest) -> Result<StoreReply, StoreError> {
        let mut asked = self.asked.lock().expect("no panic before");
        *asked += 1;
        if let Some((at, reply)) = &self.instead
            && *asked == at + 1
        {
            return Ok(reply.clone());
        }
        let mut contents = self.contents.lock().expect("no panic before");
        // What is too long for a packet cannot be answered.
        let value = |bytes: &Vec<u8>| Bytes::<MAX_STORED>::new(bytes.clone()).unwrap_or_else(|_| empty());
        let key =
            |bytes: &Vec<u8>| Bytes::<160>::new(bytes.iter().copied().take(160).collect()).unwrap_or_else(|_| empty());
        Ok(match request {
            StoreRequest::Get { table, key } => StoreReply::Got(contents.get(&(table, key.into_vec())).map(value)),
            StoreRequest::List { table, after, most } => {
                let from =
                    after.map_or(Bound::Included((table, vec![])), |key| Bound::Excluded((table, key.into_vec())));
                let found = contents.range((from, Bound::Unbounded)).take_while(|((of, _), _)| *of == table);
                let most = usize::from(most).min(MAX_PAGE);
                StoreReply::Page(found.take(most).map(|((_, name), bytes)| (key(name), value(bytes))).collect())
            }
            StoreRequest::Last { table } => {
                let last = contents.iter().rfind(|((of, _), _)| *of == table);
                StoreReply::Last(last.map(|((_, name), bytes)| (key(name), value(bytes))))
            }
            StoreRequest::Commit { operations } => {
                assert!(operations.len() <= MAX_OPERATIONS);
                for operation in operations {
                    match operation {
                        Operation::Put { table, key, value } | Operation::Create { table, key, value } => {
                            contents.insert((table, key.into_vec()), value.into_vec());
                        }
                        Operation::Delete { table, key } => {
                            contents.remove(&(table, key.into_vec()));
                        }
                    }
                }
                StoreReply::Committed
            }
            // No target takes a backup.
            StoreRequest::Snapshot | StoreRequest::Pieces { .. } => {
                StoreReply::Failed { why: Text::cut("no snapshots") }
            }
        })
    }
}

fn empty<const MAX: usize>() -> Bytes<MAX> {
    Bytes::new(vec![]).expect("nothing fits")
}

/// The store answers at once, so whatever waits for it alone is ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(ready) => ready,
        Poll::Pending => panic!("it waits for something else"),
    }
}

fn loaded(blob: &[u8]) -> Result<Approvals, blindferry_vault::approvals::ApprovalsError> {
    let name = (Table::Sealed, b"approvals".to_vec());
    let contents = Mutex::new(Contents::from([(name, blob.to_vec())]));
    now(Approvals::load(&Front { contents, asked: Mutex::new(0), instead: None }))
}

fn print(key: &RecoveryKey) -> Vec<u8> {
    let mut printed = vec![];
    key.write_to(&mut printed).expect("memory");
    printed
}

fn byte(data: &mut &[u8]) -> u8 {
    let Some((&byte, rest)) = data.split_first() else { return 0 };
    *data = rest;
    byte
}

const MASTER: &[u8] = b"a master that nobody else shall read";
const POLICY: &str = "permit (principal, action, resource);";

fn kek() -> KeyEncryptionKey {
    let secret = SecretBytes::copy_and_wipe(&mut [9; 32]).expect("secret memory");
    KeyEncryptionKey::from_secret(secret).expect("a key")
}

fn settings() -> CredentialSettings {
    CredentialSettings { kind: Kind::Release, token_lifetime: 900, lease_idle: 60, cache_idle: None }
}

fn host() -> HostRecord {
    HostRecord { role: Role::Broker, place: Place::Allowed(Machine::Ek(EkDigest([7; 32]))), since: 5 }
}

/// A store after its first day.
static STORED: LazyLock<Contents> = LazyLock::new(|| {
    let front = Arc::new(Front { contents: Mutex::default(), asked: Mutex::new(0), instead: None });
    let records = now(Records::create(Arc::clone(&front), &kek(), vec![(SealedName::Recovery, vec![1])]));
    let records = records.expect("an empty store");
    let master = SecretBytes::copy_and_wipe(&mut MASTER.to_vec()).expect("secret memory");
    let name = "a-credential".parse().expect("a name");
    now(records.put_master(&name, settings(), &master, IfPresent::Refuse)).expect("stored");
    now(records.put_host(&"a-host".parse().expect("a name"), &host())).expect("stored");
    now(records.put_document(Document::Policy, Text::new(POLICY).expect("short"))).expect("stored");
    front.contents.lock().expect("no panic before").clone()
});

struct Blobs {
    recovery: RecoveryKey,
    wrapped: Vec<u8>,
    authority: Vec<u8>,
}

static BLOBS: LazyLock<Blobs> = LazyLock::new(|| {
    let random = SystemRandom::new();
    let recovery = RecoveryKey::generate(&random).expect("random bytes");
    let wrapped = recovery.wrap(&kek(), &random).expect("wrapped");
    let authority = PolicyAuthority::generate(&random).expect("a key");
    let authority = authority.seal(&random, &kek().record_key().expect("a key")).expect("sealed");
    Blobs { recovery, wrapped, authority }
});
