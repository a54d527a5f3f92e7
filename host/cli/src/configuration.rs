//! `operator.toml`: who this machine is, which vault it talks to, where its TPM is. Strict: each mistake is named with
//! its line and column.

use blindferry_attest::tpm::PcrSelection;
use blindferry_configuration::{Faults, Source};
use blindferry_proto::logs::LogPaths;
use blindferry_proto::name::HostName;
use blindferry_proto::platform::{Choice, GuestPaths};
use serde::{Deserialize, Deserializer};
use std::env;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What an operator says about this machine. Relative paths are relative to the file's directory.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Configuration {
    /// What this machine is called at the vault.
    pub(crate) name: HostName,
    /// Where the vault's front listens. Trust does not come from this address but from the reference below.
    pub(crate) vault: Address,
    /// The file that says which vault is the right one, as `init` wrote it.
    pub(crate) vault_reference: PathBuf,
    /// Which hardware attests: `auto` is the TPM below, else this SEV-SNP guest.
    #[serde(default)]
    pub(crate) platform: Choice,
    /// How the TPM is reached, such as `device:/dev/tpmrm0` or `swtpm:host=127.0.0.1,port=2321`.
    pub(crate) tcti: Option<String>,
    /// The file with the pins of this TPM, made when it was provisioned.
    pub(crate) pins: Option<PathBuf>,
    /// Where the firmware of an SEV-SNP guest is.
    #[serde(default)]
    pub(crate) snp: GuestPaths,
    /// Where the logs are that a vault asks for which judges events.
    #[serde(default)]
    pub(crate) logs: LogPaths,
    /// The executable of the device process, where it does not lie beside this one.
    pub(crate) device: Option<PathBuf>,
    /// The PCRs of the SHA-256 bank that a TPM quotes: those that the vault's reference values for operators list.
    #[serde(default)]
    pub(crate) pcrs: Pcrs,
}

impl Configuration {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`Faults`] with place, cause and fix.
    pub(crate) fn read(path: &Path) -> Result<Self, Faults> {
        Self::of(&Source::read(path)?)
    }

    /// Parses a file that was read.
    ///
    /// # Errors
    /// [`Faults`] with place, cause and fix.
    pub(crate) fn of(source: &Source) -> Result<Self, Faults> {
        let mut read: Self = source.parse()?;
        if let Some(directory) = source.path().parent() {
            read.vault_reference = directory.join(&read.vault_reference);
            read.pins = read.pins.map(|pins| directory.join(pins));
            read.device = read.device.map(|device| directory.join(device));
        }
        Ok(read)
    }
}

/// Where the configuration is when nothing else is said: `$XDG_CONFIG_HOME/blindferry/operator.toml` (by default in
/// `~/.config`) if it is there, else `/etc/blindferry/operator.toml`.
pub(crate) fn default_path() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // A relative path there is invalid and to be ignored (XDG Base Directory Specification).
    let home = set("XDG_CONFIG_HOME").filter(|path| path.is_absolute()).or_else(|| Some(set("HOME")?.join(".config")));
    match home.map(|home| home.join("blindferry/operator.toml")) {
        Some(own) if own.exists() => own,
        _ => PathBuf::from("/etc/blindferry/operator.toml"),
    }
}

/// PCRs of the SHA-256 bank, at least one, each once. 0 to 7 unless something else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pcrs(pub(crate) PcrSelection);

impl Default for Pcrs {
    fn default() -> Self {
        match PcrSelection::new(0..=7) {
            Ok(selection) => Self(selection),
            Err(_) => unreachable!("PCRs 0 to 7 exist"),
        }
    }
}

impl FromStr for Pcrs {
    type Err = BadPcrs;
    /// `0,2,7` or `0-7` or both.
    fn from_str(text: &str) -> Result<Self, BadPcrs> {
        let mut indices = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse::<u8>().map_err(|_| BadPcrs)?, last.parse::<u8>().map_err(|_| BadPcrs)?);
            if first > last {
                return Err(BadPcrs);
            }
            indices.extend(first..=last);
        }
        PcrSelection::new(indices).map(Self).map_err(|_| BadPcrs)
    }
}

