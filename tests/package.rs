//! Do the Debian packages do what an operator expects of packages? Asked of a real systemd, in a machine that is thrown away:
//! install, set up, serve, upgrade while it runs, roll back, remove, purge.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_tests::booted::{Booted, as_version, packages};
use blindferry_tests::missing;
use blindferry_tests::program::TPM_TOOLS;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const TOKEN: &str = "token-of-a-packaged-vault";
const OLD: &str = "0.1.0+test1";
const NEW: &str = "0.1.0+test2";

#[test]
fn packages_are_installed_upgraded_rolled_back_removed_and_purged() {
    if missing(TPM_TOOLS) {
        return;
    }
    let directory = TempDir::with_prefix("blindferry-packages-").unwrap();
    if packages(OLD, &directory.path().join(OLD)).is_none() {
        return;
    }
    as_version(&directory.path().join(OLD), OLD, NEW, &directory.path().join(NEW));
    let Some(machine) = Booted::start(directory.path()) else { return };
    nothing_is_started_by_installing(&machine);
    files_have_the_modes_that_they_need(&machine);
    units_are_confined(&machine);
    an_enclave_is_set_up_and_started_means_ready(&machine);
    a_host_joins_and_a_worker_gets_a_token(&machine);
    who_connects_to_a_broker_that_is_away_starts_it(&machine);
    a_vault_that_hangs_is_started_anew(&machine);
    a_running_system_is_changed_to(&machine, NEW);
    a_running_system_is_changed_to(&machine, OLD);
    an_administrators_mode_of_the_launcher_is_kept(&machine);
    what_is_removed_ends_and_leaves_configuration_and_store(&machine);
    what_is_purged_leaves_the_store_and_says_so(&machine);
}

fn nothing_is_started_by_installing(machine: &Booted) {
    machine.run(&format!("dpkg --install /mnt/{OLD}/*.deb"));
    for unit in UNITS {
        let state = machine.run(&format!("systemctl is-enabled {unit} || true; systemctl is-active {unit} || true"));
        assert_eq!(state, "disabled\ninactive", "{unit}");
    }
    // Each as often as anybody likes.
    machine.run(
        "for package in blindferry-broker blindferry-enclave; do DPKG_MAINTSCRIPT_PACKAGE=$package /var/lib/dpkg/info/$package.postinst configure; done",
    );
    assert_eq!(machine.run("dpkg --verify blindferry blindferry-broker blindferry-enclave"), "");
    machine
        .run("blindferry --version; blindferryd --version; blindferry-enclave --version; blindferry-launch --version");
}

fn files_have_the_modes_that_they_need(machine: &Booted) {
    let modes = machine.run("cd /usr/libexec/blindferry; stat -c '%a %U:%G %n' *");
    let modes: BTreeMap<&str, &str> =
        modes.lines().map(|line| line.rsplit_once(' ').unwrap()).map(|(m, n)| (n, m)).collect();
    let unreadable = "711 root:root";
    let expected = [
        ("blindferry", unreadable),
        ("blindferry-device", unreadable),
        ("blindferry-device-snp", unreadable),
        ("blindferry-enclave", unreadable),
        ("blindferry-launch", "2711 root:blindferry-launch"),
        ("blindferry-sandbox", "755 root:root"),
        ("blindferry-starter", unreadable),
        // The front makes the copy from which it runs.
        ("blindferry-vault", "755 root:root"),
        ("blindferryd", unreadable),
    ];
    assert_eq!(modes, BTreeMap::from(expected));
    assert_eq!(
        machine.run("stat -c '%a %U:%G' /var/lib/blindferry-enclave"),
        "700 blindferry-enclave:blindferry-enclave"
    );
    assert_eq!(machine.run("getent group blindferry-launch | cut -d : -f 4"), "", "nobody is in the launcher's group");
    for user in ["enclave", "broker"] {
        assert!(machine.run(&format!("id -nG blindferry-{user}")).split(' ').any(|group| group == "tss"), "{user}");
    }
}

