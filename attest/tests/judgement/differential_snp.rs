//! Guests made here, through our verifier and that of the crate `sev`: it accepts all that we accept.

use std::collections::BTreeSet;

use blindferry_attest::snp::SnpEvidence;
use blindferry_proto::role::Role;

use crate::{
    guest::Guest,
    questions::faulty,
    sev_crate::{self, Comparison},
    synthetic::binder,
};

fn compare(comparison: &mut Comparison, what: &str, guest: &Guest, evidence: SnpEvidence) {
    let theirs = sev_crate::judge(&evidence);
    let ours = guest.judge_evidence(evidence, binder(Role::Vault), None).err().map(|refusal| refusal.code());
    comparison.add(what, ours, theirs);
}

#[test]
fn the_crate_sev_accepts_what_we_accept_and_where_it_alone_accepts_is_written_down() {
    let mut comparison = Comparison::default();
    let good = [Guest::good(), Guest::milan(), Guest::turin()];
    let good: Vec<_> = good.into_iter().flat_map(|guest| [guest.clone(), guest.loaded()]).collect();
    for (number, guest) in good.iter().enumerate() {
        compare(&mut comparison, &format!("good guest {number}"), guest, guest.evidence());
    }
    assert_eq!(comparison.both_accept, good.len());
    for (number, (code, guest)) in faulty().into_iter().enumerate() {
        compare(&mut comparison, &format!("faulty guest {number} ({code})"), &guest, guest.evidence());
    }
    println!("{} accepted and {} refused by both", comparison.both_accept, comparison.both_refuse);
    let listed = sev_crate::STRICTER.iter().flat_map(|(_, codes)| codes.iter().copied());
    let mut listed: BTreeSet<_> = listed.collect();
    // No file makes our own Milan one that is authentic and distrusted; real ones are. The other is shown below.
    assert!(listed.remove("snp-product-distrusted") && listed.remove("snp-certificate"));
    assert_eq!(comparison.differences().unwrap(), listed);
}

/// A dense sample of the bits of a good guest's report, each alone, and some of each of its certificates.
#[test]
fn an_altered_bit_is_refused_by_both_or_by_us_alone() {
    let mut comparison = Comparison::default();
    let guest = Guest::good();
    let whole = guest.evidence();
    let flipped = |bytes: &[u8], bit: usize| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    };
    let mut written_again = 0;
    let sample = (0..whole.report().len() * 8).step_by(67);
    for bit in sample.chain((0..whole.report().len()).filter(|at| is_written_again(*at)).map(|at| at * 8 + 3)) {
        let report = flipped(whole.report(), bit);
        let evidence = SnpEvidence::new(report, whole.certificates().to_vec(), whole.crls().to_vec()).unwrap();
        if is_written_again(bit / 8) {
            assert_eq!(sev_crate::judge(&evidence), Ok(()), "bit {bit}: no longer a difference");
            let ours = guest.judge_evidence(evidence, binder(Role::Vault), None).unwrap_err();
            assert_eq!(ours.code(), "snp-signature");
            written_again += 1;
        } else {
            compare(&mut comparison, &format!("bit {bit} of the report"), &guest, evidence);
        }
    }
    assert!(written_again >= 16);
    for part in 0..whole.certificates().len() {
        for bit in (0..whole.certificates()[part].len() * 8).step_by(401) {
            let mut certificates = whole.certificates().to_vec();
            certificates[part] = flipped(&certificates[part], bit);
            let evidence = SnpEvidence::new(whole.report().to_vec(), certificates, whole.crls().to_vec()).unwrap();
            compare(&mut comparison, &format!("bit {bit} of certificate {part}"), &guest, evidence);
        }
    }
    assert_eq!(comparison.both_accept, 0, "an altered bit was accepted");
    println!(
        "{} altered bits refused by both, {written_again} of those that the other writes again",
        comparison.both_refuse
    );
    // Bytes behind R and S, and the names of the algorithm that no signature covers.
    let wanted = BTreeSet::from(["snp-certificate", "snp-signature-encoding"]);
    assert_eq!(comparison.differences().unwrap(), wanted);
}

/// Offsets of the reserved bytes of the four TCB_VERSIONs of a report (Milan, Genoa). They are signed. The crate checks the
/// signature over a report that it writes again from what it parsed, with zeros there: altered, they pass.
fn is_written_again(offset: usize) -> bool {
    [0x38, 0x180, 0x1e0, 0x1f0].iter().any(|tcb| (tcb + 2..tcb + 6).contains(&offset))
}
