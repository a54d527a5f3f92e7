//! Each check of the TPM quote alone, with everything else valid.

use blindferry_attest::{attested::AppraisalError, binder::Binder, tpm::QuoteClock};
use blindferry_proto::role::Role;

use crate::synthetic::{AK_ATTRIBUTES, Case, PCR_4, PCR_7, Parts, binder, name_of};

/// Changes one thing of a good case, and gives the refusal.
fn refusal(change: impl FnOnce(&mut Case)) -> AppraisalError {
    let mut case = Case::good();
    change(&mut case);
    case.judge().unwrap_err()
}

#[test]
fn a_good_quote_is_attested_with_what_it_said() {
    let attested = Case::good().judge().unwrap();
    assert_eq!(attested.role(), Role::Broker);
    assert_eq!(attested.reference_name(), "this month");
    assert_eq!(attested.clock().unwrap().reset_count, 5);
    let claims = attested.claims();
    assert_eq!(claims.firmware, "0007000200030004");
    assert_eq!(claims.reference, "this month");
    assert_eq!(claims.ak_name, attested.ak_name().map(ToString::to_string));
    assert_eq!(claims.pcrs[&7], hex::encode(PCR_7));
    assert_eq!(claims.pcrs.len(), 2);
}

#[test]
fn what_is_not_made_by_a_tpm_is_refused() {
    assert_eq!(refusal(|case| case.magic = 0x7f54_4347).code(), "tpm-quote-magic");
}

#[test]
fn an_attestation_of_something_else_is_refused() {
    // TPM_ST_ATTEST_CERTIFY, _CREATION, _NV, _TIME.
    for kind in [0x8017, 0x801a, 0x8014, 0x8019] {
        assert_eq!(refusal(|case| case.kind = kind).code(), "tpm-quote-type");
    }
}

#[test]
fn a_quote_for_another_challenge_is_refused() {
    assert_eq!(refusal(|case| case.challenge[31] ^= 1).code(), "tpm-quote-challenge");
}

#[test]
fn a_missing_or_shortened_challenge_is_refused() {
    assert_eq!(refusal(|case| case.challenge.clear()).code(), "tpm-quote-challenge");
    assert_eq!(refusal(|case| case.challenge.truncate(31)).code(), "tpm-quote-challenge");
    assert_eq!(refusal(|case| case.challenge.push(0)).code(), "tpm-quote-challenge");
}

#[test]
fn a_quote_reflected_by_the_other_end_is_refused() {
    let reflected = refusal(|case| case.challenge = binder(Role::Vault).as_bytes().to_vec());
    assert_eq!(reflected.code(), "tpm-quote-challenge");
}

#[test]
fn a_quote_relayed_over_another_channel_or_key_is_refused() {
    let channel = Binder::compute(Role::Broker, b"a TLS key", &[8; 32]).unwrap();
    let key = Binder::compute(Role::Broker, b"another TLS key", &[7; 32]).unwrap();
    for other in [channel, key] {
        assert_eq!(refusal(|case| case.challenge = other.as_bytes().to_vec()).code(), "tpm-quote-challenge");
    }
}

#[test]
fn a_quote_of_fewer_more_or_other_pcrs_is_refused() {
    let selections: [&[u8]; 8] = [
        &[0, 0, 0, 1, 0x00, 0x0b, 3, 0x80, 0, 0],                         // one left out
        &[0, 0, 0, 1, 0x00, 0x0b, 3, 0x91, 0, 0],                         // one more
        &[0, 0, 0, 1, 0x00, 0x0b, 3, 0, 0, 0],                            // none
        &[0, 0, 0, 0],                                                    // no bank
        &[0, 0, 0, 1, 0x00, 0x04, 3, 0x90, 0, 0],                         // SHA-1 bank
        &[0, 0, 0, 1, 0x00, 0x0c, 3, 0x90, 0, 0],                         // SHA-384 bank
        &[0, 0, 0, 2, 0x00, 0x0b, 3, 0x90, 0, 0, 0x00, 0x04, 3, 0, 0, 0], // a second bank
        &[0, 0, 0, 2, 0x00, 0x0b, 3, 0x10, 0, 0, 0x00, 0x0b, 3, 0x80, 0, 0], // the bank in two pieces
    ];
    for selection in selections {
        assert_eq!(refusal(|case| case.selection = selection.to_vec()).code(), "tpm-pcr-selection");
    }
}

