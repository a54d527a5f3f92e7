//! Where the TPM is: the two forms of TCTI configuration that we accept, read strictly.
//!
//! tss-esapi 7.7 reads `swtpm:path=/x.sock` as "localhost, port 2321" and says nothing, so its own parser is not trusted
//! with anything but what was already understood here.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;
use tss_esapi::tcti_ldr::{DeviceConfig, NetworkTPMConfig, TctiNameConf};

/// How to reach the TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tcti {
    /// swtpm over TCP. The control channel is at the next port, where libtss2 looks for it.
    Swtpm { host: Ipv4Addr, port: u16 },
    /// A device node; those named `tpmrm` have the kernel's resource manager in front.
    Device(PathBuf),
}

impl Tcti {
    /// Whether somebody else puts away the objects and sessions of a client that died.
    pub(crate) fn has_resource_manager(&self) -> bool {
        match self {
            Self::Swtpm { .. } => false,
            Self::Device(path) => path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tpmrm")),
        }
    }

    /// The configuration as tss-esapi takes it.
    pub(crate) fn to_conf(&self) -> tss_esapi::Result<TctiNameConf> {
        match self {
            Self::Swtpm { host, port } => {
                NetworkTPMConfig::from_str(&format!("host={host},port={port}")).map(TctiNameConf::Swtpm)
            }
            Self::Device(path) => DeviceConfig::from_str(&path.to_string_lossy()).map(TctiNameConf::Device),
        }
    }
}

impl FromStr for Tcti {
    type Err = TctiError;

    fn from_str(text: &str) -> Result<Self, TctiError> {
        match text.split_once(':') {
            Some(("swtpm", options)) => swtpm(options),
            Some(("device", path)) if path.starts_with('/') && path.is_ascii() => Ok(Self::Device(PathBuf::from(path))),
            Some(("device", path)) => Err(TctiError::DevicePath { path: path.to_owned() }),
            _ => Err(TctiError::Kind { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Tcti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Swtpm { host, port } => write!(f, "swtpm:host={host},port={port}"),
            Self::Device(path) => write!(f, "device:{}", path.display()),
        }
    }
}

/// Why a TCTI configuration is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum TctiError {
    /// Neither of the two forms.
    #[error("`{text}` is no TPM: write `swtpm:host=127.0.0.1,port=N` or `device:/dev/tpmrm0`")]
    Kind { text: String },
    /// swtpm's own socket form, which would silently become another TPM.
    #[error("tss-esapi 7.7 cannot reach swtpm over a unix socket (`path=`): start it with TCP ports on 127.0.0.1")]
    UnixSocket,
    /// An option of swtpm that we do not know.
    #[error("`{option}` is no option of swtpm: write `host=` and `port=`, each once")]
    Option { option: String },
    /// The host is not an address. Names are not resolved: a TPM is local.
    #[error("swtpm's host is an IPv4 address such as 127.0.0.1, not `{host}`")]
    Host { host: String },
    /// The port is none, or has no next port for the control channel.
    #[error("swtpm's port is 1 to 65534, not `{port}`")]
    Port { port: String },
    /// A device is an absolute path.
    #[error("a TPM device is an absolute path such as /dev/tpmrm0, not `{path}`")]
    DevicePath { path: String },
}

fn swtpm(options: &str) -> Result<Tcti, TctiError> {
    let (mut host, mut port) = (None, None);
    for option in options.split(',') {
        match option.split_once('=') {
            Some(("path", _)) => return Err(TctiError::UnixSocket),
            Some(("host", value)) if host.is_none() => {
                host = Some(value.parse().map_err(|_| TctiError::Host { host: value.to_owned() })?);
            }
            Some(("port", value)) if port.is_none() => {
                let parsed = value.parse().ok().filter(|port| (1..u16::MAX).contains(port));
                port = Some(parsed.ok_or_else(|| TctiError::Port { port: value.to_owned() })?);
            }
            _ => return Err(TctiError::Option { option: option.to_owned() }),
        }
    }
    match (host, port) {
        (Some(host), Some(port)) => Ok(Tcti::Swtpm { host, port }),
        _ => Err(TctiError::Option { option: options.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_written_alike() {
        for text in ["swtpm:host=127.0.0.1,port=2321", "device:/dev/tpmrm0"] {
            assert_eq!(text.parse::<Tcti>().unwrap().to_string(), text);
        }
        assert!("device:/dev/tpmrm0".parse::<Tcti>().unwrap().has_resource_manager());
        assert!(!"device:/dev/tpm0".parse::<Tcti>().unwrap().has_resource_manager());
    }

    #[test]
    fn a_unix_socket_is_refused_and_never_becomes_port_2321() {
        assert_eq!("swtpm:path=/tmp/x.sock".parse::<Tcti>(), Err(TctiError::UnixSocket));
        assert_eq!("swtpm:host=127.0.0.1,path=/tmp/x.sock".parse::<Tcti>(), Err(TctiError::UnixSocket));
    }

    #[test]
    fn whatever_is_left_out_or_unknown_is_refused() {
        for text in [
            "",
            "swtpm",
            "swtpm:",
            "swtpm:port=1",
            "swtpm:host=127.0.0.1",
            "swtpm:host=localhost,port=1",
            "swtpm:host=127.0.0.1,port=65535",
            "swtpm:host=127.0.0.1,port=0",
            "swtpm:host=127.0.0.1,port=1,port=2",
            "swtpm:host=127.0.0.1,port=1,x=2",
            "device",
            "device:",
            "device:tpm0",
            "mssim:host=127.0.0.1,port=1",
            "tabrmd:",
            "libtss2-tcti-cmd.so.0:sh",
        ] {
            assert!(text.parse::<Tcti>().is_err(), "{text}");
        }
    }
}
