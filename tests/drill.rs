//! Does the drill of `docs/operating/backup.md` bring back an enclave whose machine is lost? Its lines are run as they stand there.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use blindferry_proto::credential::Kind;
use blindferry_tests::account::{CALLER, ENCLAVE, USER};
use blindferry_tests::command::Desk;
use blindferry_tests::fleet::{Fleet, Plan};
use blindferry_tests::operator::settings;
use blindferry_tests::program::ours;
use blindferry_tests::tpm::{PCRS, Tpm};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const MASTER: &str = "sk-live-of-the-drill-3ad8";

#[test]
fn the_drill_of_the_operating_page_brings_a_lost_enclave_back() {
    let Some(mut fleet) = Fleet::start() else { return };
    fleet.operator().put("api", settings(Kind::Release), MASTER.as_bytes());
    let backups = fleet.directory().join("backups");
    CALLER.make_directory(&backups);
    let began = Instant::now();
    let lines = drill();
    assert!(lines.len() > 10, "{lines:?}");
    let mut said = Vec::new();
    for line in &lines {
        if let Some(comment) = line.strip_prefix("# ") {
            happens(&mut fleet, comment);
            continue;
        }
        let (who, words) = line.split_once("$ ").unwrap();
        said.push((words.trim().to_owned(), obey(&mut fleet, who, words.trim())));
    }
    println!("the drill took {:?}", began.elapsed());
    let of = |words: &str| &said.iter().find(|(line, _)| line.starts_with(words)).unwrap().1;
    assert!(of("blindferry status").contains("restored from the backup"), "{}", of("blindferry status"));
    assert!(of("blindferry host list").contains("worker-1"));
    assert!(of("blindferry audit").contains("restored"));
    assert_eq!(of("blindferry run"), MASTER, "the worker has its token");
    assert!(backups.join("after-the-drill.backup").exists());
}

/// The lines of the block.
fn drill() -> Vec<String> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating/backup.md")).unwrap();
    let (_, rest) = page.split_once("<!-- drill -->\n```\n").unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    block.lines().map(str::to_owned).collect()
}

/// What the comments of the block say.
fn happens(fleet: &mut Fleet, comment: &str) {
    match comment {
        "the machine is lost; enclave.toml names the TPM of the next one" => {
            fleet.enclave.kill_front();
            fs::remove_file(fleet.enclave.store()).unwrap();
            fleet.enclave.tpm = Tpm::power_on(&fleet.directory().join("another"), ENCLAVE);
            fleet.enclave.tpm.measure("enclave image");
            fleet.enclave.configure(&Plan::default());
        }
        "give vault.toml to operators and hosts, and restart the brokers" => {
            fleet.enclave.reference = fs::read_to_string(fleet.directory().join("enclave/vault.toml")).unwrap();
            fleet.host.trust(&fleet.enclave.reference.clone());
            fleet.host.stop();
            fleet.host.serve();
        }
        other => panic!("the test does not know what to do: {other}"),
    }
}

/// Runs a line, and gives what it says.
fn obey(fleet: &mut Fleet, who: &str, line: &str) -> String {
    if line.starts_with("blindferry-enclave serve ") {
        fleet.enclave.serve();
        return String::new();
    }
    let (line, input) = line.split_once(" < ").unwrap_or((line, ""));
    let mut words = line.split_whitespace();
    let program = ours(words.next().unwrap());
    let (mut command, options) = match who {
        "desk" => (CALLER.command(&program), desk(fleet)),
        "enclave" => (ENCLAVE.command(&program), Vec::new()),
        "host" => (USER.command(&program), Vec::new()),
        other => panic!("{other} is nobody"),
    };
    command.args(options).args(words.map(|word| here(fleet, word)));
    command.current_dir(fleet.user_directory());
    command.env("BLINDFERRY_PARENTS", fleet.host.parents()).env("BLINDFERRY_WORKERS", fleet.host.workers());
    command.stdin(if input.is_empty() { Stdio::null() } else { recovery_key(fleet) });
    run(command, line)
}

fn desk(fleet: &Fleet) -> Vec<String> {
    // Written anew, since the vault's reference changes.
    let configuration = Desk::of(fleet).configuration();
    vec!["--config".to_owned(), configuration.to_str().unwrap().to_owned()]
}

fn recovery_key(fleet: &Fleet) -> Stdio {
    let path = fleet.directory().join("recovery.key");
    fs::write(&path, format!("{}\n", fleet.enclave.recovery)).unwrap();
    File::open(path).unwrap().into()
}

/// A word of the page on this machine.
fn here(fleet: &Fleet, word: &str) -> PathBuf {
    let enclave = fleet.directory().join("enclave");
    match word {
        "device:/dev/tpmrm0" => fleet.enclave.tpm.tcti().into(),
        "/etc/blindferry/pins.toml" => fleet.enclave.tpm.pins(),
        "0-7" => PCRS.map(|pcr| pcr.to_string()).join(",").into(),
        word => match (word.strip_prefix("/etc/blindferry/"), word.strip_prefix("/srv/backups/")) {
            (Some(name), _) => enclave.join(name),
            (_, Some(name)) => readable(fleet.directory().join("backups").join(name)),
            (None, None) => word.into(),
        },
    }
}

/// A backup that was carried to another machine belongs to whoever reads it there.
fn readable(backup: PathBuf) -> PathBuf {
    if backup.exists() {
        ENCLAVE.give(&backup);
    }
    backup
}

fn run(mut command: Command, line: &str) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
