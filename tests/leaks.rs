//! Where could an attacker read a master, a token or the recovery key, at each step of a vault's life, as the same user
//! and as root?

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use blindferry_handle::secret::{Protection, protection};
use blindferry_proto::audit::Event;
use blindferry_proto::credential::SigningAlgorithm;
use blindferry_proto::key_mix::KeyMix;
use blindferry_proto::operator::Approvee;
use blindferry_proto::setup::{RecoverOrder, SetupReply, VERSION};
use blindferry_tests::account::{BROKER, CALLER, ENCLAVE, USER};
use blindferry_tests::attack::{forms, look, look_and_abort, needle, search};
use blindferry_tests::command::{blindferry, has_read_all};
use blindferry_tests::fleet::{Enclave, Fleet, Plan, http_get};
use blindferry_tests::oauth::OauthServer;
use blindferry_tests::operator::{jwt_signer, oauth_client, settings};
use blindferry_tests::process::{Running, child, children, eventually, hold, lives, send};
use blindferry_tests::program::{missing, ours};
use blindferry_tests::secrets::Secrets;
use blindferry_tests::sight::{Place, Table};
use blindferry_tests::tpm::PCRS;
use blindferry_tests::upstream::Upstream;
use blindferry_tests::worker::{GRANT_FD, ScriptedWorker, ask_for, log_file};
use rustix::process::Signal;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const RELEASED: &str = "sk-live-released-0f4c77d1a95be2368842";
const CLIENT_SECRET: &str = "oauth-client-secret-91d02bc67f4e85aa3c10";
const ISSUER: &str = "https://tokens.example.org";
const AUDIENCE: &str = "https://api.example.org";

