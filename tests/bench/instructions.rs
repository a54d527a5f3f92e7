//! How many instructions does the vault's own part of a crossing take? A regression shows here on the busiest machine.
//!
//! The vault confines itself and cannot run under valgrind, so its parts are called here as a crossing calls them, with
//! real keys: two questions to policy, a grant sealed and opened, a master opened, a parcel sealed, six records of the
//! audit in three transactions. What is not in it is what carries them: TLS, sockets, the runtime.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_attest::attested::Claims;
use blindferry_handle::secret::SecretBytes;
use blindferry_proto::audit::{Event, Sight};
use blindferry_proto::front::Table;
use blindferry_proto::identifier::{GrantId, ReplicaId, RequestId, WorkerKey};
use blindferry_proto::parcel::ParcelHeader;
use blindferry_proto::process::ProcessFacts;
use blindferry_proto::session::WorkerConstraint;
use blindferry_vault::audit::Signer;
use blindferry_vault::grant::{GrantBody, GrantKeys};
use blindferry_vault::hpke_keys::ParcelKeyPair;
use blindferry_vault::parcel;
use blindferry_vault::policy::{Action, Policy, Question};
use blindferry_vault::sealed::KeyEncryptionKey;
use blindferry_vault::sealed::record::RecordKey;
use ring::rand::SystemRandom;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, hint};

/// What the vault has when a crossing begins.
struct Standing {
    random: SystemRandom,
    policy: Policy,
    grants: GrantKeys,
    records: RecordKey,
    masters: RecordKey,
    master: Vec<u8>,
    parcels: ParcelKeyPair,
    signer: Signer,
    worker: WorkerKey,
    claims: Claims,
}

impl Standing {
    fn new() -> Self {
        let random = SystemRandom::new();
        let kek = KeyEncryptionKey::generate(&random).unwrap();
        let masters = kek.master_key().unwrap();
        let plain = SecretBytes::copy_and_wipe(&mut b"a master as long as keys of an API are, more or less".to_vec());
        let master = masters.seal_secret(&random, Table::Masters, b"api", 1, &plain.unwrap()).unwrap();
        Self {
            policy: Policy::parse(POLICY, 1).unwrap(),
            grants: GrantKeys::new(ReplicaId([1; 8]), NOW, &random).unwrap(),
            records: kek.record_key().unwrap(),
            masters,
            master,
            parcels: ParcelKeyPair::generate(&random).unwrap(),
            signer: Signer::new(kek.audit_signing_seed().unwrap()).unwrap(),
            worker: WorkerKey(ParcelKeyPair::generate(&random).unwrap().public().0),
            claims: Claims {
                platform: "tpm",
                firmware: "0123456789abcdef".to_owned(),
                reference: "production".to_owned(),
                ak_name: Some("00".repeat(34)),
                pcrs: BTreeMap::from([(0, "00".repeat(32)), (7, "11".repeat(32))]),
                snp: None,
                azure: None,
            },
            random,
        }
    }

    fn ask(&self, action: Action) {
        let question = Question {
            action,
            host: &"worker-1".parse().unwrap(),
            worker: &PROCESS,
            inherited: &[],
            parent: &PROCESS,
            credential: &"api".parse().unwrap(),
            kind: "release",
            audience: None,
            claims: &self.claims,
            session_age: 10,
            attestation_age: 10,
            approval: None,
        };
        drop(hint::black_box(self.policy.decide(&question).unwrap()));
    }

    /// The records of one transaction.
    fn record(&self, event: &Event, records: usize) {
        let mut chain = self.signer.chain(None).unwrap();
        for _ in 0..records {
            let _number = chain.append(event.clone(), Vec::new(), 0).unwrap();
        }
        for (number, record) in chain.sign().unwrap().0 {
            let sealed =
                self.records.seal(&self.random, Table::Audit, &number.to_be_bytes(), number, record.body.as_slice());
            hint::black_box(sealed.unwrap());
        }
    }
}

