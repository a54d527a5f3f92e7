//! The forms that are a path of the program's choice, and the one for programs that know of us: do they work, and what
//! does another process of the same user find there?

use crate::attack::{TOKEN, steals};
use crate::delivery::stop;
use crate::fake_broker::{FakeBroker, honest};
use crate::launched::{Launch, as_nobody, wait_until_it_is};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

const PYTHON: &str = "/usr/bin/python3";

#[test]
fn a_file_at_a_fixed_path_is_read_again_and_again_by_the_program_alone() {
    let (broker, place) = (FakeBroker::start("file", honest(TOKEN)), Place::new("file"));
    let (form, path) = (format!("file:{}", place.file()), place.file());
    let script = format!("cat {path}; cat {path}; stat -Lc %a:%F {path}");
    let printed = Launch::of(&broker).args(&["--deliver", &form, "--", "sh", "-c", &script]).printed();
    let token = String::from_utf8_lossy(TOKEN);
    assert_eq!(printed, format!("{token}{token}400:regular file\n"));
    // A second launch takes the link as it is; so does one at the same time.
    let program = Launch::of(&broker).args(&["--deliver", &form, "--", "sleep", "60"]).command.spawn().unwrap();
    wait_until_it_is(program.id(), "sleep");
    assert_eq!(Launch::of(&broker).args(&["--deliver", &form, "--", "cat", &path]).printed(), token);
    for road in [path.clone(), format!("/proc/{}/root{path}", program.id()), format!("/proc/{}/fd/64", program.id())] {
        assert!(!steals(as_nobody("cat").arg(&road)), "{road}");
    }
    stop(program);
    // The same attacker, and the same token in an ordinary file that nobody but its user may read.
    fs::remove_file(&path).unwrap();
    place.write(TOKEN);
    assert!(steals(as_nobody("cat").arg(&path)), "otherwise the attack proves nothing");
}

#[test]
fn a_file_in_a_namespace_that_its_user_made_is_read_by_any_of_his_processes() {
    // Why a path is not kept private that way.
    let mut keeper = as_nobody("unshare");
    keeper.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    let script = "mount -t tmpfs -o mode=700 none /mnt && printf %s \"$1\" > /mnt/token && chmod 400 /mnt/token && exec sleep 60";
    keeper.args([script, "sh", std::str::from_utf8(TOKEN).unwrap()]).stderr(Stdio::null());
    let mut keeper = keeper.spawn().unwrap();
    if !became(&mut keeper, "sleep") {
        println!("skipped: no user namespaces here");
        return;
    }
    let (pid, road) = (keeper.id().to_string(), format!("/proc/{}/root/mnt/token", keeper.id()));
    assert!(steals(as_nobody("cat").arg(road)));
    assert!(steals(as_nobody("nsenter").args([
        "--user",
        "--mount",
        "--preserve-credentials",
        "--target",
        &pid,
        "cat",
        "/mnt/token"
    ])));
    stop(keeper);
}

#[test]
fn a_program_that_executes_from_an_unreadable_copy_in_such_a_namespace_is_read_as_well() {
    let broker = FakeBroker::start("namespace", honest(TOKEN));
    let launch = Launch::of(&broker).args(&["--deliver", "env:SECRET", "--", "sleep", "60"]);
    let mut command = as_nobody("unshare");
    command.args(["--user", "--map-current-user"]);
    // The launcher's own arguments, without what takes the privileges: unshare came behind that.
    let words: Vec<_> = launch.command.get_args().map(ToOwned::to_owned).collect();
    let own = words.iter().position(|word| word == "env").map_or(0, |at| at + 1);
    if own == 0 {
        command.arg(launch.command.get_program());
    }
    let mut program = command.args(&words[own..]).stderr(Stdio::null()).spawn().unwrap();
    if !became(&mut program, "sleep") {
        println!("skipped: no user namespaces here");
        return;
    }
    // Its files in /proc belong to root, but whoever owns the namespace may trace it.
    let memory = "
import ctypes, sys
libc = ctypes.CDLL(None)
class Part(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]
for line in open(f'/proc/{sys.argv[1]}/maps'):
    if '[stack]' not in line: continue
    start, end = (int(a, 16) for a in line.split()[0].split('-'))
    here = ctypes.create_string_buffer(end - start)
    to, of = Part(ctypes.addressof(here), end - start), Part(start, end - start)
    libc.process_vm_readv(int(sys.argv[1]), ctypes.byref(to), 1, ctypes.byref(of), 1, 0)
    sys.stdout.buffer.write(here.raw)";
    assert!(steals(as_nobody(PYTHON).args(["-c", memory, &program.id().to_string()])));
    stop(program);
}

