//! No bytes make a parser panic, and what parses is within bounds.

use blindferry_attest::{
    evidence::{Evidence, MAX_EVIDENCE, TpmEvidence},
    tpm::{AkName, PcrSelection, PcrValues, public::Public, quote::Quote, signature::Signature},
};
use proptest::prelude::*;

use crate::synthetic::Case;

#[test]
fn too_long_evidence_is_refused_before_it_is_parsed() {
    assert_eq!(Evidence::decode(&vec![1; MAX_EVIDENCE + 1]).unwrap_err().code(), "evidence-too-long");
}

#[test]
fn unknown_versions_and_platforms_are_refused() {
    assert_eq!(Evidence::decode(&[]).unwrap_err().code(), "evidence-malformed");
    assert_eq!(Evidence::decode(&[2, 1]).unwrap_err().code(), "evidence-version");
    assert_eq!(Evidence::decode(&[1, 9]).unwrap_err().code(), "evidence-platform");
}

#[test]
fn a_length_larger_than_its_part_can_be_is_refused() {
    assert_eq!(Evidence::decode(&[1, 1, 0xff, 0xff]).unwrap_err().code(), "evidence-malformed");
    assert_eq!(TpmEvidence::new(vec![0; 1025], vec![0], vec![0], vec![]).unwrap_err().code(), "evidence-part");
    assert_eq!(TpmEvidence::new(vec![0], vec![], vec![0], vec![]).unwrap_err().code(), "evidence-part");
}

#[test]
fn pcr_values_out_of_order_are_refused() {
    for pcrs in [vec![(7, [0; 32]), (4, [0; 32])], vec![(4, [0; 32]), (4, [1; 32])], vec![(24, [0; 32])]] {
        assert_eq!(TpmEvidence::new(vec![0], vec![0], vec![0], pcrs).unwrap_err().code(), "evidence-pcr-order");
    }
}

#[test]
fn bytes_behind_evidence_are_refused() {
    let parts = Case::good().parts();
    let evidence = TpmEvidence::new(parts.attest, parts.signature, parts.public, vec![]).unwrap();
    let mut bytes = Evidence::Tpm(evidence).encode();
    assert!(Evidence::decode(&bytes).is_ok());
    bytes.push(0);
    assert_eq!(Evidence::decode(&bytes).unwrap_err().code(), "evidence-malformed");
}

#[test]
fn evidence_that_ends_early_is_refused_wherever_it_ends() {
    let parts = Case::good().parts();
    let evidence = TpmEvidence::new(parts.attest, parts.signature, parts.public, vec![(4, [4; 32])]).unwrap();
    let bytes = Evidence::Tpm(evidence).encode();
    for len in 0..bytes.len() {
        assert!(Evidence::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn selections_are_what_they_were_made_of() {
    assert!(PcrSelection::new([]).is_err());
    assert!(PcrSelection::new([24]).is_err());
    assert!(PcrSelection::new([7, 7]).is_err());
    assert_eq!(PcrSelection::new([0, 8, 23]).unwrap().to_tpml(), [0, 0, 0, 1, 0x00, 0x0b, 3, 0x01, 0x01, 0x80]);
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = Evidence::decode(&bytes);
        let _ = Quote::parse(&bytes);
        let _ = Signature::parse(&bytes);
        let _ = Public::parse(&bytes);
        let _ = AkName::from_bytes(&bytes);
    }

    /// Altered real structures reach deeper than random bytes.
    #[test]
    fn no_altered_structure_makes_a_parser_panic(
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let parts = Case::good().parts();
        for original in [parts.attest, parts.signature, parts.public] {
            let mut altered = original.clone();
            let at = at.index(altered.len());
            for (to, from) in altered[at..].iter_mut().zip(&bytes) {
                *to = *from;
            }
            altered.truncate(1 + cut.index(original.len()));
            let _ = Quote::parse(&altered);
            let _ = Signature::parse(&altered);
            let _ = Public::parse(&altered);
        }
    }

    #[test]
    fn evidence_is_read_back_as_it_was_written(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=1024), 3),
        pcrs in prop::collection::btree_map(0u8..24, any::<[u8; 32]>(), 0..=24),
    ) {
        let pcrs: Vec<_> = pcrs.into_iter().collect();
        let evidence = TpmEvidence::new(parts[0].clone(), parts[1].clone(), parts[2].clone(), pcrs).unwrap();
        let evidence = Evidence::Tpm(evidence);
        let bytes = evidence.encode();
        prop_assert!(bytes.len() <= MAX_EVIDENCE);
        prop_assert_eq!(Evidence::decode(&bytes).unwrap(), evidence);
    }

    #[test]
    fn pcr_values_cover_exactly_their_selection(
        selected in prop::collection::btree_set(0u8..24, 1..24),
        valued in prop::collection::btree_set(0u8..24, 0..24),
    ) {
        let selection = PcrSelection::new(selected.iter().copied()).unwrap();
        let values: Vec<_> = valued.iter().map(|pcr| (*pcr, [*pcr; 32])).collect();
        prop_assert_eq!(PcrValues::new(selection, &values).is_ok(), selected == valued);
    }
}
