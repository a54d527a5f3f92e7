//! The configuration file: TOML, written by people, so that each mistake is named with its line and column.

use blindferry_configuration::{Faults, Source};
use blindferry_proto::logs::LogPaths;
use blindferry_proto::name::HostName;
use blindferry_proto::platform::{Choice, DeviceProcess, GuestPaths, NoPlatform};
use blindferry_traces::Settings as Traces;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub mod check;

/// What an operator says about this broker.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// What this host is called at the vault.
    pub name: HostName,
    /// Where the vault's front listens. Trust does not come from this address but from the reference below.
    pub vault: Address,
    /// The file that says which vault is the right one: its attestation key and what it may run.
    pub vault_reference: PathBuf,
    /// The socket of parents. The directory must exist, and only the broker and root may write to it.
    #[serde(default = "parents")]
    pub parents: PathBuf,
    /// Its permission bits.
    #[serde(default)]
    pub parents_mode: SocketMode,
    /// The socket of workers, as that of parents.
    #[serde(default = "workers")]
    pub workers: PathBuf,
    /// Its permission bits.
    #[serde(default)]
    pub workers_mode: SocketMode,
    /// Where health, readiness and metrics are served over plain HTTP; without it they are not.
    pub public: Option<SocketAddr>,
    /// The collector that is told of requests; without it nothing is told.
    pub traces: Option<Traces>,
    /// Which hardware attests: `auto` is the TPM below, else this SEV-SNP guest.
    #[serde(default)]
    platform: Choice,
    /// The executable of the device process.
    device: Option<PathBuf>,
    /// How it reaches the TPM, such as `device:/dev/tpmrm0` or `swtpm:host=127.0.0.1,port=2321`.
    tcti: Option<String>,
    /// The file with the pins of this TPM, made when it was provisioned.
    pins: Option<PathBuf>,
    /// Where the firmware of an SEV-SNP guest is.
    #[serde(default)]
    snp: GuestPaths,
    /// Where the logs are that a vault asks for which judges events.
    #[serde(default)]
    logs: LogPaths,
    /// The PCRs of the SHA-256 bank that a TPM quotes: the ones that the vault's reference values for brokers list.
    #[serde(default = "pcrs")]
    pub pcrs: BTreeSet<Pcr>,
    /// The bounds.
    #[serde(default)]
    pub limits: Limits,
}

/// Permission bits of a socket, in the octal that people write: `"0660"`.
///
/// By default everybody on this host may connect: who gets what is decided by policy, by the user that the kernel
/// names, and not by a file's mode. A narrower mode and the file's group keep strangers from even asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(pub u32);

/// A PCR's index, 0 to 23.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pcr(u8);

/// How much of everything there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections of parents.
    pub parents: Count,
    /// Connections of workers.
    pub workers: Count,
    /// Leases.
    pub leases: Count,
    /// Of each of the three above, how many one user may have.
    pub per_uid: Count,
    /// A parent that says nothing for so many seconds is hung up on; so is a worker without a lease.
    pub idle_seconds: Count,
}

/// A number from 1 to 65 536.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(usize);

impl Configuration {
    /// Reads and parses the file at `path`.
    ///
    /// # Errors
    /// [`Faults`] with place, cause and fix.
    pub fn read(path: &Path) -> Result<Self, Faults> {
        Source::read(path)?.parse()
    }

    /// Parses the text of a configuration.
    ///
    /// # Errors
    /// [`Faults`] with place, cause and fix.
    pub fn parse(text: &str) -> Result<Self, Faults> {
        Source::new(Path::new("broker.toml"), text.to_owned())?.parse()
    }

    /// Which device process to start; `is_there` says whether a path exists.
    ///
    /// # Errors
    /// [`NoPlatform`].
    pub fn platform(&self, is_there: impl Fn(&Path) -> bool) -> Result<DeviceProcess, NoPlatform> {
        let tpm = (self.tcti.as_deref(), self.pins.as_deref());
        let process = DeviceProcess::choose(self.platform, tpm, &self.snp, is_there)?;
        Ok(process.with_logs(Some(self.logs.clone())))
    }

    /// Its executable.
    #[must_use]
    pub fn device(&self, platform: &DeviceProcess) -> PathBuf {
        self.device.clone().unwrap_or_else(|| Path::new(EXECUTABLES).join(platform.executable()))
    }
}

/// `host:port`, where the host is a name, an IPv4 address, or an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// The host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether dialling it needs a resolver, and with it the resolver's files.
    #[must_use]
    pub fn is_name(&self) -> bool {
        self.host.parse::<std::net::IpAddr>().is_err()
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = BadAddress;
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(BadAddress)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(BadAddress)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').ok_or(BadAddress)?;
                inner.parse::<std::net::Ipv6Addr>().map_err(|_| BadAddress)?;
                inner
            }
            None => host,
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let is_ipv6 = text.starts_with('[');
        if host.is_empty() || host.len() > 253 || !(is_ipv6 || host.chars().all(legal)) {
            return Err(BadAddress);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// A text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address: expected host:port, with an IPv6 address in brackets")]
pub struct BadAddress;

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Default for SocketMode {
    fn default() -> Self {
        Self(0o666)
    }
}

impl<'de> Deserialize<'de> for SocketMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u32::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| *mode <= 0o777)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("not permission bits: expected octal digits such as \"0660\""))
    }
}

