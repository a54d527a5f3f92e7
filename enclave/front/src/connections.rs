//! How many connections are open, in all and from each source: admits a new one or refuses it.
//!
//! The front closes its copy of a connection once the vault has it, so it does not see a connection end. It asks the
//! kernel instead, which lists every TCP socket with its inode, and an inode of 0 once no process has it open. That is
//! done only when a bound is reached, and at most once a second.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use blindferry_proto::source::Source;

use crate::configuration::Limits;

/// The connections of one listener that are open, as far as was last asked.
#[derive(Debug)]
pub struct Connections {
    limits: Limits,
    table: KernelTable,
    open: HashMap<SocketAddr, Source>,
    per_source: HashMap<Source, u16>,
    recounted: Option<Instant>,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// As many connections as may be are open.
    All,
    /// Its source has as many as it may.
    Source,
}

impl Connections {
    /// None yet.
    #[must_use]
    pub fn new(limits: Limits, table: KernelTable) -> Self {
        Self { limits, table, open: HashMap::new(), per_source: HashMap::new(), recounted: None }
    }

    /// Counts the connection that came from `from` to our `port`, unless it is over a bound.
    ///
    /// # Errors
    /// [`Full`] says which bound. The connection is then to be closed.
    pub fn admit(&mut self, from: SocketAddr, port: u16, now: Instant) -> Result<(), Full> {
        // The same address and port again: the former connection has ended, or this one could not be.
        self.forget(from);
        if self.room(from).is_err() && self.recounted.is_none_or(|last| now.duration_since(last) >= RECOUNT_INTERVAL) {
            self.recounted = Some(now);
            match self.table.open_on(port) {
                Ok(open) => self.keep_only(&open),
                Err(error) => {
                    tracing::warn!(name: "connections-not-counted", %error, "cannot ask the kernel which connections are open")
                }
            }
        }
        self.room(from)?;
        let source = Source::of(from.ip());
        self.open.insert(from, source);
        *self.per_source.entry(source).or_default() += 1;
        Ok(())
    }

    /// A connection that was counted is not open after all.
    pub fn forget(&mut self, from: SocketAddr) {
        let Some(source) = self.open.remove(&from) else { return };
        if let Some(count) = self.per_source.get_mut(&source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_source.remove(&source);
            }
        }
    }

    fn room(&self, from: SocketAddr) -> Result<(), Full> {
        if self.open.len() >= usize::from(self.limits.connections.get()) {
            return Err(Full::All);
        }
        match self.per_source.get(&Source::of(from.ip())) {
            Some(count) if *count >= self.limits.connections_per_source.get() => Err(Full::Source),
            _ => Ok(()),
        }
    }

    fn keep_only(&mut self, alive: &HashSet<SocketAddr>) {
        let ended: Vec<_> = self.open.keys().filter(|from| !alive.contains(&canonical(**from))).copied().collect();
        for from in ended {
            self.forget(from);
        }
    }
}

/// The kernel's list of TCP sockets, `/proc/net/tcp` and `tcp6`, kept open: after confinement no path leads there.
#[derive(Debug)]
pub struct KernelTable(Vec<File>);

impl KernelTable {
    /// Opens the list for the network namespace that this process is in.
    ///
    /// # Errors
    /// What the kernel said; without IPv6 there is no second list, and that is no error.
    pub fn open() -> io::Result<Self> {
        let mut lists = vec![File::open("/proc/self/net/tcp")?];
        match File::open("/proc/self/net/tcp6") {
            Ok(list) => lists.push(list),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self(lists))
    }

    /// The other ends of all connections to our `port` that a process has open.
    fn open_on(&mut self, port: u16) -> io::Result<HashSet<SocketAddr>> {
        let mut open = HashSet::new();
        for list in &mut self.0 {
            list.rewind()?;
            for line in BufReader::new(&*list).lines() {
                open.extend(open_connection(&line?, port));
            }
        }
        Ok(open)
    }
}

