//! Does a worker get to use a credential that its parent never held, and does the audit tell it as it was?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_proto::credential::Kind;
use blindferry_tests::fleet::Fleet;
use blindferry_tests::operator::settings;
use blindferry_tests::upstream::Upstream;
use blindferry_tests::worker::{ScriptedWorker, ask_for};

const MASTER: &str = "sk-live-7d2f9a4c1be8063551f0-crossing";

#[test]
fn a_released_master_reaches_the_upstream_through_the_worker_alone() {
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), MASTER.as_bytes());
    let upstream = Upstream::for_token(MASTER, fleet.directory());

    let grant = ask_for(&fleet, "api").unwrap();
    let mut worker = ScriptedWorker::start(&fleet, grant, upstream.address);
    let answer = worker.says();
    assert_eq!(answer["status"], 200, "{answer}");
    worker.finish();
}