/// As docs/operating/installing.md says.
fn units_are_confined(machine: &Booted) {
    machine.run("systemd-analyze verify blindferryd.service blindferry-enclave.service blindferry-starter.service");
    for (unit, tenths) in [("blindferry-enclave", 14), ("blindferryd", 15)] {
        machine.run(&format!("systemd-analyze security --no-pager --threshold={tenths} {unit}.service"));
    }
}

fn an_enclave_is_set_up_and_started_means_ready(machine: &Booted) {
    machine.run(&format!("{TPMS}\ntpm enclave 2321; tpm host 2331; tpm operator 2341"));
    machine.run(
        r#"cd /etc/blindferry
        sed -i 's|^tcti = .*|tcti = "swtpm:host=127.0.0.1,port=2321"|; s|^pins = .*|pins = "/etc/blindferry/enclave-pins.toml"|' enclave.toml
        sed -i 's|^tcti = .*|tcti = "swtpm:host=127.0.0.1,port=2331"|; s|^pins = .*|pins = "/etc/blindferry/host-pins.toml"|' broker.toml
        sed -i 's|^tcti = .*|tcti = "swtpm:host=127.0.0.1,port=2341"|; s|^pins = .*|pins = "/etc/blindferry/operator-pins.toml"|' operator.toml
        sed -i 's|^vault = .*|vault = "127.0.0.1:7443"|' broker.toml operator.toml"#,
    );
    machine.run(&format!(
        "{REFERENCES}
        echo 'permit (principal, action, resource);' > /run/policy.cedar
        install -d -o blindferry-enclave /run/made
        runuser -u blindferry-enclave -- blindferry init --enclave /etc/blindferry/enclave.toml --operator desk=$(ek operator 2341) \
            --operator-reference /run/operator.ref --broker-reference /run/host.ref --policy /run/policy.cedar \
            --reference-out /run/made/vault.toml --recovery-out /run/made/recovery-key --yes
        install -m 0644 /run/made/vault.toml /etc/blindferry/vault.toml"
    ));
    // Short enough to be waited for below, and three times what the vault needs to speak.
    machine.run(
        "mkdir -p /etc/systemd/system/blindferry-enclave.service.d
        printf '[Service]\nWatchdogSec=6s\n' > /etc/systemd/system/blindferry-enclave.service.d/watchdog.conf
        systemctl daemon-reload",
    );
    // Not asked again and again: that it was started is to mean that it serves.
    let ready =
        machine.run("systemctl enable --now blindferry-enclave 2>/dev/null; curl -sf http://127.0.0.1:7480/readyz");
    assert_eq!(ready, "ready");
    assert_eq!(status(machine, "blindferry-enclave"), "serving");
}

fn a_host_joins_and_a_worker_gets_a_token(machine: &Booted) {
    machine.run(&format!("printf %s {TOKEN} | blindferry put demo --kind release"));
    machine.run("systemctl enable --now blindferryd 2>/dev/null");
    // A broker without a session is a broker that serves, and says what it lacks.
    machine.until("systemctl show -P StatusText blindferryd | grep -q 'host-pending\\|waits for approval'");
    machine.run(&format!("{REFERENCES}\nblindferry host approve worker-1 --ek $(ek host 2331)"));
    machine.run("systemctl restart blindferryd");
    machine.until("systemctl show -P StatusText blindferryd | grep -q stands");
    let sockets = machine.run("stat -c '%a %U %n' /run/blindferry /run/blindferry/*.sock");
    assert_eq!(
        sockets,
        "755 root /run/blindferry\n666 root /run/blindferry/parents.sock\n666 root /run/blindferry/workers.sock"
    );
    token_arrives(machine, "");
    token_arrives(machine, "--protection own-group");
    machine.run("systemctl enable --now blindferry-starter.socket 2>/dev/null");
    token_arrives(machine, "--via broker");
    assert_eq!(status(machine, "blindferry-starter"), "listening");
    units_leave_the_processes_own_walls_alone(machine);
}

