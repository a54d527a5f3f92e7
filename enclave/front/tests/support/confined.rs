//! Confines itself as the front does and tries what should not, and what should still, work.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::Command;

use blindferry_front::confine::confine;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

fn main() {
    let directory = PathBuf::from(std::env::args_os().nth(1).unwrap());
    let store = directory.join("store/store.redb");
    let outside = directory.join("outside");
    // A port that is free now.
    let ours = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();

    let _confined = confine(&store, &[ours]).unwrap();

    say("execute a program", Command::new("/bin/true").status());
    say("fork", rustix_fork());
    say(
        "take a descriptor",
        pidfd_open(getpid(), PidfdFlags::empty()).and_then(|own| pidfd_getfd(&own, 0, PidfdGetfdFlags::empty())),
    );
    say("change the root", std::os::unix::fs::chroot("/tmp"));
    say(
        "make a socket of another family",
        socket_with(AddressFamily::VSOCK, SocketType::STREAM, SocketFlags::empty(), None),
    );
    say("open a device", File::open("/dev/null"));
    say("look into a process", File::open("/proc/self/mem"));
    say("write outside", File::create(&outside));
    say(
        "read outside",
        File::open("/root/.profile").or_else(|error| {
            if error.kind() == io::ErrorKind::NotFound { Ok(File::open("/var")?) } else { Err(error) }
        }),
    );
    say("remove the store", std::fs::remove_file(&store));
    say("listen elsewhere", TcpListener::bind("127.0.0.1:0"));
    let thread = std::thread::spawn(|| Command::new("/bin/true").status());
    say("execute from another thread", thread.join().unwrap());

    say("still: write in the store's directory", File::create(&store));
    say("still: read the resolver's files", File::open("/etc/nsswitch.conf").or_else(|_| File::open("/etc/passwd")));
    say("still: look up a name", "localhost:1".to_socket_addrs());
    say("still: listen", TcpListener::bind(ours));
    say("still: connect", TcpStream::connect(upstream.local_addr().unwrap()));
}

/// What Command does when it needs to run code in the child.
fn rustix_fork() -> io::Result<std::process::ExitStatus> {
    use command_fds::CommandFdExt;
    let kept = File::open("/etc/passwd")?;
    Command::new("/bin/true").preserved_fds(vec![kept.into()]).status()
}

fn say<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) {
    match result {
        Ok(_) => println!("{what}: done"),
        Err(error) => println!("{what}: refused ({error})"),
    }
}
