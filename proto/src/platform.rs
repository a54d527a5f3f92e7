//! Which hardware a process of ours proves itself by, as configurations say it and as a device process is told.

use crate::logs::LogPaths;
use serde::{Deserialize, Deserializer, Serialize};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What a configuration says about the platform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// A TPM where one is configured, else this SEV-SNP guest where the kernel gives its reports.
    #[default]
    Auto,
    /// The configured TPM.
    Tpm,
    /// This SEV-SNP guest.
    Snp,
}

/// Where a guest's firmware is reached.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestPaths {
    /// The kernel's directory of reports.
    pub tsm: PathBuf,
    /// The guest device, which derives keys.
    pub device: PathBuf,
    /// Certificates that the host does not give.
    pub certificates: Option<PathBuf>,
    /// The privilege level of this kernel.
    #[serde(deserialize_with = "vmpl")]
    pub vmpl: u8,
}

impl Default for GuestPaths {
    fn default() -> Self {
        Self {
            tsm: "/sys/kernel/config/tsm/report".into(),
            device: "/dev/sev-guest".into(),
            certificates: None,
            vmpl: 0,
        }
    }
}

/// A device process to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceProcess {
    /// One for a TPM.
    Tpm {
        /// How the TPM is reached, in libtss2's words.
        tcti: String,
        /// The file of its pinned names.
        pins: PathBuf,
        /// The logs that it may give away beside a quote; none unless [`DeviceProcess::with_logs`] says so.
        logs: Option<LogPaths>,
    },
    /// One for this guest.
    Snp(GuestPaths),
}

/// There is no platform, or half of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlatform {
    /// A TPM is named by two keys.
    #[error("a TPM takes both `tcti` and `pins`")]
    HalfTpm,
    /// No TPM is configured.
    #[error("`platform` is `tpm`, and there are no `tcti` and `pins`")]
    NoTpm,
    /// Neither is there.
    #[error("no TPM is configured (`tcti` and `pins`), and this kernel gives no SEV-SNP reports")]
    Neither,
}

impl DeviceProcess {
    /// Finds out which it is. `is_there` says whether a path exists.
    ///
    /// # Errors
    /// [`NoPlatform`].
    pub fn choose(
        choice: Choice,
        tpm: (Option<&str>, Option<&Path>),
        guest: &GuestPaths,
        is_there: impl Fn(&Path) -> bool,
    ) -> Result<Self, NoPlatform> {
        let tpm = match tpm {
            (Some(tcti), Some(pins)) => Some(Self::Tpm { tcti: tcti.to_owned(), pins: pins.to_owned(), logs: None }),
            (None, None) => None,
            _ => return Err(NoPlatform::HalfTpm),
        };
        match (choice, tpm) {
            (Choice::Auto | Choice::Tpm, Some(tpm)) => Ok(tpm),
            (Choice::Tpm, None) => Err(NoPlatform::NoTpm),
            (Choice::Snp, _) => Ok(Self::Snp(guest.clone())),
            (Choice::Auto, None) if is_there(&guest.tsm) || is_there(&guest.device) => Ok(Self::Snp(guest.clone())),
            (Choice::Auto, None) => Err(NoPlatform::Neither),
        }
    }

    /// The same, where it is for a TPM with these logs of its machine.
    #[must_use]
    pub fn with_logs(self, logs: Option<LogPaths>) -> Self {
        match self {
            Self::Tpm { tcti, pins, logs: _ } => Self::Tpm { tcti, pins, logs },
            other => other,
        }
    }

