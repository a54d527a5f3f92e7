//! Enrolment and quotes against a real TPM: only the TPM with this EK and this AK can answer.

use std::collections::BTreeSet;

use blindferry_attest::{
    attested::{Expected, Pinned, appraise},
    endorsement::{
        ActivationError, ActivationSecret, ChallengeError, CredentialBlob, EkClaim, EkHash, Endorsed, EndorsementError,
        EndorsementPolicy, Manufacturers, RandomError, endorse,
    },
    evidence::{Evidence, TpmEvidence},
    reference::{Firmware, ReferenceValues},
    tpm::{AkName, PcrSelection, PcrValues, QuoteClock},
};
use blindferry_proto::role::Role;
use ring::{
    digest,
    rand::{SecureRandom as _, SystemRandom},
};

use crate::{software_tpm::SoftwareTpm, synthetic::binder};

fn draw(out: &mut [u8]) -> Result<(), RandomError> {
    SystemRandom::new().fill(out).map_err(|_| RandomError)
}

fn policy(allowed: impl IntoIterator<Item = EkHash>) -> EndorsementPolicy {
    EndorsementPolicy {
        allowed: BTreeSet::from_iter(allowed),
        denied: BTreeSet::new(),
        roots: vec![],
        manufacturers: Manufacturers::Any,
    }
}

fn claim(tpm: &SoftwareTpm) -> EkClaim {
    EkClaim { ek_public: tpm.read_sized("ek.pub"), certificates: vec![], ak_public: tpm.read_sized("ak.pub") }
}

/// First refused with the hash, as an operator would learn it; then allowed by it.
fn endorsed(tpm: &SoftwareTpm) -> Endorsed {
    let Err(EndorsementError::NotAllowed { ek }) = endorse(claim(tpm), &policy([]), 0) else {
        panic!("an unknown EK was not refused as such")
    };
    endorse(claim(tpm), &policy([ek]), 0).unwrap()
}

fn activate(tpm: &SoftwareTpm, ek_needs_policy: bool, blob: &CredentialBlob) -> Vec<u8> {
    // The file form of tpm2-tools: magic, version, then the two structures.
    let file = [&[0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1], &blob.credential[..], &blob.encrypted_secret].concat();
    tpm.write("credential", &file);
    if ek_needs_policy {
        tpm.run("tpm2_startauthsession --policy-session -S session");
        tpm.run("tpm2_policysecret -S session -c e");
        tpm.run("tpm2_activatecredential -c ak -C ek -i credential -o answer -P session:session");
    } else {
        tpm.run("tpm2_activatecredential -c ak -C ek -i credential -o answer");
    }
    tpm.read("answer")
}

/// The whole road for one pair of keys: enrol, then quote, then refuse what is changed.
fn enrol_and_quote(ek: &str, ak: &str, scheme: &str, hash: &str) {
    let Some(tpm) = SoftwareTpm::start() else {
        return;
    };
    tpm.run(&format!("tpm2_createek -c ek -G {ek} -u ek.pub"));
    tpm.run(&format!("tpm2_createak -C ek -c ak -G {ak} -s {scheme} -g {hash} -u ak.pub -n ak.name"));

    let secret = ActivationSecret::draw(&mut draw).unwrap();
    let (blob, activation) = endorsed(&tpm).challenge(secret, &mut draw).unwrap();
    let answer = activate(&tpm, matches!(ek, "rsa" | "ecc"), &blob);
    let enrolled = activation.answer(&answer).unwrap();
    assert_eq!(enrolled.ak_name().as_bytes(), tpm.read("ak.name"));

    // An answer to one activation is none to another.
    let secret = ActivationSecret::draw(&mut draw).unwrap();
    let (_, another) = endorsed(&tpm).challenge(secret, &mut draw).unwrap();
    assert_eq!(another.answer(&answer).unwrap_err(), ActivationError::Wrong);

    tpm.run(&format!("tpm2_pcrextend 4:sha256={}", "5a".repeat(32)));
    quote_is_attested(&tpm, &enrolled.ak_name(), scheme, hash);
}

