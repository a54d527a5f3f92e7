//! OAuth 2.0 client credentials (RFC 6749 section 4.4): a client's secret or key for an access token, and its revocation.

mod answer;

pub use answer::{BadAnswer, MAX_EXPIRES_IN, OauthCode};

use super::key::SigningKey;
use super::settings::{BadSettings, address};
use super::{MintError, Order, Revocation, Revoked, Token, form, jwt};
use crate::upstream::{Address, Answer, DEADLINE, Dial, Trust, Upstream};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blindferry_handle::secret::SecretBytes;
use blindferry_proto::credential::{ClientAuthentication, OauthClient};
use hyper::StatusCode;
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

/// A client whose settings and secret were accepted.
pub(super) struct Client<'a> {
    token: Address,
    revocation: Option<Address>,
    trust: Trust,
    proof: Proof<'a>,
    settings: &'a OauthClient,
}

/// How the client proves itself.
enum Proof<'a> {
    Basic(&'a SecretBytes),
    Post(&'a SecretBytes),
    Key(SigningKey),
}

impl<'a> Client<'a> {
    pub(super) fn prepare(master: &'a SecretBytes, settings: &'a OauthClient) -> Result<Self, MintError> {
        check_texts(settings)?;
        let token = address("token_url", settings.token_url.as_str())?;
        let revocation = settings.revocation_url.as_ref().map(|url| address("revocation_url", url.as_str()));
        let trust = match &settings.trust {
            Some(pem) => Trust::only(pem.as_str()).map_err(BadSettings::Trust)?,
            None => Trust::public_roots(),
        };
        let proof = match settings.authentication {
            ClientAuthentication::ClientSecretBasic => Proof::Basic(client_secret(master)?),
            ClientAuthentication::ClientSecretPost => Proof::Post(client_secret(master)?),
            ClientAuthentication::PrivateKeyJwt(algorithm) => {
                Proof::Key(SigningKey::from_master(master, algorithm).map_err(MintError::Key)?)
            }
        };
        Ok(Self { token, revocation: revocation.transpose()?, trust, proof, settings })
    }

    /// What proves the client in one request: the assertion is for the token endpoint, also where a token is revoked
    /// (RFC 7523 section 3: the endpoint's URL names the server).
    fn prove(&self, now: u64, random: &dyn SecureRandom) -> Result<Credentials<'a>, MintError> {
        let id = self.settings.client_id.as_str();
        Ok(match &self.proof {
            Proof::Basic(secret) => Credentials::Header(basic(id, secret)),
            Proof::Post(secret) => Credentials::Secret(secret),
            Proof::Key(key) => {
                let claims = jwt::Claims {
                    iss: id,
                    sub: id,
                    aud: self.settings.token_url.as_str(),
                    iat: now,
                    nbf: None,
                    exp: now.checked_add(ASSERTION_LIFETIME).ok_or(MintError::Clock { now })?,
                    jti: &jwt::fresh_id(random)?,
                };
                Credentials::Assertion(jwt::compact(key, &claims, random)?)
            }
        })
    }
}

/// Asks for an access token. It counts as dead at `latest` (Unix seconds), or when the upstream says, if that is earlier.
///
/// # Errors
/// [`MintError::Audience`] for another audience than the settings' resource; what the upstream refuses or gets wrong.
pub(super) async fn mint<D: Dial>(
    client: Client<'_>,
    order: &Order<'_>,
    latest: u64,
    dial: &D,
    random: &(dyn SecureRandom + Sync),
) -> Result<Token, MintError> {
    let settings = client.settings;
    let resource = settings.resource.as_ref().map(|resource| resource.as_str());
    if let Some(audience) = order.audience.filter(|audience| Some(audience.as_str()) != resource) {
        return Err(MintError::Audience { audience: audience.clone() });
    }
    let mut fields: Vec<(&str, &[u8])> = vec![("grant_type", b"client_credentials")];
    fields.extend(settings.scope.as_ref().map(|scope| ("scope", scope.as_str().as_bytes())));
    fields.extend(resource.map(|resource| ("resource", resource.as_bytes())));
    let (authorization, form) = client.prove(order.now, random)?.put_into(&fields, settings);
    // The key, if there is one, must not lie in memory while an upstream takes its time.
    let Client { token: address, revocation, trust, .. } = client;

    let upstream = Upstream::new(dial, order.now, DEADLINE);
    let answer = upstream.post_form(&address, &trust, authorization, form).await.map_err(MintError::Upstream)?;
    if answer.status() != StatusCode::OK {
        return Err(refused(&address, &answer));
    }
    let granted =
        answer::read(&answer).map_err(|source| MintError::Answer { host: address.host().to_owned(), source })?;
    let lapses = granted.expires_in.map_or(latest, |seconds| order.now.saturating_add(seconds));
    Ok(Token {
        secret: granted.secret,
        expires: latest.min(lapses),
        token_type: granted.token_type,
        revocation: revocation.map(|_| Revocation::AtUpstream),
    })
}

