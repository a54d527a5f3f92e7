//! The blob that Azure's paravisor leaves in the vTPM (NV index 0x01400001): a header, the report, and runtime data.
//!
//! Layout, in bytes, numbers little-endian: header 0..32, report 32..1216, header of the runtime data 1216..1236, JSON from
//! there on, and zeros up to the size of the index. Source: Microsoft, "Azure confidential VMs: guest attestation design",
//! checked against blobs of versions 1 and 2 from real machines. No signature covers the two headers, so every field must
//! have the one value that fits.

use super::{question::Question, refusal::AzureRefusal};
use crate::snp::report::REPORT_LEN;

/// No blob is larger, in bytes: the index has 2600.
pub const MAX_HCL: usize = 4096;

/// A blob taken apart. Holding one tells you that its sizes fit each other and that it says it is of SEV-SNP; not that any
/// processor signed the report, nor that the runtime data belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hcl<'a> {
    version: u32,
    report: &'a [u8; REPORT_LEN],
    runtime: &'a [u8],
}

impl<'a> Hcl<'a> {
    /// Parses a blob as it was read from the index.
    ///
    /// # Errors
    ///
    /// When it is too long, of an unknown version, not of SEV-SNP (TDX is recognised and refused as not supported), hashed
    /// by something other than SHA-256, or its sizes do not fit.
    pub fn parse(blob: &'a [u8]) -> Result<Self, AzureRefusal> {
        if blob.len() > MAX_HCL {
            return Err(refused(Question::Length, blob.len(), format!("at most {MAX_HCL} bytes")));
        }
        let short = || refused(Question::Length, blob.len(), format!("at least {} bytes", 32 + REPORT_LEN + 20));
        let (header, rest) = blob.split_first_chunk::<32>().ok_or_else(short)?;
        if header.get(..4) != Some(b"HCLA") {
            return Err(refused(Question::Magic, hex::encode(header.get(..4).unwrap_or_default()), "HCLA"));
        }
        let (report, rest) = rest.split_first_chunk::<REPORT_LEN>().ok_or_else(short)?;
        let (described, after) = rest.split_first_chunk::<20>().ok_or_else(short)?;
        let version = one_of(Question::Version, word(header, 1), &[1, 2])?;
        field("request type", word(header, 3), REQUEST_TYPE)?;
        field("status", word(header, 4), 0)?;
        for reserved in 5..8 {
            field("reserved bytes of the header", word(header, reserved), 0)?;
        }
        field("version of the runtime data", word(described, 1), 1)?;
        match word(described, 2) {
            REPORT_SNP => {}
            REPORT_TDX => {
                return Err(refused(Question::Tdx, "Intel TDX", "AMD SEV-SNP"));
            }
            other => return Err(refused(Question::ReportType, other, format!("{REPORT_SNP}, AMD SEV-SNP"))),
        }
        one_of(Question::HashType, word(described, 3), &[HASH_SHA256])?;
        let length = word(described, 4);
        // The size in front counts its own header, that of the blob counts everything but the zeros behind.
        field("size of the runtime data", word(described, 0), length.saturating_add(20))?;
        field("size of the report", word(header, 2), length.saturating_add(32 + REPORT_WORD + 20))?;
        let (runtime, padding) = usize::try_from(length)
            .ok()
            .and_then(|length| after.split_at_checked(length))
            .ok_or_else(|| refused(Question::Length, after.len(), format!("{length} bytes of runtime data")))?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(refused(Question::Padding, "other bytes", "zeros behind the runtime data"));
        }
        Ok(Self { version, report, runtime })
    }

    /// The version of the blob: 1 or 2. It changes nothing in how it is judged.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// ATTESTATION_REPORT of SEV-SNP.
    #[must_use]
    pub fn report(&self) -> &'a [u8; REPORT_LEN] {
        self.report
    }

    /// The runtime data: JSON, of which nothing is to be believed before the report vouches for it.
    #[must_use]
    pub fn runtime(&self) -> &'a [u8] {
        self.runtime
    }
}

/// Word `index` of a header; zero behind its end, where nothing is asked for.
fn word(header: &[u8], index: usize) -> u32 {
    header.as_chunks::<4>().0.get(index).copied().map_or(0, u32::from_le_bytes)
}

fn field(name: &'static str, found: u32, wanted: u32) -> Result<(), AzureRefusal> {
    if found == wanted { Ok(()) } else { Err(refused(Question::Header, format!("{found} as {name}"), wanted)) }
}

fn one_of(question: Question, found: u32, wanted: &[u32]) -> Result<u32, AzureRefusal> {
    if wanted.contains(&found) {
        return Ok(found);
    }
    let wanted: Vec<String> = wanted.iter().map(u32::to_string).collect();
    Err(refused(question, found, wanted.join(" or ")))
}

