//! What a confined process can no longer do, and what it still can: each tried for real, in a process of its own.
//!
//! This executable starts itself again with the name of an attempt. A power must be there before confinement, or losing
//! it shows nothing: where this machine does not give it to us, the test says so and is skipped. System calls that safe
//! code cannot make (ptrace, process_vm_readv, io_uring_setup, bpf, keyctl, mmap of code) are put to the very programs
//! that the kernel gets, in the unit tests of `confine/calls.rs`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test, though clippy sees none without the usual harness")]

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use blindferry_handle::packet::PacketSocket;
use blindferry_handle::secret::{InitError, MAX_POOL, MAX_SECRET, SecretBytes, SharedSecret};
use blindferry_seqpacket::AsyncPackets;
use blindferry_vault::confine::{ConfineError, confine};
use blindferry_vault::policy::Policy;
use libtest_mimic::{Arguments, Failed, Trial};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, Signal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn main() {
    if let Ok(attempt) = std::env::var(ATTEMPT) {
        child(&attempt);
    }
    let arguments = Arguments::from_args();
    let mut trials: Vec<_> =
        POWERS.iter().map(|power| Trial::test(format!("confined_cannot_{}", power.name), || loses(power))).collect();
    trials.extend(STILL.iter().map(|(name, _)| Trial::test(format!("confined_still_{name}"), || keeps(name))));
    trials.push(Trial::test("confined_shows_in_proc", shows_in_proc));
    trials.push(Trial::test("an_unprivileged_process_confines_itself_too", unprivileged));
    trials.push(Trial::test("a_second_thread_is_refused", || expect(&run("thread", "confine-with-a-thread")?, 0)));
    trials.push(Trial::test("no_runtime_is_refused", || expect(&run("bare", "confine-without-a-runtime")?, 0)));
    trials.push(Trial::test("a_panic_is_caught_and_an_abort_ends_it", aborts));
    libtest_mimic::run(&arguments, trials).exit();
}

/// Tells a child what to try: `before:name`, `after:name`.
const ATTEMPT: &str = "BLINDFERRY_TEST_ATTEMPT";
/// How a child says that an attempt was refused, as in [`Gone::Refused`]; 0 says that it worked.
const REFUSED: i32 = 10;
/// How it says that something else went wrong.
const BROKEN: i32 = 20;

/// Something that a process can do, and a confined one cannot.
struct Power {
    name: &'static str,
    attempt: fn(Belongings) -> io::Result<()>,
    gone: Gone,
}

/// What an attempt meets.
enum Gone {
    /// `EPERM` or `EACCES`; `EFBIG` for a file that may not grow.
    Refused,
    /// The end of the process by `SIGSYS`.
    Killed,
}
use Gone::{Killed, Refused};

/// What a process has from before it is confined.
struct Belongings {
    directory: tempfile::TempDir,
    log: File,
    socket: OwnedFd,
    datagrams: OwnedFd,
    listener: TcpListener,
    address: SocketAddr,
    sleeper: Sleeper,
    namespace: File,
}

/// A child of ours, ended with us.
struct Sleeper(Child);

impl Sleeper {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // Refused when we are confined; then its standard input ends with us, and so does it.
        let _refused = self.0.kill();
    }
}

fn belongings() -> io::Result<Belongings> {
    use rustix::net::{AddressFamily, SocketType, socket};
    let directory = tempfile::tempdir()?;
    let log = File::options().create(true).append(true).open(directory.path().join("log"))?;
    log.set_len(MAX_POOL as u64)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(Belongings {
        log,
        socket: socket(AddressFamily::INET, SocketType::STREAM, None)?,
        datagrams: socket(AddressFamily::INET, SocketType::DGRAM, None)?,
        address: listener.local_addr()?,
        listener,
        sleeper: Sleeper(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?),
        namespace: File::open("/proc/self/ns/uts")?,
        directory,
    })
}

