//! What an operator can do about each refusal of a quote or of what lies beside it.

/// Advice by the stable code of the refusal; a code without a word of its own gets the general one.
pub(super) fn advice(code: &str) -> &'static str {
    match code {
        "tpm-ak-public" => {
            "give the public area as the TPM tools write it: TPMT_PUBLIC or TPM2B_PUBLIC, RSA 2048 to 4096, P-256 or P-384"
        }
        "tpm-hash-weak" => "make the attestation key and the quote with SHA-256 or SHA-384",
        "tpm-ak-name" => "another TPM or a new key: if it was replaced on purpose, pin the new Name",
        "tpm-ak-attributes" => {
            "make an attestation key that is restricted, signs, and is fixed to its TPM (tpm2_createak)"
        }
        "tpm-ak-scheme" => "make an attestation key with one scheme: RSASSA, RSAPSS or ECDSA",
        "tpm-signature-form" => "give the signature as the TPM wrote it (TPMT_SIGNATURE)",
        "tpm-signature-scheme" | "tpm-signature" => {
            "quote, signature and key do not belong together, or were altered: take all three from the same quote"
        }
        "tpm-attest" | "tpm-quote-magic" | "tpm-quote-type" => "give TPMS_ATTEST of TPM2_Quote; another is no quote",
        "tpm-quote-challenge" => "the quote answers another challenge, or none: it is stale, relayed or reflected",
        "tpm-clock-unsafe" => {
            "shut the machine down in order, or wait until the TPM has stored its clock, and quote again"
        }
        "tpm-pcr-selection" => "quote the SHA-256 bank alone, and exactly the PCRs that the reference values name",
        "tpm-pcr-values" => "give the values of exactly the quoted PCRs",
        "tpm-pcr-digest" => "a PCR changed between reading and quoting, or the values are false: read and quote again",
        "tpm-pcr-value" => "if this software is meant to run, add the value to the reference values",
        "tpm-firmware" => "update the TPM, or allow this version in the reference values",
        "event-log-replay" | "event-log-truncated" | "event-log-event-too-long" => {
            "read the log anew after the quote; if it stays so, it is incomplete or false"
        }
        "event-log-data" => "the log was altered after it was written: believe nothing of what its events say",
        "event-log-no-sha256" => "enable the SHA-256 bank in the firmware, and start the machine anew",
        "ima-log-replay" => "read the list after the quote; if it stays so, it is incomplete or false",
        "ima-log-template" => "start the kernel with ima_template=ima-ng or ima-sig",
        "ima-log-weak-hash" => "use Linux 5.8 or newer, which extends SHA-256 digests",
        _ => "compare what was found with what was wanted, and find out which of the two changed",
    }
}