#[test]
fn plaintext_is_nowhere_but_in_the_vault_and_in_the_worker() {
    if missing(&["python3", "tpm2_unseal"]) {
        return;
    }
    let plan = Plan { recorded: true, ..Plan::default() };
    let Some(mut fleet) = Fleet::set_up(&plan) else { return };
    fleet.init(&plan);
    let mut table = Table::default();
    let mut secrets = Secrets::of(&fleet, &[RELEASED, CLIENT_SECRET], OauthServer::start(CLIENT_SECRET));

    // A recovery, while the key was given and what shall be done was not yet.
    let mut recovering = type_recovery_key(&fleet);
    table.look("recovery: key is read", &[("cli", USER, recovering.id())], &secrets.needles());
    recovering.kill();
    recover(&mut fleet, &mut table, &secrets.needles());

    fleet.enclave.serve();
    let operator = fleet.operator();
    operator.approve(blindferry_tests::fleet::HOST, Approvee::Ek(fleet.host.tpm.ek()));
    fleet.host.serve();
    let standing = standing(&mut fleet);
    let upstream = Upstream::for_token(RELEASED, fleet.directory());

    // A deposit by the command, when it has read the master, and when it waits for a vault that is held.
    let mut putting = type_master(&fleet, "released");
    table.look("put: master is read", &[("cli", USER, putting.id())], &secrets.needles());
    send(fleet.enclave.vault(), Signal::STOP);
    drop(putting.child().stdin.take());
    eventually("the command's device process", || children(putting.id(), "blindferry-device").pop());
    let of_operator = child(putting.id(), "blindferry-device");
    let depositing = [("cli", USER, putting.id()), ("device of the operator", USER, of_operator)];
    table.look("put: on its way", &depositing, &secrets.needles());
    send(fleet.enclave.vault(), Signal::CONT);
    assert!(putting.wait().success(), "{}", putting.log());

    operator.put("minted", settings(oauth_client(secrets.server.address)), CLIENT_SECRET.as_bytes());
    let signer = settings(jwt_signer(SigningAlgorithm::Es256, ISSUER, AUDIENCE));
    operator.put("signed", signer, secrets.signer.serialize_pem().as_bytes());
    look_everywhere("stored", &mut table, &fleet, &standing, &secrets);

    for credential in ["released", "minted"] {
        let mut parent = start_parent(&fleet, credential, upstream.address);
        parent.line(); // what the parent saw of the grant
        parent.line(); // the worker waits
        let worker = child(parent.running.id(), "blindferry-scripted-worker");
        let crossing = [&standing[..], &[("parent", USER, parent.running.id()), ("worker", USER, worker)]].concat();
        look_everywhere(&format!("{credential}: granted"), &mut table, &fleet, &crossing, &secrets);
        parent.order("redeem");
        let answer = parent.says();
        assert!(answer["lease"].is_string(), "{answer}");
        look_everywhere(&format!("{credential}: redeemed"), &mut table, &fleet, &crossing, &secrets);
        parent.tell("renew");
        look_everywhere(&format!("{credential}: renewed"), &mut table, &fleet, &crossing, &secrets);
        parent.finish();
        eventually("the worker's end", || (!lives(worker)).then_some(()));
        eventually("the lease's end", || (operator.status().leases == 0).then_some(()));
        look_everywhere(&format!("{credential}: ended"), &mut table, &fleet, &standing, &secrets);
    }

    // The launcher, while it waits for its parcel, and then as the program that it has become.
    let mut launched = start_launcher(&fleet);
    let launcher = launched.running.id();
    send(fleet.host.broker().id(), Signal::STOP);
    launched.line();
    eventually("the launcher's question", || asks(launcher).then_some(()));
    table.look("launcher waits", &[("launch", USER, launcher)], &secrets.needles());
    send(fleet.host.broker().id(), Signal::CONT);
    launched.order("go");
    assert_eq!(launched.line(), "launched");
    let program = [&standing[..], &[("worker", USER, launcher)]].concat();
    look_everywhere("launched", &mut table, &fleet, &program, &secrets);
    launched.finish();

    // The command, while it waits for a grant; it becomes the launcher, and the program: here the test is told the token.
    send(fleet.host.broker().id(), Signal::STOP);
    let mut command = blindferry(&fleet);
    command.args(["run", "--credential", "signed", "--audience", AUDIENCE, "--deliver", "stdin"]);
    command.args(["--", "sh", "-c", "cat; echo"]);
    let mut running = ScriptedWorker::run(&fleet, command, fs::File::open("/dev/null").unwrap().into());
    let person = running.running.id();
    eventually("the command's question", || asks(person).then_some(()));
    table.look("run: asks", &[("cli", USER, person)], &secrets.needles());
    send(fleet.host.broker().id(), Signal::CONT);
    secrets.told = Some(running.line());
    running.finish();
    eventually("the lease's end", || (operator.status().leases == 0).then_some(()));
    assert!(secrets.told.as_deref().is_some_and(|token| token.starts_with("eyJ")), "a token was told");
    look_everywhere("run: ended", &mut table, &fleet, &standing, &secrets);

    assert!(secrets.server.tokens().len() > 1, "tokens were minted");
    let records = operator.records().0;
    let audit: Vec<u8> = records.iter().flat_map(|one| one.body.as_slice().to_vec()).collect();
    assert!(operator.events().iter().any(|event| matches!(event, Event::Redeemed { .. })));
    table.read("all of it", "audit", &audit, &secrets.needles());
    read_what_is_written(&mut table, &fleet, &secrets.needles());
    read_buses(&mut table, &fleet, &secrets);

    let mut parent = start_parent(&fleet, "released", upstream.address);
    (0..2).for_each(|_| drop(parent.line()));
    let worker = child(parent.running.id(), "blindferry-scripted-worker");
    assert!(parent.tell("redeem")["lease"].is_string());
    let putting = type_master(&fleet, "another");
    let mut launched = start_launcher(&fleet);
    send(fleet.host.broker().id(), Signal::STOP);
    launched.line();
    eventually("the launcher's question", || asks(launched.running.id()).then_some(()));
    let of_the_user = [
        ("parent", USER, parent.running.id()),
        ("worker", USER, worker),
        ("cli", USER, putting.id()),
        ("launch", USER, launched.running.id()),
    ];
    let mut everybody = [&standing[..], &of_the_user].concat();
    // Before the front, which takes the vault with it.
    everybody.sort_by_key(|(place, ..)| *place != "vault");
    // Held, so that none ends because another did.
    everybody.iter().for_each(|(_, _, id)| hold(*id));
    let cores = table.dump_cores(&everybody, &secrets.needles());
    table.print();
    for (place, length) in cores {
        // The parent is a stranger's program: its core is what shows that cores are made and found here.
        assert!((length > 0) == (place == "parent" && cores_are_files()), "{place}: a core of {length} bytes");
    }
    // Without secret memory in the kernel, whoever holds a secret shows it to root: so does the command on its way in.
    match protection() {
        Protection::SecretMemory => table.judge(&["vault", "worker"]),
        Protection::LockedPages => table.judge(&["vault", "worker", "cli"]),
    }
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
        let as_bytes = format!("hex:{}", hex::encode(needle));
        let seen = look(attacker, &[careless.id()], &[needle, &as_bytes]).remove(0);
        assert_eq!(seen.found(0).count(), seen.found(1).count(), "{seen:?}");
        for surface in ["environ", "cmdline", "memory", "descriptors"] {
            assert!(!seen.surface(surface).found.is_empty(), "{surface}: {seen:?}");
        }
        let places = &seen.surface("descriptors").found;
        assert!(places.iter().any(|found| found.at.contains("memfd")), "{places:?}");
        assert!(places.iter().any(|found| found.at.contains("socket")), "{places:?}");
    }
    if !cores_are_files() {
        println!("cores are not searched: they do not go to a file beside the process");
        return;
    }
    let seen = look_and_abort(USER, &[careless.id()], &[needle]).remove(0);
    assert!(!seen.surface("core").found.is_empty(), "{seen:?}");
}

