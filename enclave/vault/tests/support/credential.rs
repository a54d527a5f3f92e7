//! A master, settings and an order, to be changed by each test.

use blindferry_handle::secret::SecretBytes;
use blindferry_proto::credential::{CredentialSettings, Kind};
use blindferry_proto::name::HostName;
use blindferry_vault::mint::Order;

pub(crate) fn master(text: &str) -> SecretBytes {
    SecretBytes::copy_and_wipe(&mut text.as_bytes().to_vec()).unwrap()
}

pub(crate) fn settings(kind: Kind) -> CredentialSettings {
    CredentialSettings { kind, token_lifetime: 900, lease_idle: 60, cache_idle: None }
}

pub(crate) fn host() -> HostName {
    "web-1.example".parse().unwrap()
}

pub(crate) fn order(host: &HostName, now: u64) -> Order<'_> {
    Order { audience: None, host, uid: 1000, now, lifetime: 3600 }
}
