//! Who crashes into a core handler, token and all? The second table in docs/threats.md is what comes out here.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_handle::packet::PacketListener;
use blindferry_tests::account::CALLER;
use blindferry_tests::attack::look_and_abort;
use blindferry_tests::attack_launch::{ATTACKER, Launcher, Started, cannot_compare};
use blindferry_tests::core_handler::{Core, CoreHandler};
use blindferry_tests::page;
use blindferry_tests::process::{below, children, eventually, lives, send};
use blindferry_tests::way::Way;
use fake_broker::{FakeBroker, honest};
use rustix::process::Signal;

#[path = "../host/worker/tests/worker/fake_broker.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod fake_broker;
#[path = "../host/worker/tests/worker/fake_vault.rs"]
mod fake_vault;

const TOKEN: &str = "a-token-that-is-for-no-core-handler-4e91d7";

/// The levels that the table has, after what is started without us.
const WAYS: [Way; 5] = [Way::Plain, Way::None, Way::ExecOnly, Way::OwnGroup, Way::OwnNamespace];

#[test]
fn a_crash_reaches_a_core_handler_at_the_levels_that_the_table_says_and_never_a_process_of_ours() {
    if cannot_compare() {
        return;
    }
    let Some(handler) = CoreHandler::install() else { return };
    if !handler.while_it_takes_cores(|| handler.is_found()) {
        return;
    }
    let names = WAYS.map(Way::words).join(" | ");
    let mut table = format!("| `fs.suid_dumpable` | {names} | launcher, command, keeper, starter |\n");
    table.push_str(&format!("|---|{}---|\n", "---|".repeat(WAYS.len())));
    for value in ["0", "2"] {
        handler.suid_dumpable(value);
        for (words, cells) in ["the program", "what it starts"].into_iter().zip(rows(&handler, value)) {
            table.push_str(&format!("| {value}: {words} | {} |\n", cells.join(" | ")));
        }
    }
    page::agrees("| `fs.suid_dumpable` |", &table);
}

/// What the handler gets of each: programs with a token and what they start, made to crash by another process of their user,
/// and processes of ours, by root.
fn rows(handler: &CoreHandler, value: &str) -> [Vec<&'static str>; 2] {
    let broker = FakeBroker::start(&format!("cores-{value}"), honest(TOKEN.as_bytes()));
    let launcher = Launcher::install(&format!("cores-{value}"), &broker.path());
    let started = WAYS.map(|way| {
        let mut started = launcher.start(way, "sleep 60 & sleep 60 & wait", TOKEN);
        started.go();
        started
    });
    let both = started.each_ref().map(|started| started.program_and_child().unwrap());
    let (programs, children) = (both.map(|(program, _)| program), both.map(|(_, child)| child));
    // One that has asked and gets no answer.
    let silent = launcher.directory().join("silent.sock");
    let silence = PacketListener::bind(&silent, 0o666).unwrap();
    let waits = Launcher::install(&format!("cores-{value}-waits"), &silent);
    let mut waiting = waits.start(Way::ExecOnly, "true", TOKEN);
    waiting.go();
    let _asked = silence.accept().unwrap();
    // Each ends others, so that each is of a launch of its own.
    let [keeps, asks] = [(); 2].map(|()| another(&launcher));
    let ours = [waiting.id(), keeps.1, asks.0.id(), launcher.starter().id()];
    let roots = started.iter().map(Started::id).chain([launcher.starter().id()]);
    let mut left: Vec<u32> = roots.flat_map(below).collect();
    handler.while_it_takes_cores(|| {
        // A program goes on when the first of what it started has ended.
        for (account, processes) in [(ATTACKER, &children[..]), (ATTACKER, &programs), (CALLER, &ours)] {
            let _what_was_readable = look_and_abort(account, processes, &[TOKEN]);
            let ended = || processes.iter().all(|process| !lives(*process)).then_some(());
            eventually("the end of what crashes", ended);
        }
    });
    left.retain(|process| lives(*process));
    left.iter().for_each(|process| send(*process, Signal::KILL));
    for (process, name) in ours.into_iter().zip(["launcher", "keeper", "command", "starter"]) {
        let core = handler.core_of(process).map(|core| core.mode);
        assert_eq!(core, None, "{name}, with fs.suid_dumpable={value}: nothing of what is ours is given to anybody");
    }
    [programs, children].map(|processes| {
        let cells = processes.iter().map(|process| cell(handler.core_of(*process)));
        cells.chain(["no"]).collect()
    })
}

/// One more program of the starter's: its caller, and its keeper.
fn another(launcher: &Launcher) -> (Started, u32) {
    let before = launcher.starter().keepers();
    let mut started = launcher.start(Way::OwnNamespace, "sleep 60", TOKEN);
    started.go();
    let is_new = |keeper: &u32| !before.contains(keeper) && !children(*keeper, "").is_empty();
    let new = || launcher.starter().keepers().into_iter().find(is_new);
    (started, eventually("one more keeper", new))
}

fn cell(core: Option<Core>) -> &'static str {
    let Some(core) = core else { return "no" };
    assert!(core.bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()), "a core without the token");
    match core.mode.as_str() {
        "1" => "**yes**, as its user's",
        _ => "**yes**, as root's",
    }
}
