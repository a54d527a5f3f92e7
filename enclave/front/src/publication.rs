//! What the front publishes for the vault's JWT signers: their JWK sets, and discovery documents made from them.
//!
//! Where a document is found follows from the issuer's URL, by OpenID Connect Discovery 1.0, section 4.1: an issuer
//! `https://host/path` has its discovery document at `/path/.well-known/openid-configuration`. The JWK set is beside
//! it, and also at `/jwks/host/path` for verifiers inside that do not reach the issuer's own host.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::http::Uri;
use axum::http::uri::Scheme;
use blindferry_proto::front::Issuer;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// All documents of one [`blindferry_proto::front::FromVault::Publish`], ready to be sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// By path, then by the issuer's host (with port, in lower case): issuers of several hosts may share a path.
    documents: BTreeMap<String, BTreeMap<String, Bytes>>,
}

/// Why an issuer is not published.
#[derive(Debug, Error)]
pub enum PublishError {
    /// By Discovery 1.0, section 3, it is an http(s) URL without query and fragment.
    #[error("the issuer {url:?} is not a URL of scheme, host and path")]
    Url {
        /// What it is.
        url: String,
    },
    /// The keys are not a JWK set.
    #[error("the keys of {url} are not a JWK set")]
    Keys {
        /// The issuer.
        url: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// A key carries what only its owner may know. The vault never sends such a thing; it would end here.
    #[error("a key of {url} has the private member {member:?}")]
    Private {
        /// The issuer.
        url: String,
        /// The member's name, of RFC 7518, section 6.
        member: &'static str,
    },
    /// The discovery document does not become JSON.
    #[error("cannot write the discovery document of {url}")]
    Discovery {
        /// The issuer.
        url: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// Two issuers would be found at the same place.
    #[error("{url} is published twice")]
    Twice {
        /// The second of them.
        url: String,
    },
}

impl Publication {
    /// Makes the documents of these issuers.
    ///
    /// # Errors
    /// [`PublishError`] for the first issuer that cannot be published; then none is.
    pub fn new(issuers: &[Issuer]) -> Result<Self, PublishError> {
        let mut publication = Self::default();
        for issuer in issuers {
            publication.add(issuer)?;
        }
        Ok(publication)
    }

    /// The document at `path`. Where issuers of several hosts share the path, `host` decides; where one alone has it,
    /// whatever name a proxy in front of us used will do.
    #[must_use]
    pub fn document(&self, path: &str, host: Option<&str>) -> Option<Bytes> {
        let by_host = self.documents.get(path)?;
        match (by_host.len(), host) {
            (1, _) => by_host.values().next().cloned(),
            (_, Some(host)) => by_host.get(&host.to_ascii_lowercase()).cloned(),
            (_, None) => None,
        }
    }

    fn add(&mut self, issuer: &Issuer) -> Result<(), PublishError> {
        let url = issuer.url.as_str();
        let (host, path) = host_and_path(url).ok_or_else(|| PublishError::Url { url: url.to_owned() })?;
        require_public(issuer)?;
        let discovery = serde_json::to_vec(&Discovery {
            issuer: url,
            jwks_uri: format!("{}{JWKS}", url.trim_end_matches('/')),
            id_token_signing_alg_values_supported: issuer.algorithms.iter().map(|name| name.as_str()).collect(),
            response_types_supported: ["id_token"],
            subject_types_supported: ["public"],
        })
        .map_err(|source| PublishError::Discovery { url: url.to_owned(), source })?;

        let jwks = Bytes::from(issuer.jwks.as_str().to_owned());
        for (place, document) in [
            (format!("{path}{JWKS}"), jwks.clone()),
            (format!("{path}{DISCOVERY}"), Bytes::from(discovery)),
            (format!("/jwks/{host}{path}"), jwks),
        ] {
            if self.documents.entry(place).or_default().insert(host.clone(), document).is_some() {
                return Err(PublishError::Twice { url: url.to_owned() });
            }
        }
        Ok(())
    }
}

/// The fields that Discovery 1.0, section 3, requires and that are true of a signer without endpoints.
#[derive(Serialize)]
struct Discovery<'a> {
    issuer: &'a str,
    jwks_uri: String,
    id_token_signing_alg_values_supported: Vec<&'a str>,
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 1],
}

/// The host in lower case with its port, and the path without its last slash.
fn host_and_path(url: &str) -> Option<(String, String)> {
    // Uri takes a fragment away without a word, so look for it first.
    if url.contains(['#', '?']) {
        return None;
    }
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority()?;
    if !matches!(uri.scheme(), Some(scheme) if *scheme == Scheme::HTTPS || *scheme == Scheme::HTTP)
        || authority.as_str().contains('@')
    {
        return None;
    }
    Some((authority.as_str().to_ascii_lowercase(), uri.path().trim_end_matches('/').to_owned()))
}

