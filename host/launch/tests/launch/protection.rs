//! The levels: what is asked for is what a program gets, or it is not started; where one holds is found by trying.

use crate::delivery::{Script, stop};
use crate::fake_broker::{FakeBroker, honest};
use crate::launched::{Launch, NOBODY, as_nobody, wait_until_it_is};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const TOKEN: &[u8] = b"a token for the program and nobody else";
const OWN_GROUP: [&str; 2] = ["--protection", "own-group"];
/// A group that owns nothing and has no members.
const GROUP: u32 = 64_999;

#[test]
fn without_a_group_of_its_own_the_launcher_refuses_that_level_and_spends_no_grant() {
    let broker = FakeBroker::start("no-group", honest(TOKEN));
    let output = Launch::of(&broker).args(&OWN_GROUP).args(&["--", "true"]).output();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("own-group: not available here, and nothing less was allowed"), "{said}");
    assert!(broker.seen().is_empty());
}

#[test]
fn no_new_privs_takes_the_group_away_and_the_launcher_says_so() {
    let Some(installed) = Installed::set_group_id("no-new-privs") else { return };
    let mut command = Command::new("setpriv");
    command.args(["--no-new-privs", &format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]);
    command.arg("--").arg("env").arg(installed.launcher());
    let output = command.args(["--explain", "--protection", "own-group", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("own-group   not here") && said.contains("no_new_privs"), "{said}");
}

#[test]
fn nothing_is_said_to_hold_that_was_not_tried() {
    let explain = |launcher: &str| {
        let output = as_nobody(launcher).args(["--explain", "--", "true"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let said = explain(env!("CARGO_BIN_EXE_blindferry-launch"));
    assert!(said.contains("exec-only   holds here") && said.contains("own-group   not here"), "{said}");
    let Some(installed) = Installed::set_group_id("explain") else { return };
    let said = explain(installed.launcher().to_str().unwrap());
    assert!(said.contains("exec-only   holds here") && said.contains("own-group   holds here"), "{said}");
}

#[test]
fn where_no_memfd_may_be_executed_a_launch_is_refused_and_an_own_group_still_holds() {
    let Some(installed) = Installed::set_group_id("noexec") else { return };
    // The setting belongs to a PID namespace.
    let explain = |level: &str| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "sh", "-c"]);
        command.arg("echo 2 > /proc/sys/vm/memfd_noexec && exec setpriv --reuid=65534 --regid=65534 --clear-groups -- env \"$@\"");
        command.arg("sh").arg(installed.launcher()).args(["--explain", "--protection", level, "--", "true"]);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (status, said) = explain("exec-only");
    assert_eq!(status, Some(125), "{said}");
    assert!(said.contains("exec-only   not here") && said.contains("vm.memfd_noexec"), "{said}");
    let (status, said) = explain("own-group");
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("own-group   holds here"), "{said}");
}

#[test]
fn in_its_own_group_a_shell_and_what_it_executes_stay_unreadable_also_to_the_same_group() {
    let Some(installed) = Installed::set_group_id("tree") else { return };
    let broker = FakeBroker::start("tree", honest(TOKEN));
    // Both shells give up a group that differs from the real one, and then execute.
    for shell in ["bash", "dash"] {
        let launch = Launch::at(&broker.path(), &installed.launcher());
        let launch = launch.args(&OWN_GROUP).args(&["--deliver", "env:SECRET", "--", shell, "-c", "exec sleep 60"]);
        let program = { launch }.command.spawn().unwrap();
        wait_until_it_is(program.id(), "sleep");
        let environ = format!("/proc/{}/environ", program.id());
        // Root sees that there would be something to steal.
        assert!(fs::read(&environ).unwrap().windows(TOKEN.len()).any(|window| window == TOKEN));
        for [real, effective] in [[NOBODY, NOBODY], [GROUP, GROUP], [NOBODY, GROUP], [GROUP, NOBODY]] {
            let mut thief = Command::new("setpriv");
            thief.args([format!("--reuid={NOBODY}"), format!("--rgid={real}"), format!("--egid={effective}")]);
            thief.args(["--clear-groups", "--", "cat", &environ]).stderr(Stdio::null());
            assert!(thief.output().unwrap().stdout.is_empty(), "{shell}: {real} {effective}");
        }
        stop(program);
    }
}

#[test]
fn in_its_own_group_files_are_made_with_the_users_group_and_user_namespaces_are_refused() {
    let Some(installed) = Installed::set_group_id("side-effects") else { return };
    let broker = FakeBroker::start("side-effects", honest(TOKEN));
    let run = |words: &[&str]| {
        Launch::at(&broker.path(), &installed.launcher()).args(&OWN_GROUP).args(&["--"]).args(words).output()
    };
    let made = run(&["sh", "-c", "f=$(mktemp -p /tmp) && stat -c %g $f && rm $f && id -g && id -rg"]);
    assert_eq!(String::from_utf8(made.stdout).unwrap(), format!("{NOBODY}\n{NOBODY}\n{GROUP}\n"));
    assert!(!run(&["unshare", "--user", "true"]).status.success());
    assert!(run(&["sh", "-c", "true & wait $!"]).status.success());
}

#[test]
fn an_installed_launcher_gives_its_group_up_where_no_level_wants_it() {
    let Some(installed) = Installed::set_group_id("given-up") else { return };
    let broker = FakeBroker::start("given-up", honest(TOKEN));
    for level in ["none", "exec-only"] {
        let launch = Launch::at(&broker.path(), &installed.launcher());
        let output = launch.args(&["--protection", level, "--", "grep", "^Gid:", "/proc/self/status"]).output();
        let groups = String::from_utf8(output.stdout).unwrap();
        assert_eq!(groups.split_whitespace().skip(1).collect::<Vec<_>>(), ["65534"; 4], "{level}");
    }
}

#[test]
fn a_program_that_its_user_made_unreadable_is_refused_since_he_could_make_it_readable_again() {
    let broker = FakeBroker::start("own-unreadable", honest(TOKEN));
    let program = Script::new("own-unreadable", "");
    fs::copy("/usr/bin/true", program.path()).unwrap();
    if rustix::process::geteuid().is_root() {
        chown(program.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    fs::set_permissions(program.path(), fs::Permissions::from_mode(0o111)).unwrap();
    let output = Launch::of(&broker).args(&["--", program.path()]).output();
    assert_eq!(output.status.code(), Some(126), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(broker.seen().is_empty());
}

#[test]
fn programs_of_the_kind_people_run_get_their_token_at_each_level() {
    let broker = FakeBroker::start("programs", honest(TOKEN));
    let installed = Installed::set_group_id("programs");
    let own_group = installed.as_ref().map(|installed| (installed.launcher(), "own-group"));
    let exec_only = (PathBuf::from(env!("CARGO_BIN_EXE_blindferry-launch")), "exec-only");
    for (launcher, level) in [exec_only].into_iter().chain(own_group) {
        // Interpreters, dynamic and static programs.
        let with_the_token = [
            &["python3", "-c", "import os; print(os.environ['SECRET'])"][..],
            &["node", "-e", "console.log(process.env.SECRET)"],
            &["perl", "-e", "print $ENV{SECRET}"],
            &["bash", "-c", "echo $SECRET"],
            &["printenv", "SECRET"],
        ];
        let started = [&["git", "--version"][..], &["curl", "--version"], &["/sbin/ldconfig", "--version"]];
        for (words, prints_it) in
            with_the_token.map(|words| (words, true)).into_iter().chain(started.map(|w| (w, false)))
        {
            if Command::new(words[0]).arg("--version").stdin(Stdio::null()).output().is_err() {
                println!("skipped: {} is not installed", words[0]);
                continue;
            }
            let launch =
                Launch::at(&broker.path(), &launcher).args(&["--protection", level, "--deliver", "env:SECRET"]);
            let output = launch.args(&["--"]).args(words).output();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{level} {words:?}: {said}");
            assert!(!prints_it || output.stdout.starts_with(TOKEN), "{level} {words:?}: {said}");
        }
    }
}

#[test]
fn a_launcher_that_may_read_every_file_starts_a_program_that_is_unreadable_all_the_same() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give CAP_DAC_OVERRIDE away");
        return;
    }
    let broker = FakeBroker::start("dac-override", honest(TOKEN));
    let launch = Launch::of(&broker).args(&["--deliver", "env:SECRET", "--", "sleep", "60"]);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.args(["--inh-caps=+dac_override,+dac_read_search", "--ambient-caps=+dac_override,+dac_read_search", "--"]);
    // The launcher's own arguments, without the setpriv that takes every privilege.
    let words = launch.command.get_args().skip_while(|word| *word != "env").skip(1);
    let program = command.args(words).spawn().unwrap();
    wait_until_it_is(program.id(), "sleep");
    // What nobody but root may read belongs to root.
    use std::os::unix::fs::MetadataExt;
    let status = fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    assert_eq!(u64::from_str_radix(effective, 16).unwrap() & 0b110, 0b110, "it was given back: {effective}");
    assert_eq!(fs::metadata(format!("/proc/{}/environ", program.id())).unwrap().uid(), 0);
    stop(program);
}

/// A copy of the launcher, set-group-ID, in a directory of root's.
pub(crate) struct Installed(PathBuf);

impl Installed {
    pub(crate) fn set_group_id(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can install the launcher set-group-ID");
            return None;
        }
        let directory = std::env::temp_dir().join(format!("blindferry-own-group-{}-{name}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let installed = Self(directory);
        let launcher = installed.launcher();
        fs::copy(Path::new(env!("CARGO_BIN_EXE_blindferry-launch")), &launcher).unwrap();
        chown(&launcher, Some(0), Some(GROUP)).unwrap();
        fs::set_permissions(&launcher, fs::Permissions::from_mode(0o2711)).unwrap();
        Some(installed)
    }

    pub(crate) fn launcher(&self) -> PathBuf {
        self.0.join("blindferry-launch")
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}
