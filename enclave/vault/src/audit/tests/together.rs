//! Records that share a signature: each verifies by itself, and nothing else does.

use blindferry_proto::audit::{Beside, MAX_PATH, MAX_TOGETHER, Path, grow};
use blindferry_proto::bounded::Bytes;
use blindferry_proto::identifier::Digest;
use proptest::prelude::*;

use super::super::verify::sha256;
use super::*;

fn alone(record: &Record, key: AuditKey) -> Result<Head, ChainError> {
    Signatures::by(key).check(record, 0)
}

fn transaction(first: &str, count: usize) -> (AuditKey, Vec<Record>) {
    let signer = signer();
    (signer.key(), signed(&signer, None, (0..count).map(|n| format!("{first} {n}"))))
}

/// A path of any steps, as somebody may send it.
fn path(steps: &[Beside]) -> Path {
    decode(&encode(&steps, MAX_STORED).unwrap(), MAX_STORED).unwrap()
}

#[test]
fn a_record_that_is_alone_in_its_transaction_has_an_empty_path() {
    let (key, records) = transaction("x", 1);
    assert!(records[0].path.steps().is_empty() && alone(&records[0], key).is_ok());
}

/// The tree of RFC 9162 section 2.1.3 with seven leaves, for which the section names the paths.
#[test]
fn paths_are_those_of_the_rfc() {
    let records: Vec<Digest> = (0..7).map(|n| Digest([n; 32])).collect();
    let of = |parts: &[&[u8]]| sha256(&parts.concat());
    let leaf = |n: usize| of(&[&[0], records[n].as_bytes()]);
    let node = |left: Digest, right: Digest| of(&[&[1], left.as_bytes(), right.as_bytes()]);
    let [a, b, c, d, e, f, j] = [0, 1, 2, 3, 4, 5, 6].map(leaf);
    let (g, h, i) = (node(a, b), node(c, d), node(e, f));
    let (k, l) = (node(g, h), node(i, j));
    let (root, paths) = grow(&records, sha256).unwrap();
    assert_eq!(root, node(k, l));
    assert_eq!(paths[0].steps(), [Beside::Right(b), Beside::Right(h), Beside::Right(l)]);
    assert_eq!(paths[3].steps(), [Beside::Left(c), Beside::Left(g), Beside::Right(l)]);
    assert_eq!(paths[4].steps(), [Beside::Right(f), Beside::Right(j), Beside::Left(k)]);
    assert_eq!(paths[6].steps(), [Beside::Left(i), Beside::Left(k)]);
}

#[test]
fn a_tree_of_no_records_and_of_too_many_is_not_grown() {
    assert!(grow(&[], sha256).is_err());
    assert!(grow(&[Digest([1; 32]); MAX_TOGETHER], sha256).is_ok());
    assert!(grow(&[Digest([1; 32]); MAX_TOGETHER + 1], sha256).is_err());
}

#[test]
fn a_path_that_is_too_long_does_not_parse() {
    let steps = |count| encode(&vec![Beside::Left(Digest([1; 32])); count], MAX_STORED).unwrap();
    assert!(decode::<Path>(&steps(MAX_PATH), MAX_STORED).is_ok());
    assert!(decode::<Path>(&steps(MAX_PATH + 1), MAX_STORED).is_err());
}

/// A second preimage: were leaves and nodes hashed alike, a body that is what a node is made of would verify with the
/// signature of honest records.
#[test]
fn a_node_does_not_pass_for_a_record() {
    let (key, records) = transaction("x", 4);
    let honest = &records[0];
    assert!(alone(honest, key).is_ok());
    let (below, above) = honest.path.steps().split_first().unwrap();
    let leaf = Path::default().root(sha256(honest.body.as_slice()), sha256);
    let Beside::Right(right) = *below else { panic!("the first leaf is on the left") };
    let node = [leaf.as_bytes(), right.as_bytes()].map(|half| half.as_slice()).concat();
    for body in [node.clone(), [&[0], node.as_slice()].concat(), [&[1], node.as_slice()].concat()] {
        let forged = Record { body: Bytes::new(body).unwrap(), path: path(above), signature: honest.signature.clone() };
        assert!(alone(&forged, key).is_err());
    }
}

