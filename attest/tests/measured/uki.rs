//! Predictions whose every step is written out once more, and images that are refused.

use std::collections::BTreeSet;

use blindferry_attest::measure::{
    pe::{Image, PeError},
    uki::{
        Boot, MAX_PHASES, Phases, Prediction, SecureBoot, StubVersion, Uki, UkiError, UnknownStub, Unpredicted, Way,
    },
};
use ring::digest::{SHA256, digest};

use crate::image::{image, kernel};

const MAGIC: &[u8] = b"#### LoaderInfo: systemd-stub 252.39-1~deb12u2 ####\0";
const NEWER: &[u8] = b"#### LoaderInfo: systemd-stub 257.4 ####\0";

fn uki(more: &[(&str, &[u8])]) -> Vec<u8> {
    let kernel = kernel("6.1.0");
    let base: [(&str, &[u8]); 5] = [
        (".sdmagic", MAGIC),
        (".osrel", b"ID=debian\n"),
        (".cmdline", b"quiet\n"),
        (".linux", &kernel),
        (".initrd", b"initrd"),
    ];
    let replaced = |name: &str| more.iter().any(|(other, _)| *other == name);
    image(&base.iter().filter(|(name, _)| !replaced(name)).chain(more).copied().collect::<Vec<_>>())
}

fn predicted(bytes: &[u8], boot: &Boot<'_>) -> Prediction {
    Uki::parse(bytes).unwrap().predict(boot).unwrap()
}

fn extend(pcr: [u8; 32], data: &[u8]) -> [u8; 32] {
    extend_by(pcr, digest(&SHA256, data).as_ref().try_into().unwrap())
}

fn extend_by(pcr: [u8; 32], value: [u8; 32]) -> [u8; 32] {
    digest(&SHA256, &[pcr, value].concat()).as_ref().try_into().unwrap()
}

const ACTION: &[u8] = b"Calling EFI Application from Boot Option";

#[test]
fn each_pcr_is_extended_in_the_order_of_the_boot() {
    let bytes = uki(&[]);
    let prediction = predicted(&bytes, &Boot { secure_boot: SecureBoot::Off, ..Boot::default() });
    let authenticode = |bytes: &[u8]| Image::parse(bytes).unwrap().authenticode();
    let (outer, inner) = (authenticode(&bytes), authenticode(&kernel("6.1.0")));
    let ready = extend(extend([0; 32], ACTION), &[0; 4]);
    let only = |pcr: &u8| {
        let values = &prediction.pcrs[pcr];
        assert_eq!(values.len(), 1);
        *values.first().unwrap()
    };
    assert_eq!(only(&4), extend_by(extend_by(ready, outer), inner));
    assert_eq!(only(&9), extend(extend([0; 32], b"q\0u\0i\0e\0t\0\0\0"), b"initrd"));
    let mut sections = [0; 32];
    for (name, content) in [
        (&b".linux\0"[..], &kernel("6.1.0")[..]),
        (b".osrel\0", b"ID=debian\n"),
        (b".cmdline\0", b"quiet\n"),
        (b".initrd\0", b"initrd"),
    ] {
        sections = extend(extend(sections, name), content);
    }
    assert_eq!(only(&11), sections);
    assert_eq!(only(&12), [0; 32]);

    let monitor = predicted(&bytes, &Boot { way: Way::Monitor, secure_boot: SecureBoot::Off, ..Boot::default() });
    let loaded_first = extend(extend(extend_by([0; 32], outer), ACTION), &[0; 4]);
    assert_eq!(monitor.pcrs[&4], BTreeSet::from([extend_by(loaded_first, inner)]));
    let on = predicted(&bytes, &Boot { secure_boot: SecureBoot::On, ..Boot::default() });
    assert_eq!(on.pcrs[&4], BTreeSet::from([extend_by(ready, outer)]));
    let either = predicted(&bytes, &Boot::default());
    assert_eq!(either.pcrs[&4], &on.pcrs[&4] | &prediction.pcrs[&4]);
    let loader = image(&[(".text", b"systemd-boot")]);
    let through = vec![Image::parse(&loader).unwrap()];
    let by_loader = predicted(&bytes, &Boot { through, secure_boot: SecureBoot::On, ..Boot::default() });
    let value = extend_by(extend_by(ready, authenticode(&loader)), outer);
    assert_eq!(by_loader.pcrs[&4], BTreeSet::from([value]));
    assert!(!by_loader.pcrs.contains_key(&12), "a boot loader hands on a command line, which is measured");
    assert_eq!(by_loader.without, [(12, Unpredicted::BootLoader)].into());
}

