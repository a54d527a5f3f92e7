//! Services that real programs show a token to: one that speaks HTTP, an sshd, a PostgreSQL. All on this machine alone.

use crate::account::{Account, CALLER};
use crate::process::{Running, eventually};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// What each of them says to whoever has the token.
pub const WELCOME: &str = "welcome";

/// Serves HTTP to whoever shows the token, as a bearer or as a password; also what `git ls-remote` asks for. Returns its
/// port. It ends with the test.
#[must_use]
pub fn http(token: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = [format!("Bearer {token}"), format!("Basic {}", STANDARD.encode(format!("x:{token}")))];
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let accepted = accepted.clone();
            thread::spawn(move || answer(stream, &accepted));
        }
    });
    port
}

fn answer(mut stream: TcpStream, accepted: &[String]) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 1 << 16 && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let shown = head
        .lines()
        .find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("authorization")));
    let known = shown.is_some_and(|(_, value)| accepted.iter().any(|accepted| accepted == value));
    let body = match known {
        true if head.contains("/info/refs") => format!("{}\trefs/heads/{WELCOME}\n", "0123456789".repeat(4)),
        true => WELCOME.to_owned(),
        false => "who are you?".to_owned(),
    };
    let status = if known { "200 OK" } else { "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"tokens\"" };
    let length = body.len();
    // Whoever does not wait for the answer has no use for it.
    let _sent = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
}

/// An sshd that lets in whoever has one private key, and says [`WELCOME`].
#[derive(Debug)]
pub struct Sshd {
    /// Where it listens.
    pub port: u16,
    /// The private key.
    pub key: String,
    _running: Running,
}

impl Sshd {
    /// Starts it; nothing where this machine has none, or where the tests are not root.
    #[must_use]
    pub fn start(directory: &Path) -> Option<Self> {
        let sshd = Path::new("/usr/sbin/sshd");
        if !crate::account::is_root() || !sshd.exists() {
            return None;
        }
        // It wants this directory of its own, which a package or systemd makes.
        let _there_already = fs::create_dir("/run/sshd");
        let key = |name: &str| {
            let file = directory.join(name);
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&file).status();
            assert!(made.unwrap().success());
            file
        };
        let (host, user) = (key("host-key"), key("user-key"));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let configuration = directory.join("sshd.conf");
        let text = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}.pub\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nPermitRootLogin prohibit-password\nForceCommand echo {WELCOME}\nPidFile none\n",
            host.display(),
            user.display()
        );
        fs::write(&configuration, text).unwrap();
        let mut command = CALLER.command(sshd);
        command.args(["-D", "-e", "-f"]).arg(&configuration).stdin(Stdio::null());
        let running = Running::start(command, &directory.join("sshd.log"));
        eventually("sshd", || TcpStream::connect(("127.0.0.1", port)).ok());
        Some(Self { port, key: fs::read_to_string(user).unwrap(), _running: running })
    }
}

/// A PostgreSQL that wants a password, on a Unix socket.
#[derive(Debug)]
pub struct Postgres {
    /// The directory of its socket.
    pub socket: PathBuf,
    /// The client itself: Debian's `psql` is a script that starts it.
    pub psql: PathBuf,
    _running: Running,
}

impl Postgres {
    /// Starts it as this account, which must have a name; nothing where this machine has none.
    #[must_use]
    pub fn start(account: Account, password: &str, directory: &Path) -> Option<Self> {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
        let programs = versions.map(|version| version.path().join("bin")).find(|bin| bin.join("initdb").exists())?;
        let socket = directory.join("postgres");
        account.make_directory(&socket);
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o700)).unwrap();
        let file = socket.join("password");
        fs::write(&file, password).unwrap();
        account.give(&file);
        let data = socket.join("data");
        let mut initdb = account.command(&programs.join("initdb"));
        initdb.args(["--no-sync", "-A", "scram-sha-256", "-U", "postgres", "--pwfile"]).arg(&file).arg("-D").arg(&data);
        let made = initdb.current_dir(&socket).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut command = account.command(&programs.join("postgres"));
        command.args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"]).arg(&socket).arg("-D").arg(&data);
        command.current_dir(&socket).stdin(Stdio::null()).stdout(Stdio::null());
        let running = Running::start(command, &directory.join("postgres.log"));
        eventually("PostgreSQL", || socket.join(".s.PGSQL.5432").exists().then_some(()));
        Some(Self { socket, psql: programs.join("psql"), _running: running })
    }
}
