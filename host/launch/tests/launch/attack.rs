//! What does another process of the same user learn from a launched program? Nothing, and the same attack on an
//! unprotected one succeeds.

use crate::delivery::{Script, stop};
use crate::fake_broker::{FakeBroker, honest};
use crate::launched::{Launch, as_nobody, wait_until_it_is};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) const TOKEN: &[u8] = b"a token for the program and nobody else";
const FORMS: [&str; 4] = ["--deliver", "memfd", "--deliver", "env:SECRET"];

/// What an attacker of the same user gets to see, by each road.
#[derive(Debug, Default, PartialEq, Eq)]
struct Loot {
    environ: bool,
    descriptors: bool,
    memory: bool,
}

const ALL: Loot = Loot { environ: true, descriptors: true, memory: true };
const NOTHING: Loot = Loot { environ: false, descriptors: false, memory: false };

#[test]
fn another_process_of_the_user_reads_neither_environment_nor_descriptors_nor_memory() {
    let broker = FakeBroker::start("protected", honest(TOKEN));
    let launch = Launch::of(&broker).args(&FORMS).args(&["--", "sleep", "60"]);
    assert_eq!(attack(launch, "sleep"), NOTHING);
}

#[test]
fn the_same_attack_on_an_unprotected_program_gets_everything() {
    let broker = FakeBroker::start("unprotected", honest(TOKEN));
    let launch = Launch::of(&broker).args(&["--protection", "none"]).args(&FORMS).args(&["--", "sleep", "60"]);
    assert_eq!(attack(launch, "sleep"), ALL);
}

#[test]
fn a_scripts_interpreter_is_as_protected_also_behind_env() {
    let broker = FakeBroker::start("protected-script", honest(TOKEN));
    for (name, line) in [("plain", "#!/bin/sh"), ("env", "#!/usr/bin/env sh")] {
        let script = Script::new(name, &format!("{line}\nread forever\n"));
        let mut launch = Launch::of(&broker).args(&FORMS).args(&["--", script.path()]);
        launch.command.stdin(Stdio::piped());
        let interpreter = line.rsplit(['!', ' ']).next().unwrap();
        assert_eq!(attack(launch, interpreter), NOTHING, "{line}");
    }
}

#[test]
fn an_installed_launcher_and_an_unreadable_program_are_protected_without_copies() {
    let broker = FakeBroker::start("installed", honest(TOKEN));
    let directory = broker.path().parent().unwrap().to_owned();
    let install = |from: &str, name: &str| {
        let to = directory.join(name);
        fs::copy(from, &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o711)).unwrap();
        to
    };
    let launcher = install(env!("CARGO_BIN_EXE_blindferry-launch"), "blindferry-launch");
    let program = install("/usr/bin/sleep", "nap");
    let program = program.to_str().unwrap();
    let launch = Launch::at(&broker.path(), &launcher).args(&FORMS).args(&["--", program, "60"]);
    assert_eq!(attack(launch, program), NOTHING);
}

#[test]
fn an_attacker_who_waits_for_the_launch_finds_no_moment_in_which_to_look() {
    let broker = FakeBroker::start("race", honest(TOKEN));
    for round in 0..ROUNDS {
        assert_eq!(race(&broker, &[]), "", "round {round}");
    }
}

#[test]
fn the_same_attacker_catches_an_unprotected_program() {
    let broker = FakeBroker::start("race-unprotected", honest(TOKEN));
    assert!((0..ROUNDS).any(|_| !race(&broker, &["--protection", "none"]).is_empty()));
}

/// Lets an attacker hammer at a process from before it is the launcher until after it was the program; says what the
/// attacker got.
fn race(broker: &FakeBroker, args: &[&str]) -> String {
    let launch = Launch::of(broker).args(args).args(&FORMS).args(&["--", "sleep", "0.1"]);
    let mut gate = Command::new("sh");
    // Under one process id from the start: a shell that waits for a word, then the launcher, then the program.
    gate.args(["-c", "read go; exec \"$@\"", "gate"]).arg(launch.command.get_program()).args(launch.command.get_args());
    let mut target = gate.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    wait_until_it_is(target.id(), "sh");
    let mut attacker = as_nobody("/usr/bin/python3");
    attacker.args(["-c", RACER, &target.id().to_string()]).stdout(Stdio::piped());
    let mut attacker = attacker.spawn().unwrap();
    let mut attackers_word = BufReader::new(attacker.stdout.take().unwrap());
    let mut line = String::new();
    attackers_word.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    target.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(target.wait().unwrap().success());
    let mut loot = String::new();
    attackers_word.read_to_string(&mut loot).unwrap();
    attacker.wait().unwrap();
    loot
}

/// Enough for an attacker who wins one race in four to be all but sure to win one.
const ROUNDS: usize = 12;

/// Looks for the token in the environment and among the descriptors of a process, over and over, until it is gone.
const RACER: &str = "
import os, sys
process = f'/proc/{sys.argv[1]}'
print('ready', flush=True)
def alive():
    try: return open(process + '/stat').read().rsplit(')', 1)[1].split()[0] != 'Z'
    except OSError: return False
loot = set()
while alive():
    try:
        if b'SECRET=' in open(process + '/environ', 'rb').read(): loot.add('environ')
    except OSError: pass
    try:
        for fd in os.listdir(process + '/fd'):
            if os.readlink(f'{process}/fd/{fd}').startswith('/memfd:token'): loot.add('descriptor')
    except OSError: pass
if loot: print(*sorted(loot))
";

/// Attacks the program as another process of its user, once the launcher has become it.
fn attack(mut launch: Launch, name: &str) -> Loot {
    let program = launch.command.spawn().unwrap();
    wait_until_it_is(program.id(), name);
    let pid = program.id();
    let loot = Loot {
        environ: steals(as_nobody("cat").arg(format!("/proc/{pid}/environ"))),
        descriptors: steals(as_nobody("sh").args(["-c", &format!("cat /proc/{pid}/fd/*")])),
        memory: steals(as_nobody("/usr/bin/python3").args(["-c", MEMORY, &pid.to_string()])),
    };
    // Whoever may attack at all could also kill it: the process is really there, and really of the same user.
    let same_user = as_nobody("kill").args(["-0", &pid.to_string()]).status().unwrap();
    assert!(same_user.success());
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    stop(program);
    loot
}

pub(crate) fn steals(attacker: &mut Command) -> bool {
    // Descriptors that wait for input, such as a terminal, must not hold up the attacker.
    let stolen = attacker.stdin(Stdio::null()).output().unwrap().stdout;
    stolen.windows(TOKEN.len()).any(|window| window == TOKEN)
}

/// Prints every readable mapping of a process.
const MEMORY: &str = "
import sys
maps = open(f'/proc/{sys.argv[1]}/maps').readlines()
memory = open(f'/proc/{sys.argv[1]}/mem', 'rb', 0)
for line in maps:
    start, end = (int(a, 16) for a in line.split()[0].split('-'))
    if 'r' not in line.split()[1]: continue
    try:
        memory.seek(start)
        sys.stdout.buffer.write(memory.read(end - start))
    except (OSError, ValueError, OverflowError): pass
";
