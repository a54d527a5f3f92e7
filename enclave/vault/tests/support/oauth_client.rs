//! An OAuth client's settings, to be changed by each test.

use blindferry_proto::bounded::Text;
use blindferry_proto::credential::{ClientAuthentication, OauthClient};

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
