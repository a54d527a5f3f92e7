//! Is a program that the broker's starter starts out of its caller's reach, and yet as if the caller had started it?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_proto::local::WorkerReply;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_tests::account::{CALLER, USER, is_root};
use blindferry_tests::attack::{Racer, look};
use blindferry_tests::attack_launch::{ATTACKER, Tracer};
use blindferry_tests::missing;
use blindferry_tests::process::{below, children, eventually, lives, send};
use blindferry_tests::program::ours;
use blindferry_tests::starter::{Starter, with_groups};
use fake_broker::{Answers, FakeBroker, Seen, honest};
use rustix::process::Signal;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

#[path = "via/credentials.rs"]
mod credentials;
#[path = "../host/worker/tests/worker/fake_broker.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod fake_broker;
#[path = "../host/worker/tests/worker/fake_vault.rs"]
mod fake_vault;

const TOKEN: &str = "a-token-for-a-program-of-the-starter-5d20c9";

/// A starter and a broker, or nothing where the tests are not root.
fn starter(name: &str) -> Option<(Starter, FakeBroker)> {
    starter_with(name, honest(TOKEN.as_bytes()))
}

/// The same, with a broker that answers so.
fn starter_with(name: &str, script: impl FnMut(&Seen) -> Answers + Send + 'static) -> Option<(Starter, FakeBroker)> {
    if !is_root() {
        println!("skipped: only root can run a starter, and callers of another user");
        return None;
    }
    let broker = FakeBroker::start(&format!("via-{name}"), script);
    Some((Starter::start(name, &broker.path(), &[]), broker))
}

#[test]
fn a_program_of_the_starter_runs_as_if_its_caller_had_started_it() {
    let Some((starter, _broker)) = starter("same") else { return };
    let script = "pwd; umask; id; ulimit -n; ulimit -Hn; ulimit -s; cat; printenv PATH HOME; ls -ln /proc/self/fd/2 | wc -l; \
                  stat -c '%u %g' . /etc /root; echo complaint >&2; exit 7";
    let run = |mut command: Command| -> Output {
        command.env("HOME", "/tmp").current_dir(starter.users());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
        child.wait_with_output().unwrap()
    };
    let around = |script: &str| format!("umask 027; ulimit -Sn 77; ulimit -Hn 99; {script}");
    let groups = [USER.uid(), 64_990, 64_991];
    let mut plain = with_groups(USER, &groups);
    plain.args(["sh", "-c", &around("exec \"$@\""), "sh", "sh", "-c", script]);
    let mut via = with_groups(USER, &groups);
    via.args(["sh", "-c", &around("exec \"$@\""), "sh"]).arg(ours("blindferry"));
    let via = starter.run_by(via, &["--", "sh", "-c", script]);
    let (plain, via) = (run(plain), run(via));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(text(&plain.stdout).contains("0027") && text(&plain.stdout).contains("64991"), "{}", text(&plain.stdout));
    assert_eq!(text(&via.stdout), text(&plain.stdout), "{}", text(&via.stderr));
    assert_eq!((text(&via.stderr), via.status.code()), ("complaint\n".to_owned(), Some(7)));
}

