//! Does a fleet that is used by everybody at once, and of which any process is killed at any moment, lose nothing: no
//! memory, no descriptor, no token, no operation that it accepted?
//!
//! Half a minute by default. `tests/soak/run --minutes 60` asks for an hour; `--seed` repeats the strokes and the pauses of a run,
//! not its interleaving.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a test fails by panicking, and its figures are not exact"
)]

use blindferry_proto::credential::{CredentialSettings, Kind};
use blindferry_tests::account::is_root;
use blindferry_tests::fleet::{Fleet, HOST, Plan};
use blindferry_tests::oauth::OauthServer;
use blindferry_tests::operator::{oauth_client, settings};
use blindferry_tests::process::within;
use dice::Dice;
use gauge::{Gauge, Sample};
use ground::Ground;
use killer::Killer;
use reckoning::{Audit, no_token_is_left, nothing_grows};
use std::path::Path;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};
use std::{env, fs};

#[path = "soak/book.rs"]
mod book;
#[path = "soak/crossing.rs"]
mod crossing;
#[path = "soak/dice.rs"]
mod dice;
#[path = "soak/gauge.rs"]
mod gauge;
#[path = "soak/ground.rs"]
mod ground;
#[path = "soak/killer.rs"]
mod killer;
#[path = "soak/operating.rs"]
mod operating;
#[path = "soak/reckoning.rs"]
mod reckoning;

/// Of `prod` each release has to be approved; everything else is for everybody.
const POLICY: &str = "@id(\"everybody\") permit (principal, action, resource);\n\
    @id(\"by-hand\") @approval(\"required\") permit (principal, action, resource == Blindferry::Credential::\"prod\");";
const SECRET: &str = "client-secret-of-the-soak";
/// Seconds after which a lease that nobody keeps ends.
const IDLE: u32 = 10;
/// Seconds that a minted token lives: programs renew theirs after two thirds of it.
const SHORT: u32 = 12;
/// The vault waits so long for a handshake that was dropped, at most.
const SETTLED: Duration = Duration::from_secs(90);

