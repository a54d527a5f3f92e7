//! The starter's socket against callers who lie: what is not a whole request starts nothing, and says so.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use blindferry_handle::memfd::Handle;
use blindferry_handle::packet::PacketSocket;
use blindferry_proto::local::{decode, encode};
use blindferry_proto::start::{GRANTS_AT_ONCE, MAX_GRANTS, MAX_STRINGS, StartCode, StartReply, StartRequest, join};
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
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_blindferry-starter")), name, options)
    }

    /// The same, by another command line.
    fn start_by(mut command: Command, name: &str, options: &[&str]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can run a starter, and callers of another user");
            return None;
        }
        let directory = std::env::temp_dir().join(format!("blindferry-starter-{}-{name}", std::process::id()));
        fs::create_dir(&directory).unwrap();
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

/// A request that would be obeyed, packet by packet; each test changes one thing.
struct Request(Vec<(Vec<u8>, Vec<OwnedFd>)>);

/// Its packets.
const START: usize = 0;
const GRANTS: usize = 1;
const MORE_GRANTS: usize = 2;
const STREAMS: usize = 3;

fn strings(words: &[&[u8]]) -> OwnedFd {
    Handle::seal_within("test", &join(words.iter().copied()).unwrap(), MAX_STRINGS).unwrap().into_fd()
}

/// `Start` with so many credentials: `a`, `b`, and so on.
fn start(umask: u16, terminal: Option<u8>, count: usize) -> Vec<u8> {
    let grants = ('a'..).take(count).map(|name| name.to_string().parse().unwrap()).collect();
    encode(&StartRequest::Start { umask, terminal, grants }).unwrap()
}

fn grants(count: usize) -> Vec<OwnedFd> {
    (0..count).map(|_| Handle::seal("grant", b"opaque").unwrap().into_fd()).collect()
}

/// More than one packet holds.
const NAMES: usize = GRANTS_AT_ONCE + 2;

fn null() -> OwnedFd {
    open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

impl Request {
    fn new() -> (Self, Link, fs::File) {
        let (ours, theirs) = Link::pair().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let directory = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let request = Self(vec![
            (start(0o22, None, NAMES), vec![strings(&[b"hello", b""]), strings(&[b"A=b"]), directory]),
            (encode(&StartRequest::Grants).unwrap(), grants(GRANTS_AT_ONCE)),
            (encode(&StartRequest::Grants).unwrap(), grants(NAMES - GRANTS_AT_ONCE)),
            (encode(&StartRequest::Streams).unwrap(), vec![null(), writer.into(), null(), theirs.into_fd()]),
        ]);
        (request, ours, fs::File::from(OwnedFd::from(reader)))
    }

    /// What comes back.
    fn send(self, socket: &PacketSocket) -> StartReply {
        for (bytes, descriptors) in &self.0 {
            let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            // It may have refused an earlier one already.
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
    let grants = " --grant-fd 9=a --grant-fd 10=b --grant-fd 11=c --grant-fd 12=d --grant-fd 13=e --grant-fd 14=f";
    assert!(said.ends_with(&format!("{grants} hello \n")), "{said}");
}

#[test]
fn a_request_that_lies_starts_nothing() {
    let Some(starter) = Starter::start("lies", &[]) else { return };
    type Lie = (&'static str, fn(&mut Request));
    let lies: [Lie; 26] = [
        ("no descriptors", |request| request.0[START].1.clear()),
        ("too few", |request| request.0[START].1.truncate(2)),
        ("too many", |request| request.0[START].1.push(null())),
        ("a grant too few", |request| request.0[MORE_GRANTS].1.truncate(1)),
        ("a grant too many", |request| request.0[MORE_GRANTS].1.push(null())),
        ("a packet that is not full", |request| {
            let moved = request.0[GRANTS].1.pop().unwrap();
            request.0[MORE_GRANTS].1.insert(0, moved);
        }),
        ("no grants at all", |request| drop(request.0.drain(GRANTS..STREAMS))),
        ("grants that are missing", |request| drop(request.0.remove(MORE_GRANTS))),
        ("more grants than names", |request| request.0.insert(STREAMS, (request.0[GRANTS].0.clone(), grants(1)))),
        ("grants without names", |request| request.0[START].0 = start(0o22, None, 0)),
        ("more names than the bound", |request| {
            request.0[START].0 = start(0o22, None, MAX_GRANTS + 1);
            for count in [4, 4, 3] {
                request.0.insert(STREAMS, (request.0[GRANTS].0.clone(), grants(count)));
            }
        }),
        ("grants before anything", |request| request.0.swap(START, GRANTS)),
        ("streams before the grants", |request| request.0.swap(STREAMS, MORE_GRANTS)),
        ("words that can still change", |request| {
            let memfd = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
            write(&memfd, b"\x01hello\0").unwrap();
            request.0[START].1[0] = memfd;
        }),
        ("words that are none", |request| request.0[START].1[0] = null()),
        ("words without end", |request| {
            let bytes = vec![1; MAX_STRINGS + 1];
            request.0[START].1[0] = Handle::seal_within("test", &bytes, MAX_STRINGS + 1).unwrap().into_fd();
        }),
        ("an environment that is none", |request| request.0[START].1[1] = null()),
        ("a directory that is none", |request| request.0[START].1[2] = null()),
        ("a grant that is none", |request| request.0[MORE_GRANTS].1[1] = null()),
        ("a umask of ten bits", |request| request.0[START].0 = start(0o1000, None, NAMES)),
        ("a fourth stream", |request| request.0[START].0 = start(0, Some(3), NAMES)),
        ("a user of its choice", |request| request.0[START].0 = br#"{"start":{"umask":18,"uid":0}}"#.to_vec()),
        ("no language", |request| request.0[START].0 = b"hello".to_vec()),
        ("streams before anything", |request| request.0.swap(START, STREAMS)),
        ("no link", |request| request.0[STREAMS].1.truncate(3)),
        ("a second start", |request| request.0[STREAMS].0 = request.0[START].0.clone()),
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
    request.0[START].1[0] = Handle::seal("test", b"\x02nonsense").unwrap().into_fd();
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

#[test]
fn callers_who_hand_over_all_that_they_may_leave_descriptors_for_others() {
    let few = 64;
    let mut command = Command::new("prlimit");
    command.args([&format!("--nofile={few}:4096"), "--", env!("CARGO_BIN_EXE_blindferry-starter")]);
    let Some(starter) = Starter::start_by(command, "descriptors", &[]) else { return };
    // All but the last packet of each, which they keep back.
    let slow: Vec<_> = (0..4).map(|_| starter.connect()).collect();
    for socket in &slow {
        let words = [strings(&[]), strings(&[]), open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()];
        socket.send(&start(0o22, None, MAX_GRANTS), &words.each_ref().map(AsFd::as_fd)).unwrap();
        for _ in 0..MAX_GRANTS / GRANTS_AT_ONCE {
            let some = grants(GRANTS_AT_ONCE);
            socket
                .send(&encode(&StartRequest::Grants).unwrap(), &some.iter().map(AsFd::as_fd).collect::<Vec<_>>())
                .unwrap();
        }
    }
    let deadline = Instant::now() + Duration::from_secs(8);
    let held = || fs::read_dir(format!("/proc/{}/fd", starter.process.id())).unwrap().count();
    while held() <= few {
        assert!(Instant::now() < deadline, "it took {} descriptors", held());
        thread::sleep(Duration::from_millis(10));
    }
    let (request, ..) = Request::new();
    assert_eq!(request.send(&starter.connect()), StartReply::Prepared);
}
