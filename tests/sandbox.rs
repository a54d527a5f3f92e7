//! Does a program in the sandbox get at anything of its parent's or its user's? Each move is tried without it as well, where
//! it must succeed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_tests::account::{Account, USER, is_root};
use blindferry_tests::process::{eventually, lives};
use blindferry_tests::program::{missing, ours};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// As of the parent in the scene.
const SECRET: &str = "a-secret-of-the-parent-5c1f9e";

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
        eventually("nothing left", || scene.processes_of_user("sleep\04711\0").is_empty().then_some(()));
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
        eventually("nothing left", || scene.processes_of_user("sleep\04712\0").is_empty().then_some(()));
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
                victim = *blindferry_tests::process::children(victim, "").first().unwrap();
            }
            if kernel == Kernel::WithoutNamespaces && depth == 1 {
                // The one that would end the others. It is out of the program's reach: see the moves.
                kill_process(pid(child.id()), Signal::KILL).unwrap();
            } else {
                kill_process(pid(victim), Signal::KILL).unwrap();
            }
            let _ended = child.wait().unwrap();
            eventually("nothing left", || scene.processes_of_user("sleep\04713\0").is_empty().then_some(()));
            assert!(!lives(victim));
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

/// What the kernel offers to whoever starts the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    AsItIs,
    /// In a user namespace in which no other can be made.
    WithoutNamespaces,
}

/// A user's home with secrets in it, and our executables where this user can start them.
struct Scene(PathBuf);

impl Scene {
    fn new(name: &str) -> Self {
        // Not below /tmp, which the sandbox replaces as a whole: then nothing in it would have to be hidden.
        let root = Path::new("/var/tmp").join(format!("blindferry-sandbox-{}-{name}", std::process::id()));
        fs::create_dir(&root).unwrap();
        let scene = Self(root);
        fs::create_dir(scene.path("bin")).unwrap();
        for executable in ["blindferry", "blindferry-sandbox"] {
            fs::copy(ours(executable), scene.path("bin").join(executable)).unwrap();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("support/escapes.py");
        fs::copy(script, scene.path("bin/escapes.py")).unwrap();
        fs::set_permissions(scene.path("bin/escapes.py"), fs::Permissions::from_mode(0o644)).unwrap();
        for directory in ["home", "home/.ssh", "home/.aws", "home/project", "home/plain", "runtime"] {
            USER.make_directory(&scene.path(directory));
        }
        for file in ["home/.ssh/id_ed25519", "home/.aws/credentials", "home/project/.env", "home/.bashrc"] {
            fs::write(scene.path(file), SECRET).unwrap();
            USER.give(&scene.path(file));
        }
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn command(&self, words: &[&Path]) -> Command {
        let (program, rest) = words.split_first().unwrap();
        let mut command = USER.command(program);
        command.args(rest).env("HOME", self.path("home")).current_dir(self.path("home/project")).stdin(Stdio::null());
        command
    }

    fn sandbox_words(&self, options: &[&str], program: &[&str]) -> Vec<PathBuf> {
        let mut words: Vec<PathBuf> = vec![self.path("bin/blindferry"), "run".into(), "--sandbox".into()];
        words.extend(options.iter().map(PathBuf::from));
        words.push("--".into());
        words.extend(program.iter().map(PathBuf::from));
        words
    }

    fn sandboxed(&self, options: &[&str], program: &[&str]) -> Command {
        self.in_kernel(Kernel::AsItIs, self.sandbox_words(options, program))
    }

    fn in_kernel(&self, kernel: Kernel, words: Vec<PathBuf>) -> Command {
        let without = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
        let before: &[&str] = match kernel {
            Kernel::AsItIs => &["env"],
            Kernel::WithoutNamespaces => &["unshare", "--user", "--map-root-user", "sh", "-c", without, "sh"],
        };
        let words: Vec<PathBuf> = before.iter().map(PathBuf::from).chain(words).collect();
        self.command(&words.iter().map(PathBuf::as_path).collect::<Vec<_>>())
    }

    /// Plays all moves without and within the sandbox. What each said within, for those that succeed without.
    fn moves(&self, kernel: Kernel) -> BTreeMap<String, String> {
        let script = self.path("bin/escapes.py");
        let before = fs::read(self.path("home/.bashrc")).unwrap();
        let play = |way: Vec<PathBuf>| {
            let _old = fs::remove_dir_all(self.path("runtime"));
            USER.make_directory(&self.path("runtime"));
            let _old = fs::remove_file(self.path("home/project/service"));
            let scene = [PYTHON.into(), script.clone(), "scene".into(), self.path("home"), self.path("runtime")];
            let words = scene.into_iter().chain(way).collect();
            let mut command = self.in_kernel(kernel, words);
            let output = command.env("API_TOKEN", SECRET).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let lines = String::from_utf8(output.stdout).unwrap();
            lines
                .lines()
                .map(|line| {
                    let said: serde_json::Value = serde_json::from_str(line).unwrap();
                    (said["move"].as_str().unwrap().to_owned(), said["said"].as_str().unwrap().to_owned())
                })
                .collect::<BTreeMap<String, String>>()
        };
        let read = format!("--read={}", self.path("bin").display());
        let within = play(self.sandbox_words(&[&read], &[]));
        assert_eq!(fs::read(self.path("home/.bashrc")).unwrap(), before, "the file that a shell reads is as it was");
        let without = play(Vec::new());
        let mut table = BTreeMap::new();
        for (name, said) in within {
            assert!(said.starts_with("refused: "), "{name}: {said}");
            match without.get(&name).unwrap().as_str() {
                "got" => drop(table.insert(name, said)),
                refused if MAY_BE_REFUSED.contains(&name.as_str()) => println!("not shown: {name}: {refused}"),
                refused => assert_eq!(refused, "got", "{name} without the sandbox"),
            }
        }
        table
    }

    /// Processes of the scene's user with this in their command line.
    fn processes_of_user(&self, words: &str) -> Vec<u32> {
        let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|one| one.file_name().to_str()?.parse().ok());
        all.filter(|process: &u32| {
            fs::read_to_string(format!("/proc/{process}/cmdline")).is_ok_and(|line| line.contains(words))
                && fs::read_link(format!("/proc/{process}/cwd")).is_ok_and(|cwd| cwd.starts_with(&self.0))
                && lives(*process)
        })
        .collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// Some machines forbid these to everybody; then nothing is shown of them.
const MAY_BE_REFUSED: &[&str] = &[
    "takes the cover off .env",
    "makes a user namespace",
    "measures by perf_event_open",
    "stops the kernel by userfaultfd",
    "opens an io_uring",
];

const PYTHON: &str = "/usr/bin/python3";

fn cannot_play() -> bool {
    if missing(&["unshare"]) {
        return true;
    }
    let nobody: Account = USER;
    let why = match () {
        () if !cfg!(target_arch = "x86_64") => "the moves call the kernel by numbers of x86-64",
        () if !Path::new(PYTHON).exists() => "there is no python3 of the system's",
        () if !Path::new("/usr/bin/ssh-agent").exists() => "there is no ssh-agent",
        () if !nobody.command("unshare".as_ref()).args(["--user", "true"]).status().is_ok_and(|s| s.success()) => {
            "no user namespaces"
        }
        () => return false,
    };
    println!("skipped: {why}");
    true
}

fn run(mut command: Command) -> Output {
    command.output().unwrap()
}

fn run_said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(id.cast_signed()).unwrap()
}
