//! Can another process of the same user read a Blindferry process? Tried by one that tries, with positive controls.
//!
//! This executable is the tests, the victims and the attacker. It has its own `main` because [`enter`] must run before
//! there is a second thread, which the usual harness would have started.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::zombie_processes,
    reason = "tests, which clippy does not see in a file with its own main"
)]

use std::env;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use blindferry_handle::entry::{Entry, EntryError, enter};
use blindferry_handle::image::ExecOnlyImage;
use blindferry_handle::inherit::{close_all_but, take_inherited};
use blindferry_handle::packet::{PacketListener, PacketSocket};
use blindferry_handle::peer::PeerError;
use blindferry_handle::secret::{Protection, SecretBytes, protection};

type Test = fn(&Stage);

const TESTS: &[(&str, Test)] = &[
    ("a_plain_child_is_read_by_a_process_of_its_user", a_plain_child_is_read_by_a_process_of_its_user),
    ("an_exec_only_child_is_not_read_by_a_process_of_its_user", an_exec_only_child_is_not_read),
    ("a_process_that_entered_is_not_read_by_a_process_of_its_user", a_process_that_entered_is_not_read),
    ("entering_keeps_arguments_environment_and_descriptors", entering_keeps_what_was_given),
    ("entering_as_root_is_non_dumpable_from_exec_too", entering_as_root_is_non_dumpable_from_exec_too),
    ("a_forged_marker_does_not_pass_for_a_second_start", a_forged_marker_does_not_pass),
    ("a_traced_process_is_refused", a_traced_process_is_refused),
    ("a_late_entry_is_refused", a_late_entry_is_refused),
    ("a_core_holds_the_heap_and_not_the_secret", a_core_holds_the_heap_and_not_the_secret),
    ("an_exhausted_lock_limit_is_named", an_exhausted_lock_limit_is_named),
    ("a_connection_whose_maker_has_ended_is_refused", a_connection_whose_maker_has_ended_is_refused),
];

/// What the victims carry in their environment.
const MARKER: &str = "environment-marker-71c2";

/// Whom the tests become when they are run by root, for whom nothing is unreadable.
const NOBODY: u32 = 65_534;

fn main() {
    let args: Vec<String> = env::args().collect();
    if let Some(role) = args.get(1).and_then(|argument| argument.strip_prefix("role=")) {
        return play(role, args.get(2).map_or("", String::as_str));
    }
    // The part of the usual harness that cargo test and cargo nextest rely on.
    let ignored = args.iter().any(|argument| argument == "--ignored");
    let exact = args.iter().any(|argument| argument == "--exact");
    let mut wanted: Vec<&String> = args.iter().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    wanted.retain(|argument| *argument != "terse");
    let chosen = TESTS.iter().filter(|(name, _)| {
        let matches = |filter: &&String| {
            if exact { name == filter } else { name.contains(filter.as_str()) }
        };
        !ignored && (wanted.is_empty() || wanted.iter().any(matches))
    });
    if args.iter().any(|argument| argument == "--list") {
        chosen.for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    for (name, test) in chosen {
        let stage = Stage::set(name);
        test(&stage);
        println!("test {name} ... ok");
    }
}

// The tests.

fn a_plain_child_is_read_by_a_process_of_its_user(stage: &Stage) {
    let victim = stage.start("wait", &[]);
    assert_eq!(stage.attack(&victim), "environ LEAK, mem OPEN, fd SEEN, pidfd_getfd TAKEN");
}

fn an_exec_only_child_is_not_read(stage: &Stage) {
    let victim = stage.start("exec-only", &[]);
    assert_eq!(victim.said, "waiting, dumpable 0");
    assert_eq!(stage.attack(&victim), SAFE);
}

fn a_process_that_entered_is_not_read(stage: &Stage) {
    let victim = stage.start("enter", &[]);
    assert!(victim.said.contains("non-dumpable from exec yes, started again yes"), "{}", victim.said);
    assert!(!victim.said.contains("WARNING"), "{}", victim.said);
    assert_eq!(stage.attack(&victim), SAFE);
}

fn entering_keeps_what_was_given(stage: &Stage) {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "exec 8</dev/null 9</etc/passwd; exec \"$@\"", "sh"]).arg(&stage.victim);
    let victim = stage.start_by(shell, "inventory", &[]);
    let expected = format!("argument two words, {MARKER}, markers 0, taken 9, left 0 1 2, {}", stage.victim.display());
    assert_eq!(victim.said, expected);
}

fn entering_as_root_is_non_dumpable_from_exec_too(stage: &Stage) {
    if !is_root() {
        return println!("SKIPPED: not run by root");
    }
    let stage = stage.as_ourselves();
    let victim = stage.start("enter", &[]);
    assert!(victim.said.contains("non-dumpable from exec yes, started again yes"), "{}", victim.said);
}

