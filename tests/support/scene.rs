//! A user's home with secrets in it, a parent that holds one, and programs that are started there with the sandbox or without.

use crate::account::USER;
use crate::process::lives;
use crate::program::{missing, ours};
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// As of the parent in the scene.
pub const SECRET: &str = "a-secret-of-the-parent-5c1f9e";

/// What the kernel offers to whoever starts the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// All that it offers.
    AsItIs,
    /// In a user namespace in which no other can be made.
    WithoutNamespaces,
}

/// A user's home with secrets in it, and our executables where this user can start them.
#[derive(Debug)]
pub struct Scene(PathBuf);

impl Scene {
    /// Makes it, under a name of this test's own.
    #[must_use]
    pub fn new(name: &str) -> Self {
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

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A command of its user's, in the project.
    #[must_use]
    pub fn command(&self, words: &[&Path]) -> Command {
        let (program, rest) = words.split_first().unwrap();
        let mut command = USER.command(program);
        command.args(rest).env("HOME", self.path("home")).current_dir(self.path("home/project")).stdin(Stdio::null());
        command
    }

    /// What starts a program in the sandbox.
    #[must_use]
    pub fn sandbox_words(&self, options: &[&str], program: &[&str]) -> Vec<PathBuf> {
        let mut words: Vec<PathBuf> = vec![self.path("bin/blindferry"), "run".into(), "--sandbox".into()];
        words.extend(options.iter().map(PathBuf::from));
        words.push("--".into());
        words.extend(program.iter().map(PathBuf::from));
        words
    }

    /// The same as a command, on this machine as it is.
    #[must_use]
    pub fn sandboxed(&self, options: &[&str], program: &[&str]) -> Command {
        self.in_kernel(Kernel::AsItIs, self.sandbox_words(options, program))
    }

    /// A command, with what such a kernel offers.
    #[must_use]
    pub fn in_kernel(&self, kernel: Kernel, words: Vec<PathBuf>) -> Command {
        let without = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
        let before: &[&str] = match kernel {
            Kernel::AsItIs => &["env"],
            Kernel::WithoutNamespaces => &["unshare", "--user", "--map-root-user", "sh", "-c", without, "sh"],
        };
        let words: Vec<PathBuf> = before.iter().map(PathBuf::from).chain(words).collect();
        self.command(&words.iter().map(PathBuf::as_path).collect::<Vec<_>>())
    }

    /// Plays all moves without and within the sandbox. What each said within, for those that succeed without.
    #[must_use]
    pub fn moves(&self, kernel: Kernel) -> BTreeMap<String, String> {
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
    #[must_use]
    pub fn processes_of_user(&self, words: &str) -> Vec<u32> {
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

/// Of the system, which the sandbox shows.
pub const PYTHON: &str = "/usr/bin/python3";

/// Whether this machine cannot show it; a line says why.
#[must_use]
pub fn cannot_play() -> bool {
    if missing(&["unshare"]) {
        return true;
    }
    let why = match () {
        () if !cfg!(target_arch = "x86_64") => "the moves call the kernel by numbers of x86-64",
        () if !Path::new(PYTHON).exists() => "there is no python3 of the system's",
        () if !Path::new("/usr/bin/ssh-agent").exists() => "there is no ssh-agent",
        () if !USER.command("unshare".as_ref()).args(["--user", "true"]).status().is_ok_and(|s| s.success()) => {
            "no user namespaces"
        }
        () => return false,
    };
    println!("skipped: {why}");
    true
}

/// Runs it to its end.
#[must_use]
pub fn run(mut command: Command) -> Output {
    command.output().unwrap()
}

/// What it says, on both streams.
#[must_use]
pub fn run_said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Of a child.
#[must_use]
pub fn pid(id: u32) -> Pid {
    Pid::from_raw(id.cast_signed()).unwrap()
}
