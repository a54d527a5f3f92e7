//! Does each probe tell a good machine from a bad one, and from one that does not let itself be looked at?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_probe::{Finding, MAX_READ, Machine, Need, Start, State, Tried, Verdict, examine, names, verdict};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

use State::{Good, Lacking, Unknown};

/// A machine of which each probe finds that it is good.
fn good_machine() -> (TempDir, Tried) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("proc/sys/kernel/osrelease", "6.12.9-amd64\n"),
        ("proc/sys/kernel/yama/ptrace_scope", "1\n"),
        ("proc/sys/kernel/core_pattern", "core\n"),
        ("proc/sys/kernel/io_uring_disabled", "2\n"),
        ("proc/sys/kernel/unprivileged_bpf_disabled", "2\n"),
        ("proc/sys/vm/unprivileged_userfaultfd", "0\n"),
        ("proc/sys/fs/suid_dumpable", "0\n"),
        ("proc/self/mountinfo", "22 27 0:21 / /proc rw,relatime - proc proc rw,hidepid=invisible\n"),
        ("proc/swaps", "Filename Type Size Used Priority\n"),
        ("sys/power/state", "freeze mem\n"),
        ("sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
        ("sys/class/tpm/tpm0/tpm_version_major", "2\n"),
        ("dev/tpmrm0", ""),
        ("dev/sev-guest", ""),
        (SECURE_BOOT, "\x06\0\0\0\x01"),
    ] {
        write(root.path(), path, text);
    }
    let tried = Tried {
        start: Start::Unreadable,
        exec_only_memory: Ok(()),
        peer_pidfd: Ok(()),
        filtered_calls: Ok(()),
        secret_memory: Ok(()),
        landlock_abi: Ok(7),
        no_writable_code: Ok(()),
        protection_keys: Ok(()),
        user_namespace: Ok(()),
        io_uring: Err(Errno::PERM),
        locked_memory: None,
        is_root: false,
    };
    (root, tried)
}

const SECURE_BOOT: &str = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// What a probe finds once `change` was made to the good machine.
fn found(name: &str, change: impl FnOnce(&Path, &mut Tried)) -> Finding {
    let (root, mut tried) = good_machine();
    change(root.path(), &mut tried);
    let findings = examine(&Machine::new(root.path(), tried), &[]);
    findings.into_iter().find(|finding| finding.name == name).unwrap()
}

/// A file's text decides.
#[track_caller]
fn by_file(name: &str, path: &str, cases: &[(&str, State)]) {
    for (text, state) in cases {
        let finding = found(name, |root, _| write(root, path, text));
        assert_eq!(finding.state, *state, "{path}: {finding:?}");
    }
}

#[track_caller]
fn without(name: &str, path: &str, state: State) {
    let finding = found(name, |root, _| {
        let path = root.join(path);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    });
    assert_eq!(finding.state, state, "without {path}: {finding:?}");
}

#[track_caller]
fn by_trying(name: &str, change: impl FnOnce(&mut Tried), state: State) {
    let finding = found(name, |_, tried| change(tried));
    assert_eq!(finding.state, state, "{finding:?}");
}

#[test]
fn on_a_good_machine_everything_is_good() {
    let (root, tried) = good_machine();
    let findings = examine(&Machine::new(root.path(), tried), &[]);
    let bad: Vec<_> = findings.iter().filter(|finding| finding.state != Good).collect();
    assert!(bad.is_empty() && findings.len() > 20, "{bad:#?}");
    assert_eq!(verdict(&findings), Verdict::Fit);
}