#[test]
fn values_of_other_pcrs_than_were_quoted_are_refused() {
    assert_eq!(refusal(|case| case.pcrs = vec![(4, PCR_4)]).code(), "tpm-pcr-values");
    assert_eq!(refusal(|case| case.pcrs = vec![(4, PCR_4), (8, PCR_7)]).code(), "tpm-pcr-values");
    assert_eq!(refusal(|case| case.pcrs.push((9, [0; 32]))).code(), "tpm-pcr-values");
    assert_eq!(refusal(|case| case.pcrs.clear()).code(), "tpm-pcr-values");
}

#[test]
fn values_that_were_not_quoted_are_refused() {
    assert_eq!(refusal(|case| case.pcr_digest = Some(vec![1; 32])).code(), "tpm-pcr-digest");
    assert_eq!(refusal(|case| case.pcr_digest = Some(vec![])).code(), "tpm-pcr-digest");
}

#[test]
fn unknown_software_is_refused_and_the_error_says_which_pcr() {
    let error = refusal(|case| case.pcrs[1].1 = [0x79; 32]);
    assert_eq!(error.code(), "tpm-pcr-value");
    let AppraisalError::PcrValue { pcr, found, wanted, nearest } = error else { panic!("{error}") };
    assert_eq!((pcr, found, nearest.as_str()), (7, [0x79; 32], "this month"));
    assert_eq!(wanted, [PCR_7, [0x78; 32]]);
}

#[test]
fn values_of_two_platforms_do_not_mix() {
    let error = refusal(|case| case.pcrs = vec![(4, PCR_4), (7, [0x70; 32])]);
    assert_eq!(error.code(), "tpm-pcr-value");
}

#[test]
fn old_firmware_is_refused_even_with_good_pcrs() {
    let error = refusal(|case| case.firmware = 0x0007_0002_0003_0003);
    assert_eq!(error.code(), "tpm-firmware");
    assert!(error.to_string().contains("0007000200030003"), "{error}");
}

#[test]
fn a_key_with_another_name_than_the_pinned_is_refused() {
    let error = refusal(|case| case.pinned = Some(name_of(b"another key")));
    assert_eq!(error.code(), "tpm-ak-name");
}

#[test]
fn a_key_that_could_leave_its_tpm_or_sign_anything_is_refused() {
    // fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign: each alone.
    for bit in [1, 4, 5, 16, 18] {
        assert_eq!(refusal(|case| case.attributes = AK_ATTRIBUTES & !(1 << bit)).code(), "tpm-ak-attributes");
    }
    assert_eq!(refusal(|case| case.attributes = AK_ATTRIBUTES | 1 << 17).code(), "tpm-ak-attributes");
}

#[test]
fn a_key_without_a_fixed_scheme_is_refused() {
    assert_eq!(refusal(|case| case.key_scheme = vec![0x00, 0x10]).code(), "tpm-ak-scheme");
}

#[test]
fn the_evidence_does_not_choose_its_algorithm() {
    assert_eq!(refusal(|case| case.signature_scheme = [0x0018, 0x000c]).code(), "tpm-signature-scheme");
}

#[test]
fn sha1_is_refused_wherever_it_is_used() {
    assert_eq!(refusal(|case| case.signature_scheme = [0x0018, 0x0004]).code(), "tpm-hash-weak");
    assert_eq!(refusal(|case| case.key_scheme = vec![0x00, 0x18, 0x00, 0x04]).code(), "tpm-hash-weak");
    let named = refusal(|case| {
        case.pinned = Some(name_of(b"any"));
        case.name_alg = 0x0004;
    });
    assert_eq!(named.code(), "tpm-hash-weak");
}

#[test]
fn a_signature_by_another_key_is_refused() {
    let case = Case::good();
    let mut parts = case.parts();
    parts.signature = Case::good().parts().signature;
    assert_eq!(case.judge_parts(parts).unwrap_err().code(), "tpm-signature");
}

#[test]
fn bytes_left_over_are_refused() {
    assert_eq!(refusal(|case| case.after_attest = vec![0]).code(), "tpm-attest");
    assert_eq!(refusal(|case| case.after_public = vec![0]).code(), "tpm-ak-public");
    assert_eq!(refusal(|case| case.after_signature = vec![0]).code(), "tpm-signature-form");
}

#[test]
fn a_safe_flag_that_is_neither_is_refused() {
    assert_eq!(refusal(|case| case.safe = 2).code(), "tpm-attest");
}