    /// What its executable is called.
    #[must_use]
    pub const fn executable(&self) -> &'static str {
        match self {
            Self::Tpm { .. } => "blindferry-device",
            Self::Snp(_) => "blindferry-device-snp",
        }
    }

    /// What its executable is told, each path as it is.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        match self {
            Self::Tpm { tcti, pins, logs } => {
                let mut arguments: Vec<OsString> =
                    vec!["serve".into(), "--tcti".into(), tcti.into(), "--pins".into(), pins.into()];
                if let Some(LogPaths { events, ima }) = logs {
                    arguments.extend(["--event-log".into(), events.into(), "--ima-log".into(), ima.into()]);
                }
                arguments
            }
            Self::Snp(GuestPaths { tsm, device, certificates, vmpl }) => {
                let mut arguments: Vec<OsString> = vec![
                    "serve".into(),
                    "--tsm".into(),
                    tsm.into(),
                    "--device".into(),
                    device.into(),
                    "--vmpl".into(),
                    vmpl.to_string().into(),
                ];
                if let Some(directory) = certificates {
                    arguments.extend(["--certificates".into(), directory.into()]);
                }
                arguments
            }
        }
    }

    /// The same with each path made absolute by `absolute`, for a process that starts elsewhere.
    ///
    /// # Errors
    /// Those of `absolute`.
    pub fn with_paths<E>(self, absolute: impl Fn(PathBuf) -> Result<PathBuf, E>) -> Result<Self, E> {
        Ok(match self {
            Self::Tpm { tcti, pins, logs } => Self::Tpm {
                tcti,
                pins: absolute(pins)?,
                logs: match logs {
                    Some(LogPaths { events, ima }) => Some(LogPaths { events: absolute(events)?, ima: absolute(ima)? }),
                    None => None,
                },
            },
            Self::Snp(GuestPaths { tsm, device, certificates, vmpl }) => Self::Snp(GuestPaths {
                tsm: absolute(tsm)?,
                device: absolute(device)?,
                certificates: certificates.map(absolute).transpose()?,
                vmpl,
            }),
        })
    }
}

impl Choice {
    /// As a configuration has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tpm => "tpm",
            Self::Snp => "snp",
        }
    }
}

impl FromStr for Choice {
    type Err = BadChoice;
    fn from_str(text: &str) -> Result<Self, BadChoice> {
        match text {
            "auto" => Ok(Self::Auto),
            "tpm" => Ok(Self::Tpm),
            "snp" => Ok(Self::Snp),
            _ => Err(BadChoice),
        }
    }
}

/// A text names no platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected auto, tpm or snp")]
pub struct BadChoice;

fn vmpl<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    match u8::deserialize(deserializer)? {
        level @ 0..=3 => Ok(level),
        _ => Err(serde::de::Error::custom("not a VMPL: expected 0 to 3")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TPM: (Option<&str>, Option<&Path>) = (Some("device:/dev/tpmrm0"), None);

    fn tpm() -> (Option<&'static str>, Option<&'static Path>) {
        (TPM.0, Some(Path::new("/pins")))
    }

    fn choose(choice: Choice, tpm: (Option<&str>, Option<&Path>), guest: bool) -> Result<&'static str, NoPlatform> {
        DeviceProcess::choose(choice, tpm, &GuestPaths::default(), |_| guest).map(|chosen| chosen.executable())
    }

    #[test]
    fn a_configured_tpm_is_taken_also_on_a_guest_unless_the_guest_is_asked_for() {
        for guest in [true, false] {
            assert_eq!(choose(Choice::Auto, tpm(), guest), Ok("blindferry-device"));
            assert_eq!(choose(Choice::Tpm, tpm(), guest), Ok("blindferry-device"));
            assert_eq!(choose(Choice::Snp, tpm(), guest), Ok("blindferry-device-snp"));
            assert_eq!(choose(Choice::Snp, (None, None), guest), Ok("blindferry-device-snp"));
        }
    }

    #[test]
    fn without_a_tpm_a_guest_is_found_and_nothing_is_made_up() {
        assert_eq!(choose(Choice::Auto, (None, None), true), Ok("blindferry-device-snp"));
        assert_eq!(choose(Choice::Auto, (None, None), false), Err(NoPlatform::Neither));
        assert_eq!(choose(Choice::Tpm, (None, None), true), Err(NoPlatform::NoTpm));
        assert_eq!(choose(Choice::Auto, TPM, true), Err(NoPlatform::HalfTpm));
    }
}
