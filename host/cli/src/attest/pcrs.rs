//! PCR values as tools write them: a structure of tpm2-tools, its marshalled form, a text, or the bare digests.

use std::collections::BTreeMap;

/// TPM_ALG_ID of a bank, and the length of its digests in bytes.
const BANKS: [(u16, &str, usize); 4] =
    [(0x0004, "sha1", 20), (0x000b, "sha256", 32), (0x000c, "sha384", 48), (0x000d, "sha512", 64)];

/// The most banks that a TPM can have.
const MAX_BANKS: usize = 16;

/// Values with bank and index. Anybody could have written them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PcrFile {
    values: BTreeMap<(u16, u8), Vec<u8>>,
}

impl PcrFile {
    /// Reads a file that names bank and index of each value; nothing when it does not.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let read = Self::serialized(bytes).or_else(|| Self::marshalled(bytes)).or_else(|| Self::text(bytes))?;
        (!read.values.is_empty()).then_some(read)
    }

    /// Values of the SHA-256 bank.
    pub(super) fn of_sha256(values: &[(u8, [u8; 32])]) -> Self {
        Self { values: values.iter().map(|(pcr, value)| ((0x000b, *pcr), value.to_vec())).collect() }
    }

    /// Values of the SHA-256 bank, ascending.
    pub(super) fn sha256(&self) -> Vec<(u8, [u8; 32])> {
        let bank = self.values.range((0x000b, 0)..=(0x000b, u8::MAX));
        bank.filter_map(|((_, pcr), value)| Some((*pcr, value.as_slice().try_into().ok()?))).collect()
    }

    /// Bank by its usual name, index, value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, u8, &[u8])> {
        self.values.iter().map(|((bank, pcr), value)| (bank_name(*bank), *pcr, value.as_slice()))
    }

    /// Bare digests for indices that are known from elsewhere.
    pub(super) fn bare(indices: impl Iterator<Item = u8>, bytes: &[u8]) -> Vec<(u8, [u8; 32])> {
        indices.zip(bytes.as_chunks::<32>().0.iter().copied()).collect()
    }

    /// What `tpm2_quote -o` and `tpm2_checkquote -f` call serialized: the C structures of a 64-bit little-endian machine.
    fn serialized(bytes: &[u8]) -> Option<Self> {
        let (selection, rest) = bytes.split_at_checked(4 + MAX_BANKS * 8)?;
        let (count, banks) = selection.split_first_chunk::<4>()?;
        let count = usize::try_from(u32::from_le_bytes(*count)).ok().filter(|count| (1..=MAX_BANKS).contains(count))?;
        let mut selected = Vec::new();
        for (index, bank) in banks.as_chunks::<8>().0.iter().enumerate() {
            let [alg_low, alg_high, len, bits @ .., _padding] = bank;
            match (index < count, len) {
                (true, 1..=4) => selected.push((u16::from_le_bytes([*alg_low, *alg_high]), u32::from_le_bytes(*bits))),
                (true, _) => return None,
                (false, _) if bank.iter().all(|byte| *byte == 0) => {}
                (false, _) => return None,
            }
        }
        let (lists, rest) = rest.split_first_chunk::<4>()?;
        let lists = usize::try_from(u32::from_le_bytes(*lists)).ok()?;
        if rest.len() != lists.checked_mul(LIST_LEN)? {
            return None;
        }
        let mut digests = Vec::new();
        for list in rest.chunks_exact(LIST_LEN) {
            let (count, entries) = list.split_first_chunk::<4>()?;
            let count = usize::try_from(u32::from_le_bytes(*count)).ok().filter(|count| *count <= 8)?;
            for entry in entries.as_chunks::<66>().0.iter().take(count) {
                let (len, digest) = entry.split_first_chunk::<2>()?;
                digests.push(digest.get(..usize::from(u16::from_le_bytes(*len)))?);
            }
        }
        Self::paired(&selected, &digests)
    }

    /// The same as a TPM marshals it: big-endian, without padding.
    fn marshalled(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let count = usize::try_from(u32::from_be_bytes(take(&mut rest)?)).ok();
        let count = count.filter(|count| (1..=MAX_BANKS).contains(count))?;
        let mut selected = Vec::new();
        for _ in 0..count {
            let bank = u16::from_be_bytes(take(&mut rest)?);
            let [len] = take(&mut rest)?;
            let mut bits = [0; 4];
            for to in bits.get_mut(..usize::from(len))? {
                [*to] = take(&mut rest)?;
            }
            selected.push((bank, u32::from_le_bytes(bits)));
        }
        let lists = u32::from_be_bytes(take(&mut rest)?);
        let mut digests = Vec::new();
        for _ in 0..lists.min(MAX_LISTS) {
            let count = u32::from_be_bytes(take(&mut rest)?);
            for _ in 0..count.min(8) {
                let len = usize::from(u16::from_be_bytes(take(&mut rest)?));
                let (digest, after) = rest.split_at_checked(len).filter(|_| len <= 64)?;
                digests.push(digest);
                rest = after;
            }
        }
        if !rest.is_empty() {
            return None;
        }
        Self::paired(&selected, &digests)
    }

    /// What `tpm2_pcrread` and `tpm2_quote` print: a bank's name on a line, then `index : value` a line.
    fn text(bytes: &[u8]) -> Option<Self> {
        let text = str::from_utf8(bytes).ok()?;
        let mut values = BTreeMap::new();
        let mut bank = None;
        for line in text.lines().map(str::trim) {
            let Some((name, value)) = line.split_once(':') else { continue };
            let (name, value) = (name.trim(), value.trim());
            if let Some(named) = BANKS.iter().find(|(_, one, _)| *one == name && value.is_empty()) {
                bank = Some(named);
            } else if let (Ok(pcr), Some((id, _, len))) = (name.parse::<u8>(), bank) {
                let value = hex::decode(value.strip_prefix("0x").unwrap_or(value)).ok()?;
                if pcr > 23 || value.len() != *len || values.insert((*id, pcr), value).is_some() {
                    return None;
                }
            }
        }
        Some(Self { values })
    }

    fn paired(selected: &[(u16, u32)], digests: &[&[u8]]) -> Option<Self> {
        let mut values = BTreeMap::new();
        let mut digests = digests.iter();
        for (bank, bits) in selected {
            let (_, _, len) = BANKS.iter().find(|(id, ..)| id == bank)?;
            for pcr in (0..24u8).filter(|pcr| bits & (1 << pcr) != 0) {
                let digest = digests.next().filter(|digest| digest.len() == *len)?;
                values.insert((*bank, pcr), digest.to_vec());
            }
            if bits >> 24 != 0 {
                return None;
            }
        }
        digests.next().is_none().then_some(Self { values })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn bank_name(id: u16) -> &'static str {
    BANKS.iter().find(|(one, ..)| *one == id).map_or("unknown", |(_, name, _)| name)
}