fn require_public(issuer: &Issuer) -> Result<(), PublishError> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Map<String, serde_json::Value>>,
    }
    let url = || issuer.url.as_str().to_owned();
    let set: Set =
        serde_json::from_str(issuer.jwks.as_str()).map_err(|source| PublishError::Keys { url: url(), source })?;
    for member in PRIVATE {
        if set.keys.iter().any(|key| key.contains_key(member)) {
            return Err(PublishError::Private { url: url(), member });
        }
    }
    Ok(())
}

const JWKS: &str = "/.well-known/jwks.json";
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// RFC 7518, sections 6.2.2, 6.3.2 and 6.4.1; RFC 8037 uses `d` too.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_proto::bounded::Text;

    const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg","kid":"1"}]}"#;

    fn issuer(url: &str, jwks: &str) -> Issuer {
        Issuer {
            url: Text::new(url).unwrap(),
            jwks: Text::new(jwks).unwrap(),
            algorithms: vec![Text::new("EdDSA").unwrap()],
        }
    }

    #[test]
    fn an_issuer_with_a_path_has_its_documents_below_that_path() {
        let publication = Publication::new(&[issuer("https://id.example/prod", KEYS)]).unwrap();
        assert_eq!(publication.document("/prod/.well-known/jwks.json", None).unwrap(), KEYS);
        assert_eq!(publication.document("/jwks/id.example/prod", None).unwrap(), KEYS);
        let discovery = publication.document("/prod/.well-known/openid-configuration", None).unwrap();
        assert_eq!(
            discovery,
            r#"{"issuer":"https://id.example/prod","jwks_uri":"https://id.example/prod/.well-known/jwks.json","id_token_signing_alg_values_supported":["EdDSA"],"response_types_supported":["id_token"],"subject_types_supported":["public"]}"#
        );
        assert_eq!(publication.document("/.well-known/openid-configuration", None), None);
    }

    #[test]
    fn an_issuer_without_a_path_and_one_with_a_last_slash_are_found_at_the_root() {
        for url in ["https://id.example", "https://id.example/"] {
            let publication = Publication::new(&[issuer(url, KEYS)]).unwrap();
            assert_eq!(publication.document("/.well-known/jwks.json", Some("elsewhere")).unwrap(), KEYS);
            let discovery = publication.document("/.well-known/openid-configuration", None).unwrap();
            let discovery: serde_json::Value = serde_json::from_slice(&discovery).unwrap();
            assert_eq!(discovery["issuer"], url);
            assert_eq!(discovery["jwks_uri"], "https://id.example/.well-known/jwks.json");
        }
    }

    #[test]
    fn of_issuers_that_share_a_path_the_host_decides() {
        let other = r#"{"keys":[]}"#;
        let publication =
            Publication::new(&[issuer("https://a.example", KEYS), issuer("https://B.example", other)]).unwrap();
        assert_eq!(publication.document("/.well-known/jwks.json", Some("A.example")).unwrap(), KEYS);
        assert_eq!(publication.document("/.well-known/jwks.json", Some("b.example")).unwrap(), other);
        assert_eq!(publication.document("/.well-known/jwks.json", Some("c.example")), None);
        assert_eq!(publication.document("/.well-known/jwks.json", None), None);
    }

    #[test]
    fn a_private_key_is_never_published() {
        for member in PRIVATE {
            let jwks = format!(r#"{{"keys":[{{"kty":"EC"}},{{"kty":"EC","{member}":"x"}}]}}"#);
            let refused = Publication::new(&[issuer("https://id.example", &jwks)]);
            assert!(matches!(refused, Err(PublishError::Private { .. })), "{member}");
        }
    }

    #[test]
    fn what_is_not_a_jwk_set_or_not_an_issuer_is_refused() {
        for jwks in ["", "[]", "{}", r#"{"keys":[1]}"#] {
            let refused = Publication::new(&[issuer("https://id.example", jwks)]);
            assert!(matches!(refused, Err(PublishError::Keys { .. })), "{jwks}");
        }
        for url in [
            "",
            "id.example",
            "/path",
            "ftp://id.example",
            "https://id.example/?q",
            "https://a@id.example",
            "https://id.example/#f",
        ] {
            let refused = Publication::new(&[issuer(url, KEYS)]);
            assert!(matches!(refused, Err(PublishError::Url { .. })), "{url}");
        }
        let twice = Publication::new(&[issuer("https://id.example", KEYS), issuer("https://id.example/", KEYS)]);
        assert!(matches!(twice, Err(PublishError::Twice { .. })));
    }
}