impl Pcr {
    /// Its index.
    #[must_use]
    pub fn index(self) -> u8 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Pcr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            index @ 0..=23 => Ok(Self(index)),
            _ => Err(serde::de::Error::custom("not a PCR: expected 0 to 23")),
        }
    }
}

impl Count {
    /// The number.
    #[must_use]
    pub fn get(self) -> usize {
        self.0
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match usize::deserialize(deserializer)? {
            number @ 1..=65_536 => Ok(Self(number)),
            _ => Err(serde::de::Error::custom("expected a number from 1 to 65536")),
        }
    }
}

impl Default for Limits {
    /// A large host: a thousand workers, of which one user may have a quarter.
    fn default() -> Self {
        Self {
            parents: Count(256),
            workers: Count(1024),
            leases: Count(1024),
            per_uid: Count(256),
            idle_seconds: Count(60),
        }
    }
}

fn parents() -> PathBuf {
    "/run/blindferry/parents.sock".into()
}

fn workers() -> PathBuf {
    "/run/blindferry/workers.sock".into()
}

/// Where the executables of device processes are.
const EXECUTABLES: &str = "/usr/libexec/blindferry";

/// What the firmware measures: itself, its settings, the boot loader, the state of Secure Boot.
fn pcrs() -> BTreeSet<Pcr> {
    (0..=7).map(Pcr).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALLEST: &str = r#"
name = "worker-7"
vault = "vault.example:7443"
vault_reference = "/etc/blindferry/vault.toml"
tcti = "device:/dev/tpmrm0"
pins = "/var/lib/blindferry/pins"
"#;

    #[test]
    fn the_smallest_configuration_has_the_documented_defaults() {
        let configuration = Configuration::parse(SMALLEST).unwrap();
        assert_eq!(configuration.parents, Path::new("/run/blindferry/parents.sock"));
        assert_eq!(configuration.workers_mode, SocketMode(0o666));
        assert_eq!(configuration.public, None);
        assert_eq!(configuration.limits, Limits::default());
        assert_eq!(configuration.vault.to_string(), "vault.example:7443");
        assert_eq!(configuration.pcrs.len(), 8);
        let platform = configuration.platform(|_| true).unwrap();
        assert_eq!(configuration.device(&platform), Path::new("/usr/libexec/blindferry/blindferry-device"));
    }

    #[test]
    fn a_guest_needs_no_tpm() {
        let text = SMALLEST.replace("tcti", "# ").replace("pins", "# ");
        let configuration = Configuration::parse(&text).unwrap();
        assert_eq!(configuration.platform(|_| false), Err(NoPlatform::Neither));
        let platform = configuration.platform(|_| true).unwrap();
        assert_eq!(configuration.device(&platform), Path::new("/usr/libexec/blindferry/blindferry-device-snp"));
    }

    #[test]
    fn every_field_can_be_set() {
        let text = format!(
            "{SMALLEST}device = \"/x/device\"\npublic = \"[::1]:9478\"\npcrs = [7, 0, 7]\n\
             parents = \"/x/p\"\nparents_mode = \"0660\"\nworkers = \"/x/w\"\nworkers_mode = \"600\"\n\
             [limits]\nparents = 1\nworkers = 2\nleases = 3\nper_uid = 4\nidle_seconds = 5\n"
        );
        let configuration = Configuration::parse(&text).unwrap();
        assert_eq!(configuration.parents_mode, SocketMode(0o660));
        assert_eq!(configuration.pcrs.iter().map(|pcr| pcr.index()).collect::<Vec<_>>(), [0, 7]);
        assert_eq!(configuration.public, Some("[::1]:9478".parse().unwrap()));
        assert_eq!(configuration.limits.idle_seconds.get(), 5);
    }

    #[test]
    fn mistakes_are_named_with_line_and_column() {
        for (right, wrong, line, word) in [
            ("name = \"worker-7\"", "name = \"Worker 7\"", 2, "host name"),
            ("vault.example:7443", "vault.example", 3, "host:port"),
            ("tcti", "telemetry = true\ntcti", 5, "telemetry"),
            ("tcti", "public = \"localhost\"\ntcti", 5, "socket address"),
            ("tcti", "platform = \"sgx\"\ntcti", 5, "sgx"),
            ("tcti", "pcrs = [24]\ntcti", 5, "PCR"),
            ("tcti", "parents_mode = \"0999\"\ntcti", 5, "octal"),
            ("tcti", "limits = { workers = 0 }\ntcti", 5, "65536"),
        ] {
            let text = SMALLEST.replace(right, wrong);
            let error = Configuration::parse(&text).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}, column ")), "{error}");
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn addresses_are_parsed_whole_or_refused() {
        for good in ["127.0.0.1:1", "[::1]:7443", "vault:65535"] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            ":1",
            "vault",
            "vault:",
            "vault:0",
            "vault:65536",
            "::1:7443",
            "[::1:7443",
            "[vault]:1",
            "a b:1",
            "u@v:1",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
        assert!("vault:1".parse::<Address>().unwrap().is_name());
        assert!(!"[::1]:1".parse::<Address>().unwrap().is_name());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
            let _refused = Configuration::parse(&text);
            let _refused = text.parse::<Address>();
        }
    }
}
