//! What a process that entered can no longer do, tried from inside; before it entered it could.
//!
//! This executable is the test and the process that it starts: [`enter`] must run before there is a second thread, so
//! there is no usual harness.

#![expect(clippy::unwrap_used, reason = "a test, which clippy does not see in a file with its own main")]

use blindferry_handle::attempt::no_writable_code;
use blindferry_handle::entry::{ALLOW_DEBUGGER, Entry, enter};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};
use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};
use rustix::thread::no_new_privs;
use std::env;
use std::process::Command;
use std::ptr;

/// Name and test.
type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    (
        "what_a_process_gives_up_on_entry_is_gone_and_was_there_before",
        what_a_process_gives_up_on_entry_is_gone_and_was_there_before,
    ),
    ("a_debugger_is_let_in_by_its_option_alone_and_loudly", a_debugger_is_let_in_by_its_option_alone_and_loudly),
];

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let has = |word: &str| args.iter().any(|argument| argument == word);
    if has("role=enter") {
        return enter_and_try();
    }
    if has("role=debugged") {
        return enter_debugged();
    }
    let filter = args.iter().find(|argument| !argument.starts_with('-') && *argument != "terse");
    let wanted = |name: &str| filter.is_none_or(|filter| name.contains(filter.as_str()));
    for (name, test) in TESTS.iter().filter(|(name, _)| !has("--ignored") && wanted(name)) {
        if has("--list") {
            println!("{name}: test");
        } else {
            test();
            println!("test {name} ... ok");
        }
    }
}

fn a_debugger_is_let_in_by_its_option_alone_and_loudly() {
    let said = |words: &[&str]| {
        let output = Command::new(env::current_exe().unwrap()).arg("role=debugged").args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for without in [&[][..], &["--", ALLOW_DEBUGGER]] {
        let refused = said(without);
        assert!(refused.starts_with("refused: process ") && refused.contains("is tracing"), "{without:?}: {refused}");
    }
    let entered = said(&[ALLOW_DEBUGGER]);
    assert!(entered.contains("traced yes") && entered.contains("WARNING: a debugger"), "{entered}");
}

/// Entered before it is traced: a second start, of a process that is traced already, would wait for its tracer.
fn enter_debugged() {
    enter(&Entry::new()).unwrap();
    // SAFETY: lets our parent trace us, and touches nothing else.
    assert_eq!(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) }, 0);
    match enter(&Entry::new().allow_debugger_by_option()) {
        Ok(entered) => println!("{entered}"),
        Err(error) => println!("refused: {error}"),
    }
}

fn what_a_process_gives_up_on_entry_is_gone_and_was_there_before() {
    let output = Command::new(env::current_exe().unwrap()).arg("role=enter").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    // Twice before: what was entered as a dumpable process starts again.
    let privileges = if no_new_privs().unwrap() { "no" } else { "yes" };
    let before = format!("writable code yes, made executable yes, new privileges {privileges}");
    assert_eq!(lines.iter().filter(|line| line.starts_with(&before)).count(), 2, "{said}");
    assert!(lines.first().unwrap().ends_with("dumpable yes"), "{said}");
    let code = if no_writable_code().is_ok() {
        "writable code no, made executable no"
    } else {
        println!("skipped: this kernel has no PR_SET_MDWE, so that part is not looked at");
        "writable code yes, made executable yes"
    };
    let after = format!("{code}, new privileges no, dumpable no, core limit Some(0) Some(0)");
    assert_eq!(lines.last().unwrap(), &after, "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(lines.len(), 3, "{said}");
}

fn enter_and_try() {
    println!("{}", powers());
    enter(&Entry::new()).unwrap();
    let core = getrlimit(Resource::Core);
    println!("{}, core limit {:?} {:?}", powers(), core.current, core.maximum);
}

fn powers() -> String {
    let yes = |holds: bool| if holds { "yes" } else { "no" };
    let dumpable = dumpable_behavior().unwrap() == DumpableBehavior::Dumpable;
    format!(
        "writable code {}, made executable {}, new privileges {}, dumpable {}",
        yes(map(ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC).is_some()),
        yes(made_executable()),
        yes(!no_new_privs().unwrap()),
        yes(dumpable),
    )
}

fn made_executable() -> bool {
    let page = map(ProtFlags::READ | ProtFlags::WRITE).unwrap();
    // SAFETY: the page was just mapped, and nobody refers to anything in it.
    unsafe { mprotect(page, 4096, MprotectFlags::READ | MprotectFlags::EXEC) }.is_ok()
}

/// A page, which stays mapped for as long as the process lives.
fn map(protection: ProtFlags) -> Option<*mut std::ffi::c_void> {
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    unsafe { mmap_anonymous(ptr::null_mut(), 4096, protection, MapFlags::PRIVATE) }.ok()
}
