//! The address of an upstream: a URL that was parsed strictly, once.

use hyper::Uri;
use rustls_pki_types::ServerName;
use std::net::IpAddr;
use std::str::FromStr;

/// An `https` URL, or an `http` URL of this machine's loopback; no user, no fragment, a legal host.
///
/// `http` is for a server on the enclave's own machine: who dials, the front, can read and change what goes over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    scheme: Scheme,
    host: String,
    authority: String,
    port: u16,
    path: String,
}

impl Address {
    /// The host: a name, or an IP address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, 443 or 80 where the URL names none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as the URL has them, for the `Host` header.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Path and query; `/` where the URL has none.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The name to demand of the server's certificate; `None` where there is no TLS.
    #[must_use]
    pub fn tls_name(&self) -> Option<ServerName<'static>> {
        match &self.scheme {
            Scheme::Https(name) => Some(name.clone()),
            Scheme::Http => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Scheme {
    Https(ServerName<'static>),
    Http,
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(url: &str) -> Result<Self, BadAddress> {
        // `Uri` drops a fragment and takes a user without a word.
        if !url.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'@' | b'\\')) {
            return Err(BadAddress::Characters);
        }
        let uri: Uri = url.parse().map_err(BadAddress::Syntax)?;
        let authority = uri.authority().ok_or(BadAddress::NotAbsolute)?;
        let bracketed = authority.host();
        let host = bracketed.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(bracketed);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| BadAddress::Host)?;
        let (scheme, usual_port) = match uri.scheme_str() {
            Some("https") => (Scheme::Https(name), 443),
            Some("http") if is_loopback(host) => (Scheme::Http, 80),
            Some("http") => return Err(BadAddress::Unencrypted),
            _ => return Err(BadAddress::Scheme),
        };
        let port = match authority.as_str().strip_prefix(bracketed) {
            Some("") => usual_port,
            Some(port) => parse_port(port).ok_or(BadAddress::Port)?,
            None => return Err(BadAddress::Host),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            scheme,
            host: host.to_owned(),
            authority: authority.as_str().to_owned(),
            port,
            path: path.to_owned(),
        })
    }
}

/// A URL is not the address of an upstream.
#[derive(Debug, thiserror::Error)]
pub enum BadAddress {
    /// Something in it that no address has.
    #[error("the URL has a space, a control or non-ASCII character, or one of '#', '@' and '\\'")]
    Characters,
    /// Not a URL.
    #[error("not a URL")]
    Syntax(#[source] hyper::http::uri::InvalidUri),
    /// A path alone.
    #[error("the URL has no host")]
    NotAbsolute,
    /// Neither `https` nor `http`.
    #[error("the URL is not https")]
    Scheme,
    /// `http` to another machine.
    #[error("the URL is http, which is allowed to a loopback address only")]
    Unencrypted,
    /// Neither a DNS name nor an IP address.
    #[error("the URL's host is neither a DNS name nor an IP address")]
    Host,
    /// Not from 1 to 65535.
    #[error("the URL's port is not a number from 1 to 65535")]
    Port,
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = text.strip_prefix(':')?;
    let legal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|port| legal && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(url: &str) -> Result<Address, BadAddress> {
        url.parse()
    }

    #[test]
    fn every_part_is_read_as_written() {
        let address = parse("https://login.example.org:8443/oauth2/token?tenant=a").unwrap();
        assert_eq!((address.host(), address.port()), ("login.example.org", 8443));
        assert_eq!(address.authority(), "login.example.org:8443");
        assert_eq!(address.path(), "/oauth2/token?tenant=a");
        assert!(address.tls_name().is_some());
        let address = parse("https://[::1]").unwrap();
        assert_eq!((address.host(), address.port(), address.path()), ("::1", 443, "/"));
        assert_eq!(address.authority(), "[::1]");
    }

    #[test]
    fn cleartext_goes_to_loopback_only() {
        for url in ["http://localhost/", "http://127.0.0.1:8080/x", "http://127.9.9.9", "http://[::1]:1/"] {
            assert!(parse(url).unwrap().tls_name().is_none(), "{url}");
        }
        for url in
            ["http://example.org/", "http://localhost.example.org", "http://127.0.0.1.example.org", "http://10.0.0.1"]
        {
            assert!(matches!(parse(url), Err(BadAddress::Unencrypted)), "{url}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for url in [
            "https://user@example.org/",
            "https://user:secret@example.org/",
            "https://example.org/#part",
            "https://example.org\\@evil.example/",
            "https://exa mple.org/",
            "https://example.org/\r\nHost: evil.example",
            "https://exämple.org/",
            "https://example.org:0/",
            "https://example.org:99999/",
            "https://example.org:/",
            "https://example.org:+443/",
            "https://:443/",
            "https://",
            "https:example.org",
            "//example.org/",
            "/token",
            "example.org",
            "ftp://example.org/",
            "https://-example.org/",
            "https://exa%6dple.org/",
            "",
        ] {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(url in "(https?://)?.{0,80}") {
            let _ = parse(&url);
        }

        #[test]
        fn what_parses_stands_in_the_url(url in "https://[a-z0-9:@/?#.\\[\\]-]{0,40}") {
            if let Ok(address) = parse(&url) {
                let rest = url.strip_prefix("https://").unwrap().strip_prefix(address.authority()).unwrap();
                let same = rest == address.path() || (rest.is_empty() && address.path() == "/")
                    || (rest.starts_with('?') && address.path() == format!("/{rest}"));
                prop_assert!(same, "{} became {:?}", url, address);
            }
        }
    }
}