impl Belongings {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

const POWERS: &[Power] = &[
    Power { name: "open_a_file", attempt: |_| File::open("/etc/passwd").map(drop), gone: Refused },
    Power { name: "open_its_own_memory", attempt: |_| File::open("/proc/self/mem").map(drop), gone: Refused },
    Power { name: "create_a_file", attempt: |b| File::create(b.path("new")).map(drop), gone: Refused },
    Power { name: "unlink_a_file", attempt: |b| std::fs::remove_file(b.path("log")), gone: Refused },
    Power { name: "list_a_directory", attempt: |_| std::fs::read_dir("/").map(drop), gone: Refused },
    Power { name: "look_at_a_file", attempt: |_| std::fs::metadata("/etc/passwd").map(drop), gone: Refused },
    Power { name: "fill_a_log", attempt: |b| (&b.log).write_all(b"one byte too many"), gone: Refused },
    Power {
        name: "change_the_mode_of_an_open_file",
        attempt: |b| Ok(rustix::fs::fchmod(&b.log, rustix::fs::Mode::RWXU)?),
        gone: Refused,
    },
    Power {
        name: "make_a_socket",
        attempt: |_| {
            use rustix::net::{AddressFamily, SocketType, socket};
            Ok(socket(AddressFamily::UNIX, SocketType::STREAM, None).map(drop)?)
        },
        gone: Refused,
    },
    Power { name: "connect_a_socket", attempt: |b| Ok(rustix::net::connect(&b.socket, &b.address)?), gone: Refused },
    Power {
        name: "bind_a_socket",
        attempt: |b| Ok(rustix::net::bind(&b.socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?),
        gone: Refused,
    },
    Power {
        name: "accept_a_connection",
        attempt: |b| {
            b.listener.set_nonblocking(true)?;
            // Nobody connects, which is as far as it gets where it is allowed.
            b.listener
                .accept()
                .map(drop)
                .or_else(|e| if e.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(e) })
        },
        gone: Refused,
    },
    Power {
        name: "send_to_an_address",
        attempt: |b| Ok(rustix::net::sendto(&b.datagrams, b"x", rustix::net::SendFlags::empty(), &b.address).map(drop)?),
        gone: Refused,
    },
    Power { name: "execute_a_program", attempt: |_| Err(Command::new("true").exec()), gone: Killed },
    Power { name: "start_a_process", attempt: |_| Command::new("true").status().map(drop), gone: Refused },
    Power {
        name: "start_a_thread",
        attempt: |_| std::thread::Builder::new().spawn(|| ()).map(|thread| drop(thread.join())),
        gone: Refused,
    },
    Power {
        name: "signal_another_process",
        attempt: |b| Ok(rustix::process::kill_process(b.sleeper.pid(), Signal::TERM)?),
        gone: Refused,
    },
    Power {
        name: "take_a_descriptor_of_another_process",
        attempt: |b| {
            let pidfd = rustix::process::pidfd_open(b.sleeper.pid(), PidfdFlags::empty());
            // Confined, there is no pidfd to be had; the call under test must be made all the same.
            let pidfd = pidfd.or_else(|_| b.log.try_clone().map(OwnedFd::from))?;
            Ok(rustix::process::pidfd_getfd(&pidfd, 0, rustix::process::PidfdGetfdFlags::empty()).map(drop)?)
        },
        gone: Killed,
    },
    Power {
        name: "watch_another_process",
        attempt: |b| Ok(rustix::process::pidfd_open(b.sleeper.pid(), PidfdFlags::empty()).map(drop)?),
        gone: Refused,
    },
    Power {
        name: "raise_a_limit",
        attempt: |_| Ok(rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(1) })?),
        gone: Refused,
    },
    Power {
        name: "become_dumpable",
        attempt: |_| Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?),
        gone: Refused,
    },
    Power {
        name: "enter_a_namespace",
        attempt: |b| {
            let kind = Some(rustix::thread::LinkNameSpaceType::HostNameAndNISDomainName);
            Ok(rustix::thread::move_into_link_name_space(b.namespace.as_fd(), kind)?)
        },
        gone: Killed,
    },
    Power { name: "change_its_root", attempt: |b| Ok(rustix::process::chroot(b.directory.path())?), gone: Killed },
    Power {
        name: "mount",
        attempt: |b| {
            use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
            mount("none", b.directory.path(), "tmpfs", MountFlags::empty(), None)?;
            Ok(unmount(b.directory.path(), UnmountFlags::DETACH)?)
        },
        gone: Killed,
    },
    Power {
        name: "make_a_memory_file",
        attempt: |_| Ok(rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).map(drop)?),
        gone: Refused,
    },
    Power { name: "make_a_pipe", attempt: |_| Ok(rustix::pipe::pipe().map(drop)?), gone: Refused },
    Power { name: "change_directory", attempt: |_| std::env::set_current_dir("/"), gone: Refused },
];

