//! Does an acknowledgement cost nobody time, or an answer that was meant for something else?

use crate::fake_broker::{FakeBroker, Seen, honest};
use crate::redeem::{PATIENCE, TOKEN, is, redeem};
use blindferry_proto::local::{WorkerReply, WorkerRequest};
use blindferry_proto::refusal::RefusalCode;
use std::sync::mpsc;

#[test]
fn a_lost_acknowledgement_does_not_cost_the_token() {
    let mut vault = honest(TOKEN);
    let broker = FakeBroker::start("unacknowledged", move |seen: &Seen| match seen.request {
        WorkerRequest::Acknowledge { .. } => Vec::new(),
        _ => vault(seen),
    });
    assert!(is(redeem(&broker).unwrap().token(), TOKEN));
}

#[test]
fn nobody_waits_for_the_answer_to_an_acknowledgement_nor_takes_it_for_another() {
    let mut vault = honest(TOKEN);
    let (redeemed, is_redeemed) = mpsc::channel();
    let broker = FakeBroker::start("acknowledged-late", move |seen: &Seen| match seen.request {
        // Whoever waited for this would have no token yet.
        WorkerRequest::Acknowledge { .. } => {
            is_redeemed.recv_timeout(PATIENCE).unwrap();
            vec![(WorkerReply::Refused(RefusalCode::Unknown.into()), None)]
        }
        _ => vault(seen),
    });
    let mut leased = redeem(&broker).unwrap();
    assert!(is(leased.token(), TOKEN));
    redeemed.send(()).unwrap();
    redeemed.send(()).unwrap(); // for the acknowledgement of what follows
    assert!(is(leased.renew().unwrap(), TOKEN));
    leased.end().unwrap();
    let asked: Vec<_> = broker.seen().into_iter().map(|seen| (seen.connection, seen.request)).collect();
    assert!(asked.iter().all(|(connection, _)| *connection == 0), "{asked:?}");
    assert_eq!(asked.len(), 5, "{asked:?}");
}
