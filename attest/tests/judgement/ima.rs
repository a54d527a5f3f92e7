//! Lists of files: parsed in each form, compared with PCR 10, and held against rules.

use blindferry_attest::tpm::ima::{Log, MAX_IMA_LOG};
use proptest::prelude::*;

use crate::boot::{Boot, Judged as _, ima_entry, sha1, sha256, template};

/// An RSA key, and its signature over SHA-256 of `content`, made with `openssl pkeyutl`; the private half was thrown away.
const SIGNER: &str = "30820122300d06092a864886f70d01010105000382010f003082010a0282010100d043fae7028fa056323c835314f4a6cc87eab627e86d3d2ca5de0f2703221d2ba5754c58b060a889b851fad48079f19a4d8e2c608f29fe3afa9cafef715cf4e69543fe48ec1b0d31e8ad913920f2657bba60c1505da00ed7a5c59db2cc9c7ef0e15e84f5de9c1187fbfa2682878be81a5c40b3061bda8cd16a2f5fe1edf00a698aea00700c2687cb400cbee48cd182b1ab53413052145cceb83964a86805b0f765bf181ba60216b25286c944a21156a58537191d5894f3b49c838121cf59658ddf1b612dcef2720b0bae23a7020407e082eace63e9cb17a2efbb5212bac89eb1c73a5286907b235cb1381b4785a85a578a6af803c4bc38adb43732542289f6670203010001";
const SIGNATURE: &str = "64facfcbd6435c85450287451c37c463a2bc6f7b5dc40454893215d662d9a1b5d8a000d95132cc8f4e31ee0b8921882133f67a4bb3799fc0982c3f419f3c918d087eb02dcc1041e7079bdcdcb94085630274782c926097c5476f39d5ec167018fc8e1a211fac8b70d1f0089998bdb0c7211bf6e97ec2a27f671f45d0128951b497e8d995a38b18f6d028e342c278e99df5a7f045bcc8796fabf42cb5321f6d1e80e2b45725b7dbda92960a59e8aa724dec9719bba59050653c5b72248f3b33de0291ba965701fe164f8598de9dd90f4b352a66c2c15bba2b2d3fb80998466fd42b8af2c17792b6ee2480313f5264a4e52bc26fd50640cd581ef798d187b68892";

fn signature() -> Vec<u8> {
    let mut out = vec![3, 2, 4, 0xaa, 0xbb, 0xcc, 0xdd, 1, 0];
    out.extend(hex::decode(SIGNATURE).unwrap());
    out
}

/// A machine with files measured: one listed, one signed, one in a folder that is not judged.
fn machine() -> Boot {
    let mut boot = Boot::good();
    boot.files = vec![
        ("ima-ng".to_owned(), template(&[9; 32], "boot_aggregate", None)),
        ("ima-ng".to_owned(), template(&[1; 32], "/usr/bin/true", None)),
        ("ima-sig".to_owned(), template(&sha256(&[b"content"]), "/opt/signed one", Some(&signature()))),
        ("ima-sig".to_owned(), template(&[3; 32], "/var/log/wtmp", Some(&[]))),
    ];
    boot.policy.push_str(&format!(
        "[tpm.events.ima]\nsigners = [\"{SIGNER}\"]\nunjudged_below = [\"/var/\"]\n\
         [tpm.events.ima.files]\n\"/usr/bin/true\" = [\"sha256:{}\"]\n",
        "01".repeat(32)
    ));
    boot
}

#[test]
fn listed_signed_and_unjudged_files_are_accepted() {
    assert!(machine().judge().is_ok());
}

#[test]
fn files_that_are_neither_listed_nor_signed_are_refused() {
    let with = |path: &str, digest: [u8; 32], signature: Option<&[u8]>| {
        let mut boot = machine();
        let name = if signature.is_some() { "ima-sig" } else { "ima-ng" };
        boot.files.push((name.to_owned(), template(&digest, path, signature)));
        boot.refusal()
    };
    assert_eq!(with("/usr/bin/true", [2; 32], None), "ima-file");
    assert_eq!(with("/usr/bin/false", [1; 32], None), "ima-file");
    assert_eq!(with("/var", [1; 32], None), "ima-file");
    assert_eq!(with("/var/../usr/bin/evil", [1; 32], None), "ima-file");
    assert_eq!(with("boot_aggregate", [1; 32], None), "ima-file");
    // A signature over another file's digest, and one that was altered.
    assert_eq!(with("/opt/other", [1; 32], Some(&signature())), "ima-file");
    let mut altered = signature();
    altered[100] ^= 1;
    assert_eq!(with("/opt/signed one", sha256(&[b"content"]), Some(&altered)), "ima-file");
}