/// A text does not name PCRs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a list of PCRs: expected numbers from 0 to 23, each once, such as 0-7 or 0,2,4,7")]
pub(crate) struct BadPcrs;

impl<'de> Deserialize<'de> for Pcrs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let indices = Vec::<u8>::deserialize(deserializer)?;
        PcrSelection::new(indices).map(Self).map_err(|_| serde::de::Error::custom(BadPcrs))
    }
}

/// `host:port`, where the host is a name, an IPv4 address, or an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
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
        let host = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            Some(inner) => {
                let inner = inner.ok_or(BadAddress)?;
                inner.parse::<Ipv6Addr>().map_err(|_| BadAddress)?;
                inner
            }
            None => Some(host).filter(|host| !host.contains([':', '/', ' '])).ok_or(BadAddress)?,
        };
        if host.is_empty() || host.len() > 253 {
            return Err(BadAddress);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// A text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address: expected host:port, with an IPv6 address in brackets")]
pub(crate) struct BadAddress;

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_configuration::unexplained;
    use std::fs;

    #[test]
    fn the_example_is_a_configuration_and_explains_every_key() {
        let example = include_str!("../../../deploy/configuration/operator.toml");
        assert_eq!(unexplained::<Configuration>(example).unwrap_or_else(|faults| panic!("{faults}")), [""; 0]);
    }

    const GOOD: &str = "name = \"desk\"\nvault = \"vault.example:7443\"\nvault_reference = \"vault.toml\"\n\
                        tcti = \"device:/dev/tpmrm0\"\npins = \"/var/lib/blindferry/pins.toml\"\n";

    fn read(text: &str) -> Result<Configuration, Faults> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("operator.toml");
        fs::write(&path, text).unwrap();
        Configuration::read(&path)
    }

    fn complaint(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn relative_paths_start_at_the_files_directory() {
        let read = read(GOOD).unwrap();
        assert!(read.vault_reference.is_absolute() && read.vault_reference.ends_with("vault.toml"));
        assert_eq!(read.pins.as_deref(), Some(Path::new("/var/lib/blindferry/pins.toml")));
        assert_eq!(read.pcrs.0.indices().collect::<Vec<_>>(), (0..=7).collect::<Vec<_>>());
    }

    #[test]
    fn mistakes_are_named_with_line_and_column() {
        let unknown = complaint(&format!("{GOOD}colour = 1\n"));
        assert!(unknown.contains("line 6, column 1") && unknown.contains("colour"), "{unknown}");
        let pcrs = complaint(&format!("{GOOD}pcrs = [0, 24]\n"));
        assert!(pcrs.contains("line 6, column 8") && pcrs.contains("0 to 23"), "{pcrs}");
        let name = complaint(&GOOD.replace("desk", "Desk!"));
        assert!(name.contains("line 1, column 8"), "{name}");
        let missing = complaint(&GOOD.replace("vault_reference", "# "));
        assert!(missing.contains("vault_reference"), "{missing}");
        let platform = complaint(&format!("{GOOD}platform = \"sgx\"\n"));
        assert!(platform.contains("line 6") && platform.contains("sgx"), "{platform}");
        let address = complaint(&GOOD.replace("vault.example:7443", "vault.example"));
        assert!(address.contains("line 2, column 9") && address.contains("host:port"), "{address}");
    }

    #[test]
    fn a_long_file_is_refused_before_it_is_parsed() {
        assert!(complaint(&"#".repeat(70_000)).contains("longer than"));
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for good in ["a:1", "127.0.0.1:65535", "[::1]:7443"] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        for bad in ["", "a", "a:", ":1", "a:0", "a:65536", "::1:7", "[::1:7", "[x]:7", "a b:1", "http://a:1"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn pcrs_are_written_as_numbers_and_ranges() {
        let indices = |text: &str| text.parse::<Pcrs>().map(|pcrs| pcrs.0.indices().collect::<Vec<_>>());
        assert_eq!(indices("0-3,7").unwrap(), [0, 1, 2, 3, 7]);
        assert_eq!(indices("14").unwrap(), [14]);
        for bad in ["", "24", "3-1", "0,,1", "0,0", "a", "-1"] {
            assert!(indices(bad).is_err(), "{bad}");
        }
    }
}
