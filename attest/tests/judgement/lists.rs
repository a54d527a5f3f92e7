//! What no signature covers, and revocation lists beside each other: one form, and the newest counts.

use blindferry_amd::{
    Amd, Crl, VekSpec,
    certificate::VALIDITY,
    der::{extension, pss_sha384, seq, tlv},
};
use blindferry_attest::{
    reference::ReferenceValues,
    snp::{EndorsedVek, KeyKind, SnpRefusal, crl::Revocation},
};

use crate::guest::{Guest, NOW};

fn endorse(vek: &[u8], crls: &[&[u8]]) -> Result<EndorsedVek, SnpRefusal> {
    let values: ReferenceValues = Guest::good().values();
    EndorsedVek::endorse(KeyKind::Vcek, &[vek, &Amd::of("Genoa").ask_der], crls, values.anchors(), NOW)
}

/// The same certificate or list with the other of AMD's two forms of the algorithm outside of what is signed, so that the
/// signature holds still.
fn renamed(der: &[u8]) -> Vec<u8> {
    let cut = |bytes: &[u8]| match bytes[1] {
        len @ 0..=0x7f => 2 + usize::from(len),
        0x81 => 3 + usize::from(bytes[2]),
        _ => 4 + usize::from(u16::from_be_bytes([bytes[2], bytes[3]])),
    };
    // Both are longer than 256 bytes.
    let inner = &der[4..];
    let (tbs, rest) = inner.split_at(cut(inner));
    let (algorithm, signature) = rest.split_at(cut(rest));
    let other = [false, true].map(pss_sha384).into_iter().find(|other| other != algorithm).unwrap();
    seq(&[tbs, &other, signature])
}

#[test]
fn the_algorithm_is_the_same_inside_and_outside_of_what_is_signed() {
    let amd = Amd::of("Genoa");
    for trailer in [false, true] {
        let vek = amd.vcek(&VekSpec { trailer, ..VekSpec::genoa() }).der;
        assert!(endorse(&vek, &[]).is_ok());
        let refusal = endorse(&renamed(&vek), &[]).unwrap_err();
        assert_eq!((refusal.code(), refusal.found()), ("snp-certificate", "two signature algorithms"));
    }
    let (vek, crl) = (amd.vcek(&VekSpec::genoa()).der, amd.crl(&Crl::empty()));
    assert!(endorse(&vek, &[&crl]).is_ok());
    assert_eq!(endorse(&vek, &[&renamed(&crl)]).unwrap_err().code(), "snp-crl");
}

#[test]
fn of_two_lists_that_which_lasts_longer_counts_whatever_their_order() {
    let amd = Amd::of("Genoa");
    let vek = amd.vcek(&VekSpec::genoa()).der;
    let list = |validity| amd.crl(&Crl { validity, ..Crl::empty() });
    let (older, newer) = (list((VALIDITY.0, NOW.cast_signed() - 60)), list((VALIDITY.0 + 60, NOW.cast_signed() + 60)));
    let wanted = Revocation::NotRevoked { from: VALIDITY.0 + 60, until: NOW.cast_signed() + 60 };
    for crls in [[older.as_slice(), &newer], [&newer, &older]] {
        assert_eq!(endorse(&vek, &crls).unwrap().revocation(), wanted);
    }
    // A list that revokes others alone revokes nothing of this chain.
    let others = amd.crl(&Crl { revoked: vec![7, 8, 0x70000], ..Crl::empty() });
    let wanted = Revocation::NotRevoked { from: VALIDITY.0, until: VALIDITY.1 };
    assert_eq!(endorse(&vek, &[&others]).unwrap().revocation(), wanted);
    // And a list that revokes does so wherever it stands.
    let revoking = amd.crl(&Crl { revoked: vec![0x70001], ..Crl::empty() });
    for crls in [[revoking.as_slice(), &newer], [&newer, &revoking]] {
        assert_eq!(endorse(&vek, &crls).unwrap_err().code(), "snp-certificate-revoked");
    }
}

#[test]
fn a_list_of_another_root_is_passed_over_and_one_with_unknown_meaning_is_refused() {
    let vek = Amd::of("Genoa").vcek(&VekSpec::genoa()).der;
    let revoked = Crl { revoked: vec![0x70001], ..Crl::empty() };
    let foreign = Amd::of("Milan").crl(&revoked);
    assert_eq!(endorse(&vek, &[&foreign]).unwrap().revocation(), Revocation::Unknown);
    let with = |critical, value: &[u8]| {
        // deltaCRLIndicator; unknown to us, and broken where its value is no INTEGER.
        let further = vec![extension(b"\x06\x03\x55\x1d\x1b", critical, value)];
        endorse(&vek, &[&Amd::of("Genoa").crl(&Crl { further, ..Crl::empty() })]).map(|vek| vek.revocation())
    };
    assert_eq!(with(true, b"\x02\x01\x01").unwrap_err().code(), "snp-crl");
    assert!(with(false, b"\x02\x01\x01").is_ok());
    // A CRL number that is none.
    let further = vec![extension(b"\x06\x03\x55\x1d\x1c", false, b"\x30")];
    let broken = Amd::of("Genoa").crl(&Crl { further, ..Crl::empty() });
    assert_eq!(endorse(&vek, &[&broken]).unwrap_err().code(), "snp-crl");
}

#[test]
fn a_list_over_the_bound_is_refused_by_its_length_alone() {
    let vek = Amd::of("Genoa").vcek(&VekSpec::genoa()).der;
    for (len, refused) in [(4096, false), (4097, true)] {
        let found = endorse(&vek, &[&tlv(0x30, &[&vec![0; len - 4]])]).unwrap_err();
        assert_eq!((found.code(), found.found().ends_with("more than 4096")), ("snp-crl", refused));
    }
}
