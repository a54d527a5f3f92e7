//! A fleet that serves others while it is abused, and what that costs it.

use blindferry_proto::credential::Kind;
use blindferry_tests::account::is_root;
use blindferry_tests::fleet::{Fleet, Plan};
use blindferry_tests::load::Load;
use blindferry_tests::operator::settings;
use blindferry_tests::process::within;
use blindferry_tests::usage::{descriptors, peak, resident};
use std::env;
use std::fs;
use std::time::Duration;

/// A fleet, and somebody who crosses again and again.
pub(crate) struct Ground {
    pub(crate) fleet: Fleet,
    processes: [(&'static str, u32); 3],
    before: Vec<Option<(u64, usize)>>,
}

impl Ground {
    /// `None`, and a line says why, where there cannot be one.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&Plan::default())
    }

    /// The same, by a plan.
    pub(crate) fn start_with(plan: &Plan<'_>) -> Option<Self> {
        if !is_root() {
            println!("skipped: only root sees what processes use that nobody may look into");
            return None;
        }
        Some(Self::of(Fleet::start_with(plan)?))
    }

    pub(crate) fn of(fleet: Fleet) -> Self {
        fleet.operator().put("api", settings(Kind::Release), b"what others go on to get");
        let processes =
            [("vault", fleet.enclave.vault()), ("front", fleet.enclave.front_id()), ("broker", fleet.host.broker_id())];
        // Whatever is made at the first use is made, and counts from here on.
        let load = Load::of_crossings(&fleet, "api");
        load.wait_for(20);
        load.end_without_a_refusal();
        for (_, process) in processes {
            // The peak is the present (proc(5)).
            fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
        }
        let before = processes.iter().map(|(_, process)| Some((resident(*process)?, descriptors(*process)?))).collect();
        Self { fleet, processes, before }
    }

    pub(crate) fn process(&self, who: &str) -> u32 {
        self.processes.iter().find(|(name, _)| *name == who).unwrap().1
    }

    /// Somebody who is served meanwhile.
    pub(crate) fn others(&self) -> Load {
        Load::of_crossings(&self.fleet, "api")
    }

    /// No process took more than so many MiB on top at any moment, or keeps a descriptor.
    pub(crate) fn settles_within(&self, mebibytes: u64) {
        for ((who, process), before) in self.processes.iter().zip(&self.before) {
            let (resident_before, open) = before.unwrap();
            let (now, most) = (resident(*process).unwrap(), peak(*process).unwrap());
            println!("{who}: {resident_before} KiB before, {most} at most, {now} now; {open} descriptors before");
            assert!(most < resident_before + mebibytes * 1024, "{who}: {most} KiB, and {resident_before} before");
            // A session of an operator may have come, and connections end a moment later.
            let settled = within(Duration::from_secs(75), || (descriptors(*process)? <= open + 3).then_some(()));
            assert!(settled.is_some(), "{who}: {:?} descriptors, and {open} before", descriptors(*process));
        }
    }
}

/// So many, or as many times as many as were asked for.
pub(crate) fn times(short: u32) -> u32 {
    let more = env::var("BLINDFERRY_ABUSE").map_or(1, |text| text.parse().expect("BLINDFERRY_ABUSE is a number"));
    short * more
}