fn quote_is_attested(tpm: &SoftwareTpm, pinned: &AkName, scheme: &str, hash: &str) {
    let challenge = hex::encode(binder(Role::Vault).as_bytes());
    tpm.run("tpm2_pcrread sha256:0,4 -o values");
    tpm.run(&format!(
        "tpm2_quote -c ak -l sha256:0,4 -q {challenge} -m attest -s signature -g {hash} --scheme {scheme}"
    ));
    let read = tpm.read("values");
    let (pcr_0, pcr_4) = (read[..32].try_into().unwrap(), read[32..].try_into().unwrap());
    let pcrs = vec![(0, pcr_0), (4, pcr_4)];
    let now = PcrValues::new(PcrSelection::new([0, 4]).unwrap(), &pcrs).unwrap();
    let reference = ReferenceValues::capture(Role::Vault, "swtpm", Firmware::Any, &now).unwrap();
    let judge = |values: Vec<(u8, [u8; 32])>, earlier: Option<QuoteClock>| {
        let parts = (tpm.read("attest"), tpm.read("signature"), tpm.read_sized("ak.pub"));
        let evidence = TpmEvidence::new(parts.0, parts.1, parts.2, values).unwrap();
        let expected = Expected {
            binder: binder(Role::Vault),
            role: Role::Vault,
            pinned: Pinned::Ak { name: pinned, earlier: earlier.as_ref() },
        };
        appraise(Evidence::Tpm(evidence), expected, &reference)
    };
    let attested = judge(pcrs.clone(), None).unwrap();
    assert_eq!((attested.reference_name(), attested.ak_name()), ("swtpm", Some(pinned)));
    // The same quote is in order with itself, and behind a later one.
    let clock = QuoteClock::from(attested.clock().unwrap());
    assert!(judge(pcrs.clone(), Some(clock)).is_ok());
    let later = QuoteClock { clock: clock.clock + 1, ..clock };
    assert_eq!(judge(pcrs, Some(later)).unwrap_err().code(), "tpm-clock-reset");
    assert_eq!(judge(vec![(0, pcr_0), (4, pcr_0)], None).unwrap_err().code(), "tpm-pcr-digest");
}

#[test]
fn an_rsa_ek_and_an_rsassa_ak() {
    enrol_and_quote("rsa", "rsa", "rsassa", "sha256");
}

#[test]
fn an_rsa_ek_and_an_rsapss_ak_with_sha384() {
    enrol_and_quote("rsa", "rsa", "rsapss", "sha384");
}

#[test]
fn a_p256_ek_and_a_p256_ak() {
    enrol_and_quote("ecc", "ecc", "ecdsa", "sha256");
}

#[test]
fn a_p384_ek_and_a_p384_ak_with_sha384() {
    enrol_and_quote("ecc384", "ecc384", "ecdsa", "sha384");
}

#[test]
fn an_rsa_3072_ek_of_the_high_range() {
    enrol_and_quote("rsa3072", "ecc", "ecdsa", "sha256");
}

#[test]
fn a_denied_ek_is_refused_even_when_it_is_allowed() {
    let Some(tpm) = SoftwareTpm::start() else {
        return;
    };
    tpm.run("tpm2_createek -c ek -G ecc -u ek.pub");
    tpm.run("tpm2_createak -C ek -c ak -G ecc -s ecdsa -g sha256 -u ak.pub");
    let ek = endorsed(&tpm).ek_hash();
    let policy = EndorsementPolicy { denied: BTreeSet::from([ek]), ..policy([ek]) };
    assert_eq!(endorse(claim(&tpm), &policy, 0).unwrap_err().code(), "ek-denied");
}

#[test]
fn a_p256_ek_and_an_rsa_ak() {
    enrol_and_quote("ecc", "rsa", "rsassa", "sha384");
}