#[test]
fn what_lies_at_the_path_already_is_left_alone_and_no_grant_is_spent() {
    let (broker, place) = (FakeBroker::start("occupied", honest(TOKEN)), Place::new("occupied"));
    place.write(b"mine");
    let launch = Launch::of(&broker).args(&["--deliver", &format!("file:{}", place.file()), "--", "true"]);
    let output = launch.output();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("something else lies there"));
    assert_eq!(fs::read(place.file()).unwrap(), b"mine");
    assert!(broker.seen().is_empty());
}

#[test]
fn a_credentials_directory_is_as_systemd_has_it() {
    let broker = FakeBroker::start("directory", honest(TOKEN));
    let token = String::from_utf8_lossy(TOKEN);
    let script = "cd $CREDENTIALS_DIRECTORY && ls && cat deploy-key && stat -Lc :%a deploy-key && echo x > deploy-key";
    let args = ["--credential-name", "deploy-key", "--deliver", "credentials-directory", "--", "sh", "-c", script];
    for _again in 0..2 {
        let output = Launch::of(&broker).args(&args).output();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("deploy-key\n{token}:400\n"), "{said}");
        let root = rustix::process::geteuid().is_root() && said.is_empty();
        assert!(root || said.contains("Permission denied"), "written to: {said}");
    }
}

#[test]
fn secret_memory_under_a_descriptor_is_there_for_the_program_and_for_no_thief() {
    let broker = FakeBroker::start("descriptor", honest(TOKEN));
    let read = "
import mmap, os, sys
number, expires, kind = os.environ['TOKEN_FD'].split(':')
memory = mmap.mmap(int(number), 0, prot=mmap.PROT_READ)
sys.stdout.buffer.write(memory[:])
assert kind == 'Bearer' and int(expires) > 0";
    let printed = Launch::of(&broker).args(&["--deliver", "descriptor", "--", PYTHON, "-c", read]).printed();
    assert_eq!(printed.as_bytes(), TOKEN);
    for (level, stolen) in [("exec-only", false), ("none", true)] {
        let launch = Launch::of(&broker).args(&["--protection", level, "--deliver", "descriptor", "--", "sleep", "60"]);
        let program = { launch }.command.stderr(Stdio::null()).spawn().unwrap();
        wait_until_it_is(program.id(), "sleep");
        let thief = as_nobody(PYTHON).args(["-c", THIEF, &program.id().to_string()]).output().unwrap();
        assert_eq!(thief.stdout == TOKEN, stolen, "{level}: {}", String::from_utf8_lossy(&thief.stderr));
        stop(program);
    }
}

/// Takes every descriptor of a process and maps it.
const THIEF: &str = "
import ctypes, mmap, os, sys
libc, target = ctypes.CDLL(None), os.pidfd_open(int(sys.argv[1]))
for number in range(3, 80):
    stolen = libc.syscall(438, target, number, 0)
    if stolen < 0: continue
    try: sys.stdout.buffer.write(mmap.mmap(stolen, 0, prot=mmap.PROT_READ)[:])
    except (OSError, ValueError): pass
";

/// Whether a process became this before it ended.
fn became(process: &mut std::process::Child, name: &str) -> bool {
    for _ in 0..500 {
        if process.try_wait().unwrap().is_some() {
            return false;
        }
        let line = fs::read(format!("/proc/{}/cmdline", process.id())).unwrap();
        if line.split(|byte| *byte == 0).next() == Some(name.as_bytes()) {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("did not become {name}");
}

/// A directory of the unprivileged user's, with one path in it.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("blindferry-place-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self) -> String {
        self.0.join("token").to_str().unwrap().to_owned()
    }

    /// An ordinary file of the unprivileged user's, mode 0600.
    fn write(&self, bytes: &[u8]) {
        let path = self.file();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if rustix::process::geteuid().is_root() {
            let to = crate::launched::NOBODY;
            std::os::unix::fs::chown(Path::new(&path), Some(to), Some(to)).unwrap();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}
