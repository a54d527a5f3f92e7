//! The configuration file: read within a bound, parsed whole, refused with line and column.
//!
//! Relative paths begin at the directory that the command was started in.
//!
//! ```toml
//! listen = "127.0.0.1:7443"                          # attested sessions of brokers and operators
//! public = "127.0.0.1:7480"                          # plain HTTP: health, metrics, JWKS, discovery
//! store = "/var/lib/blindferry/store.redb"           # its directory must be there
//! platform = "auto"                                  # or "tpm", "snp"; auto: the TPM below, else this SEV-SNP guest
//! tcti = "swtpm:host=127.0.0.1,port=2321"            # how the device process reaches the TPM
//! pins = "/var/lib/blindferry/device-pins.toml"      # what the device process remembers of the TPM
//! vault = "/usr/lib/blindferry/blindferry-vault"     # default: beside this executable
//! device = "/usr/lib/blindferry/blindferry-device"   # default: that of the platform, beside this executable
//! reattest_every = 300                               # seconds between two looks at a host's evidence; default: the vault's
//! grant_life = 120                                   # seconds between grant and redemption, at most this; default: the vault's
//! approval_wait = 300                                # seconds that an ask waits for a person; default: the vault's
//!
//! [snp]                                              # these are the defaults
//! tsm = "/sys/kernel/config/tsm/report"
//! device = "/dev/sev-guest"
//! vmpl = 0                                           # and certificates = "DIRECTORY" for those that the host lacks
//!
//! [logs]                                             # none are given away unless this table is there
//! events = "/sys/kernel/security/tpm0/binary_bios_measurements"
//! ima = "/sys/kernel/security/ima/binary_runtime_measurements"
//!
//! [traces]                                           # none are made unless this table is there
//! endpoint = "http://127.0.0.1:4318"                 # an OpenTelemetry collector
//!
//! [page]                                             # no page for operators unless this is there; see `page::settings`
//! listen = "127.0.0.1:7490"
//!
//! [limits]                                           # these are the defaults
//! connections = 1024
//! connections_per_source = 64
//! dials = 64
//! dial_timeout = 10                                  # seconds
//! ```

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blindferry_configuration::{Faults, Source};
use blindferry_proto::logs::LogPaths;
use blindferry_proto::platform::{Choice, DeviceProcess, GuestPaths, NoPlatform};
use blindferry_traces::Settings as Traces;
use serde::Deserialize;
use thiserror::Error;

pub mod check;
use crate::page::settings::PageSettings;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Where brokers and operators connect.
    pub listen: SocketAddr,
    /// Where the plain HTTP endpoints are.
    pub public: SocketAddr,
    /// The store's file.
    pub store: PathBuf,
    /// Which hardware seals and attests; see [`Configuration::device_process`].
    #[serde(default)]
    pub platform: Choice,
    /// How the device process reaches the TPM, in libtss2's words.
    tcti: Option<String>,
    /// The device process's file of pinned names.
    pins: Option<PathBuf>,
    /// Where the firmware of an SEV-SNP guest is.
    #[serde(default)]
    snp: GuestPaths,
    /// The logs that the vault gives away beside its evidence. Whoever connects can ask for them, so there are none unless
    /// this is configured.
    logs: Option<LogPaths>,
    /// The vault's executable; see [`Configuration::vault`].
    vault: Option<PathBuf>,
    /// The device process's executable; see [`Configuration::device`].
    device: Option<PathBuf>,
    /// Seconds between two looks at a host's evidence, 1 to 86 400; the vault has a default.
    pub reattest_every: Option<ReattestEvery>,
    /// Seconds between grant and redemption, 1 to 120; the vault has a default.
    pub grant_life: Option<GrantLife>,
    /// Seconds that an ask waits for a person's approval, 1 to 3600; the vault has a default.
    pub approval_wait: Option<ApprovalWait>,
    /// The collector that is told what requests took; without it nothing is told.
    pub traces: Option<Traces>,
    /// The operators' page; none unless it is configured.
    pub page: Option<PageSettings>,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
}

/// Seconds, from 1 to a day: what the vault takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct ReattestEvery(u32);

impl ReattestEvery {
    /// The number of seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for ReattestEvery {
    type Error = &'static str;
    fn try_from(seconds: u32) -> Result<Self, Self::Error> {
        if (1..=86_400).contains(&seconds) { Ok(Self(seconds)) } else { Err("expected 1 to 86400 seconds") }
    }
}

/// Seconds, from 1 to two minutes: what the vault takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct GrantLife(u32);

impl GrantLife {
    /// The number of seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for GrantLife {
    type Error = &'static str;
    fn try_from(seconds: u32) -> Result<Self, Self::Error> {
        if (1..=120).contains(&seconds) { Ok(Self(seconds)) } else { Err("expected 1 to 120 seconds") }
    }
}

/// Seconds, from 1 to an hour: what the vault takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct ApprovalWait(u32);

