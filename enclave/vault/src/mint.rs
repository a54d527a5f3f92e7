//! Minting: a short-lived token out of a master, as the credential's settings say; and giving it back.
//!
//! Here is the one `match` over the kinds. Each kind prepares first (settings and master are parsed, or refused) and then
//! mints; [`check`] is the preparation alone, so what was accepted when it was stored is what is minted from.

mod form;
mod jwt;
mod key;
mod oauth;
mod release;
mod settings;
mod usable;

pub use jwt::MAX_AUDIENCES;
pub use key::{Jwk, KeyError, public_jwk};
pub use oauth::{BadAnswer, MAX_EXPIRES_IN, OauthCode};
pub use settings::{BadSettings, CACHE_IDLE, LEASE_IDLE, TOKEN_LIFETIME};
pub use usable::{Usable, check};

use crate::upstream::{Dial, UpstreamError};
use blindferry_handle::secret::{InitError, SecretBytes, SecretError};
use blindferry_proto::bounded::Text;
use blindferry_proto::credential::{CredentialSettings, Kind};
use blindferry_proto::name::{Audience, HostName};
use blindferry_proto::refusal::RefusalCode;
use ring::rand::SecureRandom;

/// What one token is wanted for. Policy has allowed it before.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// Whom the token is for; `None` leaves it to the settings.
    pub audience: Option<&'a Audience>,
    /// The worker's host, as it was attested.
    pub host: &'a HostName,
    /// The worker's user id, as its host's broker saw it.
    pub uid: u32,
    /// Unix seconds.
    pub now: u64,
    /// The longest life that the grant allows, in seconds; the settings' own bound holds beside it.
    pub lifetime: u32,
}

/// What a master was traded for.
#[expect(missing_debug_implementations, reason = "it holds a secret")]
pub struct Token {
    secret: SecretBytes,
    expires: u64,
    token_type: Text<32>,
    revocation: Option<Revocation>,
}

impl Token {
    /// The token itself.
    #[must_use]
    pub fn secret(&self) -> &SecretBytes {
        &self.secret
    }

    /// The token itself, kept.
    #[must_use]
    pub fn into_secret(self) -> SecretBytes {
        self.secret
    }

    /// When it has to be taken for dead, in Unix seconds. An upstream may honour it for longer: see [`Revocation`].
    #[must_use]
    pub fn expires(&self) -> u64 {
        self.expires
    }

    /// How it is presented: `Bearer`, another type of RFC 6749 section 7.1, or `opaque` for a released master.
    #[must_use]
    pub fn token_type(&self) -> &Text<32> {
        &self.token_type
    }

    /// How it can be ended before its time, if it can.
    #[must_use]
    pub fn revocation(&self) -> Option<Revocation> {
        self.revocation
    }
}

/// How a token can be ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The upstream revokes it when it is asked to (RFC 7009): [`revoke`].
    AtUpstream,
}

/// The upstream has said that the token is of no use any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Revoked(());

/// Trades the master for one token.
///
/// # Errors
/// [`MintError`]; then no token came to this process that is not wiped.
pub async fn mint<D: Dial>(
    master: &SecretBytes,
    settings: &CredentialSettings,
    order: &Order<'_>,
    dial: &D,
    random: &(dyn SecureRandom + Sync),
) -> Result<Token, MintError> {
    let prepared = Prepared::new(master, settings)?;
    let lifetime = order.lifetime.min(settings.token_lifetime);
    if lifetime == 0 {
        return Err(MintError::Lifetime);
    }
    let latest = order.now.checked_add(lifetime.into()).ok_or(MintError::Clock { now: order.now })?;
    match prepared {
        Prepared::Release(master) => release::mint(master, order, latest),
        Prepared::Jwt(signer) => jwt::mint(&signer, order, latest, random),
        // In a place of its own: a conversation with an upstream is large, and most requests have none.
        Prepared::Oauth(client) => Box::pin(oauth::mint(client, order, latest, dial, random)).await,
    }
}

/// Asks the upstream to revoke a token that it gave (RFC 7009). `now` is in Unix seconds.
///
/// # Errors
/// [`MintError::NotRevocable`] where the kind or the settings have no such way; else as [`mint`].
pub async fn revoke<D: Dial>(
    master: &SecretBytes,
    settings: &CredentialSettings,
    token: &SecretBytes,
    dial: &D,
    now: u64,
    random: &(dyn SecureRandom + Sync),
) -> Result<Revoked, MintError> {
    match Prepared::new(master, settings)? {
        Prepared::Release(_) | Prepared::Jwt(_) => Err(MintError::NotRevocable),
        Prepared::Oauth(client) => Box::pin(oauth::revoke(client, token, dial, now, random)).await,
    }
}