fn a_forged_marker_does_not_pass(stage: &Stage) {
    let victim = stage.start("enter", &[("BLINDFERRY_STARTED_FROM", "/bin/true")]);
    assert_eq!(victim.said, format!("refused: {}", EntryError::DumpableOnEntry));
    let victim = stage.start("enter-anyway", &[("BLINDFERRY_STARTED_FROM", "/bin/true")]);
    assert!(victim.said.contains("non-dumpable from exec no"), "{}", victim.said);
    assert!(victim.said.contains("WARNING: this process was readable when it started"), "{}", victim.said);
}

fn a_traced_process_is_refused(stage: &Stage) {
    let victim = stage.start("enter-traced", &[]);
    assert!(victim.said.starts_with("refused: process ") && victim.said.contains("is tracing"), "{}", victim.said);
}

fn a_late_entry_is_refused(stage: &Stage) {
    let victim = stage.start("enter-late", &[]);
    assert!(victim.said.starts_with("refused: entered with 2 threads"), "{}", victim.said);
}

fn a_core_holds_the_heap_and_not_the_secret(stage: &Stage) {
    if protection() != Protection::SecretMemory {
        return println!("SKIPPED: {}", protection().warning().unwrap_or_default());
    }
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if pattern.trim() != "core" {
        return println!("SKIPPED: kernel.core_pattern is {}, cores do not go to the working folder", pattern.trim());
    }
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "ulimit -c unlimited && exec \"$@\"", "sh"]).arg(&stage.victim).current_dir(&stage.folder);
    let mut victim = stage.start_by(shell, "crash", &[]);
    victim.child.wait().unwrap();
    let Some(core) = fs::read_dir(&stage.folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("core"))
    else {
        return println!("SKIPPED: no core was written here");
    };
    let core = fs::read(core).unwrap();
    assert!(holds(&core, &marked(HEAP)), "positive control");
    assert!(!holds(&core, &marked(SECRET)));
}

fn a_connection_whose_maker_has_ended_is_refused(stage: &Stage) {
    let path = stage.folder.join("socket");
    let listener = PacketListener::bind(&path, 0o666).unwrap();
    let mut maker = stage.start("connect-and-end", &[]);
    let connection = listener.accept().unwrap();
    // Its child holds the connection open, as whoever stole it would.
    connection.send(b"are you there?", &[]).unwrap();
    maker.child.wait().unwrap();
    let refused = connection.peer();
    assert!(matches!(refused, Err(PeerError::Dead)), "{refused:?}");
    let living = stage.start("connect", &[]);
    let connection = listener.accept().unwrap();
    let peer = connection.peer().unwrap();
    assert_eq!(u32::try_from(peer.pid()).unwrap(), living.child.id());
    drop(living);
    assert!(!peer.is_alive());
}

fn an_exhausted_lock_limit_is_named(stage: &Stage) {
    if protection() != Protection::SecretMemory {
        return println!("SKIPPED: {}", protection().warning().unwrap_or_default());
    }
    let victim = stage.start("lock-limit", &[]);
    assert!(victim.said.contains("RLIMIT_MEMLOCK"), "{}", victim.said);
}

const SAFE: &str = "environ denied, mem denied, fd denied, pidfd_getfd denied";

// What they play on: a folder that an unprivileged user can execute this file in.

struct Stage {
    folder: PathBuf,
    victim: PathBuf,
    user: Option<u32>,
    owner: bool,
}

impl Stage {
    fn set(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("blindferry-{}-{}", std::process::id(), &name[..12]));
        fs::create_dir(&folder).unwrap();
        let user = is_root().then_some(NOBODY);
        if let Some(user) = user {
            std::os::unix::fs::chown(&folder, Some(user), Some(user)).unwrap();
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let victim = folder.join("victim");
        fs::copy(env::current_exe().unwrap(), &victim).unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder, victim, user, owner: true }
    }

    fn as_ourselves(&self) -> Self {
        Self { folder: self.folder.clone(), victim: self.victim.clone(), user: None, owner: false }
    }

    fn start(&self, role: &str, env: &[(&str, &str)]) -> Victim {
        self.start_by(Command::new(&self.victim), role, env)
    }

    fn start_by(&self, mut command: Command, role: &str, env: &[(&str, &str)]) -> Victim {
        command.arg(format!("role={role}")).arg(if role == "inventory" { "two words" } else { "" });
        command.env_clear().env("MARKER", MARKER).env("STAGE", &self.folder).envs(env.iter().copied());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        Victim { child, said: said.trim().to_owned() }
    }

    fn attack(&self, victim: &Victim) -> String {
        self.start(&format!("attack-{}", victim.child.id()), &[]).said.clone()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.owner {
            fs::remove_dir_all(&self.folder).unwrap();
        }
    }
}

/// A process that lives until this is dropped, and the first line that it said.
struct Victim {
    child: Child,
    said: String,
}

