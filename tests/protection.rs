//! What does a process of the same user get out of a program with a token, at each level, and without any? The table in
//! docs/threats.md is what comes out here.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use blindferry_handle::inherit::keep_over_exec;
use blindferry_handle::memfd::Handle;
use blindferry_proto::local::WorkerRequest;
use blindferry_tests::account::{Account, CALLER};
use blindferry_tests::attack::{look, look_and_abort};
use blindferry_tests::attack_launch::{ATTACKER, Launcher, Tracer, cannot_compare};
use blindferry_tests::moves::{Move, Moves};
use blindferry_tests::page;
use blindferry_tests::process::send;
use blindferry_tests::way::Way;
use fake_broker::{FakeBroker, honest};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::Signal;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, fs, thread};

#[path = "../host/worker/tests/worker/fake_broker.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod fake_broker;
#[path = "../host/worker/tests/worker/fake_vault.rs"]
mod fake_vault;

const TOKEN: &str = "a-token-that-is-for-one-program-83b1f0";

/// The rows of the table.
const MOVES: [&str; 15] = [
    "reads its environment",
    "reads its memory",
    "calls `process_vm_readv`",
    "opens its environment by `io_uring`",
    "takes its descriptors, by `/proc` or `pidfd_getfd`",
    "takes a descriptor that waits in its socket",
    "opens the file that the token is in, by its name",
    "attaches to it as a debugger",
    "was attached before it became the program",
    "opened its directory, memory and descriptors before, and kept them",
    "raises the core limit and aborts it",
    "looks without a pause from before the launch",
    "reads the environment of what it starts",
    "is the parent, and has all that it starts load a library (`LD_PRELOAD`)",
    "is root, and reads its memory",
];

#[test]
fn each_level_keeps_out_what_the_table_says() {
    if cannot_compare() {
        return;
    }
    let columns = Way::ALL.map(|way| (way, column(way)));
    let mut table = format!("| it … | {} |\n", Way::ALL.map(Way::words).join(" | "));
    table.push_str(&format!("|---|{}\n", "---|".repeat(Way::ALL.len())));
    for (row, words) in MOVES.iter().enumerate() {
        let cells: Vec<&str> = columns.iter().map(|(_, cells)| cells[row]).collect();
        table.push_str(&format!("| {words} | {} |\n", cells.join(" | ")));
    }
    page::agrees("| it … |", &table);
}

/// What each move gets, against a program that was started in this way: the rows in their order.
fn column(way: Way) -> Vec<&'static str> {
    let broker = FakeBroker::start(&format!("table-{way:?}"), honest(TOKEN.as_bytes()));
    let launcher = Launcher::install(&format!("table-{way:?}"), &broker.path());
    let moves = Moves::build(launcher.directory(), &launcher.users());
    let mut started = launcher.start(way, long(way), TOKEN);
    let kept = moves.keep(ATTACKER, started.id());
    started.go();
    let (program, child) = started.program_and_child().unwrap();
    let by_user = look(ATTACKER, &[program, child], &[TOKEN]);
    let found = |look: usize, surface: &str| verdict(!by_user[look].surface(surface).found.is_empty());
    let got = |one: Move| moves.get(ATTACKER, one, program).map_or("not here", |bytes| verdict(holds_token(&bytes)));
    let by_name = started.file().is_some_and(|file| {
        let read = ATTACKER.command(Path::new("cat")).arg(file).output().unwrap();
        holds_token(&read.stdout)
    });
    let mut cells = vec![found(0, "environ"), found(0, "memory")];
    cells.extend([got(Move::ReadsItsMemory), got(Move::ByRing)]);
    cells.extend([found(0, "descriptors"), found(0, "in flight"), verdict(by_name)]);
    let attached = Tracer::attach(program);
    cells.push(verdict(attached.is_some()));
    drop(attached);
    // Where no program of before is under the same starter.
    let other = Launcher::install(&format!("traced-{way:?}"), &broker.path());
    cells.push(attached_before(&other, way));
    cells.push(verdict(holds_token(&kept.look())));
    let by_root = look(CALLER, &[program], &[TOKEN]);
    assert!(by_root[0].found(0).next().is_some(), "there is something to find");
    for surface in ["environ", "memory", "descriptors", "in flight"].into_iter().filter(|_| way.is_ours()) {
        assert!(!by_root[0].surface(surface).found.is_empty(), "{way:?}: root finds it in {surface}");
    }
    let core = look_and_abort(ATTACKER, &[program], &[TOKEN]);
    // Who cannot see where a program runs still knows where it was started.
    cells.push(verdict(!core[0].surface("core").found.is_empty() || cores_in(&launcher.users())));
    // It is nobody's child any more.
    send(child, Signal::KILL);
    cells.push(raced(&launcher, way));
    cells.push(found(1, "environ"));
    cells.push(preloaded(&launcher, &moves, way));
    cells.push(verdict(!by_root[0].surface("memory").found.is_empty()));
    cells
}