/// What the kernel gives to any process it gives to ours in their units.
fn units_leave_the_processes_own_walls_alone(machine: &Booted) {
    let found = machine.try_run("blindferry doctor").said;
    let has_landlock = found.lines().any(|line| line.contains("landlock") && line.contains("good"));
    for unit in ["blindferry-enclave", "blindferryd"] {
        let log = machine.journal_of(unit);
        assert!(!has_landlock || !log.contains("Landlock"), "{log}");
        assert!(!log.contains("secret memory"), "{log}");
    }
}

fn who_connects_to_a_broker_that_is_away_starts_it(machine: &Booted) {
    machine.run("systemctl stop blindferryd.service 2>/dev/null");
    assert_eq!(machine.try_run("systemctl is-active blindferryd.service").said.trim(), "inactive");
    machine.until(&worker(""));
    assert_eq!(machine.run("systemctl is-active blindferryd.service"), "active");
}

/// The front runs on, and would answer for both.
fn a_vault_that_hangs_is_started_anew(machine: &Booted) {
    let restarts = || machine.run("systemctl show -P NRestarts blindferry-enclave");
    assert_eq!(restarts(), "0", "it was fed until now");
    machine.run("pkill --signal STOP --full ^blindferry-vault");
    machine.until("test \"$(systemctl show -P NRestarts blindferry-enclave)\" = 1");
    machine.until("curl -sf http://127.0.0.1:7480/readyz");
    assert!(machine.journal_of("blindferry-enclave").contains("Watchdog timeout"), "{}", machine.journal());
    machine.until(&worker(""));
}

fn a_running_system_is_changed_to(machine: &Booted, version: &str) {
    let process = |unit| machine.run(&format!("systemctl show -P MainPID {unit}"));
    let sockets =
        || machine.run("systemctl show -P InvocationID blindferryd-parents.socket blindferryd-workers.socket");
    let before = (process("blindferry-enclave"), process("blindferryd"), process("blindferry-starter"), sockets());
    machine.run(&format!("dpkg --install /mnt/{version}/*.deb"));
    assert_eq!(machine.run("dpkg-query --show --showformat '${Version}' blindferry-enclave"), version);
    assert_eq!(machine.run("systemctl is-active blindferry-enclave blindferryd"), "active\nactive");
    assert_ne!(process("blindferry-enclave"), before.0);
    assert_ne!(process("blindferryd"), before.1);
    // What the starter started would end with it.
    assert_eq!(process("blindferry-starter"), before.2);
    assert_eq!(sockets(), before.3, "the sockets were there all along");
    files_have_the_modes_that_they_need(machine);
    machine.until("systemctl show -P StatusText blindferryd | grep -q stands");
    token_arrives(machine, "");
    token_arrives(machine, "--via broker");
}

fn an_administrators_mode_of_the_launcher_is_kept(machine: &Booted) {
    let launcher = "/usr/libexec/blindferry/blindferry-launch";
    machine.run(&format!("dpkg-statoverride --force-statoverride-add --update --add root root 0755 {launcher}"));
    machine.run(&format!("dpkg --install /mnt/{OLD}/blindferry-broker_*.deb"));
    assert_eq!(machine.run(&format!("stat -c '%a %G' {launcher}")), "755 root");
}

fn what_is_removed_ends_and_leaves_configuration_and_store(machine: &Booted) {
    machine.run("dpkg --remove blindferry-enclave blindferry-broker blindferry");
    let left = machine.try_run("pgrep --list-full --uid blindferry-enclave,blindferry-broker,blindferry-starter");
    assert!(!left.well, "{}", left.said);
    assert_eq!(machine.run("find /run/blindferry /usr/libexec/blindferry -mindepth 1 2>/dev/null || true"), "");
    machine.run("test -s /etc/blindferry/enclave.toml && test -s /var/lib/blindferry-enclave/store.redb");
}

fn what_is_purged_leaves_the_store_and_says_so(machine: &Booted) {
    let said = machine.run("dpkg --purge blindferry-enclave blindferry-broker blindferry");
    assert!(said.contains("The vault's store stays"), "{said}");
    machine.run("test -s /var/lib/blindferry-enclave/store.redb");
    // The operator's own files are his.
    let left = machine.run("cd /etc/blindferry; ls");
    assert_eq!(left, "enclave-pins.toml\nhost-pins.toml\noperator-pins.toml\nvault.toml");
    let enabled = machine.run("find /etc/systemd/system -name 'blindferry*' -not -path '*.service.d*'");
    assert_eq!(enabled, "");
    assert!(machine.run("dpkg-statoverride --list").contains("755 /usr/libexec/blindferry/blindferry-launch"), "his");
}