impl ApprovalWait {
    /// The number of seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for ApprovalWait {
    type Error = &'static str;
    fn try_from(seconds: u32) -> Result<Self, Self::Error> {
        if (1..=3600).contains(&seconds) { Ok(Self(seconds)) } else { Err("expected 1 to 3600 seconds") }
    }
}

/// Bounds on what others may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections that may be open at a time on `listen`; the same bound holds for `public` on its own.
    pub connections: NonZeroU16,
    /// Of these, from one IPv4 address or one IPv6 /64.
    pub connections_per_source: NonZeroU16,
    /// Connections to upstreams that may be in the making at a time.
    pub dials: NonZeroU16,
    /// Seconds for a dial, looking up the name included.
    pub dial_timeout: NonZeroU16,
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigurationError {
    /// The file cannot be read, or says something that cannot be.
    #[error("cannot use the configuration")]
    File(#[from] Faults),
    /// There is no hardware to seal by.
    #[error("cannot tell the platform")]
    Platform(#[source] NoPlatform),
    /// Where this executable lies, and so what is beside it, is not known.
    #[error("cannot tell where {name} is; give its path in the configuration")]
    Beside {
        /// What was looked for.
        name: &'static str,
    },
}

impl Configuration {
    /// Reads and parses the file at `path`.
    ///
    /// # Errors
    /// [`ConfigurationError::File`] with place, cause and fix.
    pub fn read(path: &Path) -> Result<Self, ConfigurationError> {
        Ok(Source::read(path)?.parse()?)
    }

    /// The vault's executable: as configured, or `blindferry-vault` beside this one, which lies at `own`.
    ///
    /// # Errors
    /// [`ConfigurationError::Beside`].
    pub fn vault(&self, own: Option<&Path>) -> Result<PathBuf, ConfigurationError> {
        configured_or_beside(self.vault.as_deref(), own, "blindferry-vault")
    }

    /// Which device process to start; `is_there` says whether a path exists.
    ///
    /// # Errors
    /// [`ConfigurationError::Platform`].
    pub fn device_process(&self, is_there: impl Fn(&Path) -> bool) -> Result<DeviceProcess, ConfigurationError> {
        let tpm = (self.tcti.as_deref(), self.pins.as_deref());
        let process = DeviceProcess::choose(self.platform, tpm, &self.snp, is_there);
        Ok(process.map_err(ConfigurationError::Platform)?.with_logs(self.logs.clone()))
    }

    /// The device process's executable: as configured, or that of `platform` beside this one, which lies at `own`.
    ///
    /// # Errors
    /// [`ConfigurationError::Beside`].
    pub fn device(&self, platform: &DeviceProcess, own: Option<&Path>) -> Result<PathBuf, ConfigurationError> {
        configured_or_beside(self.device.as_deref(), own, platform.executable())
    }
}

impl Limits {
    /// For a dial, looking up the name included.
    #[must_use]
    pub fn dial_timeout(&self) -> Duration {
        Duration::from_secs(self.dial_timeout.get().into())
    }
}

impl Default for Limits {
    fn default() -> Self {
        const fn nonzero(value: u16) -> NonZeroU16 {
            match NonZeroU16::new(value) {
                Some(value) => value,
                None => NonZeroU16::MIN,
            }
        }
        Self {
            connections: nonzero(1024),
            connections_per_source: nonzero(64),
            dials: nonzero(64),
            dial_timeout: nonzero(10),
        }
    }
}

fn configured_or_beside(
    configured: Option<&Path>,
    own: Option<&Path>,
    name: &'static str,
) -> Result<PathBuf, ConfigurationError> {
    configured
        .map(Path::to_owned)
        .or_else(|| Some(own?.with_file_name(name)))
        .ok_or(ConfigurationError::Beside { name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;
    use std::fs;

    const WHOLE: &str = "listen = \"127.0.0.1:7443\"\npublic = \"127.0.0.1:7480\"\nstore = \"/s/store.redb\"\n\
                         tcti = \"swtpm:host=127.0.0.1,port=2321\"\npins = \"/s/pins.toml\"\n";

    fn read(text: &str) -> Result<Configuration, ConfigurationError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("enclave.toml");
        fs::write(&path, text).unwrap();
        Configuration::read(&path)
    }

    fn reason(text: &str) -> String {
        read(text).unwrap_err().source().unwrap().to_string()
    }

    #[test]
    fn the_shortest_configuration_has_the_default_limits_and_executables_beside_this_one() {
        let configuration = read(WHOLE).unwrap();
        assert_eq!(configuration.limits, Limits::default());
        assert_eq!(configuration.limits.dial_timeout(), Duration::from_secs(10));
        let own = Some(Path::new("/opt/bin/blindferry-enclave"));
        assert_eq!(configuration.vault(own).unwrap(), Path::new("/opt/bin/blindferry-vault"));
        let platform = configuration.device_process(|_| false).unwrap();
        assert_eq!(configuration.device(&platform, own).unwrap(), Path::new("/opt/bin/blindferry-device"));
        assert!(matches!(configuration.vault(None), Err(ConfigurationError::Beside { .. })));
    }

    #[test]
    fn a_guest_needs_no_tpm_and_has_an_executable_of_its_own() {
        let without = WHOLE.lines().take(3).collect::<Vec<_>>().join("\n");
        let configuration = read(&format!("platform = \"snp\"\n{without}\n[snp]\nvmpl = 1\n")).unwrap();
        let platform = configuration.device_process(|_| false).unwrap();
        assert!(matches!(&platform, DeviceProcess::Snp(guest) if guest.vmpl == 1));
        let own = Some(Path::new("/opt/bin/blindferry-enclave"));
        assert_eq!(configuration.device(&platform, own).unwrap(), Path::new("/opt/bin/blindferry-device-snp"));
        assert!(matches!(read(&without).unwrap().device_process(|_| false), Err(ConfigurationError::Platform(_))));
        assert!(reason(&format!("{without}\nplatform = \"sgx\"\n")).contains("sgx"));
    }

    #[test]
    fn logs_are_given_away_only_where_the_configuration_says_so() {
        let logs = |text: &str| match read(text).unwrap().device_process(|_| false).unwrap() {
            DeviceProcess::Tpm { logs, .. } => logs,
            other => panic!("{other:?}"),
        };
        assert_eq!(logs(WHOLE), None);
        assert_eq!(logs(&format!("{WHOLE}\n[logs]\n")), Some(LogPaths::default()));
        let second = logs(&format!("{WHOLE}\n[logs]\nevents = \"/tpm1\"\n")).unwrap();
        assert_eq!((second.events, second.ima), ("/tpm1".into(), LogPaths::default().ima));
        assert!(reason(&format!("{WHOLE}\n[logs]\nima_log = \"/x\"\n")).contains("ima_log"));
    }

    #[test]
    fn a_configured_executable_and_a_configured_limit_are_taken() {
        let configuration = read(&format!("vault = \"/v\"\n{WHOLE}[limits]\nconnections = 7\n")).unwrap();
        assert_eq!(configuration.vault(None).unwrap(), Path::new("/v"));
        assert_eq!(configuration.limits.connections.get(), 7);
        assert_eq!(configuration.limits.dials, Limits::default().dials);
    }

    #[test]
    fn an_unknown_setting_is_refused_with_line_and_column() {
        let reason = reason(&format!("{WHOLE}stroe = \"/x\"\n"));
        assert!(reason.contains("line 6, column 1") && reason.contains("stroe"), "{reason}");
    }

    #[test]
    fn a_bad_address_is_refused_with_line_and_column() {
        let reason = reason(&WHOLE.replace("127.0.0.1:7480", "localhost"));
        assert!(reason.contains("line 2, column 10"), "{reason}");
    }

    #[test]
    fn a_limit_of_nothing_is_refused_with_line_and_column() {
        let reason = reason(&format!("{WHOLE}[limits]\ndials = 0\n"));
        assert!(reason.contains("line 7, column 9"), "{reason}");
    }

    #[test]
    fn evidence_is_looked_at_at_least_once_a_day() {
        let configuration = read(&format!("reattest_every = 2\n{WHOLE}")).unwrap();
        assert_eq!(configuration.reattest_every.map(ReattestEvery::seconds), Some(2));
        for wrong in ["0", "86401"] {
            let reason = reason(&format!("reattest_every = {wrong}\n{WHOLE}"));
            assert!(reason.contains("line 1, column 18") && reason.contains("86400"), "{reason}");
        }
    }

    #[test]
    fn a_grants_life_can_be_shortened_and_not_lengthened() {
        let configuration = read(&format!("grant_life = 5\n{WHOLE}")).unwrap();
        assert_eq!(configuration.grant_life.map(GrantLife::seconds), Some(5));
        for wrong in ["0", "121"] {
            let reason = reason(&format!("grant_life = {wrong}\n{WHOLE}"));
            assert!(reason.contains("line 1, column 14") && reason.contains("120"), "{reason}");
        }
    }

    #[test]
    fn nobody_waits_for_an_approval_for_ever() {
        let configuration = read(&format!("approval_wait = 5\n{WHOLE}")).unwrap();
        assert_eq!(configuration.approval_wait.map(ApprovalWait::seconds), Some(5));
        for wrong in ["0", "3601"] {
            let reason = reason(&format!("approval_wait = {wrong}\n{WHOLE}"));
            assert!(reason.contains("line 1, column 17") && reason.contains("3600"), "{reason}");
        }
    }

    #[test]
    fn a_missing_setting_is_named() {
        let reason = reason(&WHOLE.replace("store = \"/s/store.redb\"\n", ""));
        assert!(reason.contains("store"), "{reason}");
    }

    #[test]
    fn a_file_over_the_bound_is_refused_unparsed() {
        let long = format!("{WHOLE}# {}", "x".repeat(64 * 1024));
        assert!(reason(&long).contains("longer than"));
    }
}