#[test]
fn neither_the_users_other_processes_nor_other_programs_of_the_starter_read_it() {
    let Some((starter, _broker)) = starter("read") else { return };
    // A program, what it starts, and what that executes; also within a namespace of its own.
    let script = "echo ready; sh -c 'sleep 60; true' & unshare --user --map-root-user sh -c 'sleep 61; true' & wait";
    let mut via = spawn(starter.run(&["--deliver", "env:SECRET", "--", "sh", "-c", script]));
    let (_, tree) = with_two_sleepers(&starter);
    for (process, seen) in tree.iter().zip(look(CALLER, &tree, &[TOKEN])) {
        assert!(seen.found(0).next().is_some(), "root sees that there is something to find in {process}");
    }
    for (process, seen) in tree.iter().zip(look(ATTACKER, &tree, &[TOKEN])) {
        let readable: Vec<_> = seen.surfaces.iter().filter(|one| one.surface != "cmdline" && one.bytes > 0).collect();
        assert!(seen.found(0).next().is_none() && readable.is_empty(), "{process}: {readable:?}");
        assert!(Tracer::attach(*process).is_none(), "{process}");
    }
    // Whoever asks the same starter for a program gets a namespace of its own, in which he is nobody to the others.
    let files: Vec<String> = tree.iter().map(|process| format!("/proc/{process}/environ")).collect();
    let words: Vec<&str> = ["--", "cat"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let other = starter.run(&words).output().unwrap();
    assert_eq!((other.stdout, other.status.code()), (Vec::new(), Some(1)));
    // What is not protected is read by the very same means.
    let mut plain = ATTACKER.command(Path::new("sleep"));
    let mut plain = plain.arg("60").env("SECRET", TOKEN).spawn().unwrap();
    eventually("a plain program", || named(&[plain.id()], "sleep").eq(&1).then_some(()));
    assert!(look(ATTACKER, &[plain.id()], &[TOKEN]).iter().all(|seen| seen.found(0).next().is_some()));
    assert!(Tracer::attach(plain.id()).is_some());
    plain.kill().unwrap();
    plain.wait().unwrap();
    end(&mut via);
}

#[test]
fn whoever_looks_without_a_pause_from_before_the_launch_finds_no_moment() {
    let Some((mut starter, _broker)) = starter("race") else { return };
    // Every process of the starter's, from its first moment on.
    let racer = Racer::of_trees(ATTACKER, &[starter.id()], &[TOKEN]);
    for _ in 0..ROUNDS {
        let words = ["--deliver", "env:SECRET", "--", "sh", "-c", "sleep 0.02"];
        assert!(starter.run(&words).status().unwrap().success());
    }
    starter.process().kill();
    assert!(racer.saw().found(0).next().is_none());
    let mut plain = USER.command(Path::new("sh"));
    plain.args(["-c", "read go; i=0; while [ $i -lt 25 ]; do SECRET=$1 sleep 0.02; i=$((i+1)); done", "sh", TOKEN]);
    let mut plain = plain.stdin(Stdio::piped()).spawn().unwrap();
    let racer = Racer::of_trees(ATTACKER, &[plain.id()], &[TOKEN]);
    plain.stdin.take().unwrap().write_all(b"go\n").unwrap();
    plain.wait().unwrap();
    let seen = racer.saw();
    assert!(seen.surface("environ").found.iter().any(|found| found.needle == 0), "the racer is fast enough");
}

#[test]
fn one_capability_for_all_would_let_each_program_read_the_next() {
    if !is_root() {
        println!("skipped: only root can give a capability");
        return;
    }
    // Why the starter does not do it with an ambient capability, which its callers lack too.
    let with_capability = || {
        let mut command = Command::new("setpriv");
        let id = USER.uid();
        command.args([format!("--reuid={id}"), format!("--regid={id}"), "--clear-groups".to_owned()]);
        command.args([
            "--inh-caps=-all,+wake_alarm",
            "--ambient-caps=-all,+wake_alarm",
            "--bounding-set=-all,+wake_alarm",
        ]);
        command.args(["--", "env"]);
        command
    };
    let mut victim = with_capability();
    let mut victim = victim.args([&format!("SECRET={TOKEN}"), "sleep", "60"]).spawn().unwrap();
    eventually("the victim", || named(&[victim.id()], "sleep").eq(&1).then_some(()));
    assert!(look(ATTACKER, &[victim.id()], &[TOKEN]).iter().all(|seen| seen.found(0).next().is_none()));
    let file = format!("/proc/{}/environ", victim.id());
    let read = with_capability().args(["cat", &file]).output().unwrap().stdout;
    assert!(read.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()));
    victim.kill().unwrap();
    victim.wait().unwrap();
}

