//! Does somebody at a terminal notice that a program runs in the sandbox? The same keys are pressed without it and within,
//! with the same outcome.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_tests::process::{children, eventually, send};
use blindferry_tests::program::{missing, ours};
use blindferry_tests::terminal::Person;
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn a_shell_has_its_job_control_its_window_size_and_its_status() {
    for way in Way::all() {
        let Some((person, _directory)) = sit_down("shell", way) else { return };
        person.types(&format!("{} bash --norc --noprofile", way.prefix()));
        person.types("PS1='in''ner> '");
        person.sees("\ninner>");
        assert_eq!(person.asks("stty size"), "30 100", "{way:?}");
        person.types("sleep 4801");
        // It is the job of the shell within that stops, and nothing else.
        eventually("a sleep", || running(&person, "sleep\u{0}4801\u{0}"));
        person.presses("C-z");
        person.sees("Stopped                 sleep 4801");
        assert!(person.asks("jobs").contains("Stopped"), "{way:?}");
        person.types("bg");
        eventually("a running job", || person.asks("jobs").contains("Running").then_some(()));
        person.types("fg");
        person.types("this is typed to sleep");
        person.presses("C-c");
        assert_eq!(person.status(), "130", "{way:?}");
        person.resizes(120, 40);
        eventually("the new size", || (person.asks("stty size") == "40 120").then_some(()));
        person.types("exit 9");
        person.types("");
        eventually("the outer shell", || person.screen().trim_end().ends_with("outer>").then_some(()));
        assert_eq!(person.status(), "9", "{way:?}");
    }
}

#[test]
fn a_program_that_stops_stops_the_job_and_goes_on_with_it() {
    for way in Way::all() {
        let Some((person, _directory)) = sit_down("stop", way) else { return };
        let before = person.asks("stty -g");
        person.types(&format!("{} sleep 4802", way.prefix()));
        eventually("a sleep", || running(&person, "sleep\u{0}4802\u{0}"));
        person.presses("C-z");
        person.sees("Stopped");
        assert_eq!(person.asks("stty -g"), before, "{way:?}: the terminal is the shell's again");
        person.wipes();
        person.types("bg");
        eventually("a running job", || person.asks("jobs").contains("Running").then_some(()));
        person.types("fg");
        person.presses("C-c");
        assert_eq!(person.status(), "130", "{way:?}");
        assert_eq!(person.asks("stty -g"), before, "{way:?}");
    }
}

#[test]
fn a_job_that_was_never_stopped_gets_the_terminal_when_it_comes_to_the_front() {
    for way in Way::all() {
        let Some((person, _directory)) = sit_down("front", way) else { return };
        person.types(&format!("{} sh -c 'read a; echo got $a; sleep 4806; read b; echo got $b'", way.prefix()));
        person.types("one");
        person.sees("got one");
        eventually("a sleep", || running(&person, "sleep\u{0}4806\u{0}"));
        person.presses("C-z");
        person.sees("Stopped");
        person.types("bg");
        eventually("a running job", || person.asks("jobs").contains("Running").then_some(()));
        // It is running already, so the shell does not continue it: nothing tells it that it is in front now.
        person.types("fg");
        let sleep = eventually("the sleep", || process(&person, "sleep\u{0}4806\u{0}"));
        send(sleep, Signal::KILL);
        person.types("two");
        person.sees("got two");
        assert_eq!(person.status(), "0", "{way:?}");
    }
}

#[test]
fn a_python_prompt_edits_is_interrupted_stopped_and_ended() {
    if missing(&["python3"]) {
        return;
    }
    for way in Way::all() {
        let Some((person, _directory)) = sit_down("python", way) else { return };
        let before = person.asks("stty -g");
        person.types(&format!("{} /usr/bin/python3 -q", way.prefix()));
        person.sees("\n>>>");
        person.types("print('six', 2 * 3)");
        person.sees("six 6");
        // A line that is edited: the arrow goes through as the bytes that it is.
        assert!(!person.screen().contains("abcd"));
        person.types("print('ab' + 'cd')");
        person.sees("abcd");
        person.types("import time; time.sleep(4803)");
        person.presses("C-c");
        person.sees("KeyboardInterrupt");
        person.presses("C-z");
        person.sees("Stopped");
        assert_eq!(person.asks("stty -g"), before, "{way:?}");
        person.types("fg");
        person.types("print('back', 3 * 3)");
        person.sees("back 9");
        person.types("import sys; sys.exit(4)");
        assert_eq!(person.status(), "4", "{way:?}");
        assert_eq!(person.asks("stty -g"), before, "{way:?}");
    }
}

#[test]
fn what_reads_the_terminal_in_the_background_stops_and_reads_once_it_is_in_front() {
    for way in Way::all() {
        let Some((person, _directory)) = sit_down("background", way) else { return };
        person.types(&format!("{} cat &", way.prefix()));
        eventually("a stopped job", || person.asks("jobs").contains("Stopped").then_some(()));
        person.types("fg");
        person.types("typed to it");
        eventually("its answer", || {
            // What was typed, and what cat made of it.
            (person.screen().lines().filter(|line| *line == "typed to it").count() == 2).then_some(())
        });
        person.presses("C-d");
        assert_eq!(person.status(), "0", "{way:?}");
    }
}

