//! What was given, put together: one report, one quote, one blob, and what lies beside it.

use super::input::InputError;
use super::pcrs::PcrFile;
use super::recognise::{Part, Recognised};
use blindferry_attest::tpm::algorithm::HashAlg;
use blindferry_attest::tpm::key::Key;
use blindferry_attest::tpm::public::{Public, Scheme};
use blindferry_attest::tpm::quote::Quote;
use blindferry_attest::tpm::signature::Signature;
use std::path::Path;

/// The parts of one judgement. Nothing here is believed.
#[derive(Debug, Default)]
pub(super) struct Case {
    pub(super) report: Option<Vec<u8>>,
    pub(super) hcl: Option<Vec<u8>>,
    pub(super) quote: Option<Vec<u8>>,
    signature: Option<Vec<u8>>,
    pub(super) public: Option<Vec<u8>>,
    pub(super) key: Option<Key>,
    pcrs: Option<PcrFile>,
    bare: Vec<Vec<u8>>,
    pub(super) event_log: Option<Vec<u8>>,
    pub(super) ima: Option<Vec<u8>>,
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) crls: Vec<Vec<u8>>,
    pub(super) tdx: Option<Vec<u8>>,
}

impl Case {
    /// Adds the parts of a file.
    ///
    /// # Errors
    /// [`InputError::Twice`] when there is one already of what there can be one of.
    pub(super) fn add(&mut self, file: Recognised) -> Result<(), InputError> {
        let Recognised { path, parts, .. } = file;
        for part in parts {
            match part {
                Part::Report(bytes) => once(&mut self.report, bytes, "an SEV-SNP report", &path)?,
                Part::Hcl(bytes) => once(&mut self.hcl, bytes, "an Azure HCL report", &path)?,
                Part::Quote(bytes) => once(&mut self.quote, bytes, "a TPM quote", &path)?,
                Part::Signature(bytes) => once(&mut self.signature, bytes, "a TPM signature", &path)?,
                Part::Public(bytes) => once(&mut self.public, bytes, "a TPM public area", &path)?,
                Part::Key(key) => once(&mut self.key, key, "a public key", &path)?,
                Part::Pcrs(values) => once(&mut self.pcrs, values, "PCR values", &path)?,
                Part::EventLog(bytes) => once(&mut self.event_log, bytes, "an event log", &path)?,
                Part::Ima(bytes) => once(&mut self.ima, bytes, "an IMA list", &path)?,
                Part::Tdx(bytes) => once(&mut self.tdx, bytes, "a TDX quote", &path)?,
                Part::Bare(bytes) => self.bare.push(bytes),
                // The same certificate comes with evidence and by itself; once is enough.
                Part::Certificate(der) if self.certificates.contains(&der) => {}
                Part::Certificate(der) => self.certificates.push(der),
                Part::Crl(der) if self.crls.contains(&der) => {}
                Part::Crl(der) => self.crls.push(der),
            }
        }
        Ok(())
    }

    /// Tells signatures and PCR values apart that do not say what they are, as far as the quote helps; and gives the values
    /// of the SHA-256 bank.
    pub(super) fn settle(&mut self) -> Option<Vec<(u8, [u8; 32])>> {
        let quote = self.quote.as_deref().and_then(|bytes| Quote::parse(bytes).ok());
        let selected = quote.as_ref().and_then(|quote| quote.selection().of_sha256());
        let mut values = self.pcrs.as_ref().map(PcrFile::sha256);
        let count = selected.map_or(24, |selection| selection.indices().count());
        // What was quoted is known by its digest.
        let (quoted, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.bare).into_iter().partition(|bytes| {
            let gives = |alg: HashAlg| quote.as_ref().is_some_and(|quote| alg.digest(bytes) == quote.pcr_digest());
            gives(HashAlg::Sha256) || gives(HashAlg::Sha384)
        });
        for bytes in quoted.into_iter().chain(rest.into_iter().filter(|bytes| !self.takes_as_signature(bytes))) {
            let indices: Vec<u8> = match selected {
                Some(selection) if bytes.len() == 32 * count => selection.indices().collect(),
                _ if bytes.len() == 32 * 24 => (0..24).collect(),
                // Of another bank, which no judgement rests on.
                _ => continue,
            };
            values = values.or_else(|| Some(PcrFile::bare(indices.into_iter(), &bytes)));
        }
        values
    }

    /// Takes bytes of the right length for the signature that is missing.
    fn takes_as_signature(&mut self, bytes: &[u8]) -> bool {
        let ecdsa = bytes.first() == Some(&0x30) && bytes.len() < 120;
        let takes = self.signature.is_none() && (ecdsa || matches!(bytes.len(), 256 | 384 | 512));
        if takes {
            self.signature = Some(bytes.to_vec());
        }
        takes
    }