fn refused(question: Question, found: impl ToString, wanted: impl ToString) -> AzureRefusal {
    AzureRefusal::new(question, found.to_string(), wanted.to_string())
}

/// "AK certificate": the only request that leaves a blob for the guest.
const REQUEST_TYPE: u32 = 2;
const REPORT_SNP: u32 = 2;
const REPORT_TDX: u32 = 4;
const HASH_SHA256: u32 = 1;
/// [`REPORT_LEN`] as the blob counts.
const REPORT_WORD: u32 = 1184;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JSON: &[u8] = br#"{"keys":[]}"#;

    /// A blob by the words of its two headers.
    struct Blob {
        header: [u32; 8],
        described: [u32; 5],
    }

    impl Blob {
        fn good() -> Self {
            let length = u32::try_from(JSON.len()).unwrap();
            let magic = u32::from_le_bytes(*b"HCLA");
            Self {
                header: [magic, 2, 32 + 1184 + 20 + length, 2, 0, 0, 0, 0],
                described: [20 + length, 1, 2, 1, length],
            }
        }

        fn bytes(&self) -> Vec<u8> {
            let mut out: Vec<u8> = self.header.iter().flat_map(|word| word.to_le_bytes()).collect();
            out.resize(32 + REPORT_LEN, 0x11);
            out.extend(self.described.iter().flat_map(|word| word.to_le_bytes()));
            out.extend_from_slice(JSON);
            out.resize(2600, 0);
            out
        }
    }

    fn code(bytes: &[u8]) -> Option<&'static str> {
        Hcl::parse(bytes).err().map(|refusal| refusal.code())
    }

    #[test]
    fn report_and_runtime_data_are_where_they_belong() {
        for version in [1, 2] {
            let mut blob = Blob::good();
            blob.header[1] = version;
            let bytes = blob.bytes();
            let hcl = Hcl::parse(&bytes).unwrap();
            assert_eq!((hcl.version(), hcl.report(), hcl.runtime()), (version, &[0x11; REPORT_LEN], JSON));
        }
    }

    #[test]
    fn every_field_of_the_headers_has_one_value() {
        let header = [
            "azure-magic",
            "azure-version",
            "azure-header",
            "azure-header",
            "azure-header",
            "azure-header",
            "azure-header",
            "azure-header",
        ];
        for (word, wanted) in header.into_iter().enumerate() {
            let mut blob = Blob::good();
            blob.header[word] ^= 0x100;
            assert_eq!(code(&blob.bytes()), Some(wanted), "word {word} of the header");
        }
        let described = ["azure-header", "azure-header", "azure-report-type", "azure-hash", "azure-header"];
        for (word, wanted) in described.into_iter().enumerate() {
            let mut blob = Blob::good();
            blob.described[word] ^= 0x100;
            assert_eq!(code(&blob.bytes()), Some(wanted), "word {word} of the runtime data's");
        }
        let mut tdx = Blob::good();
        tdx.described[2] = 4;
        assert_eq!(code(&tdx.bytes()), Some("azure-tdx"));
    }

    #[test]
    fn runtime_data_end_within_the_blob() {
        let mut blob = Blob::good();
        // Sizes that fit each other, and nothing else.
        let length = 3000;
        (blob.header[2], blob.described[0], blob.described[4]) = (32 + 1184 + 20 + length, 20 + length, length);
        assert_eq!(code(&blob.bytes()), Some("azure-length"));
        (blob.header[2], blob.described[0], blob.described[4]) = (u32::MAX, u32::MAX, u32::MAX);
        assert_eq!(code(&blob.bytes()), Some("azure-length"));
        let good = Blob::good().bytes();
        for len in [0, 3, 31, 32, 1215, 1235, 1236, 1236 + JSON.len() - 1] {
            assert_eq!(code(&good[..len]), Some("azure-length"), "{len} bytes");
        }
        assert_eq!(code(&good[..1236 + JSON.len()]), None);
        assert_eq!(code(&vec![0; MAX_HCL + 1]), Some("azure-length"));
    }

    #[test]
    fn nothing_follows_the_runtime_data_but_zeros() {
        let good = Blob::good().bytes();
        for at in 1236 + JSON.len()..good.len() {
            let mut altered = good.clone();
            altered[at] = 1;
            assert_eq!(code(&altered), Some("azure-padding"));
        }
    }

    proptest! {
        #[test]
        fn no_blob_makes_the_parser_panic(at in 0usize..1300, bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut blob = Blob::good().bytes();
            for (to, from) in blob[at..].iter_mut().zip(bytes) {
                *to = from;
            }
            let _ = Hcl::parse(&blob);
            blob.truncate(at);
            prop_assert!(Hcl::parse(&blob).is_err() || at >= 1236 + JSON.len());
        }
    }
}