fn status(machine: &Booted, unit: &str) -> String {
    machine.run(&format!("systemctl show -P StatusText {unit}"))
}

fn token_arrives(machine: &Booted, options: &str) {
    machine.run(&worker(options));
}

/// What a user runs, who is nobody special; ends well if the program had the token.
fn worker(options: &str) -> String {
    let program = r#"sh -c 'cat "$DEMO_FILE"'"#;
    format!("test \"$(runuser -u games -- blindferry run {options} --credential demo -- {program})\" = {TOKEN}")
}

#[test]
fn the_same_executables_make_the_same_packages_and_lintian_finds_nothing() {
    let directory = TempDir::with_prefix("blindferry-packages-").unwrap();
    let (first, second) = (directory.path().join("1"), directory.path().join("2"));
    if missing(&["lintian"]) || packages(OLD, &first).is_none() {
        return;
    }
    // By somebody who lets nobody read his files, elsewhere, later.
    let own = std::env::current_exe().unwrap();
    let executables = own.ancestors().find(|path| path.join("deps").is_dir()).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077; mkdir \"$1\"; TMPDIR=$1 TZ=Asia/Tokyo exec \"$2\" --bin \"$3\" --uncompressed --lint --version \"$4\" --out \"$5\"", "sh"]);
    command
        .arg(directory.path().join("elsewhere"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/package"));
    command.arg(executables).arg(OLD).arg(&second);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |directory: &Path| -> BTreeMap<_, _> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
        entries.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect()
    };
    let (first, second) = (read(&first), read(&second));
    assert_eq!(first.len(), 3);
    assert!(first.keys().eq(second.keys()));
    for (name, bytes) in &first {
        assert!(second.get(name) == Some(bytes), "{} differs", name.display());
    }
}

const UNITS: &[&str] = &[
    "blindferry-enclave.service",
    "blindferryd.service",
    "blindferryd-parents.socket",
    "blindferryd-workers.socket",
    "blindferry-starter.service",
    "blindferry-starter.socket",
];

/// `tpm NAME PORT`: a software TPM with PCRs that something was measured into, provisioned.
const TPMS: &str = r#"
tpm() {
    mkdir -p "/var/tmp/tpm-$1"
    systemd-run --quiet --unit="tpm-$1" swtpm socket --tpm2 --flags not-need-init,startup-clear \
        --tpmstate "dir=/var/tmp/tpm-$1" --server "type=tcp,bindaddr=127.0.0.1,port=$2" --ctrl "type=tcp,bindaddr=127.0.0.1,port=$(($2 + 1))"
    export TPM2TOOLS_TCTI="swtpm:host=127.0.0.1,port=$2"
    local tries=0 pcr
    until tpm2_getcap properties-fixed >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ]
        sleep 0.1
    done
    for pcr in 0 1 2 3 4 5 6 7; do
        tpm2_pcrextend "$pcr:sha256=$(echo "$1 $pcr" | sha256sum | cut -d ' ' -f 1)"
    done
    blindferry-device provision --tcti "$TPM2TOOLS_TCTI" --pins "/etc/blindferry/$1-pins.toml"
}"#;

/// Reference values of host and operator in `/run`, and `ek NAME PORT`: the hash of that TPM's endorsement key.
const REFERENCES: &str = r#"
of() { echo "--tcti swtpm:host=127.0.0.1,port=$2 --pins /etc/blindferry/$1-pins.toml"; }
blindferry reference capture --role operator $(of operator 2341) > /run/operator.ref 2>/dev/null
blindferry reference capture --role broker $(of host 2331) > /run/host.ref 2>/dev/null
ek() { blindferry --json tpm $(of "$1" "$2") 2>/dev/null | python3 -c 'import json, sys; print(json.load(sys.stdin)["ek_hash"])'; }"#;
