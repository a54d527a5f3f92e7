//! The kinds of credentials as options of `put`: an option that does not belong to the kind is refused, not ignored.

use crate::document;
use crate::failure::Failure;
use blindferry_proto::bounded::Text;
use blindferry_proto::credential::{
    ClientAuthentication, CredentialSettings, JwtSigner, Kind, OauthClient, SigningAlgorithm,
};
use blindferry_proto::name::Audience;
use clap::ValueEnum;
use std::fmt;
use std::path::PathBuf;

/// What a credential is, and how its tokens come about.
#[derive(Debug, clap::Args)]
pub(crate) struct KindArguments {
    /// How a token comes from the master
    #[arg(long)]
    kind: KindName,
    /// The longest a token may live, such as 90s, 15m, 1h
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = seconds)]
    token_lifetime: u32,
    /// End a lease that nobody renewed or kept for so long
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = seconds)]
    lease_idle: u32,
    /// Keep the opened master in the vault's secret memory until it was idle for so long [default: open it for each use]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    cache_idle: Option<u32>,

    /// oauth-client: the token endpoint
    #[arg(long, value_name = "URL", help_heading = OAUTH)]
    token_url: Option<String>,
    /// oauth-client: where tokens are revoked (RFC 7009)
    #[arg(long, value_name = "URL", help_heading = OAUTH)]
    revocation_url: Option<String>,
    /// oauth-client: the client's identifier
    #[arg(long, value_name = "ID", help_heading = OAUTH)]
    client_id: Option<String>,
    /// oauth-client: how the client proves itself [default: client-secret-basic]
    #[arg(long, value_name = "HOW", help_heading = OAUTH)]
    authentication: Option<AuthenticationName>,
    /// oauth-client: the scope to ask for, space-separated
    #[arg(long, value_name = "SCOPE", help_heading = OAUTH)]
    scope: Option<String>,
    /// oauth-client: the resource to ask for (RFC 8707)
    #[arg(long, value_name = "URI", help_heading = OAUTH)]
    resource: Option<String>,
    /// oauth-client: certificates in PEM to trust for this server instead of the public roots
    #[arg(long, value_name = "FILE", help_heading = OAUTH)]
    trust: Option<PathBuf>,

    /// jwt-signer, and oauth-client with private-key-jwt: what the key signs with
    #[arg(long, value_name = "ALGORITHM", help_heading = SIGNING)]
    algorithm: Option<AlgorithmName>,
    /// jwt-signer: the `iss` claim, the URL under which the front serves discovery
    #[arg(long, value_name = "URL", help_heading = SIGNING)]
    issuer: Option<String>,
    /// jwt-signer: the `sub` claim; {host} and {uid} stand for the worker's
    #[arg(long, value_name = "TEXT", help_heading = SIGNING)]
    subject: Option<String>,
    /// jwt-signer: an audience that may be asked for; may be given several times, the first is the default
    #[arg(long = "audience", value_name = "AUDIENCE", help_heading = SIGNING)]
    audiences: Vec<Audience>,
}

const OAUTH: &str = "OAuth 2.0 client";
const SIGNING: &str = "Signing key";

/// A kind's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindName {
    /// The master itself is the token
    Release,
    /// The master is an OAuth 2.0 client's secret or key
    OauthClient,
    /// The master is a signing key, a token is a JWT
    JwtSigner,
}

/// A way for an OAuth client to prove itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuthenticationName {
    /// The secret in the header
    ClientSecretBasic,
    /// The secret in the body
    ClientSecretPost,
    /// A signature by a private key
    PrivateKeyJwt,
}

/// A signing algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AlgorithmName {
    /// ECDSA with P-256 and SHA-256
    Es256,
    /// Ed25519
    Eddsa,
}

impl From<AlgorithmName> for SigningAlgorithm {
    fn from(name: AlgorithmName) -> Self {
        match name {
            AlgorithmName::Es256 => Self::Es256,
            AlgorithmName::Eddsa => Self::EdDsa,
        }
    }
}

impl fmt::Display for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Release => "release",
            Self::OauthClient => "oauth-client",
            Self::JwtSigner => "jwt-signer",
        })
    }
}

