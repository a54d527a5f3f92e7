//! What the fuzzer is let loose on: each function takes any bytes, and has to return. Some sign or encrypt what the bytes
//! altered, so that the judgement behind a signature is reached too, and that what was altered is seen not to open. The
//! test `inputs` runs the committed inputs through the same functions without a fuzzer.
//!
//! | file | whose bytes |
//! |---|---|
//! | `frames` | messages between processes, local and over the attested session |
//! | `ciphertexts` | grants, parcels and deposits, which others carry |
//! | `store`, `guest` | the store, which the front keeps |
//! | `backup` | a backup, which an operator keeps |
//! | `audit` | the audit, which operators verify |
//! | `upstream` | upstreams, and an operator's settings for them |
//! | `policy`, `texts`, `files` | what people write, images that boot, firmware |
//! | `tpm`, `snp` | evidence and what vouches for it |

mod audit;
mod backup;
mod ciphertexts;
mod files;
mod frames;
mod guest;
mod policy;
mod snp;
mod store;
mod texts;
mod tpm;
mod upstream;

pub use audit::audit_records;
pub use backup::{backups, good_backup};
pub use ciphertexts::{deposits, grants, parcels};
pub use files::{firmware, reference_values, uki};
pub use frames::{device_frames, front_frames, local_frames, operator_frames, session_frames};
pub use guest::guest_keys;
pub use policy::policy;
pub use snp::{azure, evidence, snp_certificates, snp_guest, snp_report, snp_table};
pub use store::{sealed_blobs, store_records};
pub use texts::{configurations, environment, names, templates};
pub use tpm::{ek_certificate, event_log, event_policy, ima_log, tpm_quote, tpm_structures};
pub use upstream::{credential_settings, upstream_answers};

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
    ("local_frames", local_frames),
    ("front_frames", front_frames),
    ("device_frames", device_frames),
    ("session_frames", session_frames),
    ("operator_frames", operator_frames),
    ("grants", grants),
    ("parcels", parcels),
    ("deposits", deposits),
    ("store_records", store_records),
    ("backups", backups),
    ("sealed_blobs", sealed_blobs),
    ("guest_keys", guest_keys),
    ("audit_records", audit_records),
    ("policy", policy),
    ("upstream_answers", upstream_answers),
    ("credential_settings", credential_settings),
    ("names", names),
    ("configurations", configurations),
    ("environment", environment),
    ("templates", templates),
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