#[test]
fn what_is_loaded_into_the_caller_is_not_loaded_into_the_program() {
    let Some((starter, _broker)) = starter("preload") else { return };
    if missing(&["gcc"]) {
        return;
    }
    let (source, library, mark) =
        (starter.users().join("x.c"), starter.users().join("x.so"), starter.users().join("loaded"));
    let text = "#include <stdio.h>\n#include <string.h>\n__attribute__((constructor)) static void loaded(void) { char n[64] = \
                {0}; FILE *c = fopen(\"/proc/self/comm\", \"r\"); if (c) fgets(n, 63, c); FILE *m = fopen(MARK, \"a\"); if (m) \
                { fputs(n, m); fclose(m); } }";
    fs::write(&source, text).unwrap();
    let define = format!("-DMARK=\"{}\"", mark.display());
    let built = Command::new("gcc").args(["-shared", "-fPIC", &define, "-o"]).arg(&library).arg(&source).status();
    assert!(built.unwrap().success());
    let loaded = || {
        let names = fs::read_to_string(&mark).unwrap_or_default();
        let _none = fs::remove_file(&mark);
        names.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut plain = USER.command(Path::new("sleep"));
    assert!(plain.arg("0").env("LD_PRELOAD", &library).status().unwrap().success());
    assert_eq!(loaded(), ["sleep"], "it is loaded where nothing prevents it");
    for words in [&["--", "sleep", "0"][..], &["--inherit-env", "--", "sleep", "0"]] {
        let output = starter.run(words).env("LD_PRELOAD", &library).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let loaded = loaded();
        let callers =
            |name: &String| !["sleep", "blindferry-sta", "blindferry-lau"].iter().any(|of| name.starts_with(of));
        assert!(!loaded.is_empty() && loaded.iter().all(callers), "{loaded:?}");
    }
}

#[test]
fn signals_pass_and_the_caller_ends_as_the_program_does() {
    let Some((starter, _broker)) = starter("signals") else { return };
    let script = "for s in HUP INT USR1 USR2 TERM; do trap \"echo $s\" $s; done; echo ready; \
                  while :; do sleep 0.02; done";
    let mut via = spawn(starter.run(&["--", "bash", "-c", script]));
    let mut lines = BufReader::new(via.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "ready");
    for (signal, name) in [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
        (Signal::TERM, "TERM"),
    ] {
        send(via.id(), signal);
        assert_eq!(lines.next().unwrap(), name);
    }
    end(&mut via);
    for (script, code, signal) in
        [("kill -TERM $$", None, Some(15)), ("kill -KILL $$", None, Some(9)), ("exit 200", Some(200), None)]
    {
        let status = starter.run(&["--", "sh", "-c", script]).status().unwrap();
        assert_eq!((status.code(), status.signal()), (code, signal), "{script}");
    }
    assert_eq!(starter.run(&["--", "no-such-program"]).output().unwrap().status.code(), Some(127));
}

#[test]
fn a_refused_grant_ends_it_as_without_the_starter() {
    if !is_root() {
        println!("skipped: only root can run a starter, and callers of another user");
        return;
    }
    let no = Refusal::new(RefusalCode::GrantForeign, "not of this vault");
    let broker = FakeBroker::start("via-refused", move |_: &Seen| vec![(WorkerReply::Refused(no.clone()), None)]);
    let starter = Starter::start("refused", &broker.path(), &[]);
    let output = starter.run(&["--", "true"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(124), "{said}");
    assert!(said.contains("grant-foreign: not of this vault"), "{said}");
}

#[test]
fn nothing_is_left_of_a_program_whose_caller_starter_or_keeper_is_killed() {
    for whom in ["caller", "starter", "keeper"] {
        let Some((mut starter, _broker)) = starter(&format!("killed-{whom}")) else { return };
        // What does not hear of it, and what went into a session of its own.
        let script = "trap '' HUP; setsid sleep 60 & sleep 61 & echo ready; wait";
        let mut via = spawn(starter.run(&["--deliver", "env:SECRET", "--", "sh", "-c", script]));
        let (keeper, tree) = with_two_sleepers(&starter);
        match whom {
            "caller" => via.kill().unwrap(),
            "starter" => starter.process().kill(),
            _ => send(keeper, Signal::KILL),
        }
        let status = via.wait().unwrap();
        assert_eq!(status.code(), (whom != "caller").then_some(3), "{whom}");
        // The program itself in every case; what it started too, where somebody is left to see to it.
        let program = *tree.first().unwrap();
        let expected: &[u32] = if whom == "caller" { &tree } else { &[program] };
        eventually("the end of all", || expected.iter().all(|process| !lives(*process)).then_some(()));
        tree.iter().filter(|process| lives(**process)).for_each(|process| send(*process, Signal::KILL));
        if whom != "starter" {
            let id = starter.id();
            eventually("the end of the starter's children", || children(id, "").is_empty().then_some(()));
            assert!(starter.run(&["--", "true"]).status().unwrap().success(), "the next one is started");
        }
    }
}

#[test]
fn whoever_is_confined_or_root_gets_nothing_started() {
    let Some((starter, _broker)) = starter("confined") else { return };
    let id = USER.uid();
    let user = [format!("--reuid={id}"), format!("--regid={id}"), "--clear-groups".to_owned()];
    let command = |before: &[&str], options: &[&str]| {
        let words: Vec<&str> = before.iter().copied().chain(["setpriv"]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(&user).args(options).args(["--", "env"]).arg(ours("blindferry"));
        command
    };
    let nested = ["--", "unshare", "--user", "env"];
    let mut own_users = Command::new("setpriv");
    own_users.args(&user).args(nested).arg(ours("blindferry"));
    let cases = [
        (command(&[], &["--no-new-privs"]), "confined: this process is confined (no_new_privs)"),
        (command(&["unshare", "--pid", "--fork", "--mount-proc"], &[]), "a PID namespace of its own"),
        (own_users, "a user namespace of its own"),
        (Command::new(ours("blindferry")), "root: nothing can be kept from root"),
    ];
    for (caller, why) in cases {
        let output = starter.run_by(caller, &["--", "true"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why), "{said}");
    }
    assert!(starter.run_by(command(&[], &[]), &["--", "true"]).status().unwrap().success());
}

#[test]
fn a_program_in_a_terminal_has_one_of_its_own() {
    let Some((starter, _broker)) = starter("terminal") else { return };
    if missing(&["script"]) {
        return;
    }
    let inner = "tty -s && : > /dev/tty && echo leads; stty size; read line; echo \"got $line\"; kill -INT $$";
    let mut command = USER.command(Path::new("script"));
    let words = format!(
        "stty rows 31 cols 97; {} run --via broker --credential secret -- sh -c '{}'; echo status $?",
        ours("blindferry").display(),
        inner
    );
    command.args(["-qec", &words, "/dev/null"]).env("SHELL", "/bin/sh");
    starter.told(&mut command);
    let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut typing = script.stdin.take().unwrap();
    let mut lines = BufReader::new(script.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut next = |word: &str| lines.by_ref().find(|line| line.contains(word)).unwrap_or_default();
    assert!(next("leads").contains("leads"));
    assert!(next("97").contains("31 97"));
    typing.write_all(b"hello\n").unwrap();
    assert!(next("got").contains("got hello"));
    assert!(next("status").contains("status 130"));
    drop(typing);
    script.wait().unwrap();
}

#[test]
fn a_level_is_had_from_the_starter_alone_and_explained() {
    let Some((starter, broker)) = starter("explain") else { return };
    let via = starter.run(&["--explain", "--", "true"]).output().unwrap();
    let said = String::from_utf8_lossy(&via.stdout).into_owned();
    assert!(via.status.success() && said.contains("own-namespace holds here"), "{said}");
    let run = |words: &[&str]| {
        let mut command = USER.command(&ours("blindferry"));
        command.args(["run", "--credential", "secret"]).args(words);
        starter.told(&mut command);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (_, said) = run(&["--explain", "--", "true"]);
    assert!(said.contains("own-namespace not here: the starter answers at"), "{said}");
    let (status, said) = run(&["--protection", "own-namespace", "--", "true"]);
    assert_eq!(status, Some(125), "{said}");
    assert!(said.contains("own-namespace: not available here"), "{said}");
    let (status, said) = run(&["--via", "broker", "--protection", "exec-only", "--", "true"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(broker.seen().is_empty(), "no grant was spent");
}

/// The keeper and its descendants, two of which sleep.
fn with_two_sleepers(starter: &Starter) -> (u32, Vec<u32>) {
    eventually("what the program starts", || {
        // Again and again: what becomes the outsider looks like a keeper for a moment.
        let keeper = *starter.keepers().first()?;
        let tree = below(keeper);
        (named(&tree, "sleep") == 2).then_some((keeper, tree))
    })
}

/// Launches that a racer watches.
const ROUNDS: usize = 25;

/// A command with its output to be read.
fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

/// Ends a caller, and waits for it.
fn end(caller: &mut Child) {
    caller.kill().unwrap();
    caller.wait().unwrap();
}

/// How many of these processes have this name.
fn named(processes: &[u32], name: &str) -> usize {
    let is = |process: &&u32| fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|comm| comm.trim() == name);
    processes.iter().filter(is).count()
}
