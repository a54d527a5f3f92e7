//! Does a program that knows nothing of us go on with the next token of its lease, and is nothing left to it when its
//! renewal is forbidden, or when it has ended? What becomes of it when the broker is started again?

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use blindferry_proto::audit::{Body, Event};
use blindferry_proto::credential::CredentialSettings;
use blindferry_proto::identifier::LeaseId;
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::session::LeaseEnd;
use blindferry_tests::command::blindferry;
use blindferry_tests::fleet::{ALLOW_ALL, Fleet};
use blindferry_tests::oauth::{OauthServer, Standing};
use blindferry_tests::operator::{Operator, oauth_client, settings};
use blindferry_tests::process::{PATIENCE, Running, eventually};
use blindferry_tests::program::missing;
use blindferry_tests::worker::log_file;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

const SECRET: &str = "client-secret-of-the-renewals";
/// Seconds that a token lives: two thirds of it are time for a program to start on a busy machine.
const SHORT: u32 = 12;
/// Seconds that a token lives where no renewal may come of its age.
const LONG: u32 = 3600;
/// Seconds after which a lease that nobody keeps ends.
const IDLE: u32 = 5;

#[test]
fn a_program_reads_the_next_token_of_its_lease_before_the_first_is_over_and_leaves_none_that_is_good() {
    let Some((fleet, server)) = stand(&[("minted", SHORT)]) else { return };
    let operator = fleet.operator();
    let mut renewed = Program::start(&fleet, &["minted"], &["--renew", "--renew-signal", "USR1"]);
    let (_, first) = renewed.reads();
    let lease = lease_of(&operator, &renewed);
    assert_eq!(renewers(&fleet).len(), 1);
    let mut kept = Program::start(&fleet, &["minted"], &[]);
    let (_, only) = kept.reads();

    let (at, second) = renewed.reads();
    assert_ne!(first, second);
    let audit = operator.audit();
    let over =
        time_of(&audit, |event| matches!(event, Event::Redeemed { lease: of, .. } if *of == lease)) + life(SHORT);
    let renewal = time_of(&audit, |event| matches!(event, Event::Renewed { lease: of, .. } if *of == lease));
    assert!(renewal < over && at < over, "renewed at {renewal}, read at {at}, the first was over at {over}");
    // Whom nobody renews for reads what was there before.
    kept.running.signal(Signal::USR1);
    assert_eq!(kept.reads().1, only);
    let others = |body: &&Body| matches!(body.event, Event::Renewed { lease: of, .. } if of != lease);
    assert_eq!(operator.audit().iter().filter(others).count(), 0);
    assert_eq!(renewers(&fleet).len(), 1);

    renewed.running.stop();
    assert_eq!(end_of(&operator, lease), (LeaseEnd::WorkerGone, Some(true)));
    let standing = |token: &Vec<String>| server.tokens()[&token[0]];
    assert_eq!([&first, &second].map(standing), [Standing::Revoked; 2]);
    assert_eq!((standing(&only), operator.status().leases), (Standing::Good, 1), "the other's lease goes on");
    eventually("the renewer's end", || renewers(&fleet).is_empty().then_some(()));
}

#[test]
fn a_policy_that_forbids_renewal_empties_the_file_and_ends_the_lease_and_another_credential_is_renewed() {
    let Some((fleet, server)) = stand(&[("once", SHORT), ("minted", SHORT)]) else { return };
    let operator = fleet.operator();
    let forbid = "@id(\"once-and-no-more\") forbid (principal, action == Blindferry::Action::\"renew\", \
                  resource == Blindferry::Credential::\"once\");";
    operator.apply_policy(&format!("{ALLOW_ALL}\n{forbid}"));
    let mut program = Program::start(&fleet, &["once", "minted"], &["--renew"]);
    let (_, first) = program.reads();
    assert!(first.iter().all(|token| server.tokens()[token] == Standing::Good), "{first:?}");

    eventually("the refusal", || {
        let log = program.running.log();
        (log.contains("blindferry-launch: once: not renewed: refused: denied: ") && log.contains("once-and-no-more"))
            .then_some(())
    });
    let renewed =
        |body: &Body| matches!(&body.event, Event::Renewed { credential, .. } if credential.as_str() == "minted");
    eventually("the other's renewal", || operator.audit().iter().any(renewed).then_some(()));
    let second = eventually("the other's next token", || {
        program.running.signal(Signal::USR1);
        let (_, second) = program.reads();
        (second[1] != first[1]).then_some(second)
    });
    assert_eq!(second[0], "", "what was delivered of a lease that is over");
    assert_eq!(server.tokens()[&second[1]], Standing::Good);
    assert_eq!(server.tokens()[&first[0]], Standing::Revoked);
    let denied = |event: &Event| match event {
        Event::Denied { credential, code: RefusalCode::Denied, detail, .. } if credential.as_str() == "once" => {
            detail.as_str().contains("once-and-no-more")
        }
        _ => false,
    };
    let events = operator.events();
    assert!(events.iter().any(denied), "{events:?}");
    let ended = |event: &&Event| matches!(event, Event::LeaseEnded { why: LeaseEnd::Denied, revoked: Some(true), .. });
    assert_eq!((events.iter().filter(ended).count(), operator.status().leases), (1, 1));
}

