//! What a confined device process can no longer do, and what it still can: tried from inside, in a process of its own.

use std::fs::{self, File};
use std::io::ErrorKind::PermissionDenied;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, parent_id};
use std::process::Command;

use rustix::process::{
    DumpableBehavior, PidfdFlags, PidfdGetfdFlags, chroot, getpid, parent_process_death_signal, pidfd_getfd,
    pidfd_open, set_dumpable_behavior, test_kill_process,
};

use super::*;

const INSIDE: &str = "BLINDFERRY_TEST_CONFINED_IN";

#[test]
fn every_power_is_gone_and_what_is_needed_is_left() {
    passes_inside("swtpm");
}

#[test]
fn with_a_device_node_there_is_no_network_at_all() {
    passes_inside("node");
}

fn passes_inside(name: &str) {
    let directory = std::env::temp_dir().join(format!("blindferry-confined-{name}-{}", std::process::id()));
    fs::create_dir_all(directory.join("pins")).unwrap();
    fs::write(directory.join("pins/pins.toml"), "x").unwrap();
    fs::write(directory.join("outside"), "x").unwrap();
    fs::create_dir_all(directory.join("logs")).unwrap();
    fs::write(directory.join("logs/events"), "x").unwrap();
    fs::write(directory.join("logs/other"), "x").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let test = format!("confine::tests::inside_{name}");
    command.args(["--exact", &test, "--ignored", "--nocapture", "--test-threads=1"]).env(INSIDE, &directory);
    let status = command.status().unwrap();
    fs::remove_dir_all(directory).unwrap();
    assert!(status.success(), "{status}");
}

#[test]
#[ignore = "gives up the powers of its process; run by the test above"]
fn inside_swtpm() {
    let directory = PathBuf::from(std::env::var_os(INSIDE).unwrap());
    let pins = directory.join("pins/pins.toml");
    let [(tpm, port), (_control, next)] = neighbours();
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let parent = Pid::from_raw(i32::try_from(parent_id()).unwrap()).unwrap();
    let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    set_dumpable_behavior(DumpableBehavior::NotDumpable).unwrap();
    assert!(!is_confined());

    let tcti = Tcti::Swtpm { host: Ipv4Addr::LOCALHOST, port };
    let logs = LogPaths { events: directory.join("logs/events"), ima: directory.join("logs/not-there") };
    let _confined = confine(&tcti, &pins, Some(&logs)).unwrap();
    assert!(is_confined());

    // The powers are gone.
    assert_eq!(Command::new("/bin/true").status().unwrap_err().kind(), PermissionDenied, "starts a process");
    assert_eq!(Command::new("/bin/true").exec().kind(), PermissionDenied, "becomes another program");
    assert!(std::thread::Builder::new().spawn(|| ()).is_err(), "starts a thread");
    assert_eq!(chroot("/").unwrap_err(), Errno::PERM);
    assert_eq!(pidfd_getfd(&own, 0, PidfdGetfdFlags::empty()).unwrap_err(), Errno::PERM);
    assert_eq!(test_kill_process(parent).unwrap_err(), Errno::PERM, "signals another process");
    assert_eq!(set_dumpable_behavior(DumpableBehavior::Dumpable).unwrap_err(), Errno::PERM);
    for path in ["outside".into(), "logs/other".into(), "/usr/bin/env".into(), format!("/proc/{}/mem", parent_id())] {
        let path = directory.join(path);
        assert_eq!(File::open(&path).unwrap_err().kind(), PermissionDenied, "reads {}", path.display());
    }
    for path in [
        &pins,
        &logs.events,
        &logs.ima,
        &directory.join("new"),
        &directory.join("pins/new"),
        &"/proc/self/oom_score_adj".into(),
    ] {
        let opened = File::options().append(true).create(true).open(path);
        assert_eq!(opened.unwrap_err().kind(), PermissionDenied, "writes {}", path.display());
    }
    assert!(fs::remove_file(&pins).is_err() && fs::read_dir("/").is_err());
    assert!(TcpListener::bind("127.0.0.1:0").is_err(), "listens");
    assert_eq!(TcpStream::connect(other).unwrap_err().kind(), PermissionDenied, "calls another port");
    assert!(UdpSocket::bind("127.0.0.1:0").is_err() && UnixDatagram::unbound().is_err(), "has other sockets");
    assert!(TcpStream::connect("[::1]:1").is_err_and(|error| error.kind() == PermissionDenied), "speaks IPv6");

    // What is needed is left.
    assert_eq!(fs::read(&pins).unwrap(), b"x");
    assert_eq!(fs::read(&logs.events).unwrap(), b"x");
    assert!(fs::read_to_string("/proc/self/status").unwrap().contains("NoNewPrivs:\t1"));
    for port in [port, next] {
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok(), "the way to the TPM");
    }
    drop(tpm);
    // Once more, as the program that it becomes would: nothing piles up.
    let filters = || {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find(|line| line.starts_with("Seccomp_filters:")).map(str::to_owned).unwrap()
    };
    let before = filters();
    let _again = confine(&tcti, &pins, Some(&logs)).unwrap();
    assert_eq!(filters(), before);
    assert_eq!(parent_process_death_signal().unwrap(), Some(Signal::KILL));
    // Executes itself anew, from an ordinary file. A harness without threads can list its tests and no more.
    let error = Command::new("/proc/self/exe").arg("--list").exec();
    panic!("it cannot execute itself anew: {error}");
}

#[test]
#[ignore = "gives up the powers of its process; run by the test above"]
fn inside_node() {
    let directory = PathBuf::from(std::env::var_os(INSIDE).unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // A file stands for the node; it lies where nothing else is allowed.
    let node = directory.join("outside");
    let _confined = confine(&Tcti::Device(node.clone()), &directory.join("pins/pins.toml"), None).unwrap();
    assert_eq!(TcpStream::connect(listener.local_addr().unwrap()).unwrap_err().kind(), PermissionDenied);
    for _ in 0..2 {
        File::options().read(true).write(true).open(&node).unwrap();
    }
}

/// Two listeners side by side, as a software TPM has them.
fn neighbours() -> [(TcpListener, u16); 2] {
    loop {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        if let Some(next) = port.checked_add(1)
            && let Ok(second) = TcpListener::bind((Ipv4Addr::LOCALHOST, next))
        {
            return [(first, port), (second, next)];
        }
    }
}
