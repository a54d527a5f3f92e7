//! The recovery key: what people keep on paper for the day the platform is lost.
//!
//! 256 random bits, shown once at `init`, as fourteen groups of four characters of Crockford's base32
//! (<https://www.crockford.com/base32.html>): 256 bits of key and 24 bits of checksum, which is SHA-256 over a label and
//! the key, cut. It needs no slow hash to guard it: there are 2²⁵⁶ of them.

use std::io::{self, Write};

use blindferry_handle::secret::SecretBytes;
use ring::digest::{Context, SHA256};
use ring::rand::SecureRandom;
use thiserror::Error;
use zeroize::Zeroize;

use super::cipher::{self, Sealed};
use super::{KeyEncryptionKey, SealError, random_secret, secret};

/// Characters of the printed form, without the dashes.
const SYMBOLS: usize = 56;
const GROUP: usize = 4;
const CHECKSUM: usize = 3;
/// Bytes of the printed form, with its dashes.
const PRINTED: usize = SYMBOLS + SYMBOLS / GROUP - 1;
/// The longest input that is looked at: the printed form with plenty of spaces.
const MAX_INPUT: usize = 256;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

const LABEL: &[u8] = b"blindferry v1 recovery wrap";
const FORMAT: u8 = 1;

/// The recovery key.
#[derive(Debug)]
pub struct RecoveryKey(SecretBytes);

/// Why an input is not a recovery key. Says nothing about its contents but where the first stranger stands.
#[derive(Debug, Error)]
pub enum RecoveryError {
    /// A character that the alphabet does not have.
    #[error("character {position} of the recovery key is none of its alphabet")]
    Character {
        /// Counted from 1.
        position: usize,
    },
    /// Too few or too many characters.
    #[error("a recovery key has {SYMBOLS} letters and digits, this has {found}")]
    Length {
        /// How many there are, dashes and spaces not counted.
        found: usize,
    },
    /// All characters are legal, but at least one is wrong.
    #[error("the recovery key has a typing error: its checksum does not match")]
    Checksum,
    /// There is no place for the secret.
    #[error("cannot hold the recovery key")]
    Seal(#[source] SealError),
}

impl RecoveryKey {
    /// Makes one.
    ///
    /// # Errors
    /// [`SealError::Random`], [`SealError::Secret`].
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, SealError> {
        random_secret(random).map(Self)
    }

    /// Writes the printed form, `XXXX-XXXX-…`, without a line's end. Character by character: no text of it stays behind
    /// here; what `out` does is `out`'s.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        #[expect(clippy::disallowed_methods, reason = "its printed form, for the operator to keep")]
        let key = self.0.expose();
        let check = checksum(key);
        let (mut bits, mut held, mut written) = (0_u32, 0_u32, 0);
        for byte in key.iter().chain(&check) {
            bits = (bits << 8 | u32::from(*byte)) & 0xfff;
            held += 8;
            while held >= 5 {
                held -= 5;
                let symbol = usize::try_from(bits >> held & 31).unwrap_or_default();
                if written != 0 && written % GROUP == 0 {
                    out.write_all(b"-")?;
                }
                out.write_all(ALPHABET.get(symbol..=symbol).unwrap_or_default())?;
                written += 1;
            }
        }
        bits.zeroize();
        Ok(())
    }

    /// The printed form as a secret, for whoever encrypts it to an operator.
    ///
    /// # Errors
    /// [`SealError::Secret`] when there is no room for a secret.
    pub fn printed(&self) -> Result<SecretBytes, SealError> {
        secret(PRINTED, |mut slot: &mut [u8]| {
            self.write_to(&mut slot).map(|()| PRINTED).map_err(|_| SealError::TooLong)
        })
    }

