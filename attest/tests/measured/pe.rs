//! Images that are hashed as the specification says, and images that lie.

use blindferry_attest::measure::pe::{Image, PeError};
use proptest::prelude::*;
use ring::digest::{SHA256, digest as hash};

use crate::image::image;

/// The length of a section header, in bytes.
const HEADER: usize = 40;
const CHECKSUM: usize = 0x40 + 24 + 64;
const SIGNATURES_ENTRY: usize = 0x40 + 24 + 112 + 32;
const SECTION_HEADERS: usize = 0x40 + 24 + 240;

#[test]
fn sections_are_found_without_their_padding() {
    let bytes = image(&[(".text", &[0xcc; 700]), (".eightch", b"x"), (".none", b"")]);
    let image = Image::parse(&bytes).unwrap();
    let found: Vec<_> = image.sections().iter().map(|one| (one.name(), one.content().unwrap().len())).collect();
    assert_eq!(found, [(&b".text"[..], 700), (b".eightch", 1), (b".none", 0)]);
}

#[test]
fn the_digest_covers_all_but_checksum_and_signatures() {
    let bytes = image(&[(".text", &[0xcc; 700]), (".data", b"data")]);
    let digest = |bytes: &[u8]| Image::parse(bytes).unwrap().authenticode();
    let base = digest(&bytes);
    // Everything in order and without gaps, the digest is over the file with two holes.
    let holes = [&bytes[..CHECKSUM], &bytes[CHECKSUM + 4..SIGNATURES_ENTRY], &bytes[SIGNATURES_ENTRY + 8..]].concat();
    assert_eq!(base.as_slice(), hash(&SHA256, &holes).as_ref());
    let mut signed = bytes.clone();
    signed[CHECKSUM..CHECKSUM + 4].fill(0xaa);
    let at = u32::try_from(signed.len()).unwrap();
    signed[SIGNATURES_ENTRY..SIGNATURES_ENTRY + 4].copy_from_slice(&at.to_le_bytes());
    signed[SIGNATURES_ENTRY + 4..SIGNATURES_ENTRY + 8].copy_from_slice(&16u32.to_le_bytes());
    signed.extend([0x55; 16]);
    assert_eq!(digest(&signed), base);
    for at in (0x80..CHECKSUM).chain(CHECKSUM + 4..SIGNATURES_ENTRY).chain(SECTION_HEADERS + 80..bytes.len()) {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert!(Image::parse(&other).map_or(true, |image| image.authenticode() != base), "byte {at}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_ne!(digest(&longer), base, "what follows the last section is hashed");
}

#[test]
fn an_image_that_could_be_read_in_two_ways_is_refused() {
    let bytes = image(&[(".text", &[0xcc; 700]), (".data", b"data")]);
    let with = |at: usize, value: u32| {
        let mut other = bytes.clone();
        other[at..at + 4].copy_from_slice(&value.to_le_bytes());
        Image::parse(&other).map(|_| ()).unwrap_err()
    };
    assert!(matches!(with(0, 0), PeError::NotPe { .. }));
    assert!(matches!(with(0x3c, 0x41), PeError::NotPe { .. }));
    assert!(matches!(with(0x3c, u32::MAX), PeError::NotPe { .. }));
    assert!(matches!(with(0x40 + 24, 0), PeError::NotPe { .. }));
    assert_eq!(with(0x40 + 6, 97), PeError::TooManySections { found: 97 });
    // Size of the optional header, size of the headers.
    assert_eq!(with(0x40 + 20, 100), PeError::HeadersEndEarly);
    assert_eq!(with(0x40 + 24 + 60, 0x100), PeError::HeadersEndEarly);
    assert_eq!(with(0x40 + 24 + 60, 0x10_0000), PeError::HeadersEndEarly);
    let signatures = |at: u32, length: u32| {
        let mut other = bytes.clone();
        other[SIGNATURES_ENTRY..SIGNATURES_ENTRY + 4].copy_from_slice(&at.to_le_bytes());
        other[SIGNATURES_ENTRY + 4..SIGNATURES_ENTRY + 8].copy_from_slice(&length.to_le_bytes());
        Image::parse(&other).map(|_| ()).unwrap_err()
    };
    assert_eq!(signatures(0x600, 8), PeError::Signatures);
    assert_eq!(signatures(8, 8), PeError::Signatures);
    assert_eq!(signatures(u32::MAX, u32::MAX), PeError::Signatures);
    // A section that the signatures cover.
    let length = u32::try_from(bytes.len()).unwrap();
    assert!(matches!(signatures(length - 512, 512), PeError::SectionPlace { .. }));
    let pointer = SECTION_HEADERS + HEADER + 20;
    for place in [0, 0x200, u32::MAX] {
        assert_eq!(with(pointer, place), PeError::SectionPlace { name: ".data".to_owned() }, "{place:#x}");
    }
    assert!(matches!(Image::parse(b"MZ"), Err(PeError::HeadersEndEarly)));
}

proptest! {
    #[test]
    fn no_image_makes_the_parser_panic(
        edits in proptest::collection::vec((0usize..0x240, any::<u8>()), 0..32),
        length in 0usize..0x800,
    ) {
        let mut bytes = image(&[(".text", &[0xcc; 700]), (".data", b"data")]);
        edits.iter().for_each(|(at, value)| bytes[*at] = *value);
        for bytes in [&bytes[..], &bytes[..length.min(bytes.len())]] {
            if let Ok(image) = Image::parse(bytes) {
                let _hashed = image.authenticode();
                image.sections().iter().for_each(|section| assert!(section.content().is_none_or(|content| content.len() <= bytes.len())));
            }
        }
    }
}
