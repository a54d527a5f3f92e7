//! From the start of a program to its token: a launched one, and the one-shot command; beside decrypting with the same kind
//! of TPM by clevis and systemd-creds. And from a connection to an attested session, with a quote on either side.

use crate::Extent;
use crate::figure::Figure;
use crate::ground::{CREDENTIAL, Ground, MASTER, Storage};
use crate::load::Load;
use crate::process::{time_of, time_of_children};
use blindferry_parent::Ask;
use blindferry_proto::role::Role;
use blindferry_tests::account::{USER, is_root};
use blindferry_tests::fleet::OPERATOR;
use blindferry_tests::program::ours;
use blindferry_tests::tpm::Tpm;
use command_fds::{CommandFdExt, FdMapping};
use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Times of one command, each in milliseconds.
struct Times {
    wall: Load,
    /// Of the command and all that it started.
    command: f64,
    /// Of vault, front and broker.
    served: f64,
}

pub(crate) fn section(extent: Extent) -> Vec<Figure> {
    // In memory as well, so that what a disk's flushes take can be told from what we take.
    [Storage::Disk, Storage::Memory].into_iter().flat_map(|storage| kept_in(storage, extent)).collect()
}

fn kept_in(storage: Storage, extent: Extent) -> Vec<Figure> {
    let Some(mut ground) = Ground::start_with(storage, "") else { return Vec::new() };
    let place = match storage {
        Storage::Disk => "",
        Storage::Memory => ", store in memory",
    };
    let time = extent.of(Duration::from_secs(8), Duration::from_secs(2));
    let [vault, front, broker] = ground.processes().map(|(_, id)| id);
    let servers = [vault, front, broker];
    let installed = install(ground.fleet.directory());
    let measure = |make: &dyn Fn() -> Command| {
        let before = time_of(&servers);
        // Started by one thread: the command is what is to be waited for.
        let (turns, used) = (Cell::new(0.0), Cell::new(Duration::ZERO));
        let wall = Load::alone(time, || {
            let command = make();
            let before = time_of_children();
            let time = token_of(command);
            used.set(used.get() + (time_of_children() - before));
            turns.set(turns.get() + 1.0);
            time
        });
        let each = |duration: Duration| duration.as_secs_f64() * 1000.0 / turns.get();
        Times { wall, command: each(used.get()), served: each(time_of(&servers) - before) }
    };

    let launched = measure(&|| launched(&ground, &installed));
    let read = measure(&|| {
        let mut command = USER.command(&installed.join("blindferry"));
        command.env("BLINDFERRY_PARENTS", ground.fleet.host.parents());
        command.env("BLINDFERRY_WORKERS", ground.fleet.host.workers());
        command.args(["read", CREDENTIAL]);
        command
    });
    let mut figures = Vec::new();
    for (name, times) in [("launched program", &launched), ("blindferry read", &read)] {
        let name = format!("{name}{place}");
        figures.push(Figure::new(format!("{name}: start to token, p50"), times.wall.of_thousand(500), "ms"));
        figures.push(Figure::new(format!("{name}: start to token, p99"), times.wall.of_thousand(990), "ms"));
        figures.push(Figure::new(format!("{name}: processor of what was started"), times.command, "ms"));
        figures.push(Figure::new(format!("{name}: processor, vault + front + broker"), times.served, "ms"));
    }
    if storage == Storage::Memory {
        return figures;
    }
    let peers = peers(&ground.fleet.operator_tpm, ground.fleet.directory());
    for (peer, command) in &peers {
        let times = measure(command);
        let name = "blindferry read: start to token, p50";
        figures.push(Figure::new(name, read.wall.of_thousand(500), "ms").beside(peer, times.wall.of_thousand(500)));
        let name = "blindferry read: processor of all";
        figures.push(Figure::new(name, read.command + read.served, "ms").beside(peer, times.command));
    }
    figures.extend(sessions(&ground, &[vault, front], extent));
    figures
}

/// The launcher with a grant of its parent's, which is this process; the program is `cat`.
fn launched(ground: &Ground, installed: &Path) -> Command {
    let grant = ground.parent().ask(&Ask::for_credential(CREDENTIAL.parse().unwrap())).unwrap();
    let mut command = USER.command(&installed.join("blindferry-launch"));
    command.args(["--grant-fd", "3", "--deliver", "stdin", "--workers"]).arg(ground.fleet.host.workers());
    command.args(["--", "cat"]);
    command.fd_mappings(vec![FdMapping { parent_fd: grant.into_descriptor(), child_fd: 3 }]).unwrap();
    command
}

/// Starts it, and waits until it has said the token.
fn token_of(mut command: Command) -> Duration {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).env("PATH", "/usr/bin:/bin");
    let start = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut token = vec![0; MASTER.len()];
    let whole = child.stdout.take().unwrap().read_exact(&mut token);
    let time = start.elapsed();
    let status = child.wait().unwrap();
    assert!(whole.is_ok() && token == MASTER && status.success(), "{command:?}: {status}");
    time
}

