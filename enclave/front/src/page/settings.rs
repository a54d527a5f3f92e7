//! Where the operators' page listens, and what browsers may call it.
//!
//! ```toml
//! [page]
//! listen = "127.0.0.1:7490"
//! allow_remote = true                  # listen elsewhere than on loopback: then a TLS proxy has to stand before it
//! origin = "https://vault.example"     # what browsers call it; default: http:// and the address above
//! ```

use std::net::SocketAddr;

use axum::http::Uri;
use axum::http::uri::Scheme;
use blindferry_proto::front::MAX_ORIGIN;
use serde::Deserialize;
use thiserror::Error;

/// The page as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct PageSettings {
    listen: SocketAddr,
    origin: String,
    hosts: Vec<String>,
    carriage: Carriage,
}

/// What carries the page to the browser, as far as we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carriage {
    /// A TLS proxy stands before us: cookies are for TLS alone.
    Tls,
    /// Plain HTTP, which does not leave this machine.
    Loopback,
    /// Plain HTTP over a network: whoever listens there has the cookie.
    Plain,
}

/// The table as people write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    listen: SocketAddr,
    #[serde(default)]
    allow_remote: bool,
    origin: Option<String>,
}

/// Why the page is not served so.
#[derive(Debug, Error)]
pub enum BadPage {
    /// Not on loopback, and nobody said that this is meant.
    #[error(
        "the page is plain HTTP: listen on loopback, or put a TLS proxy before it and say allow_remote = true and origin"
    )]
    Remote,
    /// The listening address is none that a browser could be told.
    #[error("say in origin what browsers call the page")]
    NoOrigin,
    /// The origin is none.
    #[error("origin is http:// or https://, a host name and perhaps a port, and nothing more; here it is {origin:?}")]
    Origin {
        /// What it is.
        origin: String,
    },
}

impl PageSettings {
    /// Where to listen.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// What browsers call it: scheme, host and port, without a slash at the end.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether a request that names this host means us. A page of an attacker's whose name leads to our address names
    /// the attacker's host.
    #[must_use]
    pub fn is_host(&self, host: &str) -> bool {
        self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host))
    }

    /// Whether a request that comes from a page of this origin comes from ours.
    #[must_use]
    pub fn is_origin(&self, origin: &str) -> bool {
        let authority = ["http://", "https://"].iter().find_map(|scheme| origin.strip_prefix(scheme));
        origin.eq_ignore_ascii_case(&self.origin)
            || self.carriage != Carriage::Tls && authority.is_some_and(|authority| self.is_host(authority))
    }

    /// What carries it.
    #[must_use]
    pub fn carriage(&self) -> Carriage {
        self.carriage
    }
}

impl TryFrom<Written> for PageSettings {
    type Error = BadPage;
    fn try_from(written: Written) -> Result<Self, BadPage> {
        let Written { listen, allow_remote, origin } = written;
        if !listen.ip().is_loopback() && !allow_remote {
            return Err(BadPage::Remote);
        }
        let mut hosts = vec![listen.to_string()];
        if listen.ip().is_loopback() {
            hosts.push(format!("localhost:{}", listen.port()));
        }
        let origin = match origin {
            Some(origin) => origin.to_ascii_lowercase(),
            None if listen.ip().is_unspecified() => return Err(BadPage::NoOrigin),
            None => format!("http://{listen}"),
        };
        let (scheme, authority) = parts(&origin).ok_or_else(|| BadPage::Origin { origin: origin.clone() })?;
        let carriage = match scheme {
            true => Carriage::Tls,
            false if listen.ip().is_loopback() => Carriage::Loopback,
            false => Carriage::Plain,
        };
        hosts.push(authority);
        Ok(Self { listen, origin, hosts, carriage })
    }
}

/// Whether it is TLS, and host and port.
fn parts(origin: &str) -> Option<(bool, String)> {
    let uri: Uri = origin.parse().ok().filter(|_| origin.len() <= MAX_ORIGIN && !origin.contains(['#', '?', '@']))?;
    let tls = *uri.scheme()? == Scheme::HTTPS;
    let authority = uri.authority()?.as_str().to_owned();
    let whole = format!("{}://{authority}", if tls { "https" } else { "http" });
    (whole == origin).then_some((tls, authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<PageSettings, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn on_loopback_it_needs_nothing_and_is_called_by_its_address() {
        let page = settings("listen = \"127.0.0.1:7490\"").unwrap();
        assert_eq!((page.origin(), page.carriage()), ("http://127.0.0.1:7490", Carriage::Loopback));
        assert!(page.is_host("127.0.0.1:7490") && page.is_host("LOCALHOST:7490"));
        let strange = ["evil.example", "evil.example:7490", "127.0.0.1", "127.0.0.1:80", "localhost", ""];
        assert!(!strange.iter().any(|host| page.is_host(host)));
        assert!(page.is_origin("http://localhost:7490") && page.is_origin("http://127.0.0.1:7490"));
        assert!(!page.is_origin("http://evil.example") && !page.is_origin("null") && !page.is_origin("127.0.0.1:7490"));
    }

    #[test]
    fn elsewhere_it_listens_only_where_somebody_said_so() {
        let refused = settings("listen = \"192.0.2.1:7490\"").unwrap_err();
        assert!(refused.contains("allow_remote = true"), "{refused}");
        let plain = settings("listen = \"192.0.2.1:7490\"\nallow_remote = true").unwrap();
        assert_eq!(plain.carriage(), Carriage::Plain);
        let unspecified = settings("listen = \"0.0.0.0:7490\"\nallow_remote = true").unwrap_err();
        assert!(unspecified.contains("origin"), "{unspecified}");
    }

    #[test]
    fn behind_a_proxy_it_has_the_proxys_name() {
        let page = settings("listen = \"127.0.0.1:7490\"\norigin = \"https://Vault.example\"").unwrap();
        assert_eq!((page.origin(), page.carriage()), ("https://vault.example", Carriage::Tls));
        assert!(page.is_host("vault.example") && page.is_origin("https://vault.example"));
        assert!(!page.is_origin("http://vault.example"), "what came without TLS may have come from anybody");
        for origin in
            ["vault.example", "https://u@vault.example", "https://v/", "https://v/x", "ftp://v", "https://v#x"]
        {
            let refused = settings(&format!("listen = \"127.0.0.1:1\"\norigin = \"{origin}\"")).unwrap_err();
            assert!(refused.contains("origin is http"), "{origin}: {refused}");
        }
    }
}