#[test]
fn on_a_machine_that_refuses_everything_nothing_is_good_and_each_finding_says_how_to_mend_it() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "dev/null", "");
    let all_refused = Tried {
        start: Start::Refused("process 7 is tracing this one".to_owned()),
        exec_only_memory: Err(Errno::ACCESS),
        peer_pidfd: Err("the kernel has no SO_PEERPIDFD".to_owned()),
        filtered_calls: Err(Errno::INVAL),
        secret_memory: Err(Errno::NOSYS),
        landlock_abi: Err(Errno::OPNOTSUPP),
        no_writable_code: Err(Errno::INVAL),
        protection_keys: Err(Errno::INVAL),
        user_namespace: Err(Errno::PERM),
        io_uring: Ok(()),
        locked_memory: Some(8 << 20),
        is_root: false,
    };
    let findings = examine(&Machine::new(root.path(), all_refused), &[]);
    for finding in &findings {
        assert!(finding.state != Good && finding.remedy.is_some(), "{finding:?}");
        assert!(!finding.found.is_empty() && !finding.means.is_empty() && !finding.found.contains('\n'), "{finding:?}");
    }
    assert_eq!(verdict(&findings), Verdict::Unfit);
}

#[test]
fn names_are_distinct_and_in_the_order_of_the_findings() {
    let (root, tried) = good_machine();
    let findings = examine(&Machine::new(root.path(), tried), &[]);
    assert!(findings.iter().map(|finding| finding.name).eq(names()));
    assert_eq!(names().collect::<BTreeSet<_>>().len(), findings.len());
}

