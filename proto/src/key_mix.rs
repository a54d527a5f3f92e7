//! What the key is derived from that seals on an SEV-SNP guest (MSG_KEY_REQ, AMD 56860 section 7.2).
//!
//! The measurement and the guest policy are always mixed in, and cannot be left out: without the first another image,
//! without the second the same image under a policy that lets the host debug it, would get the same key. The fields of
//! the ID block are chosen by the host, and no key is derived from the key that signed it: so none of them can stand in
//! for the measurement.

use serde::{Deserialize, Serialize};

/// What is mixed in beside the measurement and the guest policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct KeyMix {
    /// The key that the firmware derives from.
    pub root: RootKey,
    /// The committed TCB version: older firmware cannot derive what newer firmware sealed.
    pub tcb: bool,
    /// The guest SVN of the ID block.
    pub guest_svn: bool,
    /// The family id of the ID block.
    pub family_id: bool,
    /// The image id of the ID block.
    pub image_id: bool,
}

/// A root of derived keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootKey {
    /// The chip's own key; the cloud's (VLEK), where the host loaded one.
    #[default]
    Vcek,
    /// The key that a migration agent gave this guest.
    Vmrk,
}

impl Default for KeyMix {
    fn default() -> Self {
        Self { root: RootKey::Vcek, tcb: true, guest_svn: false, family_id: false, image_id: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_says_nothing_binds_to_the_chip_and_its_firmware() {
        assert_eq!(serde_json::from_str::<KeyMix>("{}").unwrap(), KeyMix::default());
        let mix: KeyMix = serde_json::from_str(r#"{"root": "vmrk", "tcb": false, "image-id": true}"#).unwrap();
        assert_eq!(mix, KeyMix { root: RootKey::Vmrk, tcb: false, image_id: true, ..KeyMix::default() });
    }

    #[test]
    fn the_measurement_cannot_be_left_out() {
        assert!(serde_json::from_str::<KeyMix>(r#"{"measurement": false}"#).is_err());
        assert!(serde_json::from_str::<KeyMix>(r#"{"policy": false}"#).is_err());
    }
}