/// Settings and master, parsed: all that can be refused before an order is known was refused.
enum Prepared<'a> {
    Release(&'a SecretBytes),
    Oauth(oauth::Client<'a>),
    Jwt(jwt::Signer<'a>),
}

impl<'a> Prepared<'a> {
    fn new(master: &'a SecretBytes, settings: &'a CredentialSettings) -> Result<Self, MintError> {
        settings::check_times(settings)?;
        Ok(match &settings.kind {
            Kind::Release => Self::Release(release::prepare(master)?),
            Kind::OauthClient(client) => Self::Oauth(oauth::Client::prepare(master, client)?),
            Kind::JwtSigner(signer) => Self::Jwt(jwt::Signer::prepare(master, signer)?),
        })
    }
}

/// No token was minted, or none revoked. Holds nothing that was secret, and of what an upstream said at most its code.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The settings contradict themselves or a bound.
    #[error("the credential's settings cannot be used")]
    Settings(#[source] BadSettings),
    /// The master is not a key for the algorithm.
    #[error("the master is not a signing key as the settings want it")]
    Key(#[source] KeyError),
    /// The master has bytes that no client secret has (RFC 6749 appendix A.2). Nothing is trimmed here.
    #[error("the master is not a client secret: it has a character outside printable ASCII, perhaps a line's end")]
    ClientSecret,
    /// The master is longer than a token may be.
    #[error("the master is too long to be a token")]
    MasterTooLong,
    /// The order names an audience that the settings do not allow.
    #[error("the credential gives no token for audience {audience}")]
    Audience {
        /// Whom the token should have been for.
        audience: Audience,
    },
    /// The order wants a token that lives for no time.
    #[error("a token that lives 0 s was asked for")]
    Lifetime,
    /// Adding a lifetime to that time is not possible.
    #[error("the time {now} is not a time")]
    Clock {
        /// Unix seconds.
        now: u64,
    },
    /// The source of random numbers failed.
    #[error("no random numbers")]
    Random,
    /// The key did not sign.
    #[error("cannot sign")]
    Sign,
    /// Claims do not fit into JSON.
    #[error("cannot write the claims of a token")]
    Claims(#[source] serde_json::Error),
    /// There is no secret memory for the token.
    #[error("cannot hold the token")]
    Memory(#[source] SecretError),
    /// There was no answer from the upstream.
    #[error("the upstream did not answer")]
    Upstream(#[source] UpstreamError),
    /// The upstream refused (RFC 6749 section 5.2).
    #[error("{host} refused with status {status}{}", code.as_ref().map(|code| format!(", {code}")).unwrap_or_default())]
    Refused {
        /// The upstream.
        host: String,
        /// The HTTP status code.
        status: u16,
        /// Its error code, where it gave one that can be repeated.
        code: Option<OauthCode>,
    },
    /// The upstream's answer is not one.
    #[error("the answer of {host} is not a token response")]
    Answer {
        /// The upstream.
        host: String,
        /// What is wrong with it.
        source: BadAnswer,
    },
    /// The token cannot be revoked.
    #[error("a token of this credential cannot be revoked, it ends by its time")]
    NotRevocable,
}

impl MintError {
    /// The stable word for logs, audit and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Settings(source) => source.code(),
            Self::Key(source) => source.code(),
            Self::ClientSecret => "master-not-a-client-secret",
            Self::MasterTooLong => "master-too-long",
            Self::Audience { .. } => "audience",
            Self::Lifetime => "lifetime",
            Self::Clock { .. } => "clock",
            Self::Random => "random",
            Self::Sign => "sign",
            Self::Claims(_) => "claims",
            Self::Memory(_) => "secret-memory",
            Self::Upstream(source) => source.code(),
            Self::Refused { .. } => "upstream-refused",
            Self::Answer { source, .. } => source.code(),
            Self::NotRevocable => "not-revocable",
        }
    }

    /// Whether the same order may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Upstream(source) => source.is_passing(),
            Self::Refused { status, code, .. } => {
                matches!(status, 429 | 500 | 502..=504) || code.as_ref().is_some_and(OauthCode::is_passing)
            }
            Self::Memory(source) | Self::Answer { source: BadAnswer::Memory(source), .. } => {
                matches!(source, SecretError::PoolExhausted | SecretError::LockLimit { .. })
            }
            Self::Settings(_)
            | Self::Key(_)
            | Self::ClientSecret
            | Self::MasterTooLong
            | Self::Audience { .. }
            | Self::Lifetime
            | Self::Clock { .. }
            | Self::Random
            | Self::Sign
            | Self::Claims(_)
            | Self::Answer { .. }
            | Self::NotRevocable => false,
        }
    }

    /// What the peer is told.
    #[must_use]
    pub fn refusal(&self) -> RefusalCode {
        match self {
            Self::Settings(_) | Self::Key(_) | Self::ClientSecret | Self::MasterTooLong | Self::NotRevocable => {
                RefusalCode::Malformed
            }
            Self::Audience { .. } | Self::Lifetime => RefusalCode::Denied,
            Self::Clock { .. } | Self::Random | Self::Sign | Self::Claims(_) => RefusalCode::Internal,
            Self::Memory(_) | Self::Answer { source: BadAnswer::Memory(_), .. } => RefusalCode::Busy,
            Self::Upstream(_) | Self::Refused { .. } | Self::Answer { .. } => RefusalCode::Upstream,
        }
    }
}

impl From<BadSettings> for MintError {
    fn from(source: BadSettings) -> Self {
        Self::Settings(source)
    }
}

impl From<InitError<MintError>> for MintError {
    fn from(error: InitError<MintError>) -> Self {
        match error {
            InitError::Secret(source) => Self::Memory(source),
            InitError::Fill(source) => source,
        }
    }
}