impl KindArguments {
    /// The settings; `generated` is the algorithm of a key that is made here.
    ///
    /// # Errors
    /// [`Failure::Kind`]: an option that is missing, foreign to the kind, or too long.
    pub(crate) fn settings(self, generated: Option<AlgorithmName>) -> Result<CredentialSettings, Failure> {
        let name = self.kind;
        let (token_lifetime, lease_idle, cache_idle) = (self.token_lifetime, self.lease_idle, self.cache_idle);
        let algorithm = match (self.algorithm, generated) {
            (Some(asked), Some(made)) if asked != made => return Err(KindError::TwoAlgorithms.into()),
            (asked, made) => asked.or(made),
        };
        if generated.is_some() && name != KindName::JwtSigner {
            return Err(KindError::Foreign { kind: name, option: "--generate" }.into());
        }
        let signs = name == KindName::JwtSigner || self.authentication == Some(AuthenticationName::PrivateKeyJwt);
        let foreign_unless = |kind: KindName, given: bool, option: &'static str| match given && kind != name {
            true => Err(KindError::Foreign { kind: name, option }),
            false => Ok(()),
        };
        for (given, option) in [
            (self.token_url.is_some(), "--token-url"),
            (self.revocation_url.is_some(), "--revocation-url"),
            (self.client_id.is_some(), "--client-id"),
            (self.authentication.is_some(), "--authentication"),
            (self.scope.is_some(), "--scope"),
            (self.resource.is_some(), "--resource"),
            (self.trust.is_some(), "--trust"),
        ] {
            foreign_unless(KindName::OauthClient, given, option)?;
        }
        for (given, option) in [
            (self.issuer.is_some(), "--issuer"),
            (self.subject.is_some(), "--subject"),
            (!self.audiences.is_empty(), "--audience"),
        ] {
            foreign_unless(KindName::JwtSigner, given, option)?;
        }
        if algorithm.is_some() && !signs {
            return Err(KindError::Foreign { kind: name, option: "--algorithm" }.into());
        }
        let wanted = |option| KindError::Missing { kind: name, option };
        let kind = match name {
            KindName::Release => Kind::Release,
            KindName::OauthClient => Kind::OauthClient(OauthClient {
                token_url: required(self.token_url, name, "--token-url")?,
                revocation_url: optional(self.revocation_url, "--revocation-url")?,
                client_id: required(self.client_id, name, "--client-id")?,
                authentication: match self.authentication.unwrap_or(AuthenticationName::ClientSecretBasic) {
                    AuthenticationName::ClientSecretBasic => ClientAuthentication::ClientSecretBasic,
                    AuthenticationName::ClientSecretPost => ClientAuthentication::ClientSecretPost,
                    AuthenticationName::PrivateKeyJwt => {
                        ClientAuthentication::PrivateKeyJwt(algorithm.ok_or_else(|| wanted("--algorithm"))?.into())
                    }
                },
                scope: optional(self.scope, "--scope")?,
                resource: optional(self.resource, "--resource")?,
                trust: self.trust.as_deref().map(document::read_bounded).transpose()?,
            }),
            KindName::JwtSigner => Kind::JwtSigner(JwtSigner {
                algorithm: algorithm.ok_or_else(|| wanted("--algorithm"))?.into(),
                issuer: required(self.issuer, name, "--issuer")?,
                subject: required(self.subject, name, "--subject")?,
                audiences: match self.audiences.is_empty() {
                    true => return Err(wanted("--audience").into()),
                    false => self.audiences,
                },
            }),
        };
        Ok(CredentialSettings { kind, token_lifetime, lease_idle, cache_idle })
    }
}

fn required<const MAX: usize>(
    given: Option<String>,
    kind: KindName,
    option: &'static str,
) -> Result<Text<MAX>, KindError> {
    optional(given, option)?.ok_or(KindError::Missing { kind, option })
}

fn optional<const MAX: usize>(given: Option<String>, option: &'static str) -> Result<Option<Text<MAX>>, KindError> {
    given.map(|text| Text::new(text).map_err(|_| KindError::TooLong { option, most: MAX })).transpose()
}

