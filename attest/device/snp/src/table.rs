//! The certificate table that a host gives with a report (GHCB specification, AMD 56421, section 4.1.8.1).
//!
//! The host writes it, and may write anything: it is cut at its bounds, what it does not know by name is left out, and
//! whether a certificate is one is for whoever judges the report.

/// What a table holds, in DER.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The chip's key.
    pub vcek: Option<Vec<u8>>,
    /// The cloud's key.
    pub vlek: Option<Vec<u8>>,
    /// AMD's keys above: ASK or ASVK, ARK.
    pub authorities: Vec<Vec<u8>>,
    /// Revocation lists.
    pub crls: Vec<Vec<u8>>,
}

/// A table is not one: an entry points outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {number} of the host's certificate table points outside of it")]
pub struct BadTable {
    /// Which entry, from 0.
    pub number: usize,
}

impl Table {
    /// Reads a table; no bytes are an empty one.
    ///
    /// # Errors
    /// [`BadTable`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BadTable> {
        let mut table = Self::default();
        for (number, entry) in bytes.chunks_exact(ENTRY).enumerate() {
            let Some((guid, [o0, o1, o2, o3, l0, l1, l2, l3])) = entry.split_first_chunk::<16>() else { break };
            if *guid == [0; 16] {
                break;
            }
            let content = span(bytes, [*o0, *o1, *o2, *o3], [*l0, *l1, *l2, *l3]).ok_or(BadTable { number })?;
            // DER, or nothing that anybody could judge.
            if content.first() != Some(&0x30) || content.len() > MAX_CONTENT {
                continue;
            }
            match canonical(*guid) {
                VCEK => table.vcek = Some(content.to_vec()),
                VLEK => table.vlek = Some(content.to_vec()),
                ASK | ARK if table.authorities.len() < MAX_AUTHORITIES => table.authorities.push(content.to_vec()),
                CRL if table.crls.len() < MAX_CRLS => table.crls.push(content.to_vec()),
                _ => {}
            }
        }
        Ok(table)
    }
}

/// A GUID in the order of its text. Some hosts write the first three groups the other way round, as UEFI does.
fn canonical(guid: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = guid;
    let [i, j, k, l, m, n, o, p] = rest;
    let turned = [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p];
    if KNOWN.contains(&turned) { turned } else { guid }
}

fn span(bytes: &[u8], offset: [u8; 4], length: [u8; 4]) -> Option<&[u8]> {
    let [offset, length] = [offset, length].map(|word| usize::try_from(u32::from_le_bytes(word)).ok());
    bytes.get(offset?..)?.get(..length?)
}

/// Bytes of an entry: a GUID, an offset, a length.
const ENTRY: usize = 24;
/// Bytes of a certificate or list that evidence can carry.
const MAX_CONTENT: usize = 4096;
const MAX_AUTHORITIES: usize = 3;
const MAX_CRLS: usize = 3;

/// 63da758d-e664-4564-adc5-f4b93be8accd, as the bytes of its text, which is how AMD's tools write it.
pub const VCEK: [u8; 16] = 0x63da_758d_e664_4564_adc5_f4b9_3be8_accd_u128.to_be_bytes();
/// a8074bc2-a25a-483e-aae6-39c045a0b8a1.
pub const VLEK: [u8; 16] = 0xa807_4bc2_a25a_483e_aae6_39c0_45a0_b8a1_u128.to_be_bytes();
/// 4ab7b379-bbac-4fe4-a02f-05aef327c782.
pub const ASK: [u8; 16] = 0x4ab7_b379_bbac_4fe4_a02f_05ae_f327_c782_u128.to_be_bytes();
/// c0b406a4-a803-4952-9743-3fb6014cd0ae.
pub const ARK: [u8; 16] = 0xc0b4_06a4_a803_4952_9743_3fb6_014c_d0ae_u128.to_be_bytes();
/// 92f81bc3-5811-4d3d-97ff-d19f88dc67ea.
pub const CRL: [u8; 16] = 0x92f8_1bc3_5811_4d3d_97ff_d19f_88dc_67ea_u128.to_be_bytes();

const KNOWN: [[u8; 16]; 5] = [VCEK, VLEK, ASK, ARK, CRL];

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[([u8; 16], &[u8])]) -> Vec<u8> {
        let mut head = Vec::new();
        let mut body = Vec::new();
        for (guid, content) in entries {
            let offset = (entries.len() + 1) * ENTRY + body.len();
            head.extend(guid);
            head.extend(u32::try_from(offset).unwrap().to_le_bytes());
            head.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
            body.extend(*content);
        }
        [head, vec![0; ENTRY], body].concat()
    }

    #[test]
    fn what_a_host_gives_is_found_by_name() {
        let bytes = table(&[(ARK, b"\x30ark"), (VCEK, b"\x30vcek"), (ASK, b"\x30ask"), (CRL, b"\x30crl")]);
        let table = Table::parse(&bytes).unwrap();
        assert_eq!(table.vcek.as_deref(), Some(&b"\x30vcek"[..]));
        assert_eq!(table.authorities, [b"\x30ark".to_vec(), b"\x30ask".to_vec()]);
        assert_eq!(table.crls, [b"\x30crl".to_vec()]);
        assert_eq!(table.vlek, None);
    }

    #[test]
    fn both_orders_of_a_guid_name_the_same() {
        let turned = *b"\x8d\x75\xda\x63\x64\xe6\x64\x45\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd";
        let table = Table::parse(&table(&[(turned, b"\x30vcek")])).unwrap();
        assert_eq!(table.vcek.as_deref(), Some(&b"\x30vcek"[..]));
    }

    #[test]
    fn no_table_and_one_of_zeros_are_empty() {
        assert_eq!(Table::parse(&[]).unwrap(), Table::default());
        assert_eq!(Table::parse(&[0; 0x4000]).unwrap(), Table::default());
    }

    #[test]
    fn unknown_names_text_and_too_much_are_left_out() {
        let bytes = table(&[([9; 16], b"\x30"), (VCEK, b"-----BEGIN"), (VLEK, &[0x30; MAX_CONTENT + 1])]);
        assert_eq!(Table::parse(&bytes).unwrap(), Table::default());
        let bytes = table(&[(ASK, &[0x30; 9][..]); 9]);
        assert_eq!(Table::parse(&bytes).unwrap().authorities.len(), MAX_AUTHORITIES);
    }

    #[test]
    fn an_entry_that_points_outside_is_refused() {
        let mut bytes = table(&[(VCEK, b"\x30vcek")]);
        bytes.pop();
        assert_eq!(Table::parse(&bytes), Err(BadTable { number: 0 }));
        let wild = [&VCEK[..], &[0xff; 8], &[0; ENTRY]].concat();
        assert_eq!(Table::parse(&wild), Err(BadTable { number: 0 }));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_table_or_refused(bytes: Vec<u8>) {
            let _ = Table::parse(&bytes);
            let _ = Table::parse(&[&VCEK[..], &bytes].concat());
        }
    }
}