impl Drop for Victim {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

// The roles.

fn play(role: &str, argument: &str) {
    match role {
        "wait" => wait(&format!("waiting, dumpable {}", dumpable())),
        "exec-only" => {
            let image = ExecOnlyImage::from_path(Path::new("/proc/self/exe")).unwrap();
            let env: Vec<CString> = [format!("MARKER={MARKER}")].map(|text| CString::new(text).unwrap()).into();
            panic!("{}", image.exec(&[c"victim".into(), c"role=wait".into()], &env));
        }
        "enter" => enter_and_wait(Entry::new()),
        "enter-anyway" => enter_and_wait(Entry::new().accept_dumpable_start()),
        "enter-traced" => {
            // SAFETY: lets our parent trace us, and touches nothing else.
            assert_eq!(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) }, 0);
            enter_and_wait(Entry::new());
        }
        "enter-late" => {
            let (sender, receiver) = std::sync::mpsc::channel::<()>();
            let second = std::thread::spawn(move || receiver.recv().is_err());
            enter_and_wait(Entry::new());
            drop(sender);
            second.join().unwrap();
        }
        "inventory" => inventory(argument),
        "lock-limit" => {
            let limit = rustix::process::Rlimit { current: Some(64 << 10), maximum: Some(64 << 10) };
            rustix::process::setrlimit(rustix::process::Resource::Memlock, limit).unwrap();
            assert_eq!(protection(), Protection::SecretMemory);
            let refused = SecretBytes::copy_and_wipe(&mut vec![1; 128 << 10]).unwrap_err();
            println!("{refused}");
        }
        "crash" => crash(),
        "connect" => {
            let _socket = PacketSocket::connect(&stage().join("socket")).unwrap();
            wait("connected");
        }
        "connect-and-end" => {
            let socket = PacketSocket::connect(&stage().join("socket")).unwrap();
            Command::new("/bin/cat").stdin(socket.into_fd()).stdout(Stdio::null()).spawn().unwrap();
            println!("connected");
        }
        attack => attack_process(attack.strip_prefix("attack-").unwrap().parse().unwrap()),
    }
}

fn wait(said: &str) {
    println!("{said}");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn enter_and_wait(entry: Entry) {
    match enter(&entry) {
        Ok(entered) => wait(&entered.to_string()),
        Err(error) => println!("refused: {error}"),
    }
}

fn inventory(argument: &str) {
    let entered = enter(&Entry::new()).unwrap();
    let taken = take_inherited(9).unwrap();
    let mut first = [0; 1];
    File::from(taken).read_exact(&mut first).unwrap();
    close_all_but(&[]).unwrap();
    let mut left: Vec<i32> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().parse().unwrap())
        .collect();
    // The listing's own descriptor is closed by now.
    left.retain(|number| fs::read_link(format!("/proc/self/fd/{number}")).is_ok());
    left.sort_unstable();
    let left: Vec<String> = left.iter().map(ToString::to_string).collect();
    let markers = env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BLINDFERRY")).count();
    println!(
        "argument {argument}, {}, markers {markers}, taken 9, left {}, {}",
        env::var("MARKER").unwrap(),
        left.join(" "),
        entered.executable().unwrap().display()
    );
}

fn attack_process(victim: i32) {
    let environ = match fs::read(format!("/proc/{victim}/environ")) {
        Ok(seen) if holds(&seen, MARKER.as_bytes()) => "LEAK",
        Ok(_) => "empty",
        Err(_) => "denied",
    };
    // SAFETY: two system calls that take numbers alone; what they return is left to the end of this process.
    let taken = unsafe {
        let pidfd = libc::syscall(libc::SYS_pidfd_open, victim, 0);
        libc::syscall(libc::SYS_pidfd_getfd, pidfd, 0, 0)
    };
    println!(
        "environ {environ}, mem {}, fd {}, pidfd_getfd {}",
        if File::open(format!("/proc/{victim}/mem")).is_ok() { "OPEN" } else { "denied" },
        if fs::read_link(format!("/proc/{victim}/fd/0")).is_ok() { "SEEN" } else { "denied" },
        if taken >= 0 { "TAKEN" } else { "denied" }
    );
}

fn crash() {
    let _secret = SecretBytes::init(MARK_LEN, |place| {
        // Straight into its place, byte by byte, so that nothing else ever holds it.
        place.iter_mut().enumerate().for_each(|(index, byte)| *byte = mark(SECRET, index));
        Ok::<_, std::convert::Infallible>(MARK_LEN)
    })
    .unwrap();
    let _heap = std::hint::black_box(marked(HEAP));
    println!("crashing");
    std::io::stdout().flush().unwrap();
    std::process::abort();
}

const MARK_LEN: usize = 64;
const HEAP: usize = 3;
const SECRET: usize = 5;

fn mark(which: usize, index: usize) -> u8 {
    std::hint::black_box(((index * 37 + 11) * which % 251) as u8)
}

fn marked(which: usize) -> Vec<u8> {
    (0..MARK_LEN).map(|index| mark(which, index)).collect()
}

fn holds(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

fn stage() -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(env::var_os("STAGE").unwrap().into_vec()))
}

fn dumpable() -> i32 {
    // SAFETY: asks for a number.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
