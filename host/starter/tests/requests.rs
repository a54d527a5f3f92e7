//! The starter's socket against callers who lie: what is not a whole request starts nothing, and says so.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use blindferry_handle::memfd::Handle;
use blindferry_handle::packet::PacketSocket;
use blindferry_proto::local::{decode, encode};
use blindferry_proto::start::{MAX_STRINGS, StartCode, StartReply, StartRequest, join};
use blindferry_terminal::{End, FromKeeper, Link, ToKeeper};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
use rustix::io::write;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const USER: u32 = 64_212;

/// A starter whose launcher prints its words, and ends.
struct Starter {
    directory: PathBuf,
    process: Child,
}

impl Starter {
    fn start(name: &str, options: &[&str]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can run a starter, and callers of another user");
            return None;
        }
        let directory = std::env::temp_dir().join(format!("blindferry-starter-{}-{name}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_blindferry-starter"));
        command.arg("--socket").arg(directory.join("s")).args(options);
        if !options.contains(&"--launcher") {
            command.args(["--launcher", "/bin/echo"]);
        }
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(said.any(|line| line.contains("listening")));
        // Its log goes on being read, so that it can be written.
        thread::spawn(move || said.count());
        Some(Self { directory, process })
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("s")
    }

    /// A connection made by a thread of another user: what the kernel records is the thread's.
    fn connect(&self) -> PacketSocket {
        let path = self.socket();
        let connected = thread::spawn(move || {
            set_thread_groups(&[]).unwrap();
            let (uid, gid) = (Uid::from_raw(USER), Gid::from_raw(USER));
            set_thread_res_gid(gid, gid, gid).unwrap();
            set_thread_res_uid(uid, uid, uid).unwrap();
            PacketSocket::connect(&path).unwrap()
        });
        connected.join().unwrap()
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
        let _removed = fs::remove_dir_all(&self.directory);
    }
}

/// A request that would be obeyed; each test changes one thing.
struct Request {
    start: Vec<u8>,
    first: Vec<OwnedFd>,
    streams: Vec<u8>,
    second: Vec<OwnedFd>,
}

fn strings(words: &[&[u8]]) -> OwnedFd {
    Handle::seal_within("test", &join(words.iter().copied()).unwrap(), MAX_STRINGS).unwrap().into_fd()
}

fn null() -> OwnedFd {
    open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

impl Request {
    fn new() -> (Self, Link, fs::File) {
        let (ours, theirs) = Link::pair().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let directory = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let grant = Handle::seal("grant", b"opaque").unwrap().into_fd();
        let request = Self {
            start: encode(&StartRequest::Start { umask: 0o22, terminal: None }).unwrap(),
            first: vec![strings(&[b"hello", b""]), strings(&[b"A=b"]), directory, grant],
            streams: encode(&StartRequest::Streams).unwrap(),
            second: vec![null(), writer.into(), null(), theirs.into_fd()],
        };
        (request, ours, fs::File::from(OwnedFd::from(reader)))
    }

    /// What comes back.
    fn send(self, socket: &PacketSocket) -> StartReply {
        let lend = |descriptors: &[OwnedFd]| descriptors.iter().map(|one| one.try_clone().unwrap()).collect::<Vec<_>>();
        for (bytes, descriptors) in [(&self.start, lend(&self.first)), (&self.streams, lend(&self.second))] {
            let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            // It may have refused the first of the two already.
            let _sent = socket.send(bytes, &borrowed);
        }
        drop(self);
        // A reset, where not everything was read, is told before the answer.
        let packet = socket.receive().or_else(|_reset| socket.receive());
        decode(&packet.unwrap().bytes).unwrap()
    }
}

fn code(reply: StartReply) -> StartCode {
    match reply {
        StartReply::Refused(refusal) => refusal.code,
        StartReply::Prepared => panic!("it was obeyed"),
    }
}

#[test]
fn a_whole_request_is_obeyed_with_the_starters_words_before_the_callers() {
    let Some(starter) = Starter::start("whole", &[]) else { return };
    let (request, link, mut output) = Request::new();
    let socket = starter.connect();
    assert_eq!(request.send(&socket), StartReply::Prepared);
    assert!(matches!(link.reported().unwrap(), FromKeeper::Ready(None)));
    link.tell(ToKeeper::Start { in_front: false }).unwrap();
    assert!(matches!(link.reported().unwrap(), FromKeeper::Ended(End::Exited(0))));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut output, &mut said).unwrap();
    assert!(said.starts_with("--protection own-namespace --keeper "), "{said}");
    assert!(said.contains(" --grant-fd ") && said.ends_with(" hello \n"), "{said}");
}

