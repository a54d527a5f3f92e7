//! What another process sees of the arguments and the environment that a worker was started with.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

const SECRET: &str = "hunter2-of-the-start";

/// What the program says, and what `/proc` shows of it meanwhile: to root, where the tests run as root, else to its user.
fn started(first: &str) -> (String, String, String) {
    let tests = std::env::current_exe().unwrap();
    let built: PathBuf = tests.ancestors().nth(2).unwrap().join("examples/started");
    let mut command = Command::new(built);
    command.args([first, &format!("--password={SECRET}")]).env("SECRET", SECRET).env("HOME", "/");
    let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let shown =
        |what: &str| String::from_utf8_lossy(&fs::read(format!("/proc/{}/{what}", program.id())).unwrap()).into_owned();
    let (words, variables) = (shown("cmdline"), shown("environ"));
    drop(program.stdin.take());
    assert!(program.wait().unwrap().success());
    (said, words, variables)
}

#[test]
fn another_process_sees_neither_arguments_nor_variables_of_a_worker_that_wiped_them() {
    let (said, words, variables) = started("wipe");
    assert_eq!(said, "3 words, 20 secret bytes, gone: true, HOME \"/\"\n");
    assert!(words.trim_end_matches('\0').ends_with("examples/started"), "its name alone is left: {words}");
    assert_eq!(variables.trim_matches('\0'), "", "not one variable is left");
}

#[test]
fn of_one_that_did_not_it_sees_both() {
    let (_, words, variables) = started("stay");
    assert!(words.contains(SECRET) && variables.contains(SECRET));
}
