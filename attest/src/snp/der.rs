//! The outermost layer of a certificate or revocation list, read so strictly that no byte is free: what is signed, by
//! which algorithm, the signature.
//!
//! What is signed is then read by a library. The three parts are cut out here because AMD writes the parameters of
//! RSASSA-PSS in a form that libraries refuse or normalise.

/// A signed structure of X.509 (RFC 5280 section 4.1.1): each byte of it belongs to one of these, or to a header that can
/// be written in one way alone.
pub(super) struct SignedDer<'a> {
    /// TBSCertificate or TBSCertList, with its header.
    pub(super) tbs: &'a [u8],
    /// The signature: 512 bytes, by RSA of 4096 bits.
    pub(super) signature: &'a [u8],
}

/// The two ways in which AMD names RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes: in the older, the
/// default trailerField is written out. Roots are of the older way, keys of 2024 and later of the newer.
pub(super) const PSS_SHA384: [&[u8]; 2] = [
    b"\x30\x46\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x39\
      \xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\
      \xa1\x1c\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\
      \x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\
      \xa2\x03\x02\x01\x30\xa3\x03\x02\x01\x01",
    b"\x30\x41\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x34\
      \xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\
      \xa1\x1c\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\
      \x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\
      \xa2\x03\x02\x01\x30",
];

impl<'a> SignedDer<'a> {
    /// Cuts a certificate or list apart.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub(super) fn cut(der: &'a [u8]) -> Result<Self, &'static str> {
        let (outer, after) = element(der, SEQUENCE).ok_or("it is no SEQUENCE in DER")?;
        if !after.is_empty() {
            return Err("bytes follow it");
        }
        let (_, rest) = element(outer.content, SEQUENCE).ok_or("what is signed is no SEQUENCE in DER")?;
        let tbs = whole(outer.content, rest);
        let (_, last) = element(rest, SEQUENCE).ok_or("the algorithm is no SEQUENCE in DER")?;
        let algorithm = whole(rest, last);
        let (signature, nothing) = element(last, BIT_STRING).ok_or("the signature is no BIT STRING in DER")?;
        if !nothing.is_empty() {
            return Err("bytes follow the signature");
        }
        if !PSS_SHA384.contains(&algorithm) {
            return Err("the algorithm is not RSASSA-PSS with SHA-384 as AMD writes it");
        }
        match signature.content.split_first() {
            Some((0, signature)) if signature.len() == 512 => Ok(Self { tbs, signature }),
            _ => Err("the signature has not 4096 bits"),
        }
    }
}

/// The content of an INTEGER from 0 to 255 that is all of `der`.
pub(super) fn small_integer(der: &[u8]) -> Option<u8> {
    let (integer, []) = element(der, INTEGER)? else { return None };
    match *integer.content {
        [value @ 0..=0x7f] | [0, value @ 0x80..=0xff] => Some(value),
        _ => None,
    }
}

/// The text of an IA5String of printable characters that is all of `der`.
pub(super) fn ia5_string(der: &[u8]) -> Option<&str> {
    let (text, []) = element(der, IA5_STRING)? else { return None };
    let printable = !text.content.is_empty() && text.content.iter().all(|byte| (0x20..0x7f).contains(byte));
    printable.then(|| std::str::from_utf8(text.content).ok()).flatten()
}

struct Element<'a> {
    content: &'a [u8],
}

/// One element of this tag with a definite length in its shortest form, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(Element<'_>, &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk()?;
    if found != tag {
        return None;
    }
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&[len], rest) = rest.split_first_chunk()?;
            (usize::from(len).checked_sub(0x80)?.checked_add(0x80)?, rest)
        }
        0x82 => {
            let (len, rest) = rest.split_first_chunk()?;
            let len = usize::from(u16::from_be_bytes(*len));
            if len < 0x100 {
                return None;
            }
            (len, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((Element { content }, rest))
}

/// What of `all` comes before its end `rest`.
fn whole<'a>(all: &'a [u8], rest: &[u8]) -> &'a [u8] {
    all.get(..all.len().saturating_sub(rest.len())).unwrap_or_default()
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const IA5_STRING: u8 = 0x16;

#[cfg(test)]
mod tests {
    use super::{element, ia5_string, small_integer};

    #[test]
    fn a_length_has_one_form() {
        assert!(element(&[0x30, 1, 7], 0x30).is_some());
        for long in [&[0x30, 0x81, 1, 7][..], &[0x30, 0x82, 0, 1, 7], &[0x30, 0x80, 7, 0, 0], &[0x30, 2, 7], &[0x30]] {
            assert!(element(long, 0x30).is_none(), "{long:02x?}");
        }
    }

    #[test]
    fn an_integer_of_a_byte_has_one_form() {
        assert_eq!(small_integer(&[2, 1, 0]), Some(0));
        assert_eq!(small_integer(&[2, 1, 127]), Some(127));
        assert_eq!(small_integer(&[2, 2, 0, 219]), Some(219));
        for wrong in [&[2, 1, 219][..], &[2, 2, 0, 5], &[2, 2, 1, 0], &[2, 0], &[2, 1, 5, 0], &[4, 1, 5], &[]] {
            assert_eq!(small_integer(wrong), None, "{wrong:02x?}");
        }
    }

    #[test]
    fn text_is_printable() {
        assert_eq!(ia5_string(b"\x16\x05Turin"), Some("Turin"));
        for wrong in [&b"\x16\x00"[..], b"\x0c\x05Turin", b"\x16\x06Turin\0", b"\x16\x05Turin\0", b"\x16\x02\xc3\xa4"] {
            assert_eq!(ia5_string(wrong), None, "{wrong:02x?}");
        }
    }
}
