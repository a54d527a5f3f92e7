//! What this process tells its service manager: a datagram for each state.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use thiserror::Error;

/// The service manager of this process, or nobody. It is connected once, before the process gives up what connecting takes.
#[derive(Debug)]
pub struct ServiceManager(Option<UnixDatagram>);

/// The service manager cannot be told anything.
#[derive(Debug, Error)]
#[error("cannot connect to the service manager at {}", address.display())]
pub struct ConnectError {
    /// What NOTIFY_SOCKET says.
    address: OsString,
    /// What the kernel said.
    source: io::Error,
}

impl ServiceManager {
    /// The one that `NOTIFY_SOCKET` names among these variables: a path, or an abstract address after `@`.
    ///
    /// # Errors
    /// [`ConnectError`]: who is told nothing believes that this process never became ready, so it should not go on.
    pub fn connect(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConnectError> {
        match variable("NOTIFY_SOCKET") {
            None => Ok(Self(None)),
            Some(address) => {
                connected(&address).map(|socket| Self(Some(socket))).map_err(|source| ConnectError { address, source })
            }
        }
    }

    /// Whether there is one.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.0.is_some()
    }

    /// This process serves.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// How this process is, in a line for people. What in it is no printable character becomes a space, since the text may
    /// come from outside and each further line would be an order to the service manager. At most 200 bytes are told.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", one_line(status)));
    }

    /// This process lives; see [`crate::watchdog`].
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// This process was told to end, and does.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    fn send(&self, state: &str) {
        // A service manager that is gone or does not read needs to hear nothing.
        let _sent = self.0.as_ref().map(|socket| socket.send(state.as_bytes()));
    }
}

fn connected(address: &OsStr) -> io::Result<UnixDatagram> {
    let to = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(address)?,
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "neither an absolute path nor an abstract address",
            ));
        }
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&to)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn one_line(text: &str) -> String {
    let end = text.floor_char_boundary(STATUS_LIMIT);
    let (kept, _) = text.split_at(end);
    kept.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// For a service manager that does not read: after this a message is lost. Well below any watchdog's interval.
const PATIENCE: Duration = Duration::from_millis(500);
/// Bytes of a status.
const STATUS_LIMIT: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    fn manager() -> (UnixDatagram, ServiceManager, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let hears = UnixDatagram::bind(&path).unwrap();
        hears.set_nonblocking(true).unwrap();
        let connected = ServiceManager::connect(|name| (name == "NOTIFY_SOCKET").then(|| path.clone().into())).unwrap();
        (hears, connected, directory)
    }

    fn heard(hears: &UnixDatagram) -> String {
        let mut bytes = [0; 1024];
        let length = hears.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn states_are_said_in_the_words_of_sd_notify() {
        let (hears, manager, _directory) = manager();
        manager.ready("serving");
        assert_eq!(heard(&hears), "READY=1\nSTATUS=serving");
        manager.alive();
        assert_eq!(heard(&hears), "WATCHDOG=1");
        manager.stopping();
        assert_eq!(heard(&hears), "STOPPING=1\nSTATUS=stopping");
    }

    #[test]
    fn a_status_from_outside_cannot_give_orders_to_the_service_manager() {
        let (hears, manager, _directory) = manager();
        manager.status("refused\nMAINPID=1\r\nFDSTORE=1");
        assert_eq!(heard(&hears), "STATUS=refused MAINPID=1  FDSTORE=1");
        manager.status(&"ü".repeat(5000));
        assert!(heard(&hears).len() <= "STATUS=".len() + STATUS_LIMIT);
    }

    #[test]
    fn an_abstract_address_is_one_and_a_relative_path_is_none() {
        let name = format!("blindferry-service-{}", std::process::id());
        let hears = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let manager = ServiceManager::connect(|_| Some(format!("@{name}").into())).unwrap();
        manager.alive();
        assert_eq!(heard(&hears), "WATCHDOG=1");
        assert!(ServiceManager::connect(|_| Some("notify".into())).is_err());
        assert!(ServiceManager::connect(|_| Some("/nowhere/notify".into())).is_err());
    }

    #[test]
    fn without_a_service_manager_nothing_is_said() {
        let manager = ServiceManager::connect(|_| None).unwrap();
        assert!(!manager.listens());
        manager.ready("to nobody");
    }

    #[test]
    fn a_service_manager_that_does_not_read_stops_nobody() {
        let (_hears, manager, _directory) = manager();
        // More than any queue of datagrams holds; each that finds no room costs the patience, so few of them.
        let mut lost = 0;
        for _ in 0..10_000 {
            lost += usize::from(manager.0.as_ref().unwrap().send(b"WATCHDOG=1").is_err());
            if lost == 2 {
                return;
            }
        }
        panic!("the queue never filled");
    }
}
