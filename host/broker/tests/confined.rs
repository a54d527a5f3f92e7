//! What the broker has given up, tried from inside: in a process of its own, since nothing gives it back.

use blindferry_broker::configuration::Address;
use blindferry_broker::confine::{Needs, confine};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, chroot, kill_process, pidfd_getfd, pidfd_open};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const INSIDE: &str = "BLINDFERRY_TEST_CONFINED_IN";

#[test]
fn every_power_is_gone_and_what_is_needed_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "inside", "--ignored", "--nocapture", "--test-threads=1"])
        .env(INSIDE, directory.path())
        .status();
    assert!(status.unwrap().success());
}

#[test]
#[ignore = "gives up the powers of its process; run by the test above"]
fn inside() {
    let directory = PathBuf::from(std::env::var_os(INSIDE).unwrap());
    let socket = directory.join("socket");
    let _bound = UnixListener::bind(&socket).unwrap();
    std::fs::write(directory.join("file"), "x").unwrap();
    let vault = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut status = File::open("/proc/self/status").unwrap();
    // Ends when its input is closed.
    let mut outside = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let process = Pid::from_child(&outside);
    let pidfd = pidfd_open(process, PidfdFlags::empty()).unwrap();

    let address: Address = vault.local_addr().unwrap().to_string().parse().unwrap();
    let _confined = confine(&Needs { vault: &address, collector: None, sockets: &[&directory, &directory] }).unwrap();

    // The powers are gone.
    assert_eq!(pidfd_getfd(&pidfd, 0, PidfdGetfdFlags::empty()).unwrap_err(), Errno::PERM);
    assert_eq!(Command::new("/bin/true").status().unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(chroot("/").unwrap_err(), Errno::PERM);
    for path in [directory.join("file"), "/etc/passwd".into(), "/proc/self/environ".into()] {
        assert_eq!(File::open(&path).unwrap_err().kind(), ErrorKind::PermissionDenied, "{}", path.display());
    }
    assert_eq!(File::create(directory.join("new")).unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert!(std::fs::read_dir("/").is_err());
    assert!(TcpListener::bind("127.0.0.1:0").is_err(), "it cannot listen");
    assert!(TcpStream::connect(other.local_addr().unwrap()).is_err(), "it cannot dial another port");
    assert!(kill_process(process, Signal::KILL).is_err(), "it cannot signal outwards");

    // What is needed is left.
    assert!(TcpStream::connect(vault.local_addr().unwrap()).is_ok(), "it dials the vault");
    std::fs::remove_file(&socket).unwrap();
    std::thread::spawn(|| {}).join().unwrap();
    assert!(rustix::fs::memfd_create("handle", rustix::fs::MemfdFlags::ALLOW_SEALING).is_ok());

    let mut text = String::new();
    status.rewind().unwrap();
    status.read_to_string(&mut text).unwrap();
    assert!(text.contains("Seccomp:\t2") && text.contains("NoNewPrivs:\t1"), "{text}");

    drop(outside.stdin.take());
    assert!(outside.wait().unwrap().success(), "nobody could end it from here but by its input");
}