/// A signature that is remembered as good is good for its root alone.
#[test]
fn a_signature_that_was_good_for_one_record_is_computed_for_another_transaction() {
    let (key, records) = transaction("x", 3);
    let (_, others) = transaction("y", 3);
    let mut signatures = Signatures::by(key);
    assert!(signatures.check(&records[0], 0).is_ok());
    let borrowed = Record { signature: records[0].signature.clone(), ..others[1].clone() };
    assert!(signatures.check(&borrowed, 1).is_err(), "the signature of another root");
    let spoilt = Record { signature: others[1].signature.clone(), ..records[1].clone() };
    assert!(signatures.check(&spoilt, 1).is_err(), "another signature for the root");
    assert!(signatures.check(&records[1], 1).is_ok());
}

#[test]
fn more_records_than_one_signature_is_for_have_several() {
    let (key, records) = transaction("x", MAX_TOGETHER + 1);
    assert_eq!(verify(&records, &key, None).unwrap().count(), u64::try_from(records.len()).unwrap());
    let [first, next, last] = [0, MAX_TOGETHER - 1, MAX_TOGETHER].map(|at| &records[at].signature);
    assert!(first == next && next != last);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_record_of_a_transaction_verifies_by_itself(count in 1..=MAX_APPEND, which in any::<prop::sample::Index>()) {
        let (key, records) = transaction("x", count);
        let record = which.get(&records);
        prop_assert!(alone(record, key).is_ok());
        prop_assert!(record.path.steps().len() <= MAX_PATH);
        prop_assert!(records.iter().all(|other| other.signature == record.signature));
        prop_assert_eq!(verify(&records, &key, None).unwrap().count(), u64::try_from(count).unwrap());
    }

    #[test]
    fn a_record_verifies_with_no_bit_changed(
        count in 1..=MAX_APPEND, which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0_u8..8,
    ) {
        let (key, records) = transaction("x", count);
        let mut bytes = encode(which.get(&records), MAX_STORED).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let believed = decode::<Record>(&bytes, MAX_STORED).is_ok_and(|record| alone(&record, key).is_ok());
        prop_assert!(!believed);
    }

    #[test]
    fn what_belongs_to_another_record_does_not_verify(
        count in 2..=MAX_APPEND, one in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(),
    ) {
        let (key, records) = transaction("x", count);
        let (_, strangers) = transaction("y", count);
        let one = one.get(&records);
        for stranger in [other.get(&strangers), other.get(&records)] {
            prop_assume!(stranger != one);
            let path_of = Record { path: stranger.path.clone(), ..one.clone() };
            prop_assert!(alone(&path_of, key).is_err());
            let body_of = Record { body: stranger.body.clone(), ..one.clone() };
            prop_assert!(alone(&body_of, key).is_err());
        }
        let signature_of = Record { signature: other.get(&strangers).signature.clone(), ..one.clone() };
        prop_assert!(alone(&signature_of, key).is_err());
    }

    #[test]
    fn a_path_that_was_cut_or_lengthened_does_not_verify(count in 2..=MAX_APPEND, which in any::<prop::sample::Index>()) {
        let (key, records) = transaction("x", count);
        let record = which.get(&records);
        let steps = record.path.steps();
        let other = |steps: &[Beside]| alone(&Record { path: path(steps), ..record.clone() }, key).is_err();
        prop_assert!(other(&steps[1..]) && other(&steps[..steps.len() - 1]));
        if steps.len() < MAX_PATH {
            prop_assert!(other(&[steps, &steps[..1]].concat()));
        }
        let turned: Vec<_> = steps.iter().map(|step| match *step {
            Beside::Left(hash) => Beside::Right(hash),
            Beside::Right(hash) => Beside::Left(hash),
        }).collect();
        prop_assert!(other(&turned));
    }
}

/// The example of docs/protocol.md.
#[test]
fn the_first_record_of_an_audit_is_byte_for_byte_as_documented() {
    let mut seed: Vec<u8> = (0x41..=0x60).collect();
    let signer = Signer::new(SecretBytes::copy_and_wipe(&mut seed).unwrap()).unwrap();
    let mut chain = signer.chain(None).unwrap();
    for notes in ["", "again"] {
        let _number = chain.append(event(notes), Vec::new(), 1_800_000_000_000).unwrap();
    }
    let (rows, _) = chain.sign().unwrap();
    let documented = include_str!("../../../../../docs/protocol.md").replace([' ', '\n'], "");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (_, record) = &rows[0];
    let [Beside::Right(beside)] = *record.path.steps() else { panic!("not two records") };
    let hash = sha256(record.body.as_slice());
    let root = record.path.root(hash, sha256);
    let values = [signer.key().to_string(), hash.to_string(), beside.to_string(), root.to_string()];
    for value in values.into_iter().chain([hex(record.signature.as_slice())]) {
        assert!(documented.contains(&value), "{value}");
    }
}