/// Reads a line such as `0: 0100007F:1D13 0100007F:C350 01 00000000:00000000 00:00000000 00000000 0 0 4711 …`; the
/// format is in the kernel's Documentation/networking/proc_net_tcp.rst.
fn open_connection(line: &str, port: u16) -> Option<SocketAddr> {
    let mut fields = line.split_ascii_whitespace();
    let local = address(fields.nth(1)?)?;
    let remote = address(fields.next()?)?;
    let inode = fields.nth(6)?;
    (local.port() == port && remote.port() != 0 && inode != "0").then_some(canonical(remote))
}

/// Addresses are printed as 32-bit words in the machine's byte order.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// An IPv4 address is the same one when a socket for both families writes it as IPv6; scope and flow are left away.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Asking takes the kernel about a millisecond for a thousand sockets, and nothing else runs meanwhile.
const RECOUNT_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn connections(all: u16, per_source: u16) -> Connections {
        let limits = Limits {
            connections: all.try_into().unwrap(),
            connections_per_source: per_source.try_into().unwrap(),
            ..Limits::default()
        };
        Connections::new(limits, KernelTable::open().unwrap())
    }

    /// A port that nothing listens on here: the kernel knows no connection to it, so a recount would forget all.
    const PORT: u16 = 1;

    fn from(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_cannot_take_the_place_of_others() {
        let mut connections = connections(10, 2);
        connections.recounted = Some(Instant::now());
        let now = Instant::now();
        assert_eq!(connections.admit(from("192.0.2.1:1"), PORT, now), Ok(()));
        assert_eq!(connections.admit(from("192.0.2.1:2"), PORT, now), Ok(()));
        assert_eq!(connections.admit(from("192.0.2.1:3"), PORT, now), Err(Full::Source));
        assert_eq!(connections.admit(from("[::ffff:192.0.2.1]:4"), PORT, now), Err(Full::Source));
        assert_eq!(connections.admit(from("192.0.2.2:1"), PORT, now), Ok(()));
        connections.forget(from("192.0.2.1:2"));
        assert_eq!(connections.admit(from("192.0.2.1:3"), PORT, now), Ok(()));
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_source() {
        let mut connections = connections(10, 1);
        connections.recounted = Some(Instant::now());
        let now = Instant::now();
        assert_eq!(connections.admit(from("[2001:db8::1]:1"), PORT, now), Ok(()));
        assert_eq!(connections.admit(from("[2001:db8::ffff:2]:1"), PORT, now), Err(Full::Source));
        assert_eq!(connections.admit(from("[2001:db8:0:1::1]:1"), PORT, now), Ok(()));
    }

    #[test]
    fn the_same_address_and_port_count_once() {
        let mut connections = connections(10, 1);
        connections.recounted = Some(Instant::now());
        for _ in 0..3 {
            assert_eq!(connections.admit(from("192.0.2.1:1"), PORT, Instant::now()), Ok(()));
        }
        assert_eq!(connections.open.len(), 1);
    }

    #[test]
    fn a_full_table_is_recounted_and_what_nobody_has_open_makes_room() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            let reached: SocketAddr = if address.starts_with("[::1]") {
                SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)
            } else {
                SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
            };
            let mut connections = connections(2, 2);
            let connect = || {
                let client = TcpStream::connect(reached).unwrap();
                let (server, from) = listener.accept().unwrap();
                (client, server, from)
            };
            let (one, two) = (connect(), connect());
            let start = Instant::now();
            assert_eq!(connections.admit(one.2, port, start), Ok(()));
            assert_eq!(connections.admit(two.2, port, start), Ok(()));
            let three = connect();
            assert_eq!(connections.admit(three.2, port, start), Err(Full::All), "{address}: all are open");
            drop(one.1);
            assert_eq!(connections.admit(three.2, port, start), Err(Full::All), "{address}: not asked so soon again");
            assert_eq!(connections.admit(three.2, port, start + RECOUNT_INTERVAL), Ok(()), "{address}");
        }
    }
}