    /// Reads the printed form as people type it: in any case, with or without dashes and spaces, O for 0, I or L for 1.
    ///
    /// # Errors
    /// [`RecoveryError`] says what is wrong, and where.
    pub fn parse(input: &[u8]) -> Result<Self, RecoveryError> {
        if input.len() > MAX_INPUT {
            return Err(RecoveryError::Length { found: input.len() });
        }
        let whole = KeyEncryptionKey::LEN + CHECKSUM;
        let mut fault = None;
        let decoded = secret(whole, |slot| match decode(input, slot) {
            Ok(()) => Ok(slot.len()),
            Err(error) => {
                fault = Some(error);
                Err(SealError::NotAuthentic)
            }
        });
        let decoded = decoded.map_err(|error| fault.take().unwrap_or(RecoveryError::Seal(error)))?;
        #[expect(clippy::disallowed_methods, reason = "compared with its checksum and copied to its slot")]
        let (key, check) = decoded.expose().split_at(KeyEncryptionKey::LEN);
        if checksum(key) != check {
            return Err(RecoveryError::Checksum);
        }
        secret(key.len(), |slot| {
            slot.copy_from_slice(key);
            Ok(slot.len())
        })
        .map(Self)
        .map_err(RecoveryError::Seal)
    }

    /// Encrypts the key-encryption key to this recovery key.
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub fn wrap(&self, kek: &KeyEncryptionKey, random: &dyn SecureRandom) -> Result<Vec<u8>, SealError> {
        let mut out = vec![FORMAT];
        #[expect(clippy::disallowed_methods, reason = "copied into the buffer that is encrypted in place")]
        cipher::seal(random, &self.0, LABEL, &[FORMAT], kek.key.expose(), &mut out)?;
        Ok(out)
    }

    /// Opens what [`Self::wrap`] made.
    ///
    /// # Errors
    /// [`SealError::NotAuthentic`] for another recovery key, or changed bytes.
    pub fn unwrap(&self, wrapped: &[u8]) -> Result<KeyEncryptionKey, SealError> {
        let Some((&FORMAT, rest)) = wrapped.split_first() else {
            return Err(SealError::NotAuthentic);
        };
        let sealed = Sealed::parse(rest)?;
        let opened = secret(sealed.body.len(), |slot| cipher::open_into(&self.0, LABEL, &[FORMAT], &sealed, slot))?;
        KeyEncryptionKey::from_secret(opened)
    }
}

fn decode(input: &[u8], slot: &mut [u8]) -> Result<(), RecoveryError> {
    let (mut bits, mut held, mut symbols) = (0_u32, 0_u32, 0);
    let mut places = slot.iter_mut();
    for (at, &byte) in input.iter().enumerate() {
        if byte == b'-' || byte.is_ascii_whitespace() {
            continue;
        }
        let typed = match byte.to_ascii_uppercase() {
            b'O' => b'0',
            b'I' | b'L' => b'1',
            other => other,
        };
        let value = ALPHABET.iter().zip(0_u32..).find_map(|(&symbol, value)| (symbol == typed).then_some(value));
        bits = bits << 5 | value.ok_or(RecoveryError::Character { position: at + 1 })?;
        held += 5;
        symbols += 1;
        if held >= 8 {
            held -= 8;
            if let (Some(place), [.., low]) = (places.next(), (bits >> held).to_be_bytes()) {
                *place = low;
            }
            bits &= 0xff;
        }
    }
    bits.zeroize();
    if symbols != SYMBOLS {
        return Err(RecoveryError::Length { found: symbols });
    }
    Ok(())
}