#[test]
fn a_mixed_load_with_kills_at_random_leaves_nothing_behind_and_the_audit_has_all_that_was_accepted() {
    if !is_root() {
        println!("skipped: only root sees the descriptors of processes that nobody may look into");
        return;
    }
    let (seconds, seed) =
        (asked("SECONDS").unwrap_or(30), asked("SEED").unwrap_or_else(|| u64::from(std::process::id())));
    let pace = asked("PACE").unwrap_or(100) as f64 / 100.0;
    println!("seed {seed}, {seconds} s: repeat with BLINDFERRY_SOAK_SEED={seed} BLINDFERRY_SOAK_SECONDS={seconds}");
    let Some((mut fleet, server)) = stand() else { return };
    let (gauge, ground) = (Gauge::new(), Ground::of(&fleet, pace));
    gauge.look_at(&fleet.enclave, &fleet.host);
    let before = gauge.now();
    // A third of the time is without kills, so that it shows what grows.
    let (time, dice) = (Duration::from_secs(seconds), |stream| Dice::new(seed, stream));
    let (began, pause) = (Instant::now(), (time / 8).clamp(Duration::from_secs(1), Duration::from_secs(15)));
    let Fleet { enclave, host, operator_tpm, .. } = &mut fleet;
    let (ground, gauge, tpm) = (&ground, &gauge, &*operator_tpm);
    let (orphaned, quiet_from) = scope(|scope| {
        let _ends = Ends(ground);
        scope.spawn(move || crossing::cross(ground, dice(1)));
        scope.spawn(move || crossing::cross(ground, dice(2)));
        scope.spawn(move || crossing::wait(ground, dice(3)));
        scope.spawn(move || crossing::run(ground, dice(4)));
        scope.spawn(move || operating::administrate(ground, tpm, dice(5)));
        scope.spawn(move || operating::decide(ground, tpm, dice(6)));
        scope.spawn(move || operating::drop_sessions(ground, tpm, dice(7)));
        scope.spawn(move || {
            while !ground.is_over() {
                gauge.look();
                sleep(Duration::from_secs(1));
            }
        });
        let mut killer = Killer::new(enclave, host, &server, gauge);
        killer.kill_until(began + time * 2 / 3, pause, dice(0));
        let orphaned = killer.orphaned;
        let quiet_from = gauge.seconds();
        sleep((time / 3).max(Duration::from_secs(8)));
        (orphaned, quiet_from)
    });

    let book = ground.book.write().clone();
    book.say();
    let operator = fleet.operator();
    let settled = |what: &str, is: &mut dyn FnMut() -> Result<(), String>| {
        let mut last = String::new();
        let went = within(SETTLED, || is().map_err(|why| last = why).ok());
        assert!(went.is_some(), "{what}: {last}");
    };
    settled("leases", &mut || match operator.status().leases {
        0 => Ok(()),
        leases => Err(format!("{leases} leases without a worker")),
    });
    settled("tokens", &mut || {
        if no_token_is_left(&server, &orphaned) { Ok(()) } else { Err("tokens that nobody uses are good".to_owned()) }
    });
    settled("processes", &mut || match left_in(&ground.user_directory).as_slice() {
        [] => Ok(()),
        left => Err(left.join("; ")),
    });
    settled("descriptors", &mut || more_descriptors(&before, &gauge.now()).map_or(Ok(()), Err));
    println!(
        "tokens: {} minted, {} of them by vaults that were ended and never revoked, none else is good",
        server.tokens().len(),
        orphaned.len()
    );
    nothing_grows(gauge, quiet_from, &before, &gauge.now());
    drop(operator);
    Audit::read(ground.blindferry()).holds_all_of(&book);
    assert!(book.redeemed.len() > 5 && book.programs > 0 && book.operated.len() > 3, "there was a load: {book:?}");
}

/// A fleet with a credential of each kind.
fn stand() -> Option<(Fleet, OauthServer)> {
    let fleet = Fleet::start_with(&Plan { policy: POLICY, ..Plan::default() })?;
    let server = OauthServer::start(SECRET);
    let operator = fleet.operator();
    let short = |kind| CredentialSettings { lease_idle: IDLE, ..settings(kind) };
    let minted = CredentialSettings { token_lifetime: SHORT, ..short(oauth_client(server.address)) };
    operator.put("api", short(Kind::Release), b"a master that is released");
    operator.put("prod", short(Kind::Release), b"a master that a person releases");
    operator.put("minted", minted, SECRET.as_bytes());
    assert!(operator.hosts().iter().any(|host| host.name.as_str() == HOST));
    Some((fleet, server))
}

/// The number in `BLINDFERRY_SOAK_` and this.
fn asked(what: &str) -> Option<u64> {
    let name = format!("BLINDFERRY_SOAK_{what}");
    env::var(&name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// Processes that still are where workers and programs were.
fn left_in(place: &Path) -> Vec<String> {
    let there = |entry: &fs::DirEntry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == place);
    let all = fs::read_dir("/proc").unwrap().flatten().filter(there);
    all.map(|entry| fs::read_to_string(entry.path().join("comm")).unwrap_or_default()).collect()
}

/// Whoever has more descriptors than before, and a few that come and go.
fn more_descriptors(before: &[Sample], now: &[Sample]) -> Option<String> {
    let more = |(before, now): (&Sample, &Sample)| now.descriptors > before.descriptors + 2;
    let found = before.iter().zip(now).find(|pair| more(*pair))?;
    Some(format!("{}: {} descriptors, and {} before", found.0.who, found.1.descriptors, found.0.descriptors))
}

/// Ends the load, also when something went wrong.
struct Ends<'a>(&'a Ground);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