/// Whether the kernel writes a core into the directory in which its process is.
fn cores_are_files() -> bool {
    !fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap().starts_with(['|', '/'])
}

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

/// Into the processes, and at what the front tells anybody who asks.
fn look_everywhere(step: &str, table: &mut Table, fleet: &Fleet, places: &[Place], secrets: &Secrets) {
    table.look(step, places, &secrets.needles());
    for (name, path) in [
        ("/healthz", "/healthz"),
        ("/readyz", "/readyz"),
        ("/metrics", "/metrics"),
        ("/jwks", "/jwks/tokens.example.org"),
        ("discovery", "/.well-known/openid-configuration"),
    ] {
        let (status, body) = http_get(fleet.enclave.public, path).unwrap();
        // The issuer has another name than this address: that there is no such document is an answer too.
        assert!(status == 200 || name == "discovery", "{path}: {status}");
        // The public half of the signer is found there: were the private half beside it, it would be too.
        let public = &secrets.signer.public_key_raw()[1..33];
        assert!(name != "/jwks" || !search(body.as_bytes(), &[forms(public)], path).is_empty(), "{body}");
        table.read(step, name, body.as_bytes(), &secrets.needles());
    }
}

/// `blindferry put`, which has read a master and waits for the end of its input.
fn type_master(fleet: &Fleet, name: &str) -> Running {
    let mut command = blindferry(fleet);
    command.args(["put", name, "--kind", "release"]);
    feed(fleet, command, RELEASED)
}

/// `blindferry recover`, which has read the recovery key and waits for the end of its input.
fn type_recovery_key(fleet: &Fleet) -> Running {
    let mut command = blindferry(fleet);
    command.args(["recover", "--enclave", "/nowhere/enclave.toml", "--pcrs", "0,4,7", "--reference-out"]);
    command.arg(fleet.user_directory().join("recovered.toml"));
    feed(fleet, command, &fleet.enclave.recovery)
}

fn feed(fleet: &Fleet, mut command: Command, input: &str) -> Running {
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut running = Running::start(command, &log_file(fleet));
    write!(running.child().stdin.as_mut().unwrap(), "{input}").unwrap();
    eventually("its input to be read", || {
        assert!(running.ended().is_none(), "{}", running.log());
        has_read_all(running.child()).then_some(())
    });
    running
}