/// The executables as a package installs them: none of them readable, and the launcher set-group-ID, where root measures.
fn install(directory: &Path) -> PathBuf {
    let installed = directory.join("bin");
    fs::create_dir(&installed).unwrap();
    for (name, mode) in [("blindferry", 0o711), ("blindferry-launch", 0o2711)] {
        let path = installed.join(name);
        fs::copy(ours(name), &path).unwrap();
        if is_root() {
            chown(&path, Some(0), Some(GROUP)).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    installed
}

type Peer<'a> = (&'static str, Box<dyn Fn() -> Command + 'a>);

/// Those that decrypt the same secret with a TPM of the same kind. What there is not is said on standard error.
fn peers<'a>(tpm: &'a Tpm, directory: &Path) -> Vec<Peer<'a>> {
    let plain = directory.join("plain");
    fs::write(&plain, MASTER).unwrap();
    let of_clevis = move |word: &str| {
        let mut command = Command::new("clevis");
        command.arg(word).env("TPM2TOOLS_TCTI", tpm.tcti());
        command
    };
    let of_systemd = move |word: &str| {
        let mut command = Command::new("systemd-creds");
        command.args([word, "--name=api"]).arg(format!("--tpm2-device={}", tpm.tcti()));
        command
    };
    let mut peers: Vec<Peer<'a>> = Vec::new();
    let sealed = directory.join("clevis");
    let mut encrypt = of_clevis("encrypt");
    encrypt.args(["tpm2", "{}"]).stdin(fs::File::open(&plain).unwrap());
    match encrypt.output() {
        Ok(output) if output.status.success() => {
            fs::File::create(&sealed).unwrap().write_all(&output.stdout).unwrap();
            let decrypt = move || {
                let mut command = Command::new("sh");
                // It reads standard input, which the measuring side closes.
                command.args(["-c", "exec clevis decrypt <\"$0\""]).arg(&sealed).env("TPM2TOOLS_TCTI", tpm.tcti());
                command
            };
            peers.push(("clevis decrypt, tpm2", Box::new(decrypt)));
        }
        Ok(output) => skipped("clevis", &String::from_utf8_lossy(&output.stderr)),
        Err(error) => skipped("clevis", &error.to_string()),
    }
    let sealed = directory.join("credential");
    match of_systemd("encrypt").arg("--with-key=tpm2").arg(&plain).arg(&sealed).output() {
        Ok(output) if output.status.success() => {
            let decrypt = move || {
                // It leaves its session in the TPM, of which that holds three: a kernel's resource manager would flush it.
                let mut flush = Command::new("tpm2_flushcontext");
                let _flushed = flush.arg("--loaded-session").env("TPM2TOOLS_TCTI", tpm.tcti()).output();
                let mut command = of_systemd("decrypt");
                command.arg(&sealed).arg("-");
                command
            };
            peers.push(("systemd-creds decrypt, tpm2", Box::new(decrypt)));
        }
        Ok(output) => skipped("systemd-creds", &String::from_utf8_lossy(&output.stderr)),
        Err(error) => skipped("systemd-creds", &error.to_string()),
    }
    peers.retain(|(peer, decrypt)| {
        let decrypted = decrypt().stdin(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
        let works = decrypted.stdout == MASTER;
        if !works {
            skipped(peer, &String::from_utf8_lossy(&decrypted.stderr));
        }
        works
    });
    peers
}

fn skipped(peer: &str, why: &str) {
    eprintln!("skipped: {peer} cannot be had here: {}", why.lines().last().unwrap_or("it says nothing"));
}

/// Sessions of the operator's machine: TLS, a quote of the peer's TPM and one of the vault's, both judged.
fn sessions(ground: &Ground, enclave: &[u32], extent: Extent) -> Vec<Figure> {
    let before = time_of(enclave);
    let turns = Cell::new(0.0);
    let wall = Load::alone(extent.of(Duration::from_secs(8), Duration::from_secs(2)), || {
        turns.set(turns.get() + 1.0);
        let start = Instant::now();
        let peer = ground.fleet.peer(&ground.fleet.operator_tpm, Role::Operator, OPERATOR).unwrap();
        let time = start.elapsed();
        drop(peer);
        time
    });
    let used = (time_of(enclave) - before).as_secs_f64() * 1000.0 / turns.get();
    vec![
        Figure::new(
            "session with two quotes (software TPMs), device process started: p50",
            wall.of_thousand(500),
            "ms",
        ),
        Figure::new("session with two quotes: processor, vault + front", used, "ms"),
    ]
}

/// A group that owns nothing and has no members.
const GROUP: u32 = 64_999;