#[test]
fn phases_are_extended_one_by_one_and_each_list_is_a_value() {
    let bytes = uki(&[]);
    let values = |phases: &[&str]| {
        let phases = phases.iter().map(|text| text.parse().unwrap()).collect();
        predicted(&bytes, &Boot { phases, ..Boot::default() }).pcrs.remove(&11).unwrap()
    };
    let none = *values(&[]).first().unwrap();
    assert_eq!(values(&[":"]), BTreeSet::from([none]));
    let entered = extend(none, b"enter-initrd");
    let left = extend(entered, b"leave-initrd");
    assert_eq!(values(&["enter-initrd", "enter-initrd:leave-initrd"]), BTreeSet::from([entered, left]));
    for text in ["", "::", "a:", ":a", "a b", "a:\u{e4}", &"a:".repeat(MAX_PHASES + 1)] {
        assert!(text.parse::<Phases>().is_err(), "{text}");
    }
}

#[test]
fn a_section_counts_only_where_the_stub_knows_it() {
    let eleven = |more: &[_]| predicted(&uki(more), &Boot::default()).pcrs.remove(&11).unwrap();
    let (uname, signature) = ((".uname", &b"6.1.0"[..]), (".pcrsig", &b"{}"[..]));
    assert_eq!(eleven(&[uname]), eleven(&[]), "stub 252 does not measure .uname");
    assert_ne!(eleven(&[(".sdmagic", NEWER), uname]), eleven(&[(".sdmagic", NEWER)]));
    assert_eq!(eleven(&[signature]), eleven(&[]), "a signature cannot be part of what it signs");
    assert_eq!(eleven(&[(".splash", b"")]), eleven(&[]), "an empty section is none");
    let bytes = uki(&[(".sdmagic", b"?")]);
    assert_eq!(Uki::parse(&bytes).unwrap_err(), UkiError::Stub(UnknownStub::NoVersion));
    let told = Uki::parse_with_stub(&bytes, StubVersion::new(252).unwrap()).unwrap();
    assert_eq!(told.predict(&Boot::default()).unwrap().pcrs[&11], eleven(&[]));
}

#[test]
fn pcr_9_is_left_out_where_the_kernel_gets_more_than_the_file_shows() {
    let reason = |more: &[(&str, &[u8])]| {
        let prediction = predicted(&uki(more), &Boot::default());
        assert_eq!(prediction.pcrs.contains_key(&9), prediction.without.is_empty());
        prediction.without.get(&9).copied()
    };
    assert_eq!(reason(&[]), None);
    assert_eq!(reason(&[(".pcrsig", b"{}")]), Some(Unpredicted::InitrdExtended { section: ".pcrsig" }));
    assert_eq!(reason(&[(".sdmagic", NEWER)]), Some(Unpredicted::InitrdExtended { section: ".osrel" }));
    assert_eq!(reason(&[(".cmdline", b"")]), Some(Unpredicted::NoCmdline));
    assert_eq!(reason(&[(".cmdline", b" quiet")]), Some(Unpredicted::Cmdline));
    assert_eq!(reason(&[(".linux", &kernel("6.0.19"))]), Some(Unpredicted::Kernel));
    assert_eq!(reason(&[(".linux", &kernel("linux"))]), Some(Unpredicted::Kernel));
    assert_eq!(reason(&[(".linux", &kernel("6.12.95"))]), None);
}

#[test]
fn an_image_that_a_stub_could_read_in_two_ways_is_refused() {
    let refused = |more: &[_]| Uki::parse(&uki(more)).unwrap_err();
    assert_eq!(refused(&[(".osrel", b"a"), (".osrel", b"b")]), UkiError::SectionTwice { name: ".osrel" });
    assert_eq!(refused(&[(".pcrsig", b"a"), (".pcrsig", b"b")]), UkiError::SectionTwice { name: ".pcrsig" });
    assert_eq!(refused(&[(".profile", b"ID=debug")]), UkiError::Profiles);
    assert_eq!(refused(&[(".linux", b"")]), UkiError::NoKernel);
    assert!(matches!(refused(&[(".linux", b"MZ")]), UkiError::Kernel(_)));
    assert_eq!(Uki::parse(b"").unwrap_err(), UkiError::Image(PeError::NotPe { what: "first signature" }));
    // Whatever else keeps its PCR from being predicted: an old kernel, or files that are wrapped into the initrd.
    for more in [(".osrel", &b"ID=debian\n"[..]), (".linux", &kernel("5.10.0")), (".pcrsig", b"{}")] {
        let bytes = uki(&[(".cmdline", b"\xff"), more]);
        assert_eq!(Uki::parse(&bytes).unwrap().predict(&Boot::default()), Err(UkiError::Cmdline));
    }
    // Larger in memory than in the file: zeros that the file does not show.
    let mut bytes = uki(&[]);
    let at = bytes.windows(8).position(|name| name == b".osrel\0\0").unwrap();
    bytes[at + 8..at + 12].copy_from_slice(&0x201u32.to_le_bytes());
    assert_eq!(Uki::parse(&bytes).unwrap_err(), UkiError::SectionSize { name: ".osrel" });
}
