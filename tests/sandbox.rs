//! Does a program in the sandbox get at anything of its parent's or its user's? Each move is tried without it as well, where
//! it must succeed.

use blindferry_tests::account::{USER, is_root};
use blindferry_tests::process::{children, eventually, lives};
use blindferry_tests::program::missing;
use blindferry_tests::scene::{Kernel, PYTHON, SECRET, Scene, cannot_play, pid, run, run_said};
use rustix::process::{Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

#[test]
fn no_move_that_succeeds_without_the_sandbox_succeeds_within() {
    if cannot_play() {
        return;
    }
    let table = Scene::new("moves").moves(Kernel::AsItIs);
    assert!(table.len() > 20, "{table:#?}");
}

#[test]
fn without_namespaces_no_such_move_succeeds_either() {
    if cannot_play() {
        return;
    }
    let table = Scene::new("fenced").moves(Kernel::WithoutNamespaces);
    // What a user namespace would have to be asked for is refused in the control too: the machine has none there.
    assert!(table.len() > 18, "{table:#?}");
}

#[test]
fn no_socket_but_the_programs_own_is_in_sight() {
    if cannot_play() {
        return;
    }
    let scene = Scene::new("sockets");
    let listener = std::os::unix::net::UnixListener::bind(scene.path("home/project/service")).unwrap();
    // The name alone may still say that it was one; what is there under it counts.
    let find = |top: &str| format!("find {top} -type s -exec test -S {{}} \\; -print 2>/dev/null");
    let seen = |output: Output| String::from_utf8(output.stdout).unwrap();
    let home = find(scene.path("home").to_str().unwrap());
    let outside = scene.command(&["sh".as_ref(), "-c".as_ref(), home.as_ref()]);
    assert!(seen(run(outside)).contains("service"), "there is one to be found");
    assert_eq!(seen(run(scene.sandboxed(&[], &["sh", "-c", &find("/")]))), "");
    drop(listener);
}

#[test]
fn the_real_user_manager_starts_nothing_for_it() {
    if cannot_play() || missing(&["systemd-run", "unshare", "setpriv"]) {
        return;
    }
    if !is_root() || !Path::new("/usr/lib/systemd/systemd").exists() {
        println!("skipped: only root can start a user manager of systemd's here");
        return;
    }
    let scene = Scene::new("manager");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("support/user_manager.sh");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--fork", "sh"]).arg(script).arg(USER.uid().to_string());
    command.arg(scene.path("home")).arg(scene.path("bin/blindferry"));
    let output = run(command);
    let said = String::from_utf8_lossy(&output.stdout);
    if said.contains("no manager") {
        println!("skipped: systemd's user manager does not start here: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert!(said.contains("control: started"), "{output:?}");
    assert!(said.contains("sandbox: refused"), "{output:?}");
}

#[test]
fn what_is_asked_for_by_name_is_there_and_nothing_beside_it() {
    if cannot_play() {
        return;
    }
    let scene = Scene::new("named");
    let home = scene.path("home");
    let read = |options: &[&str], path: &str| {
        let output = run(scene.sandboxed(options, &["cat", path]));
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (aws, ssh) = (home.join(".aws/credentials"), home.join(".ssh/id_ed25519"));
    let (aws, ssh) = (aws.to_str().unwrap(), ssh.to_str().unwrap());
    assert!(!read(&[], aws).0);
    assert_eq!(read(&["--read", aws], aws), (true, SECRET.to_owned()));
    assert!(!read(&["--read", aws], ssh).0);
    assert!(!read(&["--read", home.to_str().unwrap()], ssh).0, "a home that is shown is shown without its secrets");
    let write = |options: &[&str]| {
        let path = home.join("plain/new");
        let script = format!("echo new > {}", path.display());
        (run(scene.sandboxed(options, &["sh", "-c", &script])).status.success(), path.exists())
    };
    let plain = home.join("plain");
    assert_eq!(write(&[]), (false, false));
    assert_eq!(write(&["--read", plain.to_str().unwrap()]), (false, false));
    assert_eq!(write(&["--write", plain.to_str().unwrap()]), (true, true));
    let missing = run(scene.sandboxed(&["--read", "/there/is/no/such/place"], &["true"]));
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn root_in_there_is_root_in_name() {
    if cannot_play() {
        return;
    }
    if !is_root() {
        println!("skipped: only root can run it as root");
        return;
    }
    let scene = Scene::new("root");
    // Written only where that is a lie: what was there is written again.
    let moves = [
        "cat /etc/shadow",
        "cat /proc/sys/vm/swappiness > /proc/sys/vm/swappiness",
        "umount -l /proc && ls /proc/1",
        "chown 1 /etc/passwd && chown 0 /etc/passwd",
    ];
    for script in moves {
        let succeeds = |words: Vec<PathBuf>| {
            let (program, rest) = words.split_first().unwrap();
            let mut command = Command::new(program);
            command.args(rest).current_dir(scene.path("home/project")).stdin(Stdio::null());
            command.output().unwrap().status.success()
        };
        let shell = ["sh", "-c", script];
        if !script.starts_with("umount") {
            assert!(succeeds(shell.iter().map(PathBuf::from).collect()), "{script}: root can");
        }
        assert!(!succeeds(scene.sandbox_words(&[], &shell)), "{script}");
    }
    let mut shown = Command::new(scene.path("bin/blindferry"));
    shown.args(["run", "--sandbox", "--", "grep", "Cap", "/proc/self/status"]).current_dir(scene.path("home/project"));
    let said = run_said(&mut shown);
    assert_eq!(said.lines().filter(|line| line.ends_with("\t0000000000000000")).count(), 5, "{said}");
}

#[test]
fn it_ends_as_the_program_ends() {
    if cannot_play() {
        return;
    }
    let scene = Scene::new("ends");
    let ended = |options: &[&str], program: &[&str]| run(scene.sandboxed(options, program)).status;
    for code in [0, 7, 255] {
        assert_eq!(ended(&[], &["sh", "-c", &format!("exit {code}")]).code(), Some(code));
    }
    for signal in [Signal::TERM, Signal::KILL, Signal::SEGV, Signal::INT] {
        let script = format!("kill -{} $$", signal.as_raw());
        assert_eq!(ended(&[], &["sh", "-c", &script]).signal(), Some(signal.as_raw()), "{signal:?}");
    }
    assert_eq!(ended(&[], &["there-is-no-such-program"]).code(), Some(127));
    assert_eq!(ended(&[], &["/etc/passwd"]).code(), Some(126));
    let output = run(scene.sandboxed(&[], &["sh", "-c", "cat >&2; echo out"]));
    assert_eq!(output.stdout, b"out\n");
}

#[test]
fn a_signal_reaches_the_program_and_its_answer_comes_back() {
    if cannot_play() {
        return;
    }
    let scene = Scene::new("signals");
    for (signal, name) in [(Signal::TERM, "TERM"), (Signal::USR1, "USR1"), (Signal::HUP, "HUP"), (Signal::INT, "INT")] {
        let script = format!("trap 'exit 42' {name}; echo ready; while :; do sleep 0.05; done");
        let mut child = scene.sandboxed(&[], &["sh", "-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        kill_process(pid(child.id()), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(42), "{name}");
    }
}

#[test]
fn a_program_that_runs_for_too_long_is_ended_with_all_it_started() {
    if cannot_play() {
        return;
    }
    for kernel in [Kernel::AsItIs, Kernel::WithoutNamespaces] {
        let scene = Scene::new(&format!("late-{kernel:?}"));
        let deaf = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 4711' &) ; sleep 4711";
        let willing = scene.in_kernel(kernel, scene.sandbox_words(&["--timeout=1"], &["sleep", "4711"]));
        assert_eq!(run(willing).status.code(), Some(124), "{kernel:?}");
        let output = run(scene.in_kernel(kernel, scene.sandbox_words(&["--timeout=1"], &["sh", "-c", deaf])));
        assert_eq!(output.status.code(), Some(124), "{kernel:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("--timeout"));
        eventually("nothing left", || scene.processes_of_user("sleep\u{0}4711\u{0}").is_empty().then_some(()));
    }
}

#[test]
fn background_jobs_end_with_the_program() {
    if cannot_play() {
        return;
    }
    for kernel in [Kernel::AsItIs, Kernel::WithoutNamespaces] {
        let scene = Scene::new(&format!("jobs-{kernel:?}"));
        let script = "sleep 4712 & (setsid sleep 4712 &); exit 5";
        // Their standard output is the test's pipe: were they alive, this would not return.
        let output = run(scene.in_kernel(kernel, scene.sandbox_words(&[], &["sh", "-c", script])));
        assert_eq!(output.status.code(), Some(5), "{kernel:?}");
        eventually("nothing left", || scene.processes_of_user("sleep\u{0}4712\u{0}").is_empty().then_some(()));
    }
}

#[test]
fn a_hundred_orphans_are_buried() {
    if cannot_play() {
        return;
    }
    let scene = Scene::new("orphans");
    // Each is orphaned and ends at once; then the only ones left are the first process, the shell, and what counts.
    let script = "i=0; while [ $i -lt 100 ]; do (sleep 0 &) ; i=$((i+1)); done; \
        n=0; while [ $n -lt 100 ]; do z=0; for s in /proc/[0-9]*/stat; do read -r _ c t _ < $s && \
        case \"$c\" in '(sleep)') z=$((z+1));; esac; done 2>/dev/null; [ $z -eq 0 ] && echo buried && exit 0; \
        n=$((n+1)); sleep 0.05; done; echo $z left; exit 1";
    let output = run(scene.sandboxed(&[], &["sh", "-c", script]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "buried\n");
}

#[test]
fn whichever_stage_is_killed_nothing_stays_behind() {
    if cannot_play() {
        return;
    }
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let before = mounts();
    for kernel in [Kernel::AsItIs, Kernel::WithoutNamespaces] {
        for depth in 0..3 {
            let scene = Scene::new(&format!("killed-{kernel:?}-{depth}"));
            let script = "(setsid sleep 4713 &); echo ready; sleep 4713";
            let mut command = scene.in_kernel(kernel, scene.sandbox_words(&[], &["sh", "-c", script]));
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            let mut output = BufReader::new(child.stdout.take().unwrap());
            output.read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
            let mut victim = child.id();
            for _ in 0..depth {
                victim = *children(victim, "").first().unwrap();
            }
            if kernel == Kernel::WithoutNamespaces && depth == 1 {
                // The one that would end the others. It is out of the program's reach: see the moves.
                kill_process(pid(child.id()), Signal::KILL).unwrap();
            } else {
                kill_process(pid(victim), Signal::KILL).unwrap();
            }
            let _ended = child.wait().unwrap();
            eventually("nothing left", || scene.processes_of_user("sleep\u{0}4713\u{0}").is_empty().then_some(()));
            eventually("the end of the stage", || (!lives(victim)).then_some(()));
            // Nobody holds the pipe any more.
            output.read_to_string(&mut line).unwrap();
        }
    }
    assert_eq!(mounts(), before);
}

#[test]
fn nothing_that_the_parent_holds_is_inherited() {
    if cannot_play() {
        return;
    }
    let scene = Scene::new("inherited");
    let words = scene.sandbox_words(&[], &["sh", "-c", "cat <&9; ls /proc/self/fd; env"]);
    let script = format!("exec 9< {}; exec \"$@\"", scene.path("home/.aws/credentials").display());
    let shell = |words: Vec<PathBuf>| {
        let mut command = scene.command(&["sh".as_ref(), "-c".as_ref(), Path::new(&script), "sh".as_ref()]);
        run_said(command.args(words).env("API_TOKEN", SECRET))
    };
    assert!(shell(vec!["sh".into(), "-c".into(), "cat <&9".into()]).contains(SECRET), "there is something to inherit");
    assert!(!shell(words).contains(SECRET));
}

#[test]
fn require_refuses_what_is_only_half_there_and_says_what_is_lacking() {
    if cannot_play() {
        return;
    }
    let scene = Scene::new("required");
    let output = run(scene.in_kernel(Kernel::AsItIs, scene.sandbox_words(&["--require"], &["echo", "ran"])));
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"ran\n"[..]), "{output:?}");
    let output = run(scene.in_kernel(Kernel::WithoutNamespaces, scene.sandbox_words(&["--require"], &["echo", "ran"])));
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(5), &b""[..]));
    assert!(String::from_utf8_lossy(&output.stderr).contains("namespaces"), "{output:?}");
    let output = run(scene.in_kernel(Kernel::WithoutNamespaces, scene.sandbox_words(&[], &["echo", "ran"])));
    assert_eq!(output.stdout, b"ran\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("warning"), "{output:?}");
}

#[test]
fn without_a_network_not_even_loopback_leads_out() {
    if cannot_play() {
        return;
    }
    let scene = Scene::new("network");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = format!(
        "import socket; socket.create_connection(('127.0.0.1', {}), 5); print('connected')",
        listener.local_addr().unwrap().port()
    );
    for kernel in [Kernel::AsItIs, Kernel::WithoutNamespaces] {
        let connects = |options: &[&str]| {
            let words = scene.sandbox_words(options, &[PYTHON, "-c", &connect]);
            run_said(&mut scene.in_kernel(kernel, words)).contains("connected")
        };
        assert!(connects(&[]), "{kernel:?}: the network is shared unless said otherwise");
        assert!(!connects(&["--no-network"]), "{kernel:?}");
    }
    let itself = "import socket; s = socket.create_server(('127.0.0.1', 0)); \
        socket.create_connection(s.getsockname(), 5); print('to itself')";
    let output = run(scene.sandboxed(&["--no-network"], &[PYTHON, "-c", itself]));
    assert_eq!(output.stdout, b"to itself\n", "{output:?}");
}
