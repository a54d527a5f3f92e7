//! Where could an attacker read a master or a token, at each step of the crossing, as the same user and as root?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_proto::audit::Event;
use blindferry_proto::credential::Kind;
use blindferry_tests::account::{Account, BROKER, CALLER, ENCLAVE, USER, is_root};
use blindferry_tests::attack::{Look, forms, look, look_and_abort, search};
use blindferry_tests::fleet::{Fleet, Plan};
use blindferry_tests::oauth::OauthServer;
use blindferry_tests::operator::{oauth_client, settings};
use blindferry_tests::process::{Running, child, eventually, lives, send};
use blindferry_tests::program::{missing, ours};
use blindferry_tests::upstream::Upstream;
use blindferry_tests::worker::{GRANT_FD, ScriptedWorker, ask_for, log_file};
use rustix::process::Signal;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const RELEASED: &str = "sk-live-released-0f4c77d1a95be2368842";
const CLIENT_SECRET: &str = "oauth-client-secret-91d02bc67f4e85aa3c10";

#[test]
fn plaintext_is_nowhere_but_in_the_vault_and_in_the_worker() {
    if missing(&["python3"]) {
        return;
    }
    let Some(mut fleet) = Fleet::start_with(&Plan { recorded: true, ..Plan::default() }) else { return };
    let operator = fleet.operator();
    let server = OauthServer::start(CLIENT_SECRET);
    let upstream = Upstream::for_token(RELEASED, fleet.directory());
    operator.put("released", settings(Kind::Release), RELEASED.as_bytes());
    operator.put("minted", settings(oauth_client(server.address)), CLIENT_SECRET.as_bytes());
    let mut table = Table::default();

    let standing = standing(&mut fleet);
    table.look("stored", &standing, &needles(&server));

    for credential in ["released", "minted"] {
        let mut parent = start_parent(&fleet, credential, upstream.address);
        parent.line(); // what the parent saw of the grant
        parent.line(); // the worker waits
        let worker = child(parent.running.id(), "blindferry-scripted-worker");
        let crossing = [&standing[..], &[("parent", USER, parent.running.id()), ("worker", USER, worker)]].concat();
        table.look(&format!("{credential}: granted"), &crossing, &needles(&server));
        parent.order("redeem");
        let answer = parent.says();
        assert!(answer["lease"].is_string(), "{answer}");
        table.look(&format!("{credential}: redeemed"), &crossing, &needles(&server));
        parent.tell("renew");
        table.look(&format!("{credential}: renewed"), &crossing, &needles(&server));
        parent.finish();
        eventually("the worker's end", || (!lives(worker)).then_some(()));
        eventually("the lease's end", || (operator.status().leases == 0).then_some(()));
        table.look(&format!("{credential}: ended"), &standing, &needles(&server));
    }

    // The launcher, while it waits for its parcel, and then as the program that it has become.
    let mut launched = start_launcher(&fleet);
    let launcher = launched.running.id();
    send(fleet.host.broker().id(), Signal::STOP);
    launched.line();
    eventually("the launcher's question", || asks(launcher).then_some(()));
    table.look("launcher waits", &[("launch", USER, launcher)], &needles(&server));
    send(fleet.host.broker().id(), Signal::CONT);
    launched.order("go");
    assert_eq!(launched.line(), "launched");
    table.look("launched", &[&standing[..], &[("worker", USER, launcher)]].concat(), &needles(&server));
    launched.finish();

    let needles = needles(&server);
    assert!(needles.len() > 3, "tokens were minted: {needles:?}");
    search_what_is_written(
        &fleet,
        &operator.records().0.iter().map(|one| one.body.as_slice().to_vec()).collect::<Vec<_>>(),
        &needles,
    );
    assert!(operator.events().iter().any(|event| matches!(event, Event::Redeemed { .. })));

    let mut parent = start_parent(&fleet, "released", upstream.address);
    (0..2).for_each(|_| drop(parent.line()));
    let worker = child(parent.running.id(), "blindferry-scripted-worker");
    assert!(parent.tell("redeem")["lease"].is_string());
    let everybody = [&standing[..], &[("parent", USER, parent.running.id()), ("worker", USER, worker)]].concat();
    // Held, so that none ends because another did.
    everybody.iter().for_each(|(_, _, id)| send(*id, Signal::STOP));
    table.dump_cores(&everybody, &needles);
    table.print();
    table.judge();
}