/// Whether a core with the token was left here.
fn cores_in(directory: &Path) -> bool {
    let names = fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
    let mut cores =
        names.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core")));
    cores.any(|core| holds_token(&fs::read(core).unwrap()))
}

fn holds_token(bytes: &[u8]) -> bool {
    bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes())
}

fn preloaded(launcher: &Launcher, moves: &Moves, way: Way) -> &'static str {
    let mut started = launcher.start_preloaded(way, short(way), TOKEN, Some(moves.library()));
    started.go();
    assert!(started.wait().success(), "{way:?}");
    verdict(holds_token(&moves.loot()))
}

fn verdict(got_it: bool) -> &'static str {
    if got_it { "**yes**" } else { "no" }
}

fn attached_before(launcher: &Launcher, way: Way) -> &'static str {
    let mut started = launcher.start(way, long(way), TOKEN);
    // What waits in a container's place is root's.
    let Some(tracer) = Tracer::attach(started.id()) else { return verdict(false) };
    started.go();
    match started.program_and_child() {
        // The launcher does not go on under a debugger, and there is no token.
        None => "no: not started",
        // The starter's program is nobody that could be attached to before.
        Some((program, _)) if way == Way::OwnNamespace => verdict(tracer.holds(program)),
        Some(_) => verdict(tracer.holds(started.id())),
    }
}

/// Many launches for what shall not leak, fewer for what does.
fn raced(launcher: &Launcher, way: Way) -> &'static str {
    let rounds = if way.holds() { ROUNDS } else { CONTROL_ROUNDS };
    verdict(caught_after(launcher, way, rounds).is_some())
}

/// In which of so many launches the racer got the token first, if in any.
fn caught_after(launcher: &Launcher, way: Way, rounds: usize) -> Option<usize> {
    // Where nothing shall be caught, a racer who may read everything shows that it looks where there is something.
    assert!(
        !way.holds() || (1..=CONTROL_ROUNDS).any(|_| catches(CALLER, launcher, way)),
        "{way:?}: root is fast enough"
    );
    (1..=rounds).find(|_| catches(ATTACKER, launcher, way))
}

/// Whether a racer gets the token of one launch.
fn catches(racer: Account, launcher: &Launcher, way: Way) -> bool {
    let mut started = launcher.start(way, short(way), TOKEN);
    let racer = started.raced_by(racer, way, TOKEN);
    started.go();
    assert!(started.wait().success(), "{way:?}");
    racer.saw().found(0).next().is_some()
}

/// With BLINDFERRY_RACES=10000 the figures in docs/threats.md.
#[test]
fn a_racer_catches_no_launch_that_shall_hold_and_soon_one_that_shall_not() {
    if cannot_compare() {
        return;
    }
    let asked = env::var("BLINDFERRY_RACES").map_or(ROUNDS, |number| number.parse().unwrap());
    // So that the levels can be run beside each other.
    let only = env::var("BLINDFERRY_RACED_LEVEL").ok();
    for way in Way::ALL.into_iter().filter(|way| only.as_deref().is_none_or(|only| way.words().contains(only))) {
        let broker = FakeBroker::start(&format!("raced-{way:?}"), honest(TOKEN.as_bytes()));
        let launcher = Launcher::install(&format!("raced-{way:?}"), &broker.path());
        let rounds = if way.holds() { asked } else { CONTROL_ROUNDS };
        let caught = caught_after(&launcher, way, rounds);
        println!("{}: {rounds} launches, caught in {caught:?}", way.words());
        assert_eq!(caught.is_none(), way.holds(), "{way:?}: caught in {caught:?}");
    }
}

