//! Tokens that are kept fresh beside a program that knows nothing of it: does it find the next one, is it the program
//! that was started, and does nothing of ours outlive it?

use crate::attack::steals;
use crate::fake_broker::{Answers, FakeBroker, LEASE, Seen, parcelled_for};
use crate::fake_vault::{FakeVault, header};
use crate::forms::Place;
use crate::launched::{Launch, as_nobody};
use crate::protection::Installed;
use blindferry_proto::local::{WorkerReply, WorkerRequest, encode};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::session::LeaseEnd;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const PYTHON: &str = "/usr/bin/python3";

/// `token 1`, `token 2`, and so on, each for as many seconds; after so many renewals it refuses.
fn numbered(life: u64, renewals: usize) -> impl FnMut(&Seen) -> Answers + Send + 'static {
    let vault = FakeVault::new();
    let (mut count, mut leased_to) = (0, None);
    move |seen| {
        let (request, key) = match seen.request {
            WorkerRequest::Redeem { request, key, .. } => (request, key),
            WorkerRequest::Renew { request, .. } if count <= renewals => (request, leased_to.unwrap()),
            WorkerRequest::Renew { .. } => {
                return vec![(WorkerReply::Refused(Refusal::new(RefusalCode::Denied, "enough")), None)];
            }
            _ => return vec![(WorkerReply::Done, None)],
        };
        leased_to = Some(key);
        count += 1;
        let token = format!("token {count}");
        parcelled_for(&vault, &vault.seal(header(request, key, seen.uid), token.as_bytes()).to_bytes(), life)
    }
}

/// A program that says what it reads, once now and once after each signal.
const READER: &str = "
import os, signal, sys
path = sys.argv[1] if len(sys.argv) > 1 else os.environ['TOKEN_FILE']
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP, signal.SIGTERM])
while True:
    print(open(path).read(), os.getpid(), flush=True)
    if signal.sigwait([signal.SIGHUP, signal.SIGTERM]) == signal.SIGTERM: sys.exit(7)
";

struct Running {
    program: Child,
    said: BufReader<ChildStdout>,
}

impl Running {
    fn start(mut launch: Launch) -> Self {
        let mut program = launch.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(program.stdout.take().unwrap());
        Self { program, said }
    }

    /// The next token that it read.
    fn next(&mut self) -> String {
        let mut line = String::new();
        if self.said.read_line(&mut line).unwrap() == 0 {
            let mut why = String::new();
            std::io::Read::read_to_string(&mut self.program.stderr.take().unwrap(), &mut why).unwrap();
            panic!("it ended: {why}");
        }
        let (token, pid) = line.trim_end().rsplit_once(' ').unwrap_or_default();
        assert_eq!(pid, self.program.id().to_string(), "the program is the process that was started");
        token.to_owned()
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.program.id().to_string()]).status().unwrap().success());
    }

    /// What came on standard error, and its exit status.
    fn end(mut self) -> (String, Option<i32>) {
        self.signal("-TERM");
        let status = self.program.wait().unwrap().code();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.program.stderr.take().unwrap(), &mut said).unwrap();
        (said, status)
    }
}

/// Processes of ours with this broker on their command line.
fn renewers(broker: &FakeBroker) -> Vec<u32> {
    let path = broker.path().to_str().unwrap().to_owned();
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    all.filter(|pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("blindferry-launch") && line.contains(&path)
    })
    .collect()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_program_finds_the_next_token_in_the_same_place_and_is_told() {
    let place = Place::new("renewed");
    let file = format!("file:{}", place.file());
    for (name, form, path) in [("memfd", "memfd", None), ("file", file.as_str(), Some(place.file()))] {
        let broker = FakeBroker::start(&format!("renewed-{name}"), numbered(3, 100));
        let launch = Launch::of(&broker).args(&["--renew", "--renew-signal", "HUP", "--deliver", form]);
        let mut running = Running::start(
            launch.args(&["--", PYTHON, "-c", READER]).args(&path.iter().map(String::as_str).collect::<Vec<_>>()),
        );
        assert_eq!([running.next(), running.next(), running.next()], ["token 1", "token 2", "token 3"], "{name}");
        // No child of its own appeared, and nothing of the renewer's reached it.
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", running.program.id())).unwrap();
        assert_eq!(children, "");
        assert_eq!(running.end(), (String::new(), Some(7)), "{name}");
        until("a renewer outlived its program", || renewers(&broker).is_empty());
    }
}

