//! What the fuzzer is let loose on: each function takes any bytes, and has to return. Some sign what the bytes altered, so
//! that the judgement behind a signature is reached too. A test of `blindferry-attest` runs the committed inputs through
//! the same functions without a fuzzer.

mod files;
mod snp;
mod tpm;

pub use files::{firmware, reference_values, uki};
pub use snp::{azure, evidence, snp_certificates, snp_guest, snp_report, snp_table};
pub use tpm::{ek_certificate, event_log, event_policy, ima_log, tpm_quote, tpm_structures};

/// A target: whether the bytes got to the end of it, that is, parsed or were accepted.
pub type Target = fn(&[u8]) -> bool;

/// All targets by name: that of the fuzzer's binary, and of the folder of inputs.
pub const TARGETS: &[(&str, Target)] = &[
    ("snp_report", snp_report),
    ("snp_table", snp_table),
    ("snp_certificates", snp_certificates),
    ("snp_guest", snp_guest),
    ("tpm_structures", tpm_structures),
    ("tpm_quote", tpm_quote),
    ("event_log", event_log),
    ("event_policy", event_policy),
    ("ima_log", ima_log),
    ("azure", azure),
    ("ek_certificate", ek_certificate),
    ("evidence", evidence),
    ("reference_values", reference_values),
    ("uki", uki),
    ("firmware", firmware),
];

/// Cuts the next part off: two bytes of length, most significant first, and so many bytes, or all that is left.
fn part<'a>(data: &mut &'a [u8]) -> &'a [u8] {
    let Some((len, rest)) = data.split_first_chunk::<2>() else {
        return std::mem::take(data);
    };
    let len = usize::from(u16::from_be_bytes(*len)).min(rest.len());
    let (part, rest) = rest.split_at(len);
    *data = rest;
    part
}

/// Writes triples over `bytes`: two bytes of offset, most significant first, and the new byte.
fn patch(bytes: &mut [u8], triples: &[u8]) {
    for triple in triples.chunks_exact(3) {
        if let [high, low, value] = *triple
            && let Some(byte) = bytes.get_mut(usize::from(u16::from_be_bytes([high, low])))
        {
            *byte = value;
        }
    }
}
