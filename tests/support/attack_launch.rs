//! Programs with a token, started in the ways that are compared: by the launcher at each level, and as people do without it.

use crate::account::{Account, CALLER, USER, is_root};
use crate::attack::Racer;
use crate::process::{children, eventually, lives};
use crate::program::ours;
use crate::starter::Starter;
use crate::way::Way;
use blindferry_handle::inherit::keep_over_exec;
use blindferry_handle::memfd::Handle;
use blindferry_handle::packet::PacketSocket;
use std::cell::OnceCell;
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The user's processes, attackers among them: without supplementary groups.
pub const ATTACKER: Account = USER;

/// A launcher that can do every level that this machine lets it, and its broker's socket.
#[derive(Debug)]
pub struct Launcher {
    directory: PathBuf,
    workers: PathBuf,
    starter: OnceCell<Starter>,
}

impl Launcher {
    /// Installs a copy of the launcher, set-group-ID where the tests are root, in a directory of root's.
    #[must_use]
    pub fn install(name: &str, workers: &Path) -> Self {
        let directory = std::env::temp_dir().join(format!("blindferry-protection-{}-{name}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let launcher = Self { directory, workers: workers.to_owned(), starter: OnceCell::new() };
        fs::copy(ours("blindferry-launch"), launcher.path()).unwrap();
        let mut mode = 0o755;
        if is_root() {
            chown(launcher.path(), Some(0), Some(GROUP)).unwrap();
            mode = 0o2711;
        }
        fs::set_permissions(launcher.path(), fs::Permissions::from_mode(mode)).unwrap();
        ATTACKER.make_directory(&launcher.users());
        launcher
    }

    /// A directory of root's, for programs that everybody may run.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A directory of the user's, where programs run and may leave cores.
    #[must_use]
    pub fn users(&self) -> PathBuf {
        self.directory.join("users")
    }

    /// The launcher, told where its broker is and to give a token in a variable, for a grant on this descriptor.
    #[must_use]
    pub fn command(&self, grant: i32, level: &str) -> Command {
        let mut command = ATTACKER.command(&self.path());
        command.args(["--grant-fd", &grant.to_string(), "--protection", level, "--deliver", "env:SECRET", "--workers"]);
        command.arg(&self.workers).current_dir(self.users());
        command
    }

    /// The starter of [`Way::OwnNamespace`], which runs from when it was first asked for until this value is dropped.
    pub fn starter(&self) -> &Starter {
        self.starter.get_or_init(|| {
            let name = self.directory.file_name().unwrap().to_string_lossy();
            // What is before it is the starter's to say; paths of sockets are short.
            Starter::start(name.trim_start_matches("blindferry-protection-"), &self.workers, &[])
        })
    }

    /// The launcher's file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.join("blindferry-launch")
    }

    /// Starts `script` by a shell with the token in `SECRET`, in a memfd, and in another one on its way to the program, in a
    /// socket that it has; one process id from the waiting to the end: nothing of it runs before [`Started::go`].
    ///
    /// Of [`Way::OwnNamespace`] the socket is the standard output, since nothing passes but the three streams, and the
    /// process that waits becomes the command that asks the starter.
    ///
    /// Of [`Way::Prctl`] the script is Perl's, since a shell has no such call. Of [`Way::Container`] and
    /// [`Way::Credential`] the token is nowhere else.
    #[must_use]
    pub fn start(&self, way: Way, script: &str, token: &str) -> Started {
        self.start_preloaded(way, script, token, None)
    }

    /// The same, by a parent who has everything load a library, where it can.
    #[must_use]
    pub fn start_preloaded(&self, way: Way, script: &str, token: &str, library: Option<&Path>) -> Started {
        let mut held = Vec::new();
        let mut inherited = |descriptor: OwnedFd| {
            keep_over_exec(descriptor.as_fd()).unwrap();
            let number = descriptor.as_raw_fd().to_string();
            held.push(descriptor);
            number
        };
        // The token is not in the shell that waits, where it would be read before there is anything to protect.
        let mut waiting = String::from("read go; ");
        let mut words: Vec<String> = Vec::new();
        let mut script = script.to_owned();
        let mut account = ATTACKER;
        let mut file = None;
        let mut output = Stdio::inherit();
        if let Some(level) = way.level() {
            let grant = inherited(Handle::seal("grant", b"opaque grant").unwrap().into_fd());
            let socket = inherited(with_token_in_flight(token));
            let launcher = self.path();
            words.extend([launcher.to_str().unwrap(), "--grant-fd", &grant, "--keep-fd", &socket].map(str::to_owned));
            words.extend(["--workers", self.workers.to_str().unwrap(), "--protection", level].map(str::to_owned));
            words.extend(["--deliver", "memfd", "--deliver", "env:SECRET", "--"].map(str::to_owned));
            waiting.push_str("exec \"$@\"");
        } else if way == Way::OwnNamespace {
            words.extend([ours("blindferry").to_str().unwrap(), "run", "--via", "broker"].map(str::to_owned));
            words
                .extend(["--credential", "secret", "--deliver", "memfd", "--deliver", "env:SECRET"].map(str::to_owned));
            words.push("--".to_owned());
            waiting.push_str("exec \"$@\"");
            output = Stdio::from(with_token_in_flight(token));
        } else if way == Way::Credential {
            let credential = CredentialFile::with(token);
            waiting.push_str(&format!("CREDENTIALS_DIRECTORY={} exec \"$@\"", credential.0.display()));
            script.insert_str(0, "read SECRET < $CREDENTIALS_DIRECTORY/token; ");
            file = Some(credential);
        } else {
            waiting.push_str(&format!("SECRET={token} exec \"$@\""));
            if way == Way::Container {
                account = CALLER;
                let user = ATTACKER.uid();
                words.extend(
                    ["unshare", "--pid", "--fork", "--mount-proc", "setpriv", "--clear-groups"].map(str::to_owned),
                );
                words.extend([format!("--reuid={user}"), format!("--regid={user}"), "--".to_owned()]);
            } else {
                inherited(Handle::seal("token", token.as_bytes()).unwrap().into_fd());
                inherited(with_token_in_flight(token));
            }
            if way == Way::Unshare {
                words.extend(["unshare", "--user", "--pid", "--fork", "--mount-proc"].map(str::to_owned));
            }
        }
        if way == Way::Prctl {
            words.extend(["perl", "-e"].map(str::to_owned));
            script.insert_str(0, "syscall(157, 4, 0, 0, 0, 0); ");
        } else {
            words.extend(["sh", "-c"].map(str::to_owned));
        }
        words.push(script);
        let mut command = account.command(Path::new("sh"));
        command.arg("-c").arg(&waiting).arg("waiting").args(&words);
        command.envs(library.map(|library| ("LD_PRELOAD", library)));
        let starter = (way == Way::OwnNamespace).then(|| {
            self.starter().told(&mut command);
            self.starter().id()
        });
        command.current_dir(self.users()).stdin(Stdio::piped()).stdout(output).stderr(Stdio::null());
        Started { child: command.spawn().unwrap(), starter, file, _held: held }
    }
}

/// One end of a pair of sockets, in which a memfd with the token waits.
fn with_token_in_flight(token: &str) -> OwnedFd {
    let (ours, theirs) = PacketSocket::pair().unwrap();
    let sealed = Handle::seal("token", token.as_bytes()).unwrap();
    ours.send(b"a token", &[sealed.as_fd()]).unwrap();
    theirs.into_fd()
}

/// The directory of a credential, in a tmpfs, as systemd leaves it for a unit of this user.
#[derive(Debug)]
struct CredentialFile(PathBuf);

impl CredentialFile {
    fn with(token: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = PathBuf::from(format!("/dev/shm/blindferry-credential-{}-{number}", std::process::id()));
        ATTACKER.make_directory(&directory);
        let file = directory.join("token");
        fs::write(&file, token).unwrap();
        ATTACKER.give(&file);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o500)).unwrap();
        Self(directory)
    }
}