#[test]
fn each_check_is_explained_to_operators() {
    let page = include_str!("../../../docs/operating/installing.md");
    let (_, table) = page.split_once("| check | found out by | good when |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let (root, tried) = good_machine();
    let findings = examine(&Machine::new(root.path(), tried), &[]);
    let expected = findings.iter().map(|finding| {
        let needed = if finding.need == Need::Needed { " (needed)" } else { "" };
        format!("`{}`{needed}", finding.name)
    });
    assert!(rows.map(|row| row.split('|').nth(1).unwrap().trim().to_owned()).eq(expected), "{table}");
}

#[test]
fn what_is_required_is_needed_and_what_is_lacking_outweighs_what_is_unknown() {
    let (root, tried) = good_machine();
    write(root.path(), "proc/sys/kernel/yama/ptrace_scope", "0");
    fs::remove_dir_all(root.path().join("sys/power")).unwrap();
    let machine = Machine::new(root.path(), tried);
    assert_eq!(verdict(&examine(&machine, &[])), Verdict::Fit);
    assert_eq!(verdict(&examine(&machine, &["hibernation"])), Verdict::Unclear);
    assert_eq!(verdict(&examine(&machine, &["hibernation", "yama"])), Verdict::Unfit);
    let needed = |required: &[&str]| -> Vec<&str> {
        let findings = examine(&machine, required);
        findings.iter().filter(|finding| finding.need == Need::Needed).map(|finding| finding.name).collect()
    };
    assert_eq!(needed(&[]), ["unreadable-start", "exec-only-memory", "peer-pidfd", "seccomp", "platform"]);
    assert!(needed(&["yama"]).contains(&"yama"));
}

#[test]
fn what_was_tried_decides() {
    by_trying("unreadable-start", |tried| tried.start = Start::Readable, Lacking);
    by_trying("unreadable-start", |tried| tried.start = Start::ReadsEverything, Lacking);
    by_trying("unreadable-start", |tried| tried.start = Start::Refused("traced".to_owned()), Lacking);
    by_trying("exec-only-memory", |tried| tried.exec_only_memory = Err(Errno::PERM), Lacking);
    by_trying("peer-pidfd", |tried| tried.peer_pidfd = Err("none".to_owned()), Lacking);
    by_trying("seccomp", |tried| tried.filtered_calls = Err(Errno::ALREADY), Lacking);
    by_trying("landlock", |tried| tried.landlock_abi = Ok(6), Good);
    by_trying("landlock", |tried| tried.landlock_abi = Ok(5), Lacking);
    by_trying("landlock", |tried| tried.landlock_abi = Err(Errno::NOSYS), Lacking);
    by_trying("no-writable-code", |tried| tried.no_writable_code = Err(Errno::ALREADY), Lacking);
    by_trying("protection-keys", |tried| tried.protection_keys = Err(Errno::NOSPC), Lacking);
    by_trying("locked-memory", |tried| tried.locked_memory = Some(8 << 20), Lacking);
    by_trying("secret-memory", |tried| tried.secret_memory = Err(Errno::PERM), Lacking);
    let full = found("secret-memory", |_, tried| tried.secret_memory = Err(Errno::AGAIN));
    assert!(full.remedy.unwrap().contains("LimitMEMLOCK") && full.state == Lacking, "{full:?}");
    let noexec = found("exec-only-memory", |_, tried| tried.exec_only_memory = Err(Errno::ACCESS));
    assert!(noexec.found.contains("vm.memfd_noexec") && noexec.remedy.unwrap().contains("vm.memfd_noexec = 1"));
}

#[test]
fn what_root_may_do_says_nothing_of_others() {
    let by_root = |path: &'static str, text: &'static str| {
        let finding = found("user-namespaces", move |root, tried| {
            tried.is_root = true;
            write(root, path, text);
        });
        finding.state
    };
    assert_eq!(by_root("proc/sys/kernel/unprivileged_userns_clone", "1\n"), Good);
    assert_eq!(by_root("proc/sys/kernel/unprivileged_userns_clone", "0\n"), Lacking);
    assert_eq!(by_root("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"), Lacking);
    by_trying("user-namespaces", |tried| tried.user_namespace = Err(Errno::NOSPC), Lacking);
    // A ring that root could make, though others may not.
    for (text, state) in [("0\n", Lacking), ("1\n", Good), ("2\n", Good)] {
        let finding = found("io-uring", |root, tried| {
            tried.io_uring = Ok(());
            write(root, "proc/sys/kernel/io_uring_disabled", text);
        });
        assert_eq!(finding.state, state, "{finding:?}");
    }
}

#[test]
fn each_sysctl_is_read_as_the_kernel_means_it() {
    let yama = "proc/sys/kernel/yama/ptrace_scope";
    by_file("yama", yama, &[("0\n", Lacking), ("1\n", Good), ("2\n", Good), ("3\n", Good)]);
    without("yama", "proc/sys/kernel/yama", Lacking);
    let dumpable = [("0\n", Good), ("1\n", Lacking), ("2\n", Lacking), ("x", Unknown)];
    by_file("suid-dumpable", "proc/sys/fs/suid_dumpable", &dumpable);
    let handlers = [
        ("core\n", Good),
        ("/var/cores/%e.%p\n", Good),
        ("\n", Good),
        ("|/usr/lib/systemd/systemd-coredump %P\n", Lacking),
        ("@/run/coredump.sock\n", Lacking),
    ];
    by_file("core-pattern", "proc/sys/kernel/core_pattern", &handlers);
    let bpf = "proc/sys/kernel/unprivileged_bpf_disabled";
    by_file("bpf", bpf, &[("0", Lacking), ("1", Good), ("2", Good)]);
    without("bpf", bpf, Good);
    by_file("userfaultfd", "proc/sys/vm/unprivileged_userfaultfd", &[("1", Lacking), ("0", Good)]);
    let releases =
        [("6.5.0", Good), ("6.4.16-x", Lacking), ("5.14.0-427.el9", Lacking), ("7.0", Good), ("Hurd", Unknown)];
    by_file("kernel", "proc/sys/kernel/osrelease", &releases);
}

#[test]
fn hidepid_is_that_of_the_proc_that_is_seen() {
    let line = |at: &str, options: &str| format!("22 27 0:21 / {at} rw,nosuid shared:5 - proc proc {options}\n");
    let cases = [
        (line("/proc", "rw"), Lacking),
        (line("/proc", "rw,hidepid=0"), Lacking),
        (line("/proc", "rw,hidepid=off"), Lacking),
        (line("/proc", "rw,gid=4,hidepid=2"), Good),
        (line("/proc", "rw,hidepid=ptraceable"), Good),
        // Another mount of it, and one that is covered by a later one.
        (line("/jail/proc", "rw,hidepid=2") + &line("/proc", "rw"), Lacking),
        (line("/proc", "rw,hidepid=2") + &line("/proc", "rw"), Lacking),
        (line("/proc", "rw") + &line("/proc", "rw,hidepid=2"), Good),
        ("22 27 0:21 / /proc rw - tmpfs proc rw,hidepid=2\n".to_owned(), Unknown),
        ("no mount".to_owned(), Unknown),
    ];
    for (table, state) in &cases {
        by_file("hidepid", "proc/self/mountinfo", &[(table, *state)]);
    }
}

#[test]
fn swap_is_followed_down_to_what_encrypts_it() {
    let with = |lines: &str, devices: &[(&str, &str)]| {
        let finding = found("swap", |root, _| {
            write(root, "proc/swaps", &format!("Filename\tType\tSize\tUsed\tPriority\n{lines}\n"));
            for (path, text) in devices {
                write(root, path, text);
            }
        });
        finding.state
    };
    let crypt = ("sys/block/dm-0/dm/uuid", "CRYPT-PLAIN-swap\n");
    assert_eq!(with("/dev/sda2 partition 1 0 -2", &[crypt]), Lacking);
    assert_eq!(with("/dev/dm-0 partition 1 0 -2", &[crypt]), Good);
    assert_eq!(with("/dev/dm-0 partition 1 0 -2", &[("sys/block/dm-0/dm/uuid", "LVM-x\n")]), Lacking);
    let named = [crypt, ("sys/block/dm-0/dm/name", "swap\n")];
    assert_eq!(with("/dev/mapper/swap partition 1 0 -2", &named), Good);
    assert_eq!(with("/dev/mapper/other partition 1 0 -2", &named), Lacking);
    // A volume on what is encrypted, and one that lies half beside it.
    let volume = [crypt, ("sys/block/dm-1/dm/uuid", "LVM-x\n"), ("sys/block/dm-1/slaves/dm-0/x", "")];
    assert_eq!(with("/dev/dm-1 partition 1 0 -2", &volume), Good);
    let half = [&volume[..], &[("sys/block/dm-1/slaves/sdb1/x", "")]].concat();
    assert_eq!(with("/dev/dm-1 partition 1 0 -2", &half), Lacking);
    // One that claims to lie upon itself.
    assert_eq!(with("/dev/dm-2 partition 1 0 -2", &[("sys/block/dm-2/slaves/dm-2/x", "")]), Lacking);
    let zram = "/dev/zram0 partition 1 0 100";
    assert_eq!(with(zram, &[]), Good);
    assert_eq!(with(zram, &[("sys/block/zram0/backing_dev", "none\n")]), Good);
    assert_eq!(with(zram, &[("sys/block/zram0/backing_dev", "/dev/sda3\n")]), Lacking);
    assert_eq!(with("/swapfile file 1 0 -2", &[]), Unknown);
    assert_eq!(with(&format!("{zram}\n/dev/sda2 partition 1 0 -2"), &[]), Lacking);
    without("swap", "proc/swaps", Good);
}

#[test]
fn hibernation_is_possible_where_the_kernel_lists_it_and_has_not_disabled_it() {
    let states = [("freeze mem disk\n", Lacking), ("freeze mem\n", Good), ("\n", Good)];
    by_file("hibernation", "sys/power/state", &states);
    let with_modes = |modes: &'static str| {
        let finding = found("hibernation", |root, _| {
            write(root, "sys/power/state", "freeze disk");
            write(root, "sys/power/disk", modes);
        });
        finding.state
    };
    assert_eq!((with_modes("[disabled]\n"), with_modes("[platform] shutdown\n")), (Good, Lacking));
    without("hibernation", "sys/power", Unknown);
}

