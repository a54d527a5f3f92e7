//! The programs that are started, and the ways to start them.

use blindferry_handle::inherit::keep_over_exec;
use blindferry_handle::memfd::Handle;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

/// A command line, timed from before fork(2) to after wait(2).
pub(crate) struct Case {
    pub(crate) name: String,
    /// The names of the cases that it is compared with.
    pub(crate) beside: Vec<String>,
    words: Vec<String>,
}

/// A program and a word for it.
struct Program {
    name: &'static str,
    path: PathBuf,
}

/// What is started, in a directory of its own, and the launcher that starts it.
pub(crate) struct Programs {
    directory: PathBuf,
    programs: Vec<Program>,
    workers: PathBuf,
    grant: OwnedFd,
}

impl Case {
    /// Starts it once, and waits for its end.
    pub(crate) fn run(&self) -> Duration {
        let (program, arguments) = self.words.split_first().unwrap();
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
        // Where the user's own systemd is found.
        command.env("XDG_RUNTIME_DIR", format!("/run/user/{}", own_user()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        as_user(&mut command);
        let start = Instant::now();
        let status = command.status().unwrap();
        let taken = start.elapsed();
        assert!(status.success(), "{:?}: {status}", self.words);
        taken
    }
}

impl Programs {
    /// Builds the programs, and installs the launcher as a package would: set-group-ID and not readable, where root runs
    /// this.
    pub(crate) fn make(workers: &Path) -> Self {
        let directory = env::temp_dir().join(format!("blindferry-startup-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let grant = Handle::seal("grant", b"opaque grant").unwrap().into_fd();
        keep_over_exec(grant.as_fd()).unwrap();
        let mut made = Self { directory, programs: Vec::new(), workers: workers.to_owned(), grant };
        let small = made.directory.join("small");
        fs::write(made.directory.join("small.c"), "int main(void) { return 0; }\n").unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-static", "-o"]).arg(&small).arg(made.directory.join("small.c"));
        assert!(compiler.status().unwrap().success(), "cc");
        made.programs.push(Program { name: SMALL, path: small.clone() });
        made.programs.push(Program { name: "dynamic (`true`)", path: "/usr/bin/true".into() });
        for (name, size) in [("10 MB", 10_000_000), ("100 MB", 100_000_000)] {
            // Behind what is mapped: fork and exec do not read it, as they read little of a large program.
            let path = made.directory.join(name.replace(' ', "-"));
            let mut bytes = fs::read(&small).unwrap();
            bytes.resize(size, 0xa5);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            made.programs.push(Program { name, path });
        }
        for (name, mode) in [(INSTALLED, 0o2711), (READABLE, 0o755)] {
            let launcher = made.directory.join(name);
            fs::copy(launcher_of_release(), &launcher).unwrap();
            if is_root() {
                chown(&launcher, Some(0), Some(GROUP)).unwrap();
            }
            fs::set_permissions(&launcher, fs::Permissions::from_mode(mode)).unwrap();
        }
        made
    }

    /// Every program in every way that there is on this machine. What there is not is said on standard error.
    pub(crate) fn cases(&self) -> Vec<Case> {
        let others: Vec<&[&str]> = OTHERS.iter().copied().filter(|words| works(words)).collect();
        self.programs.iter().flat_map(|program| self.cases_of(program, &others)).collect()
    }

    fn cases_of(&self, program: &Program, others: &[&[&str]]) -> Vec<Case> {
        let path = program.path.to_str().unwrap();
        let name = |way: &str| format!("{}: {way}", program.name);
        let case = |way: &str, words: Vec<String>, beside: &[&str]| Case {
            name: name(way),
            beside: beside.iter().map(|way| name(way)).collect(),
            words,
        };
        let mut cases = vec![case(PLAIN, vec![path.to_owned()], &[])];
        cases.push(case("none", self.launch(INSTALLED, "none", path), &[PLAIN]));
        cases.push(case("exec-only", self.launch(INSTALLED, "exec-only", path), &[PLAIN, "none"]));
        if is_root() {
            cases.push(case("own-group", self.launch(INSTALLED, "own-group", path), &[PLAIN, "exec-only"]));
        }
        if program.name == SMALL {
            let words = self.launch(READABLE, "exec-only", path);
            cases.push(case("exec-only, the launcher installed readable", words, &[PLAIN, "exec-only"]));
        }
        for words in others {
            let way = words.iter().take_while(|word| !word.starts_with('/') && **word != "--").copied();
            let way = format!("`{}`", way.collect::<Vec<_>>().join(" "));
            let words = words.iter().chain(&[path]).map(|word| (*word).to_owned()).collect();
            cases.push(case(&way, words, &[PLAIN]));
        }
        cases
    }

    /// The token in a variable, as with `env`.
    fn launch(&self, launcher: &str, level: &str, path: &str) -> Vec<String> {
        let (launcher, grant) = (self.directory.join(launcher), self.grant.as_raw_fd().to_string());
        let mut words = vec![launcher.to_str().unwrap(), "--grant-fd", &grant, "--protection", level];
        words.extend(["--workers", self.workers.to_str().unwrap(), "--deliver", "env:SECRET", "--", path]);
        words.into_iter().map(str::to_owned).collect()
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

/// A user without privileges, where root measures.
fn as_user(command: &mut Command) {
    if is_root() {
        command.uid(USER).gid(USER);
    }
}

/// As whom programs run.
fn own_user() -> u32 {
    if is_root() { USER } else { rustix::process::geteuid().as_raw() }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The launcher as it is released, whatever this program was built as.
fn launcher_of_release() -> PathBuf {
    let own = env::current_exe().unwrap();
    let target = own.ancestors().find(|path| path.join("release").is_dir());
    let launcher = target.map(|target| target.join("release/blindferry-launch")).filter(|path| path.exists());
    launcher.expect("build it first: cargo build --release -p blindferry-launch")
}

/// Whether a way of others works here, as the user.
fn works(words: &[&str]) -> bool {
    let mut command = Command::new(words.first().unwrap());
    command.args(words.iter().skip(1)).arg("/usr/bin/true").stdin(Stdio::null());
    command.env("XDG_RUNTIME_DIR", format!("/run/user/{}", own_user()));
    as_user(&mut command);
    let (works, why) = match command.output() {
        Ok(output) => (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => (false, error.to_string()),
    };
    if !works {
        eprintln!("skipped: {}: {}", words.join(" "), why.lines().next().unwrap_or("it says nothing"));
    }
    works
}

/// The ways of others.
const OTHERS: [&[&str]; 4] = [
    &["env", "SECRET=a-token"],
    &["unshare", "--user", "--pid", "--fork", "--mount-proc"],
    &["bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--"],
    &["systemd-run", "--user", "--wait", "--quiet", "--"],
];
const SMALL: &str = "small static";
const PLAIN: &str = "fork and exec";
const INSTALLED: &str = "blindferry-launch";
const READABLE: &str = "readable-launch";
const USER: u32 = 64_212;
/// A group that owns nothing and has no members.
const GROUP: u32 = 64_999;