/// Asks to revoke an access token (RFC 7009). A token that the server does not know counts as revoked, as section 2.2 says.
///
/// # Errors
/// [`MintError::NotRevocable`] without a revocation URL; what the upstream refuses.
pub(super) async fn revoke<D: Dial>(
    client: Client<'_>,
    token: &SecretBytes,
    dial: &D,
    now: u64,
    random: &(dyn SecureRandom + Sync),
) -> Result<Revoked, MintError> {
    #[expect(clippy::disallowed_methods, reason = "the token goes into the form, which wipes itself")]
    let fields: [(&str, &[u8]); 2] = [("token", token.expose()), ("token_type_hint", b"access_token")];
    let (authorization, form) = client.prove(now, random)?.put_into(&fields, client.settings);
    let Client { revocation, trust, .. } = client;
    let address = revocation.ok_or(MintError::NotRevocable)?;

    let upstream = Upstream::new(dial, now, DEADLINE);
    let answer = upstream.post_form(&address, &trust, authorization, form).await.map_err(MintError::Upstream)?;
    if answer.status() == StatusCode::OK { Ok(Revoked(())) } else { Err(refused(&address, &answer)) }
}

/// What goes into a request to prove the client.
enum Credentials<'a> {
    Header(Zeroizing<Vec<u8>>),
    Secret(&'a SecretBytes),
    Assertion(SecretBytes),
}

impl Credentials<'_> {
    /// The `Authorization` header, if it is that, and the form of these fields with the rest.
    fn put_into(
        self,
        fields: &[(&str, &[u8])],
        settings: &OauthClient,
    ) -> (Option<Zeroizing<Vec<u8>>>, Zeroizing<Vec<u8>>) {
        let client_id = ("client_id", settings.client_id.as_str().as_bytes());
        match self {
            Self::Header(header) => (Some(header), form::encode(fields)),
            Self::Secret(secret) => {
                #[expect(clippy::disallowed_methods, reason = "the secret goes into the form, which wipes itself")]
                let own = [client_id, ("client_secret", secret.expose())];
                (None, form::encode(&[fields, &own].concat()))
            }
            Self::Assertion(assertion) => {
                #[expect(clippy::disallowed_methods, reason = "the assertion goes into the form, which wipes itself")]
                let assertion = ("client_assertion", assertion.expose());
                let own = [client_id, ("client_assertion_type", ASSERTION_TYPE.as_bytes()), assertion];
                (None, form::encode(&[fields, &own].concat()))
            }
        }
    }
}

/// `Basic` with both parts form-encoded first (RFC 6749 section 2.3.1), so that a colon in either stays unambiguous.
fn basic(id: &str, secret: &SecretBytes) -> Zeroizing<Vec<u8>> {
    #[expect(clippy::disallowed_methods, reason = "encoded into buffers that wipe themselves")]
    let secret = form::encode_value(secret.expose());
    let id = form::encode_value(id.as_bytes());
    let mut pair = Zeroizing::new(Vec::with_capacity(id.len() + 1 + secret.len()));
    pair.extend_from_slice(&id);
    pair.push(b':');
    pair.extend_from_slice(&secret);
    // Four characters for three bytes or a part of them: what Base64 takes, to the byte.
    let encoded = 4 * pair.len().div_ceil(3);
    let mut header = Zeroizing::new(Vec::with_capacity(BASIC.len() + encoded));
    header.extend_from_slice(BASIC);
    header.resize(BASIC.len() + encoded, 0);
    let (_, place) = header.split_at_mut(BASIC.len());
    // It fits, by the line above; if it did not, the header would prove nothing.
    let written = STANDARD.encode_slice(pair.as_slice(), place).unwrap_or(0);
    header.truncate(BASIC.len() + written);
    header
}

fn refused(address: &Address, answer: &Answer) -> MintError {
    let code = answer::read_error(answer);
    MintError::Refused { host: address.host().to_owned(), status: answer.status().as_u16(), code }
}

/// A client secret is printable ASCII (RFC 6749 appendix A.2).
fn client_secret(master: &SecretBytes) -> Result<&SecretBytes, MintError> {
    #[expect(clippy::disallowed_methods, reason = "only whether every byte is printable leaves")]
    let legal = master.expose().iter().all(|byte| (0x20..=0x7e).contains(byte));
    if legal { Ok(master) } else { Err(MintError::ClientSecret) }
}

fn check_texts(settings: &OauthClient) -> Result<(), BadSettings> {
    let id = settings.client_id.as_str();
    if id.is_empty() || !id.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
        return Err(BadSettings::Text { what: "client_id", rule: "printable ASCII, not empty" });
    }
    let is_scope = |scope: &str| {
        let legal = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        scope.split(' ').all(|part| !part.is_empty() && part.bytes().all(legal))
    };
    if settings.scope.as_ref().is_some_and(|scope| !is_scope(scope.as_str())) {
        return Err(BadSettings::Text { what: "scope", rule: "RFC 6749 section 3.3, parts with one space between" });
    }
    let is_resource = |uri: &str| {
        let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            && uri.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
    };
    if settings.resource.as_ref().is_some_and(|uri| !is_resource(uri.as_str())) {
        return Err(BadSettings::Text { what: "resource", rule: "an absolute URI without a fragment (RFC 8707)" });
    }
    Ok(())
}

/// Seconds that a client's assertion is good for.
const ASSERTION_LIFETIME: u64 = 60;
/// RFC 7523 section 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const BASIC: &[u8] = b"Basic ";