#[test]
fn a_file_that_changed_while_it_was_read_is_refused() {
    let mut boot = machine();
    let template = template(&[0; 32], "/usr/bin/true", None);
    let mut log = boot.ima_log();
    let mut entry = ima_entry("ima-ng", &template);
    entry[4..24].fill(0);
    log.extend(entry);
    let before = boot.pcrs()[10];
    boot.files.clear();
    let mut case = boot.whole_case();
    case.pcrs.iter_mut().find(|(pcr, _)| *pcr == 10).unwrap().1 = sha256(&[&before, &[0xff; 32]]);
    case.ima_log = log;
    assert_eq!(case.judge().unwrap_err().code(), "ima-violation");
}

#[test]
fn a_list_must_begin_as_the_kernel_begins_it_and_give_the_quoted_value() {
    let mut missing = machine().whole_case();
    missing.ima_log = vec![];
    assert_eq!(missing.judge().unwrap_err().code(), "ima-log-missing");

    let mut headless = machine();
    headless.files.remove(0);
    assert_eq!(headless.refusal(), "ima-boot-aggregate");

    let mut shorter = machine().whole_case();
    let mut told = machine();
    drop(told.files.pop());
    shorter.ima_log = told.ima_log();
    assert_eq!(shorter.judge().unwrap_err().code(), "ima-log-replay");
}

#[test]
fn files_that_were_measured_after_the_quote_are_not_judged() {
    let mut later = machine().whole_case();
    later.ima_log.extend(ima_entry("ima-ng", &template(&[5; 32], "/usr/bin/later", None)));
    assert!(later.judge().is_ok());
}

#[test]
fn sha1_digests_that_were_filled_up_are_recognised_and_refused() {
    let boot = machine();
    let value = boot.files.iter().fold([0; 32], |value, (_, template)| {
        let mut padded = [0; 32];
        padded[..20].copy_from_slice(&sha1(template));
        sha256(&[&value, &padded])
    });
    let mut case = boot.whole_case();
    case.pcrs.iter_mut().find(|(pcr, _)| *pcr == 10).unwrap().1 = value;
    assert_eq!(case.judge().unwrap_err().code(), "ima-log-weak-hash");
}

#[test]
fn all_forms_of_a_list_say_the_same() {
    let boot = machine();
    let binary = Log::parse(&boot.ima_log()).unwrap();
    let mut text = String::new();
    let mut wide = vec![];
    for (entry, (name, template)) in binary.entries().iter().zip(&boot.files) {
        text += &format!("10 {} {name} {} {}", hex::encode(sha1(template)), entry.file(), entry.path());
        text += &if name == "ima-sig" { format!(" {}\n", hex::encode(entry.signature())) } else { "\n".to_owned() };
        let mut one = ima_entry(name, template);
        one.splice(4..24, sha256(&[template]));
        wide.extend(one);
    }
    assert_eq!(Log::parse(text.as_bytes()).unwrap(), binary);
    assert_eq!(Log::parse(&wide).unwrap(), binary);
    assert_eq!(binary.compute(), boot.pcrs()[10]);
}

#[test]
fn lists_that_lie_about_themselves_are_refused_each_by_its_code() {
    let code = |bytes: &[u8]| Log::parse(bytes).unwrap_err().code();
    let good = ima_entry("ima-ng", &template(&[1; 32], "/x", None));
    assert_eq!(code(&[]), "ima-log-empty");
    assert_eq!(code(&vec![0; MAX_IMA_LOG + 1]), "ima-log-too-long");
    for len in 1..good.len() {
        assert!(Log::parse(&good[..len]).is_err(), "{len} bytes");
    }
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        code(&bytes)
    };
    assert_eq!(changed(0, 11), "ima-log-pcr");
    assert_eq!(changed(4, good[4] ^ 1), "ima-log-template-digest");
    assert_eq!(changed(good.len() - 2, b'y'), "ima-log-template-digest");
    assert_eq!(changed(27, 0xff), "ima-log-malformed");
    assert_eq!(code(&ima_entry("ima-buf", &template(&[1; 32], "/x", None))), "ima-log-template");
    assert_eq!(code(b"10 00 ima-ng sha256:00 /x\n"), "ima-log-malformed");
    assert_eq!(code(b"10 "), "ima-log-malformed");
    assert_eq!(code(b"11 00 ima-ng sha256:00 /x\n"), "ima-log-pcr");
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = Log::parse(&bytes);
        let _ = Log::parse(&[b"10 ".as_slice(), &bytes, b"\n"].concat());
    }

    #[test]
    fn no_altered_list_makes_the_parser_panic(
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 1..8),
    ) {
        let mut altered = machine().ima_log();
        let at = at.index(altered.len());
        for (to, from) in altered[at..].iter_mut().zip(&bytes) {
            *to = *from;
        }
        let _ = Log::parse(&altered);
    }
}