    /// The signature as a TPM writes it: a bare one gets algorithm and hash in front, those of the key where it tells.
    pub(super) fn tpm_signature(&self) -> Vec<u8> {
        let Some(bytes) = self.signature.as_deref() else { return Vec::new() };
        if Signature::parse(bytes).is_ok() {
            return bytes.to_vec();
        }
        let public = self.public.as_deref().and_then(|area| Public::parse(area).ok());
        let told = public.as_ref().and_then(Public::scheme);
        let quoted = self.quote.as_deref().and_then(|quote| Quote::parse(quote).ok());
        let hash = match quoted.map(|quote| quote.pcr_digest().len()) {
            Some(48) => HashAlg::Sha384,
            _ => HashAlg::Sha256,
        };
        let is_rsa = matches!(bytes.len(), 256 | 384 | 512);
        match told.unwrap_or(if is_rsa { Scheme::RsaSsa(hash) } else { Scheme::Ecdsa(hash) }) {
            Scheme::RsaSsa(hash) if is_rsa => tpmt(0x0014, hash, &[bytes]),
            Scheme::RsaPss(hash) if is_rsa => tpmt(0x0016, hash, &[bytes]),
            Scheme::Ecdsa(hash) => match ecdsa(bytes) {
                Some(numbers) => tpmt(0x0018, hash, &numbers),
                None => bytes.to_vec(),
            },
            Scheme::RsaSsa(_) | Scheme::RsaPss(_) => bytes.to_vec(),
        }
    }

    /// The signature as it was given.
    pub(super) fn bare_signature(&self) -> Option<&[u8]> {
        self.signature.as_deref()
    }

    /// What there is, where it is nothing that can be judged by itself.
    pub(super) fn left_over(&self) -> &'static str {
        if self.signature.is_some() {
            "a signature"
        } else if self.public.is_some() || self.key.is_some() {
            "a public key"
        } else {
            "a list of PCR values"
        }
    }
}

fn once<T>(slot: &mut Option<T>, part: T, name: &'static str, path: &Path) -> Result<(), InputError> {
    match slot.replace(part) {
        None => Ok(()),
        Some(_) => Err(InputError::Twice { path: path.to_owned(), part: name }),
    }
}

/// TPMT_SIGNATURE (Part 2 section 11.3.4).
fn tpmt(scheme: u16, hash: HashAlg, numbers: &[&[u8]]) -> Vec<u8> {
    let mut out = [scheme.to_be_bytes(), hash.id().to_be_bytes()].concat();
    for number in numbers {
        out.extend_from_slice(&u16::try_from(number.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(number);
    }
    out
}

/// The two numbers of ECDSA-Sig-Value in DER, without signs; short lengths suffice for P-256 and P-384.
fn ecdsa(der: &[u8]) -> Option<[&[u8]; 2]> {
    let integer = |bytes: &'_ [u8]| -> Option<(usize, usize)> {
        match bytes {
            [0x02, len, rest @ ..] if usize::from(*len) <= rest.len() => {
                let zeros = rest.iter().take(usize::from(*len)).take_while(|byte| **byte == 0).count();
                Some((2 + zeros, 2 + usize::from(*len)))
            }
            _ => None,
        }
    };
    let body = match der {
        [0x30, len, body @ ..] if usize::from(*len) == body.len() => body,
        _ => return None,
    };
    let (from, to) = integer(body)?;
    let (r, rest) = (body.get(from..to)?, body.get(to..)?);
    let (from, to) = integer(rest)?;
    (to == rest.len()).then_some([r, rest.get(from..to)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_ecdsa_signature_is_cut_into_its_numbers() {
        let der = [0x30, 8, 2, 2, 0, 0xff, 2, 2, 0x12, 0x34];
        assert_eq!(ecdsa(&der), Some([&[0xff][..], &[0x12, 0x34]]));
        for (at, byte) in [(0, 0x31), (1, 7), (2, 3), (3, 9), (6, 4), (7, 3), (7, 1)] {
            let mut altered = der;
            altered[at] = byte;
            assert_eq!(ecdsa(&altered), None, "byte {at}");
        }
    }

    #[test]
    fn the_same_part_twice_is_told() {
        let mut case = Case::default();
        let file = || Recognised { path: "a".into(), name: "", parts: vec![Part::Quote(vec![1])] };
        assert!(case.add(file()).is_ok());
        assert!(matches!(case.add(file()), Err(InputError::Twice { .. })));
        let certificate = || Recognised { path: "a".into(), name: "", parts: vec![Part::Certificate(vec![1])] };
        assert!(case.add(certificate()).is_ok() && case.add(certificate()).is_ok());
        assert_eq!(case.certificates.len(), 1);
    }
}