/// The one function whose instructions are counted.
#[inline(never)]
fn counted_crossing(standing: &mut Standing) {
    let host: blindferry_proto::name::HostName = "worker-1".parse().unwrap();
    standing.ask(Action::Grant);
    let body = GrantBody {
        id: GrantId([2; 16]),
        credential: "api".parse().unwrap(),
        host: host.clone(),
        audience: None,
        worker: WorkerConstraint::default(),
        parent: PROCESS,
        expires: NOW + 60,
        approval: None,
    };
    let grant = standing.grants.seal(&body, NOW, &standing.random).unwrap();
    let opened = standing.grants.open(&grant, &host, NOW).unwrap().into_body();
    standing.ask(Action::Redeem);
    let (_, token) = standing.masters.open_secret(Table::Masters, b"api", &standing.master).unwrap();
    let header = ParcelHeader {
        request: RequestId([3; 16]),
        grant: opened.id,
        worker: standing.worker,
        uid: 1,
        policy_epoch: 1,
    };
    hint::black_box(parcel::seal(&token, header, &standing.parcels).unwrap());
    let event = Event::Fetched { credential: opened.credential, version: 1, sight: Sight::Plaintext };
    for records in TRANSACTIONS {
        standing.record(&event, records);
    }
}

#[test]
fn a_crossing_takes_the_instructions_that_it_took() {
    match env::var(COUNTED).as_deref() {
        Ok(BEFORE) => {
            hide_vdso();
            let why = callgrind().env(COUNTED, WITHIN).exec();
            unreachable!("valgrind was there a moment ago: {why}");
        }
        Ok(_) => {
            let mut standing = Standing::new();
            // What is made at the first use is not what each use costs.
            (0..TIMES).for_each(|_| counted_crossing(&mut standing));
        }
        Err(_) if Command::new("valgrind").arg("--version").output().is_err() => {
            println!("skipped: valgrind is not installed");
        }
        Err(_) => {
            let each = counted() / TIMES;
            println!("{each} instructions a crossing, {RECORDED} when it was last looked at");
            assert!(each < RECORDED / 100 * 120, "{each} instructions, {RECORDED} recorded: what has become dearer?");
            assert!(each > RECORDED / 100 * 60, "{each} instructions, {RECORDED} recorded: write the new number down");
        }
    }
}

/// Callgrind unmaps the vDSO and hides it in `/proc/self/auxv`; since Linux 6.4 the kernel tells of it by prctl(2) as well,
/// and rustix would look at where it was.
fn hide_vdso() {
    let asked = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, PR_GET_AUXV).unwrap();
    let rules = BTreeMap::from([(libc::SYS_prctl, vec![SeccompRule::new(vec![asked]).unwrap()])]);
    let refuse = SeccompAction::Errno(libc::EINVAL.unsigned_abs());
    let arch = env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).unwrap();
    seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

/// All instructions within [`counted_crossing`] of this very test in another process.
fn counted() -> u64 {
    let output = this_test(Command::new(env::current_exe().unwrap())).env(COUNTED, BEFORE).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let (_, collected) = text.split_once("Collected : ").unwrap();
    collected.split_whitespace().next().unwrap().parse().unwrap()
}

fn callgrind() -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted_crossing*"]);
    command.arg(env::current_exe().unwrap());
    this_test(command)
}

fn this_test(mut command: Command) -> Command {
    command.args(["--exact", "a_crossing_takes_the_instructions_that_it_took", "--nocapture"]);
    command
}

/// Instructions of a crossing in the profile of tests, in which the arithmetic is optimised and our own code is not.
const RECORDED: u64 = 7_310_000;
/// Crossings that are counted, of which the first is dearer.
const TIMES: u64 = 4;
/// Records of each transaction when one worker is alone: granted; delivered, fetched, redeemed; acknowledged and ended.
const TRANSACTIONS: [usize; 3] = [1, 3, 2];
/// linux/prctl.h.
const PR_GET_AUXV: u64 = 0x4155_5856;
const NOW: u64 = 1_000_000;
const PROCESS: ProcessFacts = ProcessFacts { uid: 1000, gid: 1000, pid: 1, executable: None, protection: None };
const POLICY: &str = "@id(\"everybody\") permit (principal, action, resource);";
/// Set where this test is the one that is counted.
const COUNTED: &str = "BLINDFERRY_BENCH_COUNTED";
/// Its values: the process that becomes valgrind, and the one that is counted.
const BEFORE: &str = "before";
const WITHIN: &str = "within";
