//! What an attacker who holds the store might do to the audit, and that each of it is found and named.

use super::*;
use blindferry_proto::audit::{Event, grow};
use blindferry_proto::bounded::{Bytes, Text, decode, encode};
use blindferry_proto::limits::MAX_STORED;
use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair};

/// A vault's audit of `count` records, of transactions of three.
pub(crate) fn audit(seed: u8, count: u64) -> (AuditKey, Vec<Record>) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let key = AuditKey(pair.public_key().as_ref().try_into().unwrap());
    let mut before = NOTHING;
    let body = |number| {
        let event = Event::Started { notes: Text::cut(&format!("start {number}")) };
        let body = Body { number, at: 1_000 * number, before, dangers: Vec::new(), event };
        before = sha256(&body.to_bytes().unwrap());
        body
    };
    let bodies: Vec<Body> = (0..count).map(body).collect();
    (key, bodies.chunks(3).flat_map(|together| signed(&pair, together)).collect())
}

/// The records of one transaction.
fn signed(pair: &Ed25519KeyPair, together: &[Body]) -> Vec<Record> {
    let bodies: Vec<Vec<u8>> = together.iter().map(|body| body.to_bytes().unwrap()).collect();
    let hashes: Vec<Digest> = bodies.iter().map(|body| sha256(body)).collect();
    let (root, paths) = grow(&hashes, sha256).unwrap();
    let signature: Bytes<64> = Bytes::new(pair.sign(&to_sign(root)).as_ref().to_vec()).unwrap();
    let record = |(body, path)| Record { body: Bytes::new(body).unwrap(), path, signature: signature.clone() };
    bodies.into_iter().zip(paths).map(record).collect()
}

fn head_of(records: &[Record]) -> Option<Head> {
    let last = records.last()?;
    Some(Head { number: last.body().unwrap().number, hash: hash_of(last) })
}

fn verify(key: AuditKey, first: u64, records: &[Record], head: Option<Head>) -> Result<Option<Head>, Broken> {
    let mut chain = Chain::from(key, first);
    for record in records {
        chain.accept(record)?;
    }
    chain.end(head)
}

#[test]
fn an_untouched_audit_verifies_from_any_record() {
    let (key, records) = audit(1, 5);
    for first in 0..5_usize {
        let part = &records[first..];
        let head = verify(key, u64::try_from(first).unwrap(), part, head_of(&records)).unwrap();
        assert_eq!(head, head_of(&records));
    }
    assert_eq!(verify(key, 0, &[], None).unwrap(), None);
}

#[test]
fn a_removed_record_is_named() {
    let (key, mut records) = audit(1, 5);
    let head = head_of(&records);
    records.remove(2);
    assert_eq!(verify(key, 0, &records, head), Err(Broken::Missing { from: 2, to: 2 }));
}

#[test]
fn a_cut_end_is_named() {
    let (key, records) = audit(1, 5);
    let head = head_of(&records);
    assert_eq!(verify(key, 0, &records[..3], head), Err(Broken::Missing { from: 3, to: 4 }));
    assert_eq!(verify(key, 0, &[], head), Err(Broken::Missing { from: 0, to: 4 }));
    assert_eq!(verify(key, 0, &records, head_of(&records[..3])), Err(Broken::HeadBehind { last: 4, head: Some(2) }));
    assert_eq!(verify(key, 0, &records, None), Err(Broken::HeadBehind { last: 4, head: None }));
}

#[test]
fn a_cut_beginning_is_named() {
    let (key, records) = audit(1, 5);
    assert_eq!(verify(key, 0, &records[2..], head_of(&records)), Err(Broken::Missing { from: 0, to: 1 }));
}

#[test]
fn a_changed_record_is_named() {
    let (key, mut records) = audit(1, 5);
    let mut body = records[3].body.clone().into_vec();
    *body.last_mut().unwrap() ^= 1;
    records[3].body = Bytes::new(body).unwrap();
    assert_eq!(verify(key, 0, &records, head_of(&records)), Err(Broken::Signature { number: 3 }));
}

#[test]
fn records_in_another_order_are_named() {
    let (key, mut records) = audit(1, 5);
    let head = head_of(&records);
    records[2..4].reverse();
    assert_eq!(verify(key, 0, &records, head), Err(Broken::Missing { from: 2, to: 2 }));
    let (_, mut records) = audit(1, 5);
    let again = records[1].clone();
    records.insert(2, again);
    assert_eq!(verify(key, 0, &records, head), Err(Broken::OutOfPlace { found: 1, wanted: 2 }));
}

