//! The target of backups: the file that an operator hands to a new store, its parts, and values put together from pieces.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use blindferry_front::store::redb::restore::{Present, restore};
use blindferry_proto::{
    backup::{Assembly, MAGIC, MAX_PART, Manifest, Part, Piece},
    bounded::{Bytes, Text},
    front::{Key, Table},
    identifier::{AuditKey, Digest},
    limits::MAX_STORED,
};

use super::{frames::message, part, patch};

/// First byte 0: bytes as a part; 1: a file, as it is; 2: bytes written over a good file; else: a value for each part of the
/// input, handed on in pieces as the part's first bytes say.
pub fn backups(data: &[u8]) -> bool {
    let Some((&choice, rest)) = data.split_first() else { return false };
    match choice {
        0 => message::<Part>(rest, MAX_PART).is_some(),
        1 => {
            restores(rest);
            true
        }
        2 => {
            let mut altered = GOOD.clone();
            patch(&mut altered, rest);
            assert_eq!(restores(&altered), altered == *GOOD, "a changed bit was taken");
            true
        }
        _ => assembled(rest),
    }
}

/// A backup that is restored.
pub fn good_backup() -> Vec<u8> {
    GOOD.clone()
}

/// Whether a store came of the file. Where none did, nothing is left behind.
fn restores(file: &[u8]) -> bool {
    let place = Place::new();
    let restored = restore(&place.store(), &mut &*file, Present::Refuse);
    let left = fs::read_dir(&place.0).expect("a directory").count();
    assert_eq!(left, usize::from(restored.is_ok()), "{restored:?}");
    restored.is_ok()
}

/// What comes out is what went in, in order and whole; else it is refused, and what was held is bounded.
fn assembled(mut data: &[u8]) -> bool {
    let mut assembly = Assembly::default();
    let mut last = None;
    let mut whole = vec![];
    while !data.is_empty() {
        let Some((head, bytes)) = part(&mut data).split_first_chunk::<4>() else { return true };
        let Ok(bytes) = Bytes::new(bytes.to_vec()) else { return true };
        let [key, length, offset, more] = head.map(u32::from);
        let piece = Piece {
            table: if more & 2 == 0 { Table::Masters } else { Table::Hosts },
            key: named(key),
            length: if more & 4 == 0 { length } else { u32::MAX - length },
            offset,
            bytes,
        };
        let place = (piece.table, key);
        if piece.offset == 0 {
            whole.clear();
        }
        whole.extend_from_slice(piece.bytes.as_slice());
        match assembly.add(piece) {
            Ok(None) => assert!(whole.len() < MAX_STORED && !assembly.is_whole()),
            Ok(Some((table, key, value))) => {
                assert!(assembly.is_whole() && value.as_slice() == whole && last < Some(place), "{table:?} {key:?}");
                last = Some(place);
            }
            Err(_) => return true,
        }
    }
    true
}

fn named(number: u32) -> Key {
    Bytes::new(number.to_be_bytes().to_vec()).expect("a short key")
}

/// A directory in memory, gone in the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = Path::new("/dev/shm").join(format!("blindferry-fuzz-{}-{number}", process::id()));
        // Left by a run that broke.
        let _nothing = fs::remove_dir_all(&place);
        fs::create_dir(&place).expect("a place in memory");
        Self(place)
    }

    fn store(&self) -> PathBuf {
        self.0.join("store")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it was ours");
    }
}

/// A backup as it is kept. Its contents are for the vault to judge, so that here they need not be encrypted.
static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let manifest = Manifest {
        taken: 1_795_219_200,
        version: Text::cut("0.1.0"),
        audit_key: AuditKey([7; 32]),
        record: 3,
        hash: Digest([4; 32]),
    };
    let mut file = MAGIC.to_vec();
    type Stretches<'a> = &'a [&'a [u8]];
    let pieces: [(Table, &[u8], Stretches<'_>); 3] = [
        (Table::Sealed, b"recovery", &[b"ciphertext"]),
        (Table::Manifest, b"root", &[b"cipher", b"text"]),
        (Table::Masters, b"api", &[b""]),
    ];
    let mut count = 0;
    let add = |file: &mut Vec<u8>, part: Part| file.extend(part.to_bytes().expect("a part within its bound"));
    add(&mut file, Part::Begin(manifest));
    for (table, key, stretches) in pieces {
        let length = stretches.iter().map(|stretch| stretch.len()).sum::<usize>();
        let mut offset = 0;
        for stretch in stretches {
            let key = Bytes::new(key.to_vec()).expect("a short key");
            let bytes = Bytes::new(stretch.to_vec()).expect("a short stretch");
            let length = u32::try_from(length).expect("a short value");
            add(&mut file, Part::Piece(Piece { table, key, length, offset, bytes }));
            offset += u32::try_from(stretch.len()).expect("a short stretch");
            count += 1;
        }
    }
    let digest = Digest(digest(&file));
    add(&mut file, Part::End { pieces: count, digest });
    file
});

fn digest(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("32 bytes")
}
