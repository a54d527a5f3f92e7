//! What does a spent grant cost the vault in memory, until its time is over?

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use blindferry_bench::kept;
use blindferry_proto::bounded::{Bytes, Text};
use blindferry_proto::identifier::{GrantId, LeaseId, ReplicaId, RequestId, WorkerKey};
use blindferry_proto::session::{Parcelled, ProcessFacts, WorkerConstraint};
use blindferry_vault::grant::{GrantBody, GrantKeys};
use blindferry_vault::ledger::{Claim, Ledger, Turn};
use ring::rand::SystemRandom;

const GRANTS: u128 = 20_000;
const EXPIRES: u64 = 100;
const REQUEST: RequestId = RequestId([2; 16]);
const LEASE: LeaseId = LeaseId([3; 16]);

struct Issuer {
    keys: GrantKeys,
    ledger: Ledger,
    issued: u128,
}

impl Issuer {
    fn redeems(&mut self) -> GrantId {
        self.issued += 1;
        let (random, id) = (SystemRandom::new(), GrantId(self.issued.to_be_bytes()));
        let body = GrantBody {
            id,
            credential: "api".parse().unwrap(),
            host: "worker-1".parse().unwrap(),
            audience: None,
            worker: WorkerConstraint::default(),
            parent: ProcessFacts { uid: 0, gid: 0, pid: 0, executable: None, protection: None },
            expires: EXPIRES,
            approval: None,
        };
        let sealed = self.keys.seal(&body, 0, &random).unwrap();
        let opened = self.keys.open(&sealed, &body.host, 0).unwrap();
        let claim = Claim { worker_key: WorkerKey([1; 32]), request: REQUEST };
        let Turn::Mint(ticket) = self.ledger.redeem(opened, claim, 0).unwrap() else { panic!("redeemed before") };
        let parcel = Bytes::new(vec![0; 300]).unwrap();
        let (token_type, lease_idle) = (Text::cut("Bearer"), 60);
        self.ledger.fulfil(*ticket, Parcelled { lease: LEASE, parcel, expires: EXPIRES, lease_idle, token_type });
        id
    }

    fn crosses(&mut self) {
        let id = self.redeems();
        assert!(self.ledger.acknowledge(id, REQUEST, LEASE));
    }
}

// One test, since allocations of others in this process would count.
#[test]
fn a_spent_grant_costs_a_few_bytes_and_nothing_after_its_time() {
    let random = SystemRandom::new();
    let keys = GrantKeys::new(ReplicaId([1; 8]), 0, &random).unwrap();
    let mut issuer = Issuer { keys, ledger: Ledger::new(&random).unwrap(), issued: 0 };
    issuer.crosses();
    let spent = kept(|| (0..GRANTS).for_each(|_| issuer.crosses()));
    let each = spent / usize::try_from(GRANTS).unwrap();
    println!("{spent} bytes for {GRANTS} spent grants");
    assert!(each < 12, "{each} bytes for a spent grant");

    let waiting = kept(|| {
        for _ in 0..100 {
            let _waits = issuer.redeems();
        }
    });
    assert!(waiting > 100 * 300, "a parcel that may be asked for again is kept: {waiting} bytes");

    issuer.ledger.forget(EXPIRES);
    assert!(issuer.ledger.is_empty());
    // Again as much: what was given back is what it takes.
    let again = kept(|| (0..GRANTS / 2).for_each(|_| issuer.crosses()));
    assert!(again < spent, "{again} bytes");
}