/// The options do not make a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KindError {
    #[error("{kind} needs {option}")]
    Missing { kind: KindName, option: &'static str },
    #[error("{option} does not belong to {kind} as it is asked for")]
    Foreign { kind: KindName, option: &'static str },
    #[error("{option} is longer than {most} bytes")]
    TooLong { option: &'static str, most: usize },
    #[error("--algorithm and --generate name two algorithms")]
    TwoAlgorithms,
}

/// A time in seconds from a text such as `90s`, `15m`, `12h` or `7d`.
fn seconds(text: &str) -> Result<u32, BadTime> {
    let unit = text.chars().last().ok_or(BadTime)?;
    let factor: u32 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(BadTime),
    };
    let number = text.strip_suffix(unit).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let number: u32 = number.and_then(|digits| digits.parse().ok()).ok_or(BadTime)?;
    number.checked_mul(factor).filter(|seconds| *seconds > 0).ok_or(BadTime)
}

/// A text is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time: expected a number and a unit, such as 90s, 15m, 12h or 7d")]
struct BadTime;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        kind: KindArguments,
    }

    fn settings(words: &str, generated: Option<AlgorithmName>) -> Result<CredentialSettings, String> {
        let parsed = Only::try_parse_from(["put"].into_iter().chain(words.split_whitespace()));
        let settings = parsed.map_err(|error| error.to_string())?.kind.settings(generated);
        settings.map_err(|failure| failure.told())
    }

    #[test]
    fn a_release_needs_nothing_and_takes_nothing_of_other_kinds() {
        let release = settings("--kind release", None).unwrap();
        assert_eq!((release.token_lifetime, release.lease_idle, release.cache_idle), (900, 60, None));
        for foreign in ["--scope a", "--issuer https://a", "--audience a", "--algorithm es256", "--client-id a"] {
            let refused = settings(&format!("--kind release {foreign}"), None).unwrap_err();
            assert!(refused.contains("does not belong"), "{refused}");
        }
        assert!(settings("--kind release", Some(AlgorithmName::Es256)).is_err());
    }

    #[test]
    fn an_oauth_client_needs_its_server_and_its_name() {
        let refused = settings("--kind oauth-client --client-id a", None).unwrap_err();
        assert!(refused.contains("--token-url"), "{refused}");
        let basic =
            settings("--kind oauth-client --client-id a --token-url https://a/t --cache-idle 2m", None).unwrap();
        assert_eq!(basic.cache_idle, Some(120));
        let Kind::OauthClient(client) = basic.kind else { panic!("{:?}", basic.kind) };
        assert_eq!(client.authentication, ClientAuthentication::ClientSecretBasic);
        let words = "--kind oauth-client --client-id a --token-url https://a/t --authentication private-key-jwt";
        assert!(settings(words, None).unwrap_err().contains("--algorithm"));
        assert!(settings(&format!("{words} --algorithm eddsa"), None).is_ok());
    }

    #[test]
    fn a_jwt_signer_needs_its_claims_and_one_algorithm() {
        let words = "--kind jwt-signer --issuer https://a --subject {host} --audience b --audience c";
        assert!(settings(words, None).unwrap_err().contains("--algorithm"));
        let signer = settings(words, Some(AlgorithmName::Es256)).unwrap();
        let Kind::JwtSigner(signer) = signer.kind else { panic!("{:?}", signer.kind) };
        assert_eq!(signer.audiences.iter().map(Audience::as_str).collect::<Vec<_>>(), ["b", "c"]);
        assert!(settings(&format!("{words} --algorithm eddsa"), Some(AlgorithmName::Es256)).is_err());
        let words = "--kind jwt-signer --issuer https://a --subject s --algorithm es256";
        assert!(settings(words, None).unwrap_err().contains("--audience"));
    }

    #[test]
    fn times_have_a_unit_and_end_somewhere() {
        for (text, wanted) in [("1s", 1), ("15m", 900), ("12h", 43_200), ("7d", 604_800)] {
            assert_eq!(seconds(text), Ok(wanted));
        }
        for bad in ["", "s", "15", "0s", "-1s", "+1s", "1.5h", "50000d", "4294967296s", "1 m", "1ms"] {
            assert_eq!(seconds(bad), Err(BadTime), "{bad}");
        }
    }
}