#[test]
fn the_lease_stays_with_the_connection_of_the_process_that_redeemed() {
    let broker = FakeBroker::start("renewed-connection", numbered(3, 100));
    let launch = Launch::of(&broker).args(&["--renew", "--renew-signal", "HUP", "--deliver", "memfd"]);
    let mut running = Running::start(launch.args(&["--", PYTHON, "-c", READER]));
    assert_eq!([running.next(), running.next()], ["token 1", "token 2"]);
    assert!(broker.seen().iter().all(|seen| seen.connection == 0));
    // Who made it, by the kernel's word, is the program.
    let peer = broker.connections()[0].peer().unwrap();
    assert_eq!(u32::try_from(peer.pid()).unwrap(), running.program.id());
    running.end();
}

#[test]
fn when_the_broker_hangs_up_the_lease_is_renewed_soon_over_a_new_connection() {
    let broker = FakeBroker::start("renewed-hung-up", numbered(3600, 100));
    let launch = Launch::of(&broker).args(&["--renew", "--renew-signal", "HUP", "--deliver", "memfd"]);
    let mut running = Running::start(launch.args(&["--", PYTHON, "-c", READER]));
    assert_eq!(running.next(), "token 1");
    assert!(!broker.seen().iter().any(|seen| matches!(seen.request, WorkerRequest::Renew { .. })));
    broker.connections()[0].shutdown().unwrap();
    assert_eq!(running.next(), "token 2");
    let connections: Vec<_> = broker.seen().iter().map(|seen| seen.connection).collect();
    assert!(connections.contains(&1) && connections.is_sorted(), "{connections:?}");
    assert_eq!(running.end(), (String::new(), Some(7)));
    until("a renewer outlived its program", || renewers(&broker).is_empty());
}

#[test]
fn in_a_group_of_its_own_a_program_is_renewed_and_told_as_well() {
    let Some(installed) = Installed::set_group_id("renewed") else { return };
    let broker = FakeBroker::start("renewed-own-group", numbered(3, 100));
    let launch = Launch::at(&broker.path(), &installed.launcher()).args(&["--protection", "own-group", "--renew"]);
    let launch = launch.args(&["--renew-signal", "HUP", "--deliver", "memfd", "--", PYTHON, "-c", READER]);
    let mut running = Running::start(launch);
    assert_eq!([running.next(), running.next()], ["token 1", "token 2"]);
    assert_eq!(running.end(), (String::new(), Some(7)));
    until("a renewer outlived its program", || renewers(&broker).is_empty());
}

#[test]
fn a_template_is_rendered_anew() {
    let broker = FakeBroker::start("renewed-template", numbered(3, 100));
    let source = std::env::temp_dir().join(format!("blindferry-renewed-{}", std::process::id()));
    fs::write(&source, "password={{ credential token }}!").unwrap();
    let place = Place::new("renewed-template");
    let template = format!("{}:file:{}", source.display(), place.file());
    let launch = Launch::of(&broker).args(&["--renew", "--renew-signal", "HUP", "--template", &template]);
    let mut running = Running::start(launch.args(&["--", PYTHON, "-c", READER, &place.file()]));
    assert_eq!([running.next(), running.next()], ["password=token 1!", "password=token 2!"]);
    running.end();
    fs::remove_file(source).unwrap();
}

#[test]
fn when_the_lease_ends_the_file_is_empty_and_one_line_says_so() {
    let broker = FakeBroker::start("renewed-ended", numbered(3600, 100));
    let launch = Launch::of(&broker).args(&["--renew", "--deliver", "memfd", "--", PYTHON, "-c", READER]);
    let mut running = Running::start(launch);
    assert_eq!(running.next(), "token 1");
    let ended = WorkerReply::LeaseEnded { lease: LEASE, why: LeaseEnd::Returned };
    broker.connections()[0].send(&encode(&ended).unwrap(), &[]).unwrap();
    until("the renewer goes on without a lease", || renewers(&broker).is_empty());
    running.signal("-HUP");
    assert_eq!(running.next(), "");
    let (said, status) = running.end();
    assert_eq!(status, Some(7));
    assert_eq!(said, "blindferry-launch: token: the lease is over: Returned; its files are empty from here on\n");
}

