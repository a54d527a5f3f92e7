//! A store whose disk is full.

use crate::ground::Ground;
use blindferry_proto::audit::Event;
use blindferry_proto::operator::Approvee;
use blindferry_proto::refusal::RefusalCode;
use blindferry_tests::account::{ENCLAVE, is_root};
use blindferry_tests::fleet::{Fleet, HOST, Plan, http_get};
use blindferry_tests::process::eventually;
use blindferry_tests::worker::{ScriptedWorker, ask_for};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn on_a_full_disk_nothing_is_given_out_that_cannot_be_audited_and_all_goes_on_when_there_is_room() {
    if !is_root() {
        println!("skipped: only root mounts");
        return;
    }
    let plan = Plan::default();
    let Some(mut fleet) = Fleet::set_up(&plan) else { return };
    let Some(disk) = SmallDisk::mount(&fleet.directory().join("enclave/disk")) else { return };
    let configuration = fleet.directory().join("enclave/enclave.toml");
    let text = fs::read_to_string(&configuration).unwrap();
    let moved =
        text.replace(&*fleet.enclave.store().to_string_lossy(), &disk.path.join("store.redb").to_string_lossy());
    assert_ne!(moved, text);
    fs::write(&configuration, moved).unwrap();
    fleet.init(&plan);
    fleet.enclave.serve();
    fleet.operator().approve(HOST, Approvee::Ek(fleet.host.tpm.ek()));
    fleet.host.serve();
    let ground = Ground::of(fleet);
    let fleet = &ground.fleet;
    let operator = fleet.operator();

    // Grants that are out, and one that was bought.
    let granted: Vec<_> = (0..12).map(|_| ask_for(fleet, "api").unwrap()).collect();
    let mut kept = ScriptedWorker::start(fleet, ask_for(fleet, "api").unwrap(), fleet.enclave.public);
    assert!(kept.says()["lease"].is_string());
    disk.fill();
    let refused = eventually("a refusal", || {
        // What is free within the store's file goes first.
        ask_for(fleet, "api").err()
    });
    assert_eq!(refused.code, RefusalCode::Store, "{refused:?}");
    println!("refused: {refused:?}");
    // A small record may find room in the file where a larger one did not: what is given out is in the audit then.
    let (mut given, mut refused) = (Vec::new(), 0);
    for grant in granted {
        // A store that is opened anew may give room back.
        disk.fill();
        let mut worker = ScriptedWorker::start(fleet, grant, fleet.enclave.public);
        let says = worker.says();
        match says["lease"].as_str() {
            Some(lease) => given.push(lease.to_owned()),
            None => {
                assert_eq!(says["code"], "store", "{says}");
                refused += 1;
            }
        }
    }
    println!("redemptions: {} given out, {refused} refused", given.len());
    assert!(refused > 0, "the disk is full");
    let ready = || http_get(fleet.enclave.public, "/readyz").unwrap();
    eventually("the truth about it", || {
        disk.fill();
        let _refused = ask_for(fleet, "api");
        let (status, why) = ready();
        (status == 503 && why.contains("the store takes no changes")).then_some(())
    });
    assert!(fleet.enclave.log().contains("store-request-failed"), "it is in the log");

    disk.free();
    let granted = eventually("grants again", || ask_for(fleet, "api").ok());
    assert_eq!(ready().0, 200);
    let mut worker = ScriptedWorker::start(fleet, granted, fleet.enclave.public);
    let lease = worker.says()["lease"].as_str().map(str::to_owned);
    assert!(lease.is_some(), "redemptions again");
    kept.finish();
    worker.finish();
    eventually("no lease", || (operator.status().leases == 0).then_some(()));
    // Verified, from the first record to the last that the vault knows.
    let redeemed = |event: &Event| match event {
        Event::Redeemed { lease, .. } => Some(lease.to_string()),
        _ => None,
    };
    let leases: BTreeSet<String> = operator.events().iter().filter_map(redeemed).collect();
    given.extend(lease);
    assert!(given.iter().all(|lease| leases.contains(lease)), "{given:?} were given out, the audit has {leases:?}");
    drop(operator);

    // What was written is whole: it opens again.
    let mut ground = ground;
    let sessions = ground.fleet.host.sessions();
    assert!(ground.fleet.enclave.stop().success());
    ground.fleet.enclave.serve();
    ground.fleet.host.wait_for_session_after(sessions);
    assert!(ask_for(&ground.fleet, "api").is_ok());
    assert!(ground.fleet.operator().events().len() > leases.len());
    ground.fleet.enclave.stop();
}

/// A file system of few megabytes, unmounted with its value.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(path: &Path) -> Option<Self> {
        ENCLAVE.make_directory(path);
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs"]).arg(path).status();
        if !mounted.is_ok_and(|status| status.success()) {
            println!("skipped: nothing can be mounted here");
            return None;
        }
        ENCLAVE.give(path);
        Some(Self { path: path.to_owned() })
    }

    /// To the last byte.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.path.join("ballast")).unwrap();
        for size in [64 * 1024, 512] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.path.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still has a file open there keeps it until he ends.
        let _gone = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}
