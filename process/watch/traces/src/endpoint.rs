//! Where the collector is: an address of this machine or of its network, by plain HTTP.
//!
//! No name, so that nothing has to be looked up, and no TLS: whoever wants spans to leave the machine has a collector on it
//! that sends them on.

use serde::{Deserialize, Deserializer};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// The table `[traces]` of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The collector.
    pub endpoint: Endpoint,
}

/// `http://ADDRESS:PORT`, as `OTEL_EXPORTER_OTLP_ENDPOINT` would have it; spans go to `/v1/traces` of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint(SocketAddr);

impl Endpoint {
    /// Its address.
    #[must_use]
    pub fn address(self) -> SocketAddr {
        self.0
    }

    /// Why spans may be read on their way there; `None` where they stay on this machine.
    #[must_use]
    pub fn exposed(self) -> Option<String> {
        (!self.0.ip().to_canonical().is_loopback()).then(|| format!("spans go to {} in the clear", self.0))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

/// A text is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an endpoint: expected http://ADDRESS:PORT with an IP address, such as http://127.0.0.1:4318")]
pub struct BadEndpoint;

impl FromStr for Endpoint {
    type Err = BadEndpoint;
    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        let rest = text.strip_prefix("http://").ok_or(BadEndpoint)?;
        let address: SocketAddr = rest.strip_suffix('/').unwrap_or(rest).parse().map_err(|_| BadEndpoint)?;
        if address.port() == 0 || address.ip().is_unspecified() { Err(BadEndpoint) } else { Ok(Self(address)) }
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_and_nothing_more() {
        for good in ["http://127.0.0.1:4318", "http://[::1]:4318", "http://192.0.2.1:80"] {
            assert_eq!(good.parse::<Endpoint>().unwrap().to_string(), good);
        }
        assert_eq!("http://127.0.0.1:4318/".parse(), "http://127.0.0.1:4318".parse::<Endpoint>());
        for bad in [
            "",
            "127.0.0.1:4318",
            "https://127.0.0.1:4318",
            "http://localhost:4318",
            "http://127.0.0.1",
            "http://127.0.0.1:0",
            "http://0.0.0.0:4318",
            "http://u:p@127.0.0.1:4318",
            "http://127.0.0.1:4318/v1/traces",
            "http://127.0.0.1:4318\r\nX: y",
        ] {
            assert_eq!(bad.parse::<Endpoint>(), Err(BadEndpoint), "{bad}");
        }
    }

    #[test]
    fn only_what_stays_on_the_machine_is_not_exposed() {
        for (endpoint, exposed) in [
            ("http://127.0.0.9:1", false),
            ("http://[::1]:1", false),
            ("http://[::ffff:127.0.0.1]:1", false),
            ("http://192.0.2.1:1", true),
        ] {
            assert_eq!(endpoint.parse::<Endpoint>().unwrap().exposed().is_some(), exposed, "{endpoint}");
        }
    }
}
