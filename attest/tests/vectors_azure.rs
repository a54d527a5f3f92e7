//! Published evidence of Azure's machines and published EK certificates, one test a case, made from the manifest beside
//! them: the outcome, and the reason.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends where it cannot go on")]

use std::{collections::BTreeSet, process::ExitCode};

use blindferry_attest::{
    azure::{Files, Hcl, Request, RuntimeData, Vouched, examine},
    checks::Outcome,
    endorsement::{EkClaim, EndorsementPolicy, Manufacturers, endorse},
    snp::{Anchors, EndorsedVek, KeyKind, Report, Verdict},
    tpm::{PcrSelection, examine as quotes, key::Key, public::Public, quoted::AuthenticQuote},
};
use libtest_mimic::{Failed, Trial};
use ring::digest;

use published::{Vector, run};

#[expect(dead_code, reason = "others need more of it")]
#[path = "support/published.rs"]
mod published;

type Tried = Result<(), Failed>;

/// 2024-01-01: within the time of every certificate of these kinds.
const NOW: u64 = 1_704_067_200;

fn main() -> ExitCode {
    run(|case| trial(case).into_iter().collect())
}

fn trial(case: &Vector) -> Option<Trial> {
    let judge: fn(&Vector) -> Tried = match case.kind() {
        "azure-hcl" => blob,
        "azure-hcl-negative" => negative,
        "ek-or-ak-cert" => certificate,
        "ek-ca" => authority,
        _ => return None,
    };
    let case = case.clone();
    Some(Trial::test(case.id().to_owned(), move || judge(&case)))
}

impl Vector {
    fn vek(&self) -> EndorsedVek {
        EndorsedVek::endorse(KeyKind::Vcek, &[&self.needed("vek")], &[], &Anchors::amd(), NOW).unwrap()
    }

    /// The quote beside the blob, checked by the key that the blob tells.
    fn quote(&self, ak: &Key) -> Result<AuthenticQuote, &'static str> {
        let raw = self.needed("quote_sig");
        let mut signature = vec![0x00, 0x14, 0x00, 0x0b];
        sized(&mut signature, &raw);
        let ak = Public::parse(&public_area(ak)).unwrap();
        AuthenticQuote::check(&self.needed("quote_msg"), &signature, &ak).map_err(|error| error.code())
    }
}