/// What a confined process still does. Each prepares, is confined by the function that it is given, and goes on.
const STILL: &[(&str, fn())] = &[
    ("speaks_over_tcp_and_waits", || {
        alone(async {
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut theirs, _) = listener.accept().await.unwrap();
            assert!(confine().unwrap().landlock_abi() <= 9);
            // A connection that the front dialled arrives as a descriptor, after confinement.
            ours.set_nonblocking(true).unwrap();
            let mut ours = tokio::net::TcpStream::from_std(ours).unwrap();
            ours.set_nodelay(true).unwrap();
            ours.peer_addr().unwrap();
            let (mut there, mut back) = ([0; 4], [0; 4]);
            let (sent, received) = tokio::join!(ours.write_all(b"ping"), theirs.read_exact(&mut there));
            sent.and(received.map(drop)).unwrap();
            let (sent, received) = tokio::join!(theirs.write_all(b"pong"), ours.read_exact(&mut back));
            sent.and(received.map(drop)).unwrap();
            assert_eq!((&there, &back), (b"ping", b"pong"));
            let late = tokio::time::timeout(Duration::from_millis(20), ours.read_u8()).await;
            assert!(late.is_err());
            drop(theirs);
            assert_eq!(ours.read(&mut back).await.unwrap(), 0);
        });
    }),
    ("speaks_tls", || {
        alone(async {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let made = rcgen::generate_simple_self_signed(["vault.example".to_owned()]).unwrap();
            let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
            let confined = confine().unwrap();
            let stream = |end: UnixStream| {
                end.set_nonblocking(true).unwrap();
                tokio::net::UnixStream::from_std(end).unwrap()
            };
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let versions = &[&rustls::version::TLS13];
            let server = rustls::ServerConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(versions)
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key)
                .unwrap();
            let mut roots = rustls::RootCertStore::empty();
            roots.add(made.cert.der().clone()).unwrap();
            let client = rustls::ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(versions)
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let (server, client) = tokio::join!(
                tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(stream(theirs)),
                tokio_rustls::TlsConnector::from(Arc::new(client))
                    .connect("vault.example".try_into().unwrap(), stream(ours)),
            );
            let (mut server, mut client, mut got) = (server.unwrap(), client.unwrap(), [0; 6]);
            client.write_all(b"secret").await.unwrap();
            client.flush().await.unwrap();
            server.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"secret");
            drop(confined);
        });
    }),
    ("receives_secrets_and_keeps_its_own", || {
        alone(async {
            let (ours, theirs) = PacketSocket::pair().unwrap();
            let sent = SharedSecret::create(32, |bytes| {
                bytes.fill(7);
                Ok::<_, io::Error>(())
            })
            .unwrap();
            theirs.send(&[32], &[sent.as_fd()]).unwrap();
            sent.handed_over();
            let confined = confine().unwrap();
            let packets = AsyncPackets::new(ours).unwrap();
            let mut packet = packets.receive().await.unwrap();
            let descriptor = packet.descriptors.pop().unwrap();
            packets.send(b"thanks", &[descriptor.as_fd()]).await.unwrap();
            let received = SecretBytes::adopt(descriptor, 32).unwrap();
            assert_eq!(received.len(), 32);
            let fill = |bytes: &mut [u8]| Ok::<_, InitError<io::Error>>(bytes.len());
            let large = SecretBytes::init(MAX_SECRET, fill).unwrap();
            // More small ones than were reserved.
            let small: Vec<_> = (0..200).map(|_| SecretBytes::init(32, fill).unwrap()).collect();
            drop((large, small, confined));
        });
    }),
    ("draws_random_numbers_and_signs", || {
        alone(async {
            let confined = confine().unwrap();
            let random = ring::rand::SystemRandom::new();
            let key = ring::signature::Ed25519KeyPair::generate_pkcs8(&random).unwrap();
            let key = ring::signature::Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap();
            assert_eq!(key.sign(b"x").as_ref().len(), 64);
            let curve = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
            let key = ring::signature::EcdsaKeyPair::generate_pkcs8(curve, &random).unwrap();
            let key = ring::signature::EcdsaKeyPair::from_pkcs8(curve, key.as_ref(), &random).unwrap();
            assert_eq!(key.sign(&random, b"x").unwrap().as_ref().len(), 64);
            drop(confined);
        });
    }),
    ("parses_policies", || {
        alone(async {
            let confined = confine().unwrap();
            Policy::parse("permit(principal, action, resource) when { principal.uid == 1 };", 1).unwrap();
            // The check against deep recursion, which needs to know where the stack ends.
            let refused = Policy::parse("permit(principal, action, resource) when { principal.name };", 1);
            assert_eq!(refused.unwrap_err().len(), 1);
            drop(confined);
        });
    }),
    ("allocates_and_gives_back", || {
        alone(async {
            let confined = confine().unwrap();
            for size in [1_usize << 10, 1 << 17, 1 << 22, 1 << 25] {
                let mut bytes = vec![1_u8; size];
                bytes.resize(size * 2, 2);
                assert_eq!(bytes.iter().rev().take(3).sum::<u8>(), 6);
            }
            drop(confined);
        });
    }),
    ("writes_to_its_log_and_survives_a_full_one", || {
        alone(async {
            let mut small = tempfile::tempfile().unwrap();
            let b = belongings().unwrap();
            let confined = confine().unwrap();
            small.write_all(b"a line\n").unwrap();
            let full = (&b.log).write_all(b"x").unwrap_err();
            assert_eq!(full.raw_os_error(), Some(Errno::FBIG.raw_os_error()));
            drop(confined);
        });
    }),
];

