//! JWTs signed by a master: compact JWS (RFC 7515 section 7.1) with ES256 or EdDSA.

use super::key::{SigningKey, name};
use super::settings::{BadSettings, address};
use super::{MintError, Order, Token};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use blindferry_handle::secret::SecretBytes;
use blindferry_proto::bounded::Text;
use blindferry_proto::credential::JwtSigner;
use blindferry_proto::name::{Audience, HostName};
use ring::rand::SecureRandom;
use serde::Serialize;

/// Audiences that one signer may serve.
pub const MAX_AUDIENCES: usize = 64;

/// A JWT signer whose key and settings were accepted.
pub(super) struct Signer<'a> {
    key: SigningKey,
    settings: &'a JwtSigner,
    subject: Subject<'a>,
    usual_audience: &'a Audience,
}

impl<'a> Signer<'a> {
    pub(super) fn prepare(master: &SecretBytes, settings: &'a JwtSigner) -> Result<Self, MintError> {
        let issuer = settings.issuer.as_str();
        address("issuer", issuer)?;
        if issuer.contains('?') {
            // OpenID Connect Core section 2, `iss`.
            return Err(BadSettings::Text { what: "issuer", rule: "a URL without a query" }.into());
        }
        let count = settings.audiences.len();
        let usual_audience = settings
            .audiences
            .first()
            .filter(|_| count <= MAX_AUDIENCES)
            .ok_or(BadSettings::Audiences { count, most: MAX_AUDIENCES })?;
        let subject = Subject::parse(settings.subject.as_str())?;
        let key = SigningKey::from_master(master, settings.algorithm).map_err(MintError::Key)?;
        Ok(Self { key, settings, subject, usual_audience })
    }

    fn audience(&self, order: &Order<'_>) -> Result<&'a Audience, MintError> {
        let Some(wanted) = order.audience else { return Ok(self.usual_audience) };
        let allowed = self.settings.audiences.iter().find(|audience| *audience == wanted);
        allowed.ok_or_else(|| MintError::Audience { audience: wanted.clone() })
    }
}

/// Signs one token, which lives until `latest` (Unix seconds).
///
/// # Errors
/// [`MintError::Audience`] for one that the settings do not list; else as [`compact`].
pub(super) fn mint(
    signer: &Signer<'_>,
    order: &Order<'_>,
    latest: u64,
    random: &dyn SecureRandom,
) -> Result<Token, MintError> {
    let claims = Claims {
        iss: signer.settings.issuer.as_str(),
        sub: &signer.subject.of(order.host, order.uid),
        aud: signer.audience(order)?.as_str(),
        iat: order.now,
        nbf: Some(order.now),
        exp: latest,
        jti: &fresh_id(random)?,
    };
    let secret = compact(&signer.key, &claims, random)?;
    Ok(Token { secret, expires: latest, token_type: Text::cut("Bearer"), revocation: None })
}

/// The registered claims (RFC 7519 section 4.1) that our tokens have. Times are Unix seconds.
#[derive(Serialize)]
pub(super) struct Claims<'a> {
    pub(super) iss: &'a str,
    pub(super) sub: &'a str,
    pub(super) aud: &'a str,
    pub(super) iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<u64>,
    pub(super) exp: u64,
    pub(super) jti: &'a str,
}

/// A `jti` that never comes twice: 128 random bits.
pub(super) fn fresh_id(random: &dyn SecureRandom) -> Result<String, MintError> {
    let mut bytes = [0; 16];
    random.fill(&mut bytes).map_err(|_| MintError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Header, claims, signature. It becomes a secret with its signature, and both meet in secret memory alone. ring returns
/// the signature by value: its 64 bytes stay on the stack until something else is written there.
///
/// # Errors
/// [`MintError::Key`], [`MintError::Sign`], [`MintError::Claims`], [`MintError::Memory`].
pub(super) fn compact(
    key: &SigningKey,
    claims: &Claims<'_>,
    random: &dyn SecureRandom,
) -> Result<SecretBytes, MintError> {
    let jwk = key.jwk().map_err(MintError::Key)?;
    let header = Header { alg: name(key.algorithm()), typ: "JWT", kid: jwk.kid() };
    let mut signed = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).map_err(MintError::Claims)?);
    signed.push('.');
    URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims).map_err(MintError::Claims)?, &mut signed);
    let signature = key.sign(signed.as_bytes(), random)?;
    signed.push('.');
    let room = signed.len() + SIGNATURE_ENCODED;
    let token = SecretBytes::init(room, |place| {
        let (text, rest) = place.split_at_mut(signed.len());
        text.copy_from_slice(signed.as_bytes());
        let length = URL_SAFE_NO_PAD.encode_slice(signature, rest).map_err(|_| MintError::Sign)?;
        Ok::<_, MintError>(signed.len() + length)
    })?;
    Ok(token)
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

/// The template of a `sub` claim, taken apart.
struct Subject<'a>(Vec<Piece<'a>>);

enum Piece<'a> {
    Text(&'a str),
    Host,
    Uid,
}

impl<'a> Subject<'a> {
    fn parse(template: &'a str) -> Result<Self, BadSettings> {
        if template.is_empty() || template.chars().any(char::is_control) {
            return Err(BadSettings::Text { what: "subject", rule: "not empty, without control characters" });
        }
        let mut pieces = Vec::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let (placeholder, after) = after.split_once('}').ok_or(BadSettings::Subject)?;
            pieces.push(Piece::Text(before));
            pieces.push(match placeholder {
                "host" => Piece::Host,
                "uid" => Piece::Uid,
                _ => return Err(BadSettings::Subject),
            });
            rest = after;
        }
        pieces.push(Piece::Text(rest));
        let stray = |piece: &Piece<'_>| matches!(piece, Piece::Text(text) if text.contains('}'));
        if pieces.iter().any(stray) { Err(BadSettings::Subject) } else { Ok(Self(pieces)) }
    }

    fn of(&self, host: &HostName, uid: u32) -> String {
        let text = |piece: &Piece<'_>| match piece {
            Piece::Text(text) => (*text).to_owned(),
            Piece::Host => host.to_string(),
            Piece::Uid => uid.to_string(),
        };
        self.0.iter().map(text).collect()
    }
}

/// A signature of 64 bytes in Base64 without padding.
const SIGNATURE_ENCODED: usize = 86;

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(template: &str) -> Result<String, BadSettings> {
        Ok(Subject::parse(template)?.of(&"web-1".parse().unwrap(), 1000))
    }

    #[test]
    fn a_subject_names_host_and_user() {
        assert_eq!(subject("spiffe://example.org/{host}/{uid}").unwrap(), "spiffe://example.org/web-1/1000");
        assert_eq!(subject("{host}{uid}{host}").unwrap(), "web-11000web-1");
        assert_eq!(subject("fixed").unwrap(), "fixed");
    }

    #[test]
    fn a_placeholder_that_nobody_fills_is_refused() {
        for template in ["{pid}", "{}", "{host", "host}", "{{host}}", "{ host }", "a{host}}", "{Host}"] {
            assert!(matches!(subject(template), Err(BadSettings::Subject)), "{template}");
        }
        for template in ["", "a\nb"] {
            assert!(matches!(subject(template), Err(BadSettings::Text { .. })), "{template:?}");
        }
    }
}