fn blob(case: &Vector) -> Tried {
    let bytes = case.needed("hcl");
    if case.expected("report_type") == "TDX" {
        assert_eq!(Hcl::parse(&bytes).unwrap_err().code(), "azure-tdx");
        return Ok(());
    }
    let hcl = Hcl::parse(&bytes)?;
    assert_eq!(Some(u64::from(hcl.version())), case.expected("hcl_version").as_u64());
    let report = Report::parse(hcl.report())?;
    let body = report.body();
    assert_eq!(Some(u64::from(body.version)), case.expected("report_version").as_u64());
    assert_eq!(Some(u64::from(body.vmpl)), case.expected("vmpl").as_u64());
    assert!(body.chip_id.to_string().starts_with(case.expected("chip_id").as_str().unwrap().trim_end_matches('.')));
    let hash = digest::digest(&digest::SHA256, hcl.runtime());
    assert_eq!(
        hash.as_ref() == &body.report_data.as_bytes()[..32],
        case.expected("report_data_binds_runtime_json") == true
    );

    let runtime = RuntimeData::parse(hcl.runtime())?;
    assert!(runtime.claims().vm_id.is_some());
    if !case.has("vek") {
        return Ok(());
    }
    let vek = case.vek();
    let vouched = Vouched::open(&hcl, &vek.authenticate(report, NOW)?)?;
    let key = vouched.vtpm_key(Public::parse(&public_area(runtime.ak()))?)?;
    assert_eq!(key.public().key(), vouched.runtime().ak());
    let stranger = Key::Rsa { modulus: vec![0xc1; 256], exponent: 65537 };
    assert_eq!(vouched.vtpm_key(Public::parse(&public_area(&stranger))?).unwrap_err().code(), "azure-ak");

    let quote = case.quote(vouched.runtime().ak())?;
    assert_eq!(Some(quote.quote().challenge()), case.expected("quote_nonce").as_str().map(str::as_bytes));
    let values = case.needed("pcrs");
    let pcrs: Vec<(u8, [u8; 32])> = (0..).zip(values.chunks_exact(32).map(|value| value.try_into().unwrap())).collect();
    assert_eq!(quote.pcrs(&pcrs, PcrSelection::new(0..24)?)?.values().iter().count(), 24);
    every_flipped_bit(case, &bytes, &vek);

    // The command's road, without reference values. That machine ran firmware that was not committed yet, on a Milan;
    // nothing else is wrong with it.
    let (attest, signature, certificates) = (case.needed("quote_msg"), case.needed("quote_sig"), [case.needed("vek")]);
    let quote = quotes::Files { attest: &attest, signature: &signature, pcrs: Some(&pcrs), ..quotes::Files::default() };
    let listed = |quote, certificates, challenge| {
        let request = Request { now: NOW, challenge, ..Request::default() };
        examine(&Files { blob: &bytes, certificates, quote }, &request)
    };
    let whole = listed(Some(quote), &certificates, Some(b"challenge"));
    assert_eq!(whole.verdict, Verdict::Refused("snp-tcb-provisional"));
    let refused = whole.checks.iter().filter_map(|check| match check.outcome() {
        Outcome::Refused(code) => Some(code),
        Outcome::Passed | Outcome::Open => None,
    });
    assert_eq!(refused.collect::<Vec<_>>(), ["snp-tcb-provisional", "snp-product-distrusted"]);
    assert_eq!(whole.claims.as_ref().unwrap().vm_id, runtime.claims().vm_id);
    let stale = listed(Some(quote), &certificates, Some(b"another"));
    assert!(stale.checks.iter().any(|check| check.outcome() == Outcome::Refused("tpm-quote-challenge")));
    assert_eq!(listed(None, &[], None).verdict, Verdict::Unjudged("snp-certificate-missing"));
    Ok(())
}

/// What is not signed is compared; what is signed is found out by the signature or the hash.
fn every_flipped_bit(case: &Vector, bytes: &[u8], vek: &EndorsedVek) {
    let whole = Hcl::parse(bytes).unwrap();
    let original = vek.authenticate(Report::parse(whole.report()).unwrap(), NOW).unwrap();
    let opened = |bytes: &[u8]| -> Result<(), &'static str> {
        let hcl = Hcl::parse(bytes).map_err(|refusal| refusal.code())?;
        if hcl.report() == whole.report() {
            // The slow check of its signature has been done.
            return Vouched::open(&hcl, &original).map(|_| ()).map_err(|refusal| refusal.code());
        }
        let report = Report::parse(hcl.report()).map_err(|refusal| refusal.code())?;
        let authentic = vek.authenticate(report, NOW).map_err(|refusal| refusal.code())?;
        Vouched::open(&hcl, &authentic).map(|_| ()).map_err(|refusal| refusal.code())
    };
    assert_eq!(opened(bytes), Ok(()));
    let mut accepted = vec![];
    // Of the report, whose signature check is slow, a bit of each byte; of the rest all.
    for bit in 0..8 * bytes.len() {
        let byte = bit / 8;
        if (32..1216).contains(&byte) && bit % 8 != byte % 8 {
            continue;
        }
        let mut flipped = bytes.to_vec();
        flipped[byte] ^= 1 << (bit % 8);
        if opened(&flipped).is_ok() {
            accepted.push(bit);
        }
    }
    // Versions 1 and 2 are not told apart by anything that is signed: 1 flips to 0 and 3, never to 2.
    assert_eq!(accepted, [0usize; 0], "{}", case.id());
}

fn negative(case: &Vector) -> Tried {
    let bytes = case.needed("hcl");
    let hcl = Hcl::parse(&bytes)?;
    match case.expected("verdict").as_str().unwrap() {
        "reject: bad quote signature" => {
            let runtime = RuntimeData::parse(hcl.runtime())?;
            assert_eq!(case.quote(runtime.ak()).err(), Some("tpm-signature"));
        }
        "reject: runtime JSON no longer hashes to REPORT_DATA" => {
            let vek = case.vek();
            let authentic = vek.authenticate(Report::parse(hcl.report())?, NOW)?;
            assert_eq!(Vouched::open(&hcl, &authentic).unwrap_err().code(), "azure-runtime-binding");
        }
        other => return Err(format!("no test for {other:?}").into()),
    }
    Ok(())
}