#[test]
fn lockdown_and_secure_boot_are_what_the_machine_says_of_them() {
    let modes = [
        ("[none] integrity confidentiality\n", Lacking),
        ("none integrity [confidentiality]\n", Good),
        ("integrity", Unknown),
    ];
    by_file("lockdown", "sys/kernel/security/lockdown", &modes);
    without("lockdown", "sys/kernel/security", Unknown);
    let without_it = found("lockdown", |root, _| {
        fs::rename(root.join("sys/kernel/security/lockdown"), root.join("sys/kernel/security/lsm")).unwrap();
    });
    assert_eq!(without_it.state, Lacking);
    by_file("secure-boot", SECURE_BOOT, &[("\x06\0\0\0\0", Lacking), ("\x06\0\0\0\x02", Unknown), ("\x01", Unknown)]);
    without("secure-boot", SECURE_BOOT, Unknown);
    let by_another_firmware = found("secure-boot", |root, _| {
        fs::rename(root.join("sys/firmware/efi"), root.join("sys/firmware/acpi")).unwrap();
    });
    assert_eq!(by_another_firmware.state, Lacking);
    without("secure-boot", "sys/firmware", Unknown);
}

#[test]
fn one_platform_is_enough_and_one_that_cannot_be_opened_is_none() {
    without("tpm", "dev/tpmrm0", Lacking);
    without("snp", "dev/sev-guest", Lacking);
    without("platform", "dev/tpmrm0", Good);
    without("platform", "dev/sev-guest", Good);
    without("platform", "dev", Unknown);
    // A directory is opened for writing by nobody, root included.
    let shut = |root: &Path, device: &str| {
        fs::remove_file(root.join(device)).unwrap();
        fs::create_dir(root.join(device)).unwrap();
    };
    let tpm = found("tpm", |root, _| shut(root, "dev/tpmrm0"));
    assert!(tpm.state == Lacking && tpm.found.contains("cannot be opened"), "{tpm:?}");
    assert!(tpm.remedy.unwrap().contains("SupplementaryGroups=tss"), "{tpm:?}");
    assert_eq!(found("snp", |root, _| shut(root, "dev/sev-guest")).state, Lacking);
    let neither = found("platform", |root, _| {
        shut(root, "dev/tpmrm0");
        shut(root, "dev/sev-guest");
    });
    assert_eq!(neither.state, Lacking);
    by_file("tpm", "sys/class/tpm/tpm0/tpm_version_major", &[("1\n", Lacking)]);
    let raw = found("tpm", |root, _| fs::rename(root.join("dev/tpmrm0"), root.join("dev/tpm0")).unwrap());
    assert!(raw.state == Lacking && raw.found.contains("without"), "{raw:?}");
}