#[test]
fn a_clock_that_the_tpm_does_not_vouch_for_is_refused() {
    assert_eq!(refusal(|case| case.safe = 0).code(), "tpm-clock-unsafe");
}

#[test]
fn each_counter_that_goes_backwards_is_refused() {
    let earlier = QuoteClock { clock: 1_000_000, reset_count: 5, restart_count: 2 };
    for (counter, earlier) in [
        ("resetCount", QuoteClock { reset_count: 6, restart_count: 0, ..earlier }),
        ("restartCount", QuoteClock { restart_count: 3, ..earlier }),
        ("clock", QuoteClock { clock: 1_000_001, ..earlier }),
    ] {
        let error = refusal(|case| case.earlier = Some(earlier));
        assert_eq!(error.code(), "tpm-clock-reset");
        assert!(error.to_string().starts_with(counter), "{error}");
    }
}

#[test]
fn a_loss_of_power_is_told_from_an_old_state_that_was_brought_back() {
    let power_lost = refusal(|case| {
        case.safe = 0;
        case.reset_count = 6;
        case.clock = 999_990;
    });
    assert_eq!(power_lost.code(), "tpm-clock-unsafe");
    let brought_back = refusal(|case| {
        case.safe = 0;
        case.reset_count = 4;
    });
    assert_eq!(brought_back.code(), "tpm-clock-reset");
}

#[test]
fn a_reset_since_the_last_quote_is_no_reason_to_refuse() {
    let mut case = Case::good();
    case.earlier = Some(QuoteClock { clock: 10, reset_count: 4, restart_count: 9 });
    assert_eq!(case.judge().unwrap().reference_name(), "this month");
}

#[test]
fn reference_values_of_another_role_are_refused() {
    assert_eq!(refusal(|case| case.role = Role::Vault).code(), "reference-role");
}

#[test]
fn every_flipped_bit_of_what_the_tpm_wrote_is_refused() {
    let case = Case::good();
    assert!(case.judge_parts(case.parts()).is_ok());
    let parts = case.parts();
    let flip = |bytes: &[u8], bit: usize| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    };
    let fresh =
        || Parts { attest: parts.attest.clone(), signature: parts.signature.clone(), public: parts.public.clone() };
    let pinned = name_of(&parts.public);
    let case = Case { pinned: Some(pinned), ..case };
    for bit in 0..parts.attest.len() * 8 {
        let altered = Parts { attest: flip(&parts.attest, bit), ..fresh() };
        assert_eq!(case.judge_parts(altered).unwrap_err().code(), "tpm-signature", "bit {bit} of TPMS_ATTEST");
    }
    for bit in 0..parts.signature.len() * 8 {
        let altered = Parts { signature: flip(&parts.signature, bit), ..fresh() };
        assert!(case.judge_parts(altered).is_err(), "bit {bit} of TPMT_SIGNATURE");
    }
    for bit in 0..parts.public.len() * 8 {
        let altered = Parts { public: flip(&parts.public, bit), ..fresh() };
        assert!(case.judge_parts(altered).is_err(), "bit {bit} of TPMT_PUBLIC");
    }
}

#[test]
fn every_flipped_bit_of_a_pcr_value_is_refused() {
    for bit in 0..256 {
        let mut case = Case::good();
        let parts = case.parts();
        case.pcrs[0].1[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(case.judge_parts(parts).unwrap_err().code(), "tpm-pcr-digest");
    }
}

#[test]
fn a_binder_needs_a_key_and_an_exporter() {
    assert_eq!(Binder::compute(Role::Vault, b"", &[7; 32]).unwrap_err().code(), "binder-no-key");
    assert_eq!(Binder::compute(Role::Vault, &[1; 1025], &[7; 32]).unwrap_err().code(), "binder-key-too-long");
    assert_eq!(Binder::compute(Role::Vault, b"key", &[0; 32]).unwrap_err().code(), "binder-no-exporter");
}

/// Computed with another implementation:
/// `(printf 'blindferry attested session v1\002a TLS key'; head -c 32 /dev/zero | tr '\0' '\7') | sha256sum`
#[test]
fn a_binder_is_the_documented_hash() {
    assert_eq!(
        hex::encode(binder(Role::Broker).as_bytes()),
        "c76b5a688cebb3b5c56d0d80ef66f87c0dab4899bf884c67f823f4ae5e944c9b"
    );
}
