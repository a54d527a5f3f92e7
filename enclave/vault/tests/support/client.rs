//! An OAuth client's settings, a master and an order, to be changed by each test.

use blindferry_handle::secret::SecretBytes;
use blindferry_proto::bounded::Text;
use blindferry_proto::credential::{ClientAuthentication, CredentialSettings, Kind, OauthClient};
use blindferry_proto::name::HostName;
use blindferry_vault::mint::Order;

pub(crate) fn master(text: &str) -> SecretBytes {
    SecretBytes::copy_and_wipe(&mut text.as_bytes().to_vec()).unwrap()
}

pub(crate) fn settings(kind: Kind) -> CredentialSettings {
    CredentialSettings { kind, token_lifetime: 900, lease_idle: 60, cache_idle: None }
}

pub(crate) fn oauth_client(token_url: &str, id: &str, authentication: ClientAuthentication) -> OauthClient {
    OauthClient {
        token_url: Text::new(token_url).unwrap(),
        revocation_url: None,
        client_id: Text::new(id).unwrap(),
        authentication,
        scope: None,
        resource: None,
        trust: None,
    }
}

pub(crate) fn host() -> HostName {
    "web-1.example".parse().unwrap()
}

pub(crate) fn order(host: &HostName, now: u64) -> Order<'_> {
    Order { audience: None, host, uid: 1000, now, lifetime: 3600 }
}
