//! The pin file: the Names of the TPM's keys as they were at provisioning.
//!
//! It holds no secret. It must not be writable by whoever might sit on the bus: who can change it can make us salt
//! sessions to a key of his.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use blindferry_device::protocol::DeviceRefusal;
use serde::{Deserialize, Serialize};

use crate::endorsement::EkKind;

/// What is pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Pins {
    version: u8,
    /// The Name of the key to which sessions are salted and under which keys are sealed.
    #[serde(with = "hex::serde")]
    pub(crate) salt_key_name: Vec<u8>,
    /// The Name of the attestation key.
    #[serde(with = "hex::serde")]
    pub(crate) ak_name: Vec<u8>,
    /// Which of the TPM's endorsement keys is used.
    pub(crate) ek_kind: EkKind,
    /// SHA-256 of its SubjectPublicKeyInfo, by which allow-lists name a TPM.
    #[serde(with = "hex::serde")]
    pub(crate) ek_hash: Vec<u8>,
    /// Whether the attestation key is the one that a paravisor of Azure keeps, rather than one that is made from a template.
    #[serde(default)]
    pub(crate) azure: bool,
    /// Beside the pin file: certificates of AMD, which vouch for the paravisor's report.
    #[serde(skip)]
    pub(crate) certificates: PathBuf,
}

impl Pins {
    pub(crate) fn new(salt_key_name: Vec<u8>, ak_name: Vec<u8>, ek_kind: EkKind, ek_hash: Vec<u8>) -> Self {
        let (azure, certificates) = (false, PathBuf::new());
        Self { version: VERSION, salt_key_name, ak_name, ek_kind, ek_hash, azure, certificates }
    }

    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, DeviceRefusal> {
        let unusable = |reason: String| DeviceRefusal::PinsUnusable { path: path.display().to_string(), reason };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(DeviceRefusal::NotProvisioned { path: path.display().to_string() });
            }
            Err(error) => return Err(unusable(error.to_string())),
        };
        let mut text = String::new();
        file.take(LIMIT + 1).read_to_string(&mut text).map_err(|error| unusable(error.to_string()))?;
        if u64::try_from(text.len()).is_ok_and(|len| len > LIMIT) {
            return Err(unusable(format!("it has more than {LIMIT} bytes")));
        }
        let mut pins: Self = toml::from_str(&text).map_err(|error| unusable(error.message().to_owned()))?;
        if pins.version != VERSION {
            return Err(unusable(format!("it is of version {}, this is {VERSION}", pins.version)));
        }
        pins.certificates = path.with_file_name(CERTIFICATES);
        Ok(pins)
    }

    /// Writes the file whole or not at all. One that exists is replaced only with `force`.
    pub(crate) fn write(&self, path: &Path, force: bool) -> io::Result<()> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&beside)?;
        file.write_all(HEADER.as_bytes())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if force {
            std::fs::rename(&beside, path)
        } else {
            // A link, unlike a rename, does not replace what is there.
            let linked = std::fs::hard_link(&beside, path);
            std::fs::remove_file(&beside)?;
            linked
        }
    }
}

const VERSION: u8 = 1;

/// The directory of certificates, beside the pin file.
pub(crate) const CERTIFICATES: &str = "certificates";

/// No pin file is longer, in bytes.
const LIMIT: u64 = 4096;

const HEADER: &str =
    "# Names of this TPM's keys, written by `blindferry-device provision`. Not secret; keep it from being changed.\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("blindferry-pins-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn pins() -> Pins {
        Pins::new(vec![0, 11, 1], vec![0, 11, 2], EkKind::EccP256, vec![0, 11, 3])
    }

    #[test]
    fn what_is_written_is_read_and_is_not_replaced_without_force() {
        let directory = directory("round");
        let path = directory.join("pins.toml");
        assert!(matches!(Pins::read(&path), Err(DeviceRefusal::NotProvisioned { .. })));
        pins().write(&path, false).unwrap();
        let pins = || Pins { certificates: path.with_file_name(CERTIFICATES), ..pins() };
        assert_eq!(Pins::read(&path).unwrap(), pins());
        let other = Pins { ak_name: vec![9], ..pins() };
        assert_eq!(other.write(&path, false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(Pins::read(&path).unwrap(), pins());
        other.write(&path, true).unwrap();
        assert_eq!(Pins::read(&path).unwrap(), other);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn another_version_an_unknown_field_and_a_huge_file_are_refused() {
        let directory = directory("bad");
        let path = directory.join("pins.toml");
        let good = toml::to_string(&pins()).unwrap();
        for text in [good.replace("version = 1", "version = 2"), format!("{good}extra = 1\n"), " ".repeat(5000)] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(Pins::read(&path), Err(DeviceRefusal::PinsUnusable { .. })));
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
}