#[test]
fn a_request_that_lies_starts_nothing() {
    let Some(starter) = Starter::start("lies", &[]) else { return };
    type Lie = (&'static str, fn(&mut Request));
    let lies: [Lie; 16] = [
        ("no descriptors", |request| request.first.clear()),
        ("too few", |request| request.first.truncate(2)),
        ("too many", |request| request.first.push(null())),
        ("words that can still change", |request| {
            let memfd = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
            write(&memfd, b"\x01hello\0").unwrap();
            request.first[0] = memfd;
        }),
        ("words that are none", |request| request.first[0] = null()),
        ("words without end", |request| {
            let bytes = vec![1; MAX_STRINGS + 1];
            request.first[0] = Handle::seal_within("test", &bytes, MAX_STRINGS + 1).unwrap().into_fd();
        }),
        ("an environment that is none", |request| request.first[1] = null()),
        ("a directory that is none", |request| request.first[2] = null()),
        ("a grant that is none", |request| request.first[3] = null()),
        ("a umask of ten bits", |request| {
            request.start = encode(&StartRequest::Start { umask: 0o1000, terminal: None }).unwrap();
        }),
        ("a fourth stream", |request| {
            request.start = encode(&StartRequest::Start { umask: 0, terminal: Some(3) }).unwrap();
        }),
        ("a user of its choice", |request| request.start = br#"{"start":{"umask":18,"uid":0}}"#.to_vec()),
        ("no language", |request| request.start = b"hello".to_vec()),
        ("streams before anything", |request| request.start.clone_from(&request.streams)),
        ("no link", |request| request.second.truncate(3)),
        ("a second start", |request| request.streams.clone_from(&request.start)),
    ];
    for (lie, tell) in lies {
        let (mut request, link, _output) = Request::new();
        tell(&mut request);
        assert_eq!(code(request.send(&starter.connect())), StartCode::Malformed, "{lie}");
        assert!(link.reported().unwrap_err().is_closed(), "{lie}");
    }
    let (request, ..) = Request::new();
    assert_eq!(request.send(&starter.connect()), StartReply::Prepared, "it still starts others");
}

#[test]
fn strings_that_are_none_are_told_to_whoever_accompanies_the_program() {
    let Some(starter) = Starter::start("strings", &[]) else { return };
    let (mut request, link, _output) = Request::new();
    // Only who has no power any more reads them.
    request.first[0] = Handle::seal("test", b"\x02nonsense").unwrap().into_fd();
    let socket = starter.connect();
    assert_eq!(request.send(&socket), StartReply::Prepared);
    assert!(matches!(link.reported().unwrap(), FromKeeper::Unfit(why) if why.contains("the words are none")));
}

#[test]
fn root_gets_nothing_and_a_user_no_more_than_his_share() {
    let Some(starter) = Starter::start("share", &["--per-user", "1"]) else { return };
    let (request, ..) = Request::new();
    assert_eq!(code(request.send(&PacketSocket::connect(&starter.socket()).unwrap())), StartCode::Root);
    let (request, link, _output) = Request::new();
    let first = starter.connect();
    assert_eq!(request.send(&first), StartReply::Prepared);
    let (request, ..) = Request::new();
    assert_eq!(code(request.send(&starter.connect())), StartCode::Busy);
    // The place is free when the program has ended.
    drop((first, link));
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (request, ..) = Request::new();
        if request.send(&starter.connect()) == StartReply::Prepared {
            return;
        }
        assert!(Instant::now() < deadline, "the place was never free again");
    }
}

#[test]
fn a_launcher_that_is_not_there_is_said_before_anything_runs() {
    let Some(starter) = Starter::start("launcher", &["--launcher", "/nowhere/blindferry-launch"]) else { return };
    let (request, ..) = Request::new();
    assert_eq!(code(request.send(&starter.connect())), StartCode::NotHere);
}