fn checksum(key: &[u8]) -> [u8; CHECKSUM] {
    let mut hash = Context::new(&SHA256);
    hash.update(b"blindferry recovery key checksum v1");
    hash.update(key);
    let mut cut = [0; CHECKSUM];
    for (place, byte) in cut.iter_mut().zip(hash.finish().as_ref()) {
        *place = *byte;
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ring::rand::SystemRandom;

    fn printed(key: &RecoveryKey) -> String {
        let mut out = Vec::new();
        key.write_to(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_printed_form_as_a_secret_is_the_printed_form() {
        let key = RecoveryKey::generate(&SystemRandom::new()).unwrap();
        assert!(key.printed().unwrap().ct_eq(printed(&key).as_bytes()));
    }

    fn of(bytes: [u8; 32]) -> RecoveryKey {
        RecoveryKey(SecretBytes::copy_and_wipe(&mut { bytes }).unwrap())
    }

    #[test]
    fn the_key_on_paper_opens_what_it_wrapped_and_no_other_does() {
        let random = SystemRandom::new();
        let kek = KeyEncryptionKey::generate(&random).unwrap();
        let seed = kek.audit_signing_seed().unwrap();
        let recovery = RecoveryKey::generate(&random).unwrap();
        let wrapped = recovery.wrap(&kek, &random).unwrap();

        let typed = RecoveryKey::parse(printed(&recovery).as_bytes()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test key")]
        let same = typed.unwrap(&wrapped).unwrap().audit_signing_seed().unwrap().ct_eq(seed.expose());
        assert!(same);
        assert!(RecoveryKey::generate(&random).unwrap().unwrap(&wrapped).is_err());
        for at in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            assert!(recovery.unwrap(&changed).is_err(), "byte {at}");
            assert!(recovery.unwrap(&wrapped[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_printed_form_is_fixed() {
        let text = printed(&of([0xff; 32]));
        assert_eq!(text.len(), SYMBOLS + SYMBOLS / GROUP - 1);
        assert!(text.starts_with("ZZZZ-ZZZZ-ZZZZ"));
        assert!(text.split('-').all(|group| group.len() == GROUP));
        assert!(printed(&of([0; 32])).starts_with("0000-0000"));
    }

    #[test]
    fn typed_carelessly_it_is_still_the_key() {
        let key = of([0x11; 32]);
        let text = printed(&key);
        let careless = text.to_lowercase().replace('-', "  ").replace('0', "o").replacen('1', "l", 1).replace('1', "i");
        #[expect(clippy::disallowed_methods, reason = "a test key")]
        let same = RecoveryKey::parse(careless.as_bytes()).unwrap().0.ct_eq(key.0.expose());
        assert!(same);
    }

    #[test]
    fn what_is_no_key_is_refused_by_its_reason() {
        let text = printed(&of([3; 32]));
        assert!(matches!(RecoveryKey::parse(b"U"), Err(RecoveryError::Character { position: 1 })));
        assert!(matches!(RecoveryKey::parse(b""), Err(RecoveryError::Length { found: 0 })));
        assert!(matches!(RecoveryKey::parse(&text.as_bytes()[1..]), Err(RecoveryError::Length { found: 55 })));
        assert!(matches!(RecoveryKey::parse(format!("{text}0").as_bytes()), Err(RecoveryError::Length { found: 57 })));
        assert!(matches!(RecoveryKey::parse(&[b'0'; 1000]), Err(RecoveryError::Length { .. })));
    }

    proptest! {
        #[test]
        fn every_key_comes_back_from_paper(bytes in any::<[u8; 32]>()) {
            let key = RecoveryKey::parse(printed(&of(bytes)).as_bytes()).unwrap();
            prop_assert!(key.0.ct_eq(&bytes));
        }

        #[test]
        fn one_wrong_character_is_noticed(bytes in any::<[u8; 32]>(), at in 0..SYMBOLS, other in 0..32_usize) {
            let mut text: Vec<u8> = printed(&of(bytes)).into_bytes().into_iter().filter(|b| *b != b'-').collect();
            prop_assume!(text[at] != ALPHABET[other]);
            text[at] = ALPHABET[other];
            // 24 bits: one in 16 million slips through, and then the wrapped key does not open.
            prop_assert!(matches!(RecoveryKey::parse(&text), Err(RecoveryError::Checksum)));
        }

        #[test]
        fn no_input_makes_it_panic(input in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = RecoveryKey::parse(&input);
        }
    }
}