#[test]
fn when_a_renewal_is_refused_the_file_is_empty_and_one_line_says_so() {
    let broker = FakeBroker::start("renewed-refused", numbered(3, 0));
    let launch = Launch::of(&broker).args(&["--renew", "--deliver", "memfd", "--", PYTHON, "-c", READER]);
    let mut running = Running::start(launch);
    assert_eq!(running.next(), "token 1");
    until("the renewer goes on after a refusal", || renewers(&broker).is_empty());
    running.signal("-HUP");
    assert_eq!(running.next(), "");
    let (said, _) = running.end();
    assert_eq!(
        said,
        "blindferry-launch: token: not renewed: refused: denied: enough; its files are empty from here on\n"
    );
}

#[test]
fn the_renewer_is_unreadable_and_when_it_is_killed_the_program_keeps_what_it_has() {
    let broker = FakeBroker::start("renewed-attacked", numbered(3600, 100));
    let launch = Launch::of(&broker).args(&["--renew", "--deliver", "memfd", "--", PYTHON, "-c", READER]);
    let mut running = Running::start(launch);
    assert_eq!(running.next(), "token 1");
    let [renewer] = renewers(&broker)[..] else { panic!("one renewer") };
    for what in ["environ", "maps", "mem", "fd/*"] {
        let look = as_nobody("sh").args(["-c", &format!("cat /proc/{renewer}/{what}")]).output().unwrap();
        assert!(look.stdout.is_empty(), "{what}");
    }
    let held = "import ctypes, os, sys\np = os.pidfd_open(int(sys.argv[1]))\n\
                sys.exit(any(ctypes.CDLL(None).syscall(438, p, n, 0) >= 0 for n in range(64)))";
    assert!(as_nobody(PYTHON).args(["-c", held, &renewer.to_string()]).status().unwrap().success());
    assert!(!steals(as_nobody("cat").arg(format!("/proc/{renewer}/root/proc/{renewer}/environ"))));
    // It is there, and of this user: who may kill it may attack it.
    assert!(as_nobody("kill").args(["-9", &renewer.to_string()]).status().unwrap().success());
    until("the renewer was killed", || renewers(&broker).is_empty());
    running.signal("-HUP");
    assert_eq!(running.next(), "token 1");
    assert_eq!(running.end(), (String::new(), Some(7)));
}

#[test]
fn a_command_runs_after_each_renewal_without_any_token_and_is_ended_with_the_program() {
    let broker = FakeBroker::start("renewed-command", numbered(3, 100));
    let place = Place::new("renewed-command");
    let command = format!("sh -c env>{0};exec\u{b}sleep\u{b}60", place.file());
    // Divided at blanks, so the script is one word.
    let command = command.replace('\u{b}', "${IFS}");
    let launch = Launch::of(&broker).args(&["--renew", "--renew-command", &command, "--deliver", "memfd"]);
    let launch = launch.args(&["--deliver", "env:SECRET", "--", PYTHON, "-c", READER]);
    let mut running = Running::start(launch);
    assert_eq!(running.next(), "token 1");
    until("the command did not run", || fs::read_to_string(place.file()).is_ok_and(|lines| lines.contains("PATH=")));
    let lines = fs::read_to_string(place.file()).unwrap();
    assert!(!lines.contains("token") && !lines.contains("SECRET") && !lines.contains("TOKEN_FILE"), "{lines}");
    running.end();
    until("a renewer outlived its program", || renewers(&broker).is_empty());
}

#[test]
fn renewal_of_what_cannot_be_read_again_is_refused_before_the_grant_is_spent() {
    let broker = FakeBroker::start("renewed-nothing", numbered(3600, 0));
    for args in [
        &["--renew"][..],
        &["--renew", "--deliver", "env:X"],
        &["--renew-signal", "HUP", "--deliver", "memfd"],
        &["--renew", "--deliver", "memfd", "--renew-command", "/no/such/command"],
        &["--renew", "--deliver", "memfd", "--renew-signal", "KILL"],
    ] {
        let output = Launch::of(&broker).args(args).args(&["--", "true"]).output();
        assert_eq!(output.status.code(), Some(125), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(broker.seen().is_empty());
}