#[test]
fn another_vaults_audit_is_not_this_ones() {
    let (key, _) = audit(1, 1);
    let (_, records) = audit(2, 3);
    assert_eq!(verify(key, 0, &records, head_of(&records)), Err(Broken::Signature { number: 0 }));
}

#[test]
fn a_record_of_another_history_by_the_same_key_breaks_the_link() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    let (key, mut records) = audit(1, 5);
    let other = Event::Started { notes: Text::cut("another past") };
    let other = Body { number: 2, at: 0, before: hash_of(&records[1]), dangers: Vec::new(), event: other };
    records[2] = signed(&pair, &[other]).remove(0);
    assert_eq!(verify(key, 0, &records, head_of(&records)), Err(Broken::Link { number: 3 }));
    // At the very end nothing follows: there the head tells.
    let (_, untouched) = audit(1, 3);
    assert_eq!(verify(key, 0, &records[..3], head_of(&untouched)), Err(Broken::Head { number: 2 }));
}

#[test]
fn a_first_record_that_follows_something_is_not_the_first() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    let (key, _) = audit(1, 1);
    let event = Event::Started { notes: Text::cut("x") };
    let body = Body { number: 0, at: 0, before: Digest([1; 32]), dangers: Vec::new(), event };
    assert_eq!(verify(key, 0, &signed(&pair, &[body]), None), Err(Broken::Link { number: 0 }));
}

#[test]
fn a_rewritten_past_does_not_lead_to_a_head_that_was_kept() {
    let (key, records) = audit(1, 5);
    let kept = Head { number: 2, hash: Digest([9; 32]) };
    let mut chain = Chain::from(key, 0).through(Some(kept));
    let found = records.iter().try_for_each(|record| chain.accept(record).map(drop));
    assert_eq!(found, Err(Broken::Rewritten { number: 2 }));

    // A store that was put back to an earlier state as a whole, head included.
    let kept = head_of(&records);
    let mut chain = Chain::from(key, 0).through(kept);
    records[..3].iter().for_each(|record| drop(chain.accept(record).unwrap()));
    assert_eq!(chain.end(head_of(&records[..3])), Err(Broken::Missing { from: 3, to: 4 }));

    let mut chain = Chain::from(key, 0).through(kept);
    records.iter().for_each(|record| drop(chain.accept(record).unwrap()));
    assert_eq!(chain.end(kept), Ok(kept));

    // A part that begins after it says nothing about it.
    let mut chain = Chain::from(key, 4).through(head_of(&records[..3]));
    drop(chain.accept(&records[4]).unwrap());
    assert_eq!(chain.end(kept), Err(Broken::KnownBefore { known: 2, first: 4 }));
}

#[test]
fn a_head_is_written_as_number_and_hash() {
    let head = Head { number: 7, hash: Digest([0xab; 32]) };
    assert_eq!(head.to_string().parse(), Ok(head));
    for bad in ["", "7", "7:", "7:ab", ":", "-1:00"] {
        assert_eq!(bad.parse::<Head>(), Err(BadHead), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_removal_is_found(count in 1_usize..12, from in 0_usize..12, length in 1_usize..12) {
        let (key, mut records) = audit(1, u64::try_from(count).unwrap());
        let head = head_of(&records);
        let from = from % count;
        records.drain(from..(from + length).min(count));
        prop_assert!(verify(key, 0, &records, head).is_err());
    }

    #[test]
    fn any_exchange_is_found(count in 2_usize..12, one in 0_usize..12, other in 0_usize..12) {
        let (key, mut records) = audit(1, u64::try_from(count).unwrap());
        let head = head_of(&records);
        let (one, other) = (one % count, other % count);
        prop_assume!(one != other);
        records.swap(one, other);
        prop_assert!(verify(key, 0, &records, head).is_err());
    }

    #[test]
    fn any_changed_bit_is_found(count in 1_usize..6, which in 0_usize..6, at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let (key, mut records) = audit(1, u64::try_from(count).unwrap());
        let head = head_of(&records);
        let which = which % count;
        let mut bytes = encode(&records[which], MAX_STORED).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        // Where the bit was in a length, no record comes out.
        if let Ok(changed) = decode(&bytes, MAX_STORED) {
            records[which] = changed;
            let number = u64::try_from(which).unwrap();
            prop_assert_eq!(verify(key, 0, &records, head), Err(Broken::Signature { number }));
        }
    }

    #[test]
    fn any_repetition_is_found(count in 1_usize..12, which in 0_usize..12, to in 0_usize..13) {
        let (key, mut records) = audit(1, u64::try_from(count).unwrap());
        let head = head_of(&records);
        let again = records[which % count].clone();
        records.insert(to % (count + 1), again);
        prop_assert!(verify(key, 0, &records, head).is_err());
    }
}