/// Runs on the main thread, in a runtime of one thread, as the vault does.
fn alone(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

// The child's side.

fn child(attempt: &str) -> ! {
    let (when, name) = attempt.split_once(':').unwrap();
    match when {
        "before" | "after" => {
            let power = POWERS.iter().find(|power| power.name == name).unwrap();
            let mut result = Ok(());
            alone(async {
                let belongings = belongings().unwrap();
                if when == "after" {
                    drop(confine().unwrap());
                }
                result = (power.attempt)(belongings);
            });
            std::process::exit(match result {
                Ok(()) => 0,
                Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                    Some(Errno::PERM | Errno::ACCESS | Errno::FBIG) => REFUSED,
                    _ => {
                        eprintln!("{error}");
                        BROKEN
                    }
                },
            })
        }
        "still" => STILL.iter().find(|(still, _)| *still == name).unwrap().1(),
        "wait" => alone(async {
            let confined = confine().unwrap();
            println!("{} {} {}", confined.memory(), confined.landlock_abi(), confined.notes().join(" / "));
            let _end = io::stdin().read(&mut [0]);
        }),
        "thread" => alone(async {
            let thread = std::thread::spawn(std::thread::park);
            assert!(matches!(confine(), Err(ConfineError::Threads { threads: 2 })));
            thread.thread().unpark();
        }),
        "bare" => assert!(matches!(confine(), Err(ConfineError::Signal(_)))),
        "panic" => alone(async {
            drop(confine().unwrap());
            assert!(std::panic::catch_unwind(|| panic!("caught")).is_err());
            std::process::abort();
        }),
        other => panic!("no such attempt: {other}"),
    }
    std::process::exit(0);
}