/// TPML_DIGEST in C: a count, and eight TPM2B_DIGEST of 2 + 64 bytes.
const LIST_LEN: usize = 4 + 8 * 66;

/// More lists of eight than every bank with every PCR fills.
const MAX_LISTS: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// PCRs 0, 1, 2 and 7 of SHA-256 as tpm2-tools 5.4 writes them.
    fn serialized() -> Vec<u8> {
        let mut out = vec![1, 0, 0, 0, 0x0b, 0, 3, 0x87];
        out.resize(132, 0);
        out.extend([1, 0, 0, 0, 4, 0, 0, 0]);
        for value in 1..=4 {
            out.extend([32, 0]);
            out.extend([value; 32]);
            out.extend([0; 32]);
        }
        out.resize(668, 0);
        out
    }

    #[test]
    fn every_form_gives_the_same_values() {
        let wanted: Vec<(u8, [u8; 32])> = vec![(0, [1; 32]), (1, [2; 32]), (2, [3; 32]), (7, [4; 32])];
        let text: String =
            wanted.iter().map(|(pcr, value)| format!("    {pcr} : 0x{}\n", hex::encode(value))).collect();
        let mut marshalled = vec![0, 0, 0, 1, 0, 0x0b, 3, 0x87, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4];
        for (_, value) in &wanted {
            marshalled.extend([0, 32]);
            marshalled.extend(value);
        }
        for bytes in [serialized(), marshalled, format!("  sha256:\n{text}").into_bytes()] {
            assert_eq!(PcrFile::read(&bytes).unwrap().sha256(), wanted);
        }
    }

    #[test]
    fn what_does_not_fit_its_own_selection_is_no_file_of_values() {
        let whole = serialized();
        for (at, byte) in [(7, 0x07), (7, 0xff), (136, 3), (140, 31), (0, 2), (4, 0x0c), (12, 1)] {
            let mut altered = whole.clone();
            altered[at] = byte;
            assert_eq!(PcrFile::read(&altered), None, "byte {at}");
        }
        assert_eq!(PcrFile::read(&whole[..667]), None);
        assert_eq!(PcrFile::read(b"sha256:\n 0 : 0x00\n"), None);
        assert_eq!(PcrFile::read(b"plain text"), None);
    }

    proptest! {
        #[test]
        fn no_file_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..900)) {
            let _ = PcrFile::read(&bytes);
        }
    }
}
