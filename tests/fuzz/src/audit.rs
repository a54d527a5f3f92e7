//! The target of the audit: records as they are carried, and a chain of which something was changed.

use std::sync::LazyLock;

use blindferry_handle::secret::SecretBytes;
use blindferry_proto::{
    audit::{Body, Event, MAX_BODY, Record},
    bounded::{Text, decode, encode},
    identifier::{AuditKey, Digest, LeaseId, RequestId},
    limits::MAX_FRAME,
};
use blindferry_vault::audit::{Head, Signer, verify};

use super::{frames::message, patch};

/// First byte 0: bytes as a record and as its body; 1: bytes written over three good records, one after the other; else:
/// records are left out, doubled or moved, as the bytes say which.
pub fn audit_records(data: &[u8]) -> bool {
    let Some((&choice, rest)) = data.split_first() else { return false };
    let Audit { key, records, encoded, head } = &*AUDIT;
    match choice {
        0 => {
            let record = message::<Record>(rest, MAX_FRAME);
            if let Some(record) = &record {
                assert!(verify([record], key, None).is_err(), "a record was made up");
                if let Ok(body) = record.body() {
                    assert!(body.to_bytes().expect("what fitted fits").len() <= MAX_BODY);
                }
            }
            let body = message::<Body>(rest, MAX_BODY);
            record.is_some() || body.is_some()
        }
        1 => {
            let mut altered = encoded.clone();
            patch(&mut altered, rest);
            // Where something else than a record came out, nothing is left to verify.
            let Ok(altered) = decode::<Vec<Record>>(&altered, MAX_FRAME) else { return true };
            assert_eq!(leads(&altered, key, *head), altered == *records, "a changed bit was believed");
            true
        }
        _ => {
            let pick = |byte: &u8| records[usize::from(*byte) % records.len()].clone();
            let picked: Vec<Record> = rest.iter().take(16).map(pick).collect();
            assert_eq!(leads(&picked, key, *head), picked == *records, "another order was believed");
            let ours = verify(&picked, &AuditKey([7; 32]), None).is_err();
            assert!(ours || picked.is_empty(), "another key was believed");
            true
        }
    }
}

/// Whether these are all records up to the head.
fn leads(records: &[Record], key: &AuditKey, head: Option<Head>) -> bool {
    verify(records, key, None).is_ok_and(|verified| verified.head() == head)
}

struct Audit {
    key: AuditKey,
    records: Vec<Record>,
    encoded: Vec<u8>,
    head: Option<Head>,
}

static AUDIT: LazyLock<Audit> = LazyLock::new(|| {
    let seed = SecretBytes::copy_and_wipe(&mut [5; 32]).expect("secret memory");
    let signer = Signer::new(seed).expect("a key");
    let mut chain = signer.chain(None).expect("a chain");
    let events = [
        Event::Started { notes: Text::cut("a start") },
        Event::Acknowledged { lease: LeaseId([1; 16]), request: RequestId([2; 16]) },
        Event::Operator {
            host: "a-desk".parse().expect("a name"),
            action: Text::cut("put"),
            subject: Text::cut(&Digest([3; 32]).to_string()),
        },
    ];
    for event in events {
        chain.append(event, vec![Text::cut("a danger")], 1_795_219_200_000).expect("a record");
    }
    let (rows, head) = chain.sign().expect("a signature");
    let records: Vec<Record> = rows.into_iter().map(|(_, record)| record).collect();
    let encoded = encode(&records, MAX_FRAME).expect("three records");
    Audit { key: signer.key(), encoded, head, records }
});