/// A program that starts another and waits.
fn long(way: Way) -> &'static str {
    if way == Way::Prctl { "if (!fork) { exec 'sleep', '60' } wait" } else { "sleep 60 & wait" }
}

/// A program that lives for a moment; in a group or a namespace of its own, by way of a second exec.
fn short(way: Way) -> &'static str {
    match way {
        Way::Prctl => "select(undef, undef, undef, 0.05)",
        Way::OwnGroup | Way::OwnNamespace => "exec sleep 0.05",
        _ => "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done",
    }
}

#[test]
fn a_program_that_is_exchanged_while_it_is_launched_never_runs_under_the_others_digest() {
    let broker = FakeBroker::start("exchanged", honest(TOKEN.as_bytes()));
    let launcher = Launcher::install("exchanged", &broker.path());
    let swap = Swap::start(&launcher.users());
    // Whoever measures a name and then executes the name is wrong sooner or later.
    let naive = (0..2000).any(|_| {
        let measured = digest(&fs::read(swap.path()).unwrap());
        let status = Command::new(swap.path()).status();
        status.is_ok_and(|status| swap.digest_of(status.success()) != measured)
    });
    assert!(naive, "the exchange is too slow to show anything");
    let mut both = [0_usize; 2];
    for _ in 0..ROUNDS {
        let grant = Handle::seal("grant", b"opaque grant").unwrap().into_fd();
        keep_over_exec(grant.as_fd()).unwrap();
        let status = launcher.command(grant.as_raw_fd(), "exec-only").arg("--").arg(swap.path()).status().unwrap();
        assert!(matches!(status.code(), Some(0 | 1)), "{status}");
        let seen = broker.seen();
        let measured = seen.iter().rev().find_map(|seen| match seen.request {
            WorkerRequest::Redeem { executable, .. } => executable,
            _ => None,
        });
        assert_eq!(measured.unwrap().as_bytes().as_slice(), swap.digest_of(status.success()));
        both[usize::from(status.success())] += 1;
    }
    println!("{both:?} launches of the one and of the other");
}

/// Two programs that exchange their names without a pause, by rename(2) and behind a symbolic link.
struct Swap {
    directory: std::path::PathBuf,
    on: std::sync::Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
    digests: [Vec<u8>; 2],
}

impl Swap {
    fn start(directory: &Path) -> Self {
        let directory = directory.to_owned();
        for program in ["true", "false"] {
            fs::copy(Path::new("/bin").join(program), directory.join(program)).unwrap();
        }
        let digests = ["false", "true"].map(|program| digest(&fs::read(directory.join(program)).unwrap()));
        std::os::unix::fs::symlink("true", directory.join("link")).unwrap();
        let on = std::sync::Arc::new(AtomicBool::new(true));
        let (flag, place) = (std::sync::Arc::clone(&on), directory.clone());
        let thread = thread::spawn(move || {
            while flag.load(Ordering::Relaxed) {
                let [one, other] = ["true", "false"].map(|name| place.join(name));
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        Self { directory, on, thread: Some(thread), digests }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.join("link")
    }

    fn digest_of(&self, succeeded: bool) -> &[u8] {
        &self.digests[usize::from(succeeded)]
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        self.on.store(false, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn digest(bytes: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().to_vec()
}

/// Launches that a racer watches, at each level that shall hold. BLINDFERRY_RACES asks for more.
const ROUNDS: usize = 25;
/// Enough to catch what is caught in one launch of four.
const CONTROL_ROUNDS: usize = 60;