/// Seals anew by the recovery key, and looks when the vault has that key and no order yet.
fn recover(fleet: &mut Fleet, table: &mut Table, needles: &[String]) {
    let mut running = fleet.enclave.begin("recover", &[]);
    let vault = child(running.id(), "blindferry-vault");
    let device = child(running.id(), "blindferry-device");
    let input = running.child().stdin.as_mut().unwrap();
    writeln!(input, "{}", fleet.enclave.recovery).unwrap();
    eventually("the vault to have read the key", || has_read_all(running.child()).then_some(()));
    let places =
        [("front", ENCLAVE, running.id()), ("vault", ENCLAVE, vault), ("device of the enclave", ENCLAVE, device)];
    table.look("recovery: vault has key", &places, needles);
    let order = RecoverOrder {
        version: VERSION,
        pcrs: PCRS.to_vec(),
        insist_unextended: false,
        mix: KeyMix::default(),
        vault_reference: None,
    };
    running.child().stdin.as_mut().unwrap().write_all(&serde_json::to_vec(&order).unwrap()).unwrap();
    let recovered = Enclave::conclude(running);
    let Some(SetupReply::Done { vault_reference }) = recovered.reply else { panic!("{recovered:?}") };
    fleet.enclave.reference = vault_reference.as_str().to_owned();
    fleet.host.trust(vault_reference.as_str());
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

/// Every file of the fleet: store, logs, configuration, the TPMs' state.
fn read_what_is_written(table: &mut Table, fleet: &Fleet, needles: &[String]) {
    let logs = [fleet.enclave.log(), fleet.host.log()];
    assert!(logs.iter().all(|log| log.contains("INFO")), "these are the logs");
    let mut paths = Vec::new();
    files_under(fleet.directory(), &mut paths);
    assert!(paths.contains(&fleet.enclave.store()) && paths.contains(&fleet.enclave.log_file()), "{paths:?}");
    for path in paths {
        let bytes = fs::read(&path).unwrap();
        if !bytes.is_empty() {
            let name = path.strip_prefix(fleet.directory()).unwrap().display().to_string();
            table.read(&name, "file", &bytes, needles);
        }
    }
}

fn files_under(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_under(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

/// What passed between the devices and their TPMs, from before `init` on; and what the same ear hears of the same key when
/// it is unsealed in the plain way.
fn read_buses(table: &mut Table, fleet: &Fleet, secrets: &Secrets) {
    /// TPM_CC_Unseal (TPM 2.0 Library, part 2, section 6.5.2).
    const UNSEAL: [u8; 4] = 0x15e_u32.to_be_bytes();
    let heard = fleet.enclave.bus.as_ref().unwrap().heard();
    assert!(memchr::memmem::find(&heard, &UNSEAL).is_some(), "the vault unsealed its key over this bus");
    table.read("all of it", "bus of the enclave's TPM", &heard, &secrets.needles());
    table.read("all of it", "bus of the host's TPM", &fleet.host.bus.as_ref().unwrap().heard(), &secrets.needles());

    let kek = needle(&secrets.key_encryption_key);
    let directory = tempfile::TempDir::with_prefix("blindferry-").unwrap();
    fs::write(directory.path().join("key"), &kek).unwrap();
    let tool = |tcti: &str, words: &str| {
        let mut words = words.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words).current_dir(directory.path()).env("TPM2TOOLS_TCTI", tcti);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let (past_the_ear, bus) = (fleet.enclave.tpm.tcti(), fleet.enclave.bus.as_ref().unwrap());
    // Sealed without the ear, so that what it hears is the unsealing.
    for words in [
        "tpm2_createprimary -Q -C o -c primary.ctx",
        "tpm2_flushcontext -t",
        "tpm2_create -Q -C primary.ctx -i key -u sealed.pub -r sealed.priv",
        "tpm2_flushcontext -t",
        "tpm2_load -Q -C primary.ctx -u sealed.pub -r sealed.priv -c sealed.ctx",
        "tpm2_flushcontext -t",
    ] {
        tool(&past_the_ear, words);
    }
    assert!(memchr::memmem::find(&bus.heard(), &kek).is_none());
    assert_eq!(tool(&bus.tcti(), "tpm2_unseal -c sealed.ctx"), kek);
    assert!(memchr::memmem::find(&bus.heard(), &kek).is_some(), "the ear hears what is said in the clear");
}