impl Drop for CredentialFile {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

/// A process that waits, then is started on its way; ended when dropped, and what it started too.
#[derive(Debug)]
pub struct Started {
    child: Child,
    starter: Option<u32>,
    file: Option<CredentialFile>,
    _held: Vec<OwnedFd>,
}

impl Started {
    /// The file by whose name the token can be had, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        self.file.as_ref().map(|directory| directory.0.join("token"))
    }

    /// An attacker who looks without a pause at where the program will be, and at all that this starts where it is not
    /// this process itself that becomes the program.
    #[must_use]
    pub fn raced_by(&self, attacker: Account, way: Way, token: &str) -> Racer {
        match self.starter {
            Some(starter) => Racer::of_trees(attacker, &[self.id(), starter], &[token]),
            None if way == Way::Container => Racer::of_trees(attacker, &[self.id()], &[token]),
            None => Racer::start(attacker, self.id(), &[token]),
        }
    }

    /// Its process id, from the beginning.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets it begin.
    pub fn go(&mut self) {
        self.child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }

    /// How it ended.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Waits until the program runs and has started a `sleep`: both. Nothing when it ended instead.
    pub fn program_and_child(&self) -> Option<(u32, u32)> {
        eventually(&format!("what {} starts", self.id()), || {
            // Who is traced when it ends is not waited for before its tracer lets go.
            if !lives(self.id()) {
                return Some(None);
            }
            let first = self.starter.unwrap_or(self.id());
            let mut below = vec![(first, first)];
            while let Some((parent, process)) = below.pop() {
                if fs::read(format!("/proc/{process}/comm")).unwrap_or_default() == b"sleep\n" {
                    return Some(Some((parent, process)));
                }
                below.extend(children(process, "").into_iter().map(|child| (process, child)));
            }
            None
        })
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let mut all = vec![self.id()];
        let mut next = 0;
        while let Some(process) = all.get(next).copied() {
            all.extend(children(process, ""));
            next += 1;
        }
        // From the end: who waits for whom does not matter to SIGKILL.
        for process in all.into_iter().skip(1).filter(|process| lives(*process)) {
            crate::process::send(process, rustix::process::Signal::KILL);
        }
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Attaches to a process as an attacker's debugger and stays attached until the value is dropped.
#[derive(Debug)]
pub struct Tracer(Child);

impl Tracer {
    /// PTRACE_SEIZE (0x4206), which stops nothing. Nothing when the kernel refuses.
    #[must_use]
    pub fn attach(process: u32) -> Option<Self> {
        let script = format!("$r = syscall(101, 0x4206, {process}, 0, 0); $| = 1; print $r == 0 ? 'y' : 'n'; sleep 60");
        let mut perl = ATTACKER.command(Path::new("perl"));
        let mut child = perl.arg("-e").arg(script).stdout(Stdio::piped()).spawn().unwrap();
        let mut answer = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut answer).unwrap();
        let tracer = Self(child);
        (answer == *b"y").then_some(tracer)
    }

    /// Whether the process has this tracer now.
    #[must_use]
    pub fn holds(&self, process: u32) -> bool {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        status.lines().any(|line| line == format!("TracerPid:\t{}", self.0.id()))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Whether this machine can show the table: x86-64 (Perl knows system calls by number), root, tools, no Yama.
#[must_use]
pub fn cannot_compare() -> bool {
    let yama = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let why = match () {
        () if !is_root() => "only root can be another user, and install the launcher set-group-ID",
        () if !cfg!(target_arch = "x86_64") => "Perl calls the kernel by numbers of x86-64",
        () if !["", "0"].contains(&yama.trim()) => "Yama is on, so that what is unprotected is not read either",
        () if Command::new("unshare").args(["--user", "true"]).status().is_ok_and(|status| !status.success()) => {
            "no user namespaces"
        }
        () => return false,
    };
    println!("skipped: {why}");
    true
}

/// A group that owns nothing and has no members.
const GROUP: u32 = 64_999;