// The parent's side.

fn loses(power: &Power) -> Result<(), Failed> {
    let before = run("before", power.name)?;
    if before.code() != Some(0) {
        println!("skipped {}: not there before either ({before})", power.name);
        return Ok(());
    }
    let after = run("after", power.name)?;
    match power.gone {
        Refused => expect(&after, REFUSED),
        Killed if after.signal() == Some(libc::SIGSYS) => Ok(()),
        Killed => Err(format!("not killed: {after}").into()),
    }
}

fn keeps(name: &str) -> Result<(), Failed> {
    expect(&run("still", name)?, 0)
}

fn aborts() -> Result<(), Failed> {
    let status = run("panic", "")?;
    if status.signal() == Some(libc::SIGABRT) { Ok(()) } else { Err(format!("{status}").into()) }
}

fn shows_in_proc() -> Result<(), Failed> {
    let mut child = start("wait", "").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut said = [0; 512];
    let len = child.stdout.as_mut().ok_or("no output")?.read(&mut said)?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id()))?;
    drop(child.stdin.take());
    expect(&child.wait()?, 0)?;
    println!("{}", String::from_utf8_lossy(said.get(..len).unwrap_or_default()));

    let line = |text: &str, name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    for (name, value) in [
        ("CapInh:", "0000000000000000"),
        ("CapPrm:", "0000000000000000"),
        ("CapEff:", "0000000000000000"),
        ("CapAmb:", "0000000000000000"),
        ("NoNewPrivs:", "1"),
        ("Seccomp:", "2"),
        ("Seccomp_filters:", "2"),
        ("Threads:", "1"),
    ] {
        assert_eq!(line(&status, name).split_whitespace().last(), Some(value), "{name}");
    }
    if rustix::process::getuid().is_root() {
        assert_eq!(line(&status, "CapBnd:").split_whitespace().last(), Some("0000000000000000"));
    }
    for (name, value) in [("Max core file size", "0"), ("Max processes", "0"), ("Max file size", "4194304")] {
        let found = line(&limits, name);
        assert_eq!(found.trim_start_matches(name).split_whitespace().next(), Some(value), "{found}");
    }
    Ok(())
}

fn unprivileged() -> Result<(), Failed> {
    const NOBODY: u32 = 65534;
    let started = start("still", "receives_secrets_and_keeps_its_own").uid(NOBODY).gid(NOBODY).status();
    match started {
        Ok(status) => expect(&status, 0),
        Err(error) => {
            println!("skipped: cannot start as another user ({error})");
            Ok(())
        }
    }
}

fn start(when: &str, name: &str) -> Command {
    // By its open file, so that a user who may not enter the directory can run it.
    let mut command = Command::new("/proc/self/exe");
    command.env(ATTEMPT, format!("{when}:{name}")).env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    command
}

fn run(when: &str, name: &str) -> Result<ExitStatus, Failed> {
    let output = start(when, name).output()?;
    if output.status.code() == Some(BROKEN) || output.status.code() == Some(101) {
        eprintln!("{when} {name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.status)
}

fn expect(status: &ExitStatus, code: i32) -> Result<(), Failed> {
    if status.code() == Some(code) { Ok(()) } else { Err(format!("wanted exit {code}: {status}").into()) }
}