#[test]
fn the_attacker_finds_what_a_careless_process_leaves_lying_about() {
    if missing(&["python3"]) {
        return;
    }
    let needle = "sk-careless-5c1de07b99fa4623b8d0";
    let directory = tempfile::TempDir::with_prefix("blindferry-").unwrap();
    USER.give(directory.path());
    let script = "import os,socket,sys\n\
        secret=os.environ['SECRET']; kept=''.join(reversed(''.join(reversed(secret))))\n\
        m=os.memfd_create('m'); os.write(m,secret.encode()); a,b=socket.socketpair(); a.send(secret.encode())\n\
        print('ready',flush=True); sys.stdin.read()";
    let mut command = USER.command(Path::new("/usr/bin/env"));
    command.args(["python3", "-c", script, needle]).env("SECRET", needle).current_dir(directory.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut careless = Running::start(command, &directory.path().join("log"));
    BufReader::new(careless.child().stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    for attacker in [USER, CALLER] {
        let seen = look(attacker, &[careless.id()], &[needle]).remove(0);
        for surface in ["environ", "cmdline", "memory", "descriptors"] {
            assert!(!seen.surface(surface).found.is_empty(), "{surface}: {seen:?}");
        }
        let places = &seen.surface("descriptors").found;
        assert!(places.iter().any(|found| found.at.contains("memfd")), "{places:?}");
        assert!(places.iter().any(|found| found.at.contains("socket")), "{places:?}");
    }
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if pattern.starts_with(['|', '/']) {
        println!("cores are not searched: they go to {pattern}");
        return;
    }
    let seen = look_and_abort(USER, &[careless.id()], &[needle]).remove(0);
    assert!(!seen.surface("core").found.is_empty(), "{seen:?}");
}

/// The needles: masters first, then every token minted so far.
fn needles(server: &OauthServer) -> Vec<String> {
    let masters = [RELEASED, CLIENT_SECRET].map(str::to_owned);
    masters.into_iter().chain(server.tokens().into_keys()).collect()
}

type Place = (&'static str, Account, u32);

fn standing(fleet: &mut Fleet) -> Vec<Place> {
    let front = fleet.enclave.front().id();
    let broker = fleet.host.broker().id();
    vec![
        ("front", ENCLAVE, front),
        ("vault", ENCLAVE, fleet.enclave.vault()),
        ("device of the enclave", ENCLAVE, fleet.enclave.device()),
        ("broker", BROKER, broker),
        ("device of the host", BROKER, fleet.host.device()),
    ]
}

fn start_parent(fleet: &Fleet, credential: &str, upstream: std::net::SocketAddr) -> ScriptedWorker {
    let script = fleet.user_directory().join("parent.py");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("support/parent.py"), &script).unwrap();
    let mut command = USER.command(Path::new("/usr/bin/env"));
    command.arg("python3").arg(script).arg(fleet.host.parents()).arg(credential);
    command.arg(ours("blindferry-scripted-worker")).args(["--wait", "--grant-fd", &GRANT_FD.to_string(), "--workers"]);
    command.arg(fleet.host.workers()).args(["--upstream", &upstream.to_string()]);
    ScriptedWorker::run(fleet, command, fs::File::open("/dev/null").unwrap().into())
}

/// Whether the launcher is connected to the broker; where that cannot be seen, whether it cannot be seen any more.
fn asks(launcher: u32) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{launcher}/fd")) else { return true };
    let mut links = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links.any(|link| link.display().to_string().starts_with("socket:"))
}

/// A shell that becomes the launcher when its broker is held, which becomes a program that keeps its token.
fn start_launcher(fleet: &Fleet) -> ScriptedWorker {
    let launch = format!(
        "echo here; exec {} --grant-fd {GRANT_FD} --credential-name released --deliver memfd --workers {} -- \
         sh -c 'read go; cat $RELEASED_FILE >/dev/null; echo launched; read end'",
        ours("blindferry-launch").display(),
        fleet.host.workers().display()
    );
    let mut command = USER.command(Path::new("/bin/sh"));
    command.args(["-c", &launch]);
    ScriptedWorker::run(fleet, command, ask_for(fleet, "released").unwrap())
}

/// Logs, the store, the audit, and what went over the buses of the TPMs.
fn search_what_is_written(fleet: &Fleet, audit: &[Vec<u8>], needles: &[String]) {
    let forms: Vec<_> = needles.iter().map(|needle| forms(needle.as_bytes())).collect();
    let buses = [fleet.enclave.bus.as_ref().unwrap(), fleet.host.bus.as_ref().unwrap()];
    // The ear is on the bus: what goes over it in the clear is heard.
    let said = "said in the clear on the bus";
    let mut hash = Command::new("tpm2_hash")
        .args(["-g", "sha256"])
        .env("TPM2TOOLS_TCTI", buses[0].tcti())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    hash.stdin.take().unwrap().write_all(said.as_bytes()).unwrap();
    assert!(hash.wait().unwrap().success());
    assert!(memchr::memmem::find(&buses[0].heard(), said.as_bytes()).is_some());

    let recovery = fleet.enclave.recovery.replace('-', "");
    assert!(recovery.len() > 32, "a recovery key was shown");
    let mut written = vec![("audit", audit.concat())];
    written.push(("store", fs::read(fleet.enclave.store()).unwrap()));
    written.push(("log of the enclave", fs::read(fleet.enclave.log_file()).unwrap()));
    written.push(("log of the broker", fs::read(fleet.host.log_file()).unwrap()));
    written.push(("log of parents and workers", fs::read(log_file(fleet)).unwrap()));
    written.push(("bus of the enclave's TPM", buses[0].heard()));
    written.push(("bus of the host's TPM", buses[1].heard()));
    for (place, bytes) in written {
        assert!(!bytes.is_empty() || place.starts_with("log of parents"), "nothing was searched: {place}");
        let found = search(&bytes, &forms, place);
        assert!(found.is_empty(), "{found:?}");
        println!("{place}: {} bytes, nothing found", bytes.len());
    }
}

/// What could be read, where, when, by whom.
#[derive(Default)]
struct Table {
    rows: Vec<Row>,
}

struct Row {
    step: String,
    process: &'static str,
    attacker: &'static str,
    look: Look,
}

impl Table {
    fn look(&mut self, step: &str, places: &[Place], needles: &[String]) {
        let needles: Vec<&str> = needles.iter().map(String::as_str).collect();
        for (process, account, id) in places {
            assert!(lives(*id), "{process} lives");
            for (attacker, as_whom) in [("same user", *account), ("root", CALLER)] {
                if attacker == "root" && !is_root() {
                    continue;
                }
                let look = look(as_whom, &[*id], &needles).remove(0);
                self.rows.push(Row { step: step.to_owned(), process, attacker, look });
            }
        }
    }

    /// Whoever may raise the hard limit does: nobody gets more into a core than root.
    fn dump_cores(&mut self, places: &[Place], needles: &[String]) {
        let needles: Vec<&str> = needles.iter().map(String::as_str).collect();
        for (process, _, id) in places {
            let look = look_and_abort(CALLER, &[*id], &needles).remove(0);
            self.rows.push(Row { step: "core".to_owned(), process, attacker: "root", look });
        }
    }

    fn print(&self) {
        println!("{:<22} {:<22} {:<10} {:>12}  found", "step", "process", "attacker", "bytes read");
        for Row { step, process, attacker, look } in &self.rows {
            let found: Vec<String> = look
                .surfaces
                .iter()
                .flat_map(|surface| &surface.found)
                .map(|one| format!("{} in {}", one.form, one.at))
                .collect();
            println!("{step:<22} {process:<22} {attacker:<10} {:>12}  {}", look.bytes(), found.join(", "));
        }
    }

    fn judge(&self) {
        for Row { step, process, attacker, look } in &self.rows {
            let found: Vec<_> = look.surfaces.iter().flat_map(|surface| &surface.found).collect();
            let is_allowed = *attacker == "root" && matches!(*process, "vault" | "worker");
            assert!(found.is_empty() || is_allowed, "{step}: {process}, as {attacker}: {found:?}");
            if *attacker == "same user" && is_root() {
                let memory = look.surface("memory");
                // A parent is a stranger's program, and an open book that says nothing.
                assert!(
                    *process == "parent" || memory.bytes == 0,
                    "{step}: {process} can be read: {:?}",
                    memory.refused
                );
            }
        }
    }
}
