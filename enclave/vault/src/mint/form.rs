//! Forms (`application/x-www-form-urlencoded`) with secrets in them, written once into memory that wipes itself.

use zeroize::Zeroizing;

/// The fields as a form, in order.
pub(super) fn encode(fields: &[(&str, &[u8])]) -> Zeroizing<Vec<u8>> {
    let room = fields.iter().map(|(name, value)| longest(name.as_bytes()) + longest(value) + 2).sum();
    let mut form = Zeroizing::new(Vec::with_capacity(room));
    for (name, value) in fields {
        if !form.is_empty() {
            form.push(b'&');
        }
        push(&mut form, name.as_bytes());
        form.push(b'=');
        push(&mut form, value);
    }
    form
}

/// One value as it stands in a form.
pub(super) fn encode_value(value: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut encoded = Zeroizing::new(Vec::with_capacity(longest(value)));
    push(&mut encoded, value);
    encoded
}

/// Room for any value of that length, so that no buffer ever grows and leaves a copy behind.
fn longest(value: &[u8]) -> usize {
    3 * value.len()
}

fn push(form: &mut Vec<u8>, value: &[u8]) {
    for &byte in value {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => form.push(byte),
            b' ' => form.push(b'+'),
            _ => form.extend([b'%', hex_digit(byte >> 4), hex_digit(byte & 0xf)]),
        }
    }
}

fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The other direction, for the test alone.
    fn decode(value: &[u8]) -> Vec<u8> {
        let mut rest = value.iter();
        let mut plain = Vec::new();
        while let Some(&byte) = rest.next() {
            plain.push(match byte {
                b'+' => b' ',
                b'%' => {
                    let digits = [*rest.next().unwrap(), *rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                byte => byte,
            });
        }
        plain
    }

    #[test]
    fn a_value_cannot_become_a_second_field() {
        let form = encode(&[("client_secret", b"a&scope=admin=1 %+"), ("x", b"")]);
        assert_eq!(form.as_slice(), b"client_secret=a%26scope%3Dadmin%3D1+%25%2B&x=");
    }

    #[test]
    fn the_example_of_rfc_6749_appendix_b_comes_out() {
        assert_eq!(encode_value(b" %&+\xC2\xA3\xE2\x82\xAC").as_slice(), b"+%25%26%2B%C2%A3%E2%82%AC");
    }

    proptest! {
        #[test]
        fn every_value_comes_back_and_nothing_grew(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let encoded = encode_value(&value);
            prop_assert!(encoded.len() <= longest(&value));
            prop_assert!(encoded.iter().all(|b| b.is_ascii_alphanumeric() || b"*-._+%".contains(b)));
            prop_assert_eq!(decode(&encoded), value);
        }
    }
}