#[test]
fn in_a_pipeline_the_terminal_is_left_to_the_others() {
    for way in Way::all() {
        let Some((person, _directory)) = sit_down("pipeline", way) else { return };
        let prefix = way.prefix();
        assert_eq!(person.asks(&format!("seq 3 | {prefix} cat | tr '\\n' ' '")), "1 2 3", "{way:?}");
        // It does not read, and so what is typed is for the other one, which does.
        person.types(&format!("{prefix} sh -c 'sleep 4804' | sh -c 'read line < /dev/tty; echo got $line'"));
        eventually("a sleep", || running(&person, "sleep\u{0}4804\u{0}"));
        person.types("a line");
        person.sees("got a line");
        person.presses("C-c");
        let _ = person.asks("true");
    }
}

#[test]
fn the_terminal_is_as_it_was_when_the_program_is_ended_from_outside() {
    let Some((person, _directory)) = sit_down("ended", Way::Sandbox) else { return };
    let before = person.asks("stty -g");
    for (signal, code) in [(Signal::TERM, "143"), (Signal::HUP, "129"), (Signal::INT, "130")] {
        // It makes its own terminal raw; the user's is raw too meanwhile.
        person.types(&format!("{} sh -c 'stty raw; sleep 4805'", Way::Sandbox.prefix()));
        eventually("a sleep", || running(&person, "sleep\u{0}4805\u{0}"));
        let ours = children(person.shell(), "")[0];
        let tty = fs::read_link(format!("/proc/{}/fd/0", person.shell())).unwrap();
        assert!(!settings(&tty).contains(&before), "it is raw");
        send(ours, signal);
        assert_eq!(person.status(), code, "{signal:?}");
        assert_eq!(person.asks("stty -g"), before, "{signal:?}");
    }
}

#[test]
fn nothing_can_be_typed_into_the_terminal_of_its_user() {
    if fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").is_ok_and(|allowed| allowed.trim() == "0") {
        println!("skipped: this kernel lets nobody type for others");
        return;
    }
    for way in Way::all() {
        let Some((person, directory)) = sit_down("typing", way) else { return };
        let script = directory.0.join("escapes.py");
        let said = person.asks(&format!(
            "{} /usr/bin/python3 {} move 'types into the terminal'",
            way.prefix(),
            script.display()
        ));
        if way == Way::Plain {
            assert!(said.contains("got"), "{said}");
            person.sees("# typed by another");
        } else {
            assert!(said.contains("refused"), "{said}");
            assert!(!person.screen().contains("# typed by another"));
        }
    }
}

#[test]
fn the_users_own_terminal_is_out_of_reach() {
    let Some((person, _directory)) = sit_down("own", Way::Sandbox) else { return };
    let outer = person.asks("tty");
    let name = Path::new(&outer).file_name().unwrap().to_str().unwrap().to_owned();
    let within = person.asks(&format!("{} sh -c 'tty; ls -l /proc/self/fd; ls /dev/pts'", Way::Sandbox.prefix()));
    assert!(within.starts_with("/dev/pts/0\n"), "it has a terminal of its own: {within}");
    let rights =
        person.asks(&format!("stat -c '%t:%T %i' {outer}; {} stat -c '%t:%T %i' /dev/pts/0", Way::Sandbox.prefix()));
    let lines: Vec<&str> = rights.lines().collect();
    assert_eq!(lines.len(), 2, "{rights}");
    assert!(name == "0" || !within.contains(&format!("/dev/pts/{name}")), "{within}");
}

/// How the program is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Sandbox,
}

impl Way {
    fn all() -> [Self; 2] {
        [Self::Plain, Self::Sandbox]
    }

    fn prefix(self) -> String {
        match self {
            Self::Plain => String::new(),
            Self::Sandbox => format!("{} run --sandbox --", ours("blindferry").display()),
        }
    }
}

/// Where the person sits; gone when dropped.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn sit_down(name: &str, way: Way) -> Option<(Person, Directory)> {
    if !tmux() {
        println!("skipped: tmux is not installed");
        return None;
    }
    let _built = ours("blindferry-sandbox");
    let path = Path::new("/var/tmp").join(format!("blindferry-terminal-{}-{name}-{way:?}", std::process::id()));
    fs::create_dir(&path).unwrap();
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("support/escapes.py"), path.join("escapes.py")).unwrap();
    let person = Person::at(&path, &format!("{name}-{way:?}"));
    Some((person, Directory(path)))
}

fn tmux() -> bool {
    std::process::Command::new("tmux").arg("-V").output().is_ok_and(|output| output.status.success())
}

/// What `stty -g` says of a terminal that is somebody else's.
fn settings(terminal: &Path) -> String {
    let output = std::process::Command::new("stty").arg("-g").arg("-F").arg(terminal).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a process with this command line came down from the person's shell.
fn running(person: &Person, words: &str) -> Option<()> {
    process(person, words).map(drop)
}

/// Which one did.
fn process(person: &Person, words: &str) -> Option<u32> {
    let mut next = vec![person.shell()];
    while let Some(process) = next.pop() {
        if fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default() == words {
            return Some(process);
        }
        next.extend(children(process, ""));
    }
    None
}