#[test]
fn the_hash_of_an_ek_is_what_the_documentation_says() {
    let Some(tpm) = SoftwareTpm::start() else {
        return;
    };
    for kind in ["rsa", "ecc"] {
        tpm.run(&format!("tpm2_createek -c ek -G {kind} -u ek.pub"));
        tpm.run("tpm2_createak -C ek -c ak -G ecc -s ecdsa -g sha256 -u ak.pub");
        tpm.run("tpm2_readpublic -c ek -f der -o ek.der");
        let expected = hex::encode(digest::digest(&digest::SHA256, &tpm.read("ek.der")));
        let allowed = expected.parse().unwrap();
        assert_eq!(endorse(claim(&tpm), &policy([allowed]), 0).unwrap().ek_hash().to_string(), expected);
    }
}

#[test]
fn another_key_in_place_of_ek_or_ak_is_refused() {
    let Some(tpm) = SoftwareTpm::start() else {
        return;
    };
    tpm.run("tpm2_createek -c ek -G ecc -u ek.pub");
    tpm.run("tpm2_createak -C ek -c ak -G ecc -s ecdsa -g sha256 -u ak.pub");
    let good = claim(&tpm);
    let code = |claim| endorse(claim, &policy([]), 0).unwrap_err().code();
    assert_eq!(code(EkClaim { ek_public: good.ak_public.clone(), ..good.clone() }), "ek-attributes");
    assert_eq!(code(EkClaim { ak_public: good.ek_public.clone(), ..good.clone() }), "enrol-ak-attributes");
    // A storage key of the owner looks like an EK but for its policy.
    tpm.run("tpm2_createprimary -C e -G ecc -c other -a fixedtpm|fixedparent|sensitivedataorigin|adminwithpolicy|restricted|decrypt");
    tpm.run("tpm2_readpublic -c other -o other.pub");
    assert_eq!(code(EkClaim { ek_public: tpm.read_sized("other.pub"), ..good.clone() }), "ek-template");
    tpm.run("tpm2_createprimary -C e -G ecc:ecdsa -g sha256 -c signer -a fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign");
    tpm.run("tpm2_readpublic -c signer -o signer.pub");
    assert_eq!(code(EkClaim { ak_public: tpm.read_sized("signer.pub"), ..good }), "enrol-ak-attributes");
}

#[test]
fn a_wrong_or_empty_or_shortened_answer_is_refused() {
    let Some(tpm) = SoftwareTpm::start() else {
        return;
    };
    tpm.run("tpm2_createek -c ek -G ecc -u ek.pub");
    tpm.run("tpm2_createak -C ek -c ak -G ecc -s ecdsa -g sha256 -u ak.pub");
    let known = [9; 32];
    let challenge = || {
        let secret = ActivationSecret::draw(&mut |out| {
            out.copy_from_slice(&known);
            Ok(())
        });
        endorsed(&tpm).challenge(secret.unwrap(), &mut draw).unwrap().1
    };
    assert!(challenge().answer(&known).is_ok());
    for answer in [&[][..], &known[..31], &[9; 33], &[8; 32]] {
        assert_eq!(challenge().answer(answer).unwrap_err(), ActivationError::Wrong);
    }
}

#[test]
fn without_randomness_there_is_no_challenge() {
    let Some(tpm) = SoftwareTpm::start() else {
        return;
    };
    let mut none = |_: &mut [u8]| Err(RandomError);
    assert!(ActivationSecret::draw(&mut none).is_err());
    tpm.run("tpm2_createek -c ek -G ecc -u ek.pub");
    tpm.run("tpm2_createak -C ek -c ak -G ecc -s ecdsa -g sha256 -u ak.pub");
    for kind in ["ecc", "rsa"] {
        tpm.run(&format!("tpm2_createek -c ek -G {kind} -u ek.pub"));
        let secret = ActivationSecret::draw(&mut draw).unwrap();
        let refused = endorsed(&tpm).challenge(secret, &mut none).err().unwrap();
        assert_eq!(refused, ChallengeError::Random(RandomError));
    }
    // Zeros are no private key: refused rather than tried for ever.
    tpm.run("tpm2_createek -c ek -G ecc -u ek.pub");
    let mut zeros = |_: &mut [u8]| Ok(());
    let secret = ActivationSecret::draw(&mut draw).unwrap();
    assert!(endorsed(&tpm).challenge(secret, &mut zeros).is_err());
}