fn certificate(case: &Vector) -> Tried {
    let (leaf, issuer) = (case.needed("cert"), case.needed("issuer"));
    let judged = |chain: Vec<Vec<u8>>, root: Vec<u8>| endorsed(chain, root);
    let outcome = judged(vec![leaf.clone()], issuer.clone());
    // Named for what the key does: "enc" is an EK, "sign" an attestation key.
    if case.id().ends_with("_enc_cert") {
        assert_eq!(outcome, Ok(()));
        let root = case.named("google-go-tpm-tools/gcp_ek_ak_ca_root.crt.der");
        assert_eq!(judged(vec![leaf, issuer], root), Ok(()), "with the intermediate in the chain");
    } else {
        assert_eq!(outcome, Err("ek-certificate-use"));
    }
    Ok(())
}

/// A root is read as a root, and vouches for its own chain alone.
fn authority(case: &Vector) -> Tried {
    let chain = ["pca_tpm_ecc_enc_cert.der", "gcp_ek_ak_ca_intermediate_v3.crt.der"];
    let chain = chain.map(|name| case.named(&format!("google-go-tpm-tools/{name}"))).to_vec();
    let own = case.id().ends_with("/gcp-root");
    assert_eq!(endorsed(chain, case.needed("cert")), if own { Ok(()) } else { Err("ek-no-root") });
    Ok(())
}

fn endorsed(certificates: Vec<Vec<u8>>, root: Vec<u8>) -> Result<(), &'static str> {
    let (_, leaf) = x509_parser::parse_x509_certificate(&certificates[0]).unwrap();
    let key = leaf.public_key().subject_public_key.data.to_vec();
    let mut ek_public = vec![0x00, if key[0] == 4 { 0x23 } else { 0x01 }, 0x00, 0x0b, 0x00, 0x03, 0x00, 0xb2];
    sized(&mut ek_public, &hex::decode("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa").unwrap());
    ek_public.extend_from_slice(&[0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10]);
    if key[0] == 4 {
        ek_public.extend_from_slice(&[0x00, 0x03, 0x00, 0x10]);
        sized(&mut ek_public, &key[1..33]);
        sized(&mut ek_public, &key[33..65]);
    } else {
        ek_public.extend_from_slice(&[0x08, 0x00, 0, 0, 0, 0]);
        let x509_parser::public_key::PublicKey::RSA(rsa) = leaf.public_key().parsed().unwrap() else { unreachable!() };
        sized(&mut ek_public, rsa.modulus.strip_prefix(&[0]).unwrap_or(rsa.modulus));
    }
    let policy = EndorsementPolicy {
        allowed: BTreeSet::new(),
        denied: BTreeSet::new(),
        roots: vec![root],
        manufacturers: Manufacturers::Any,
    };
    let ak_public = public_area(&Key::Rsa { modulus: vec![0xc1; 256], exponent: 65537 });
    let claim = EkClaim { ek_public, certificates, ak_public };
    endorse(claim, &policy, NOW).map(|_| ()).map_err(|error| error.code())
}

/// TPMT_PUBLIC of an attestation key with this RSA key: restricted, RSASSA with SHA-256.
fn public_area(key: &Key) -> Vec<u8> {
    let Key::Rsa { modulus, .. } = key else { unreachable!("Azure's keys are RSA") };
    let mut public = vec![0x00, 0x01, 0x00, 0x0b, 0x00, 0x05, 0x00, 0x72, 0, 0, 0x00, 0x10, 0x00, 0x14, 0x00, 0x0b];
    public.extend_from_slice(&[0x08, 0x00, 0, 0, 0, 0]);
    sized(&mut public, modulus);
    public
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap().to_be_bytes());
    out.extend_from_slice(bytes);
}
