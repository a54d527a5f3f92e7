//! The value that evidence must carry: fresh, and tied to one TLS channel, one key and one role.

use blindferry_proto::role::Role;
use ring::digest;

/// The label under which both ends export keying material from TLS 1.3 (RFC 8446 section 7.5). The context is the peer's
/// fresh [`Context`](blindferry_proto::role::Context), the length 32 bytes.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Attestation";

/// What the challenge field of evidence must equal: a hash over role, own TLS key and exporter.
///
/// Spent by value in [`appraise`](crate::attested::appraise), so that one binder judges one piece of evidence.
#[must_use = "a binder that judges no evidence binds nothing"]
#[derive(Debug)]
pub struct Binder([u8; Binder::LEN]);

/// Why there is no binder. Each of these must end the session: there is nothing to fall back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BinderError {
    /// The side that makes the evidence presented no TLS key.
    #[error("the TLS key to bind to is empty")]
    EmptyKey,
    /// A key longer than any we speak; what the peer sent is not a TLS key of ours.
    #[error("the TLS key to bind to has {found} bytes, more than {limit}", limit = Binder::MAX_SPKI)]
    KeyTooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// The buffer that the exporter should have filled is still zero: exporting failed and somebody went on.
    #[error("the TLS exporter is all zero")]
    EmptyExporter,
}

impl BinderError {
    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::EmptyKey => "binder-no-key",
            Self::KeyTooLong { .. } => "binder-key-too-long",
            Self::EmptyExporter => "binder-no-exporter",
        }
    }
}

impl Binder {
    /// Its length in bytes.
    pub const LEN: usize = 32;

    /// The longest SubjectPublicKeyInfo that is bound, in bytes: an RSA key of 4096 bits takes 550.
    pub const MAX_SPKI: usize = 1024;

    /// SHA-256("blindferry attested session v1" ‖ role byte ‖ SPKI ‖ exporter).
    ///
    /// `role` and `own_spki` (DER SubjectPublicKeyInfo of the TLS identity key) are those of the side that *makes* the
    /// evidence; `exporter` was exported under [`EXPORTER_LABEL`] with the context of the side that *judges* it.
    ///
    /// # Errors
    ///
    /// When the key or the exporter is missing.
    pub fn compute(role: Role, own_spki: &[u8], exporter: &[u8; 32]) -> Result<Self, BinderError> {
        // Names this hash's single use. The fields need no lengths between them: all but one have a fixed length.
        const CONTEXT: &[u8] = b"blindferry attested session v1";
        if own_spki.is_empty() {
            return Err(BinderError::EmptyKey);
        }
        if own_spki.len() > Self::MAX_SPKI {
            return Err(BinderError::KeyTooLong { found: own_spki.len() });
        }
        if exporter.iter().all(|byte| *byte == 0) {
            return Err(BinderError::EmptyExporter);
        }
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(CONTEXT);
        hash.update(&[role.byte()]);
        hash.update(own_spki);
        hash.update(exporter);
        let mut binder = [0; Self::LEN];
        binder.copy_from_slice(hash.finish().as_ref());
        Ok(Self(binder))
    }

    /// The bytes to put into a quote's qualifying data.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}
