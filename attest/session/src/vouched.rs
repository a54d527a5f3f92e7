//! That a vault is the one that was made with this store: its audit key signs the binder of its evidence.
//!
//! Evidence says which software runs on which hardware. Whoever owns the hardware can start that software a second time,
//! over a store of his own; it has the same evidence, and another audit key.

use blindferry_attest::binder::Binder;
use blindferry_proto::identifier::AuditKey;
use blindferry_proto::session::VOUCHED;
use ring::signature::{ED25519, UnparsedPublicKey};

/// What the audit key signs.
pub(crate) fn vouched(binder: &Binder) -> Vec<u8> {
    [VOUCHED, binder.as_bytes()].concat()
}

/// The vault of this audit key speaks over this channel.
#[derive(Debug)]
pub(crate) struct Vouched(());

impl Vouched {
    /// Checks the signature.
    pub(crate) fn by(key: &AuditKey, binder: &Binder, signature: &[u8]) -> Option<Self> {
        UnparsedPublicKey::new(&ED25519, key.as_bytes()).verify(&vouched(binder), signature).ok().map(|()| Self(()))
    }
}
