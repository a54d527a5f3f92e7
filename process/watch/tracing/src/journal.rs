//! systemd's journal: whether it reads our standard error, and its own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), by
//! which an event keeps its fields.

use blindferry_watch::line::{Line, cut};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// A connected socket to the journal.
#[derive(Debug)]
pub struct Journal(UnixDatagram);

/// Where systemd-journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

impl Journal {
    /// Connects to the journal of this machine; `None` where there is none. Lines go to standard error then.
    #[must_use]
    pub fn open() -> Option<Self> {
        Self::at(Path::new(SOCKET)).ok()
    }

    /// Connects to a journal that listens elsewhere.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        // A journal that does not read must not stop whoever writes.
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// Gives it one event.
    ///
    /// # Errors
    /// What the kernel says: it does not read, or is gone.
    pub fn write(&self, line: &Line<'_>) -> io::Result<()> {
        self.0.send(&entry(line)).map(|_sent| ())
    }
}

/// One `NAME=value` a line. Our fields are in capitals behind `BLINDFERRY_`, so that none can pass for one of the
/// journal's.
fn entry(line: &Line<'_>) -> Vec<u8> {
    let mut entry = format!(
        "PRIORITY={}\nSYSLOG_IDENTIFIER={}\nBLINDFERRY_EVENT={}\nMESSAGE={}\n",
        line.level.priority(),
        line.process,
        line.event,
        one_line(&message(line)),
    );
    for (name, value) in line.fields {
        let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        entry.push_str(&format!("BLINDFERRY_{}={}\n", name.to_ascii_uppercase(), one_line(value)));
    }
    entry.into_bytes()
}

/// What `journalctl` shows: the message with its fields, since people look there first.
fn message(line: &Line<'_>) -> String {
    let fields: Vec<String> = line.fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    format!("{}{}", line.message, fields.concat())
}

fn one_line(value: &str) -> String {
    cut(value).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Whether `JOURNAL_STREAM` (systemd.exec(5)) names what our standard error is: others may have been put in between.
pub(crate) fn is_standard_error(stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else { return false };
    let Ok(found) = rustix::fs::fstat(rustix::stdio::stderr()) else { return false };
    device.parse() == Ok(found.st_dev) && inode.parse() == Ok(found.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_watch::line::Level;

    #[test]
    fn an_event_keeps_its_fields_and_cannot_make_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        let fields = [("reason", "one\nPRIORITY=0".to_owned()), ("_uid", "0".to_owned())];
        let line =
            Line { level: Level::Warning, process: "p", event: "session-over", message: "over", fields: &fields };
        Journal::at(&path).unwrap().write(&line).unwrap();
        let mut bytes = [0; 4096];
        let length = listener.recv(&mut bytes).unwrap();
        assert_eq!(
            std::str::from_utf8(&bytes[..length]).unwrap(),
            "PRIORITY=4\nSYSLOG_IDENTIFIER=p\nBLINDFERRY_EVENT=session-over\n\
             MESSAGE=over reason=one PRIORITY=0 _uid=0\nBLINDFERRY_REASON=one PRIORITY=0\nBLINDFERRY__UID=0\n"
        );
    }

    #[test]
    fn a_journal_that_does_not_read_stops_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _listener = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::at(&path).unwrap();
        let line = Line { level: Level::Info, process: "p", event: "e", message: "m", fields: &[] };
        let refused = (0..100_000).find_map(|_| journal.write(&line).err());
        assert_eq!(refused.map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
    }

    #[test]
    fn the_stream_is_ours_by_device_and_inode_alone() {
        let found = rustix::fs::fstat(rustix::stdio::stderr()).unwrap();
        let (device, inode) = (found.st_dev, found.st_ino);
        assert!(is_standard_error(Some(&format!("{device}:{inode}"))));
        for other in [format!("{device}:{}", inode + 1), format!("{}:{inode}", device + 1), String::new(), ":".into()] {
            assert!(!is_standard_error(Some(&other)), "{other}");
        }
        assert!(!is_standard_error(None));
    }
}
