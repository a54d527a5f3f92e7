//! What an operator says about a credential when it is stored: how tokens come from the master, and how long they live.

use crate::bounded::Text;
use crate::name::Audience;
use serde::{Deserialize, Serialize};

/// A URL, not yet parsed.
pub type Url = Text<512>;

/// How a credential's tokens come about, and their limits. Holds no secret: the master travels beside it, encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialSettings {
    /// How a token comes from the master.
    pub kind: Kind,
    /// The longest a token may live, in seconds. An upstream may make it shorter.
    pub token_lifetime: u32,
    /// A lease that nobody renews or keeps for this many seconds ends.
    pub lease_idle: u32,
    /// Keep the opened master in secret memory until it was idle for this many seconds; `None`: open it for each use.
    pub cache_idle: Option<u32>,
}

impl CredentialSettings {
    /// Seconds that a token lives unless settings say otherwise.
    pub const TOKEN_LIFETIME: u32 = 900;
    /// Seconds after which an idle lease ends unless settings say otherwise.
    pub const LEASE_IDLE: u32 = 60;
    /// Seconds after which a cached master is wiped where a cache is asked for without a time.
    pub const CACHE_IDLE: u32 = 60;
}

/// How a token comes from the master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The master itself is the token.
    Release,
    /// The master is an OAuth 2.0 client's secret or key; a token is an access token (RFC 6749 section 4.4).
    OauthClient(OauthClient),
    /// The master is a signing key; a token is a JWT that it signed (RFC 7519).
    JwtSigner(JwtSigner),
}

/// An OAuth 2.0 client that asks for tokens by its own credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OauthClient {
    /// The token endpoint; `https`, or `http` to a loopback address.
    pub token_url: Url,
    /// Where tokens are revoked (RFC 7009), if the server does that.
    pub revocation_url: Option<Url>,
    /// The client's identifier.
    pub client_id: Text<256>,
    /// How the client proves itself.
    pub authentication: ClientAuthentication,
    /// The scope to ask for, space-separated.
    pub scope: Option<Text<1024>>,
    /// The resource to ask for (RFC 8707).
    pub resource: Option<Text<512>>,
    /// Certificates in PEM to trust for this server instead of the public roots.
    pub trust: Option<Text<16384>>,
}

/// How an OAuth client proves itself at the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuthentication {
    /// `client_secret_basic` (RFC 6749 section 2.3.1).
    ClientSecretBasic,
    /// `client_secret_post` (RFC 6749 section 2.3.1).
    ClientSecretPost,
    /// `private_key_jwt` (RFC 7523 section 2.2); the master is a private key in PKCS#8 PEM.
    PrivateKeyJwt(SigningAlgorithm),
}

/// A JWT signer. The key is published in the front's JWKS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtSigner {
    /// The algorithm; the master is a private key for it, in PKCS#8 PEM.
    pub algorithm: SigningAlgorithm,
    /// The `iss` claim: the URL under which the front serves discovery.
    pub issuer: Url,
    /// The `sub` claim. `{host}` and `{uid}` stand for the worker's host and user id.
    pub subject: Text<512>,
    /// The audiences that may be asked for; the first is used where a parent names none.
    pub audiences: Vec<Audience>,
}

/// A JOSE signing algorithm (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// ECDSA with P-256 and SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}