#[test]
fn a_file_without_end_is_not_read_to_its_end_and_is_not_believed() {
    let longest = format!("{}1", " ".repeat(usize::try_from(MAX_READ).unwrap() - 1));
    by_file("yama", "proc/sys/kernel/yama/ptrace_scope", &[(&longest, Good), (&format!(" {longest}"), Unknown)]);
}

#[test]
fn where_nothing_is_mounted_nothing_is_known_but_what_was_tried() {
    let (root, tried) = good_machine();
    for tree in ["proc", "sys", "dev"] {
        fs::remove_dir_all(root.path().join(tree)).unwrap();
    }
    let findings = examine(&Machine::new(root.path(), tried), &[]);
    let tried = [
        "unreadable-start",
        "exec-only-memory",
        "peer-pidfd",
        "seccomp",
        "secret-memory",
        "locked-memory",
        "landlock",
        "no-writable-code",
        "protection-keys",
        "user-namespaces",
        "io-uring",
    ];
    for finding in &findings {
        let expected = if tried.contains(&finding.name) { Good } else { Unknown };
        assert_eq!(finding.state, expected, "{finding:?}");
    }
    assert_eq!(verdict(&findings), Verdict::Unclear);
}

#[test]
fn this_machine_can_be_asked() {
    let findings = examine(&Machine::new("/", Tried::now(Start::Unreadable)), &[]);
    for finding in &findings {
        println!("{:18} {:?}: {}", finding.name, finding.state, finding.found);
    }
    let state = |name| findings.iter().find(|finding| finding.name == name).unwrap_or_else(|| panic!("{name}")).state;
    // Without these not one test of the whole would pass here.
    assert_eq!((state("peer-pidfd"), state("exec-only-memory"), state("seccomp")), (Good, Good, Good));
    assert_ne!(state("kernel"), Unknown);
}