#[test]
fn after_a_restart_of_the_broker_the_lease_is_renewed_at_once_goes_on_and_ends_with_the_program() {
    let Some((mut fleet, server)) = stand(&[("minted", LONG)]) else { return };
    let operator = fleet.operator();
    let mut program = Program::start(&fleet, &["minted"], &["--renew", "--renew-signal", "USR1"]);
    let (_, first) = program.reads();
    let lease = lease_of(&operator, &program);
    let short = CredentialSettings { lease_idle: IDLE, ..settings(oauth_client(server.address)) };
    operator.put("unkept", short, SECRET.as_bytes());
    let mut other = Program::start(&fleet, &["unkept"], &[]);
    let (_, unkept) = other.reads();
    let others = lease_of(&operator, &other);

    fleet.host.stop();
    fleet.host.serve();
    let (_, second) = program.reads();
    assert_ne!(first, second);
    assert!(operator.events().iter().any(|event| matches!(event, Event::Renewed { lease: of, .. } if *of == lease)));
    // Nobody keeps a lease that a broker does not know: without a renewal it idles out, although its program lives.
    assert_eq!(end_of(&operator, others), (LeaseEnd::Idle, Some(true)));
    assert_eq!(server.tokens()[&unkept[0]], Standing::Revoked);
    assert!(other.running.ended().is_none());
    assert_eq!((operator.status().leases, server.tokens()[&second[0]]), (1, Standing::Good));

    program.running.stop();
    assert_eq!(end_of(&operator, lease), (LeaseEnd::WorkerGone, Some(true)));
    assert_eq!((operator.status().leases, server.good()), (0, 0));
    eventually("the renewer's end", || renewers(&fleet).is_empty().then_some(()));
}

/// A fleet with clients of one server, whose tokens live for so many seconds. `None` where it cannot be had.
fn stand(credentials: &[(&str, u32)]) -> Option<(Fleet, OauthServer)> {
    if missing(&["python3"]) {
        return None;
    }
    let fleet = Fleet::start()?;
    let server = OauthServer::start(SECRET);
    let operator = fleet.operator();
    for (name, token_lifetime) in credentials {
        let settings = CredentialSettings { token_lifetime: *token_lifetime, ..settings(oauth_client(server.address)) };
        operator.put(name, settings, SECRET.as_bytes());
    }
    Some((fleet, server))
}

/// Says when it reads what, now and after each signal. The last argument only marks its launcher.
const READER: &str = "
import json, os, signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
while True:
    tokens = [open(os.environ[name.upper() + '_FILE']).read() for name in sys.argv[1:-1]]
    print(json.dumps({'at': time.time_ns() // 1_000_000, 'tokens': tokens}), flush=True)
    signal.sigwait([signal.SIGUSR1])
";

/// A program that `blindferry run` became.
struct Program {
    running: Running,
    lines: Receiver<String>,
}

impl Program {
    fn start(fleet: &Fleet, names: &[&str], options: &[&str]) -> Self {
        let mut command = blindferry(fleet);
        command.arg("run").args(names.iter().map(|name| format!("{name}:memfd"))).args(options);
        command.args(["--", "python3", "-c", READER]).args(names).arg(fleet.directory());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut running = Running::start(command, &log_file(fleet));
        let output = BufReader::new(running.child().stdout.take().unwrap());
        let (say, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
        Self { running, lines }
    }

    /// When it read what next, in milliseconds since the epoch.
    fn reads(&mut self) -> (u64, Vec<String>) {
        let line = self.lines.recv_timeout(PATIENCE);
        let line = line.unwrap_or_else(|why| panic!("the program says nothing ({why}): {}", self.running.log()));
        let said: Value = serde_json::from_str(&line).unwrap();
        (said["at"].as_u64().unwrap(), serde_json::from_value(said["tokens"].clone()).unwrap())
    }
}

/// The only lease that this program's process redeemed a grant for.
fn lease_of(operator: &Operator, program: &Program) -> LeaseId {
    let leases = operator.events().into_iter().filter_map(|event| match event {
        Event::Redeemed { lease, worker, .. } => (worker.pid == program.running.id()).then_some(lease),
        _ => None,
    });
    let [lease] = leases.collect::<Vec<_>>()[..] else { panic!("one lease") };
    lease
}

/// How a lease ends, and whether what was minted was revoked.
fn end_of(operator: &Operator, lease: LeaseId) -> (LeaseEnd, Option<bool>) {
    let end = |event| match event {
        Event::LeaseEnded { lease: of, why, revoked } if of == lease => Some((why, revoked)),
        _ => None,
    };
    eventually("the end of a lease", || operator.events().into_iter().find_map(end))
}

/// When something happened, in milliseconds since the epoch.
fn time_of(audit: &[Body], what: impl Fn(&Event) -> bool) -> u64 {
    audit.iter().find(|body| what(&body.event)).unwrap_or_else(|| panic!("it is not in the audit")).at
}

fn life(seconds: u32) -> u64 {
    u64::from(seconds) * 1000
}

/// Launchers of this fleet's programs that have not become the program.
fn renewers(fleet: &Fleet) -> Vec<u32> {
    let mark = fleet.directory().to_str().unwrap();
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(|process: &u32| {
        let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("blindferry-launch") && line.contains(mark)
    })
    .collect()
}
