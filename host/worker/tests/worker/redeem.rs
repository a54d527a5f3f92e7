//! Does a worker get its token, exactly once, and only from a parcel that is its own?

use crate::fake_broker::{Answers, FakeBroker, LEASE, Seen, TOKEN_LIFE, honest, parcelled};
use crate::fake_vault::{FakeVault, header};
use blindferry_handle::memfd::Handle;
use blindferry_handle::packet::PacketError;
use blindferry_handle::packet::PacketSocket;
use blindferry_proto::identifier::{Digest, GrantId, LeaseId, ParcelKey, RequestId, WorkerKey};
use blindferry_proto::local::encode;
use blindferry_proto::local::{WorkerReply, WorkerRequest};
use blindferry_proto::parcel::BadParcel;
use blindferry_proto::parcel::Parcel;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::session::LeaseEnd;
use blindferry_worker::{Leased, OpenError, Token, Worker, WorkerError, receive};
use std::os::fd::AsFd;
use std::time::Duration;

pub(crate) const TOKEN: &[u8] = b"a token that nobody else may read";
/// For what comes within milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_grant_is_redeemed_for_the_token_and_acknowledged() {
    let broker = FakeBroker::start("redeemed", honest(TOKEN));
    let leased = redeem(&broker).unwrap();
    assert!(is(leased.token(), TOKEN));
    assert_eq!(leased.token().len(), TOKEN.len());
    assert_eq!(leased.token().token_type(), "Bearer");
    assert!(leased.token().renew_after().abs_diff(Duration::from_secs(TOKEN_LIFE * 4 / 5)) < Duration::from_secs(5));
    assert_eq!(leased.lease(), LEASE);
    // Answered, so everything before it was seen.
    leased.end().unwrap();
    let seen = broker.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].grant.as_deref(), Some(&b"opaque grant"[..]));
    let WorkerRequest::Redeem { request, executable, .. } = seen[0].request else { panic!("{seen:?}") };
    assert_eq!(executable, None);
    assert_eq!(seen[1].request, WorkerRequest::Acknowledge { lease: LEASE, request });
}

#[test]
fn a_launchers_measurement_goes_along() {
    let broker = FakeBroker::start("measured", honest(TOKEN));
    let worker = Worker::connect(&broker.path()).unwrap().about_to_execute(Digest([9; 32]));
    worker.redeem(grant()).unwrap();
    assert!(matches!(
        broker.seen()[0].request,
        WorkerRequest::Redeem { executable: Some(digest), .. } if digest == Digest([9; 32])
    ));
}

#[test]
fn two_workers_have_two_keys_and_two_request_ids() {
    let broker = FakeBroker::start("two", honest(TOKEN));
    redeem(&broker).unwrap();
    redeem(&broker).unwrap();
    let asked: Vec<_> = redemptions(&broker);
    assert_ne!(asked[0].0, asked[1].0);
    assert_ne!(asked[0].1, asked[1].1);
}

#[test]
fn a_lost_reply_is_asked_for_again_with_the_same_request_and_key() {
    let mut vault = honest(TOKEN);
    let mut lost = 0;
    let broker = FakeBroker::start("lost", move |seen| {
        let step = vault(seen); // the vault has minted, and only then the reply is lost
        if matches!(seen.request, WorkerRequest::Redeem { .. }) && lost < 2 {
            lost += 1;
            return Vec::new();
        }
        step
    });
    let leased = redeem(&broker).unwrap();
    assert!(is(leased.token(), TOKEN));
    leased.end().unwrap();
    let asked = redemptions(&broker);
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|asked| *asked == asked_first(&broker)));
    let connections: Vec<_> = broker.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 1, 2, 2, 2], "each attempt on a fresh connection");
    assert!(broker.seen().iter().take(3).all(|seen| seen.grant.as_deref() == Some(&b"opaque grant"[..])));
}

#[test]
fn a_broker_that_always_hangs_up_is_given_up_after_five_attempts() {
    let broker = FakeBroker::start("always-lost", |_: &Seen| Vec::new());
    assert!(matches!(redeem(&broker), Err(WorkerError::Lost { .. })));
    assert_eq!(redemptions(&broker).len(), 5);
}

#[test]
fn a_passing_refusal_is_tried_again_and_a_lasting_one_is_not() {
    let mut vault = honest(TOKEN);
    let mut busy = 2;
    let broker = FakeBroker::start("busy", move |seen: &Seen| {
        if busy > 0 {
            busy -= 1;
            return vec![(WorkerReply::Refused(RefusalCode::Busy.into()), None)];
        }
        vault(seen)
    });
    assert!(redeem(&broker).is_ok());
    assert_eq!(redemptions(&broker).len(), 3);

    let spent = Refusal::new(RefusalCode::GrantSpent, "redeemed by another worker");
    let answer = spent.clone();
    let broker = FakeBroker::start("spent", move |_: &Seen| vec![(WorkerReply::Refused(answer.clone()), None)]);
    assert!(matches!(redeem(&broker), Err(WorkerError::Refused(refusal)) if refusal == spent));
    assert_eq!(redemptions(&broker).len(), 1);
}

#[test]
fn a_parcel_for_another_request_is_refused() {
    let error = refused("request", spoiling(|parcel| parcel.header.request = RequestId([1; 16])));
    assert!(matches!(error, OpenError::OtherRequest { theirs } if theirs == RequestId([1; 16])));
}

#[test]
fn a_parcel_for_another_key_is_refused() {
    let error = refused("key", spoiling(|parcel| parcel.header.worker = WorkerKey([1; 32])));
    assert!(matches!(error, OpenError::OtherKey { theirs } if theirs == WorkerKey([1; 32])));
}

#[test]
fn a_parcel_for_another_user_is_refused() {
    let error = refused("uid", spoiling(|parcel| parcel.header.uid += 1));
    assert!(matches!(error, OpenError::OtherUser { theirs, ours } if theirs == ours + 1));
}

#[test]
fn a_parcel_with_changed_associated_data_is_not_authentic() {
    assert!(matches!(refused("epoch", spoiling(|parcel| parcel.header.policy_epoch += 1)), OpenError::NotAuthentic));
    assert!(matches!(refused("grant", spoiling(|parcel| parcel.header.grant.0[0] ^= 1)), OpenError::NotAuthentic));
}

#[test]
fn a_parcel_with_changed_ciphertext_tag_or_encapsulated_key_is_not_authentic() {
    assert!(matches!(refused("text", spoiling(|parcel| parcel.ciphertext[0] ^= 1)), OpenError::NotAuthentic));
    let tag = spoiling(|parcel| *parcel.ciphertext.last_mut().unwrap() ^= 1);
    assert!(matches!(refused("tag", tag), OpenError::NotAuthentic));
    assert!(matches!(refused("enc", spoiling(|parcel| parcel.encapsulated[0] ^= 1)), OpenError::NotAuthentic));
}

#[test]
fn an_encapsulated_key_of_low_order_is_refused() {
    let error = refused("low-order", spoiling(|parcel| parcel.encapsulated = [0; 32]));
    assert!(matches!(error, OpenError::Keys(_)));
}

#[test]
fn a_parcel_that_another_key_made_is_not_authentic() {
    let (vault, other) = (FakeVault::new(), FakeVault::new());
    let error = refused("sender", move |seen: &Seen| {
        let WorkerRequest::Redeem { request, key, .. } = seen.request else { panic!() };
        parcelled(&vault, &other.seal(header(request, key, seen.uid), b"token").to_bytes())
    });
    assert!(matches!(error, OpenError::NotAuthentic));
}

#[test]
fn a_worker_that_was_told_the_vaults_key_takes_no_other() {
    let broker = FakeBroker::start("pinned", honest(TOKEN));
    let worker = Worker::connect(&broker.path()).unwrap().expect_sender(ParcelKey([1; 32]));
    let error = worker.redeem(grant()).unwrap_err();
    assert!(matches!(error, WorkerError::Open { source: OpenError::OtherSender { .. } }));
}

#[test]
fn a_cut_parcel_and_an_empty_token_are_refused() {
    let error = refused("cut", spoiling(|parcel| parcel.ciphertext.truncate(15)));
    assert!(matches!(error, OpenError::Malformed(BadParcel::TooShort)));
    let error = refused("empty", spoiling(|parcel| parcel.ciphertext.truncate(16)));
    assert!(matches!(error, OpenError::TokenLength { length: 0 }));
}

#[test]
fn a_parcel_without_its_handle_is_refused() {
    let mut vault = honest(TOKEN);
    let broker = FakeBroker::start("no-handle", move |seen: &Seen| {
        vault(seen).into_iter().map(|(reply, _)| (reply, None)).collect()
    });
    assert!(matches!(redeem(&broker), Err(WorkerError::Descriptors { count: 0 })));
}

#[test]
fn an_answer_to_another_question_is_refused() {
    let broker = FakeBroker::start("done", |_: &Seen| vec![(WorkerReply::Done, None)]);
    assert!(matches!(redeem(&broker), Err(WorkerError::Unexpected { .. })));
}

#[test]
fn a_lease_renews_and_takes_nothing_from_another_grant_or_lease() {
    let vault = FakeVault::new();
    let mut leased_to = None;
    let mut renewals = 0;
    let broker = FakeBroker::start("renew", move |seen: &Seen| match seen.request {
        WorkerRequest::Redeem { request, key, .. } => {
            leased_to = Some(key);
            parcelled(&vault, &vault.seal(header(request, key, seen.uid), b"first").to_bytes())
        }
        WorkerRequest::Renew { lease, request } => {
            assert_eq!(lease, LEASE);
            renewals += 1;
            let mut head = header(request, leased_to.unwrap(), seen.uid);
            if renewals == 2 {
                head.grant = GrantId([8; 16]);
            }
            let mut answers = parcelled(&vault, &vault.seal(head, b"second").to_bytes());
            if renewals == 3
                && let WorkerReply::Parcelled { lease, .. } = &mut answers[0].0
            {
                *lease = LeaseId([6; 16]);
            }
            answers
        }
        _ => vec![(WorkerReply::Done, None)],
    });
    let mut leased = redeem(&broker).unwrap();
    assert!(is(leased.token(), b"first"));
    assert!(is(leased.fresh().unwrap(), b"first"), "it is not due yet");
    assert!(is(leased.renew().unwrap(), b"second"));
    let error = leased.renew().err().unwrap();
    assert!(matches!(error, WorkerError::Open { source: OpenError::OtherGrant { .. } }), "{error:?}");
    assert!(matches!(leased.renew(), Err(WorkerError::Unexpected { .. })));
    assert!(is(leased.token(), b"second"), "a failed renewal leaves the token in place");
}

#[test]
fn a_lease_outlives_a_broker_that_is_started_again() {
    let mut vault = honest(TOKEN);
    let broker = FakeBroker::start("restarted", move |seen: &Seen| match seen.request {
        WorkerRequest::Acknowledge { .. } if seen.connection == 0 => Vec::new(),
        _ => vault(seen),
    });
    let mut leased = redeem(&broker).unwrap();
    assert!(matches!(leased.wait_lease_end(Some(PATIENCE)), Err(WorkerError::Lost { .. })));
    assert!(is(leased.renew().unwrap(), TOKEN));
    assert_eq!(broker.seen().last().unwrap().connection, 1);
}

#[test]
fn a_renewal_from_another_vault_key_is_refused() {
    let (first, second) = (FakeVault::new(), FakeVault::new());
    let mut leased_to = None;
    let broker = FakeBroker::start("other-vault", move |seen: &Seen| match seen.request {
        WorkerRequest::Redeem { request, key, .. } => {
            leased_to = Some(key);
            parcelled(&first, &first.seal(header(request, key, seen.uid), b"first").to_bytes())
        }
        WorkerRequest::Renew { request, .. } => {
            let head = header(request, leased_to.unwrap(), seen.uid);
            parcelled(&second, &second.seal(head, b"second").to_bytes())
        }
        _ => vec![(WorkerReply::Done, None)],
    });
    let error = redeem(&broker).unwrap().renew().err().unwrap();
    assert!(matches!(error, WorkerError::Open { source: OpenError::OtherSender { .. } }));
}

#[test]
fn the_end_of_a_lease_is_heard_also_in_the_middle_of_an_answer() {
    let ended = WorkerReply::LeaseEnded { lease: LEASE, why: LeaseEnd::HostRefused };
    let other = WorkerReply::LeaseEnded { lease: LeaseId([6; 16]), why: LeaseEnd::Idle };
    let mut vault = honest(TOKEN);
    let push = ended.clone();
    let broker = FakeBroker::start("pushed", move |seen: &Seen| match seen.request {
        WorkerRequest::Acknowledge { .. } => [(push.clone(), None)].into_iter().chain(vault(seen)).collect(),
        _ => vault(seen),
    });
    let mut leased = redeem(&broker).unwrap();
    assert_eq!(leased.wait_lease_end(Some(PATIENCE)).unwrap(), Some(LeaseEnd::HostRefused));
    assert!(matches!(leased.renew(), Err(WorkerError::LeaseOver { why: LeaseEnd::HostRefused })));

    let broker = FakeBroker::start("pushed-later", honest(TOKEN));
    let mut leased = redeem(&broker).unwrap();
    assert_eq!(leased.lease_end().unwrap(), None);
    push_to_all(&broker, &other).unwrap();
    assert_eq!(leased.wait_lease_end(Some(Duration::from_millis(100))).unwrap(), None, "another lease's end");
    push_to_all(&broker, &ended).unwrap();
    assert_eq!(leased.wait_lease_end(None).unwrap(), Some(LeaseEnd::HostRefused));
}

#[test]
fn a_lease_is_given_back() {
    let broker = FakeBroker::start("returned", honest(TOKEN));
    redeem(&broker).unwrap().end().unwrap();
    assert_eq!(broker.seen().last().unwrap().request, WorkerRequest::End { lease: LEASE });
}

#[test]
fn a_connection_that_was_opened_for_the_worker_serves_but_is_not_made_again() {
    let broker = FakeBroker::start("inherited", honest(TOKEN));
    let connection = PacketSocket::connect(&broker.path()).unwrap();
    let worker = Worker::from_connection(connection.into_fd()).unwrap();
    assert!(is(worker.redeem(grant()).unwrap().token(), TOKEN));

    let broker = FakeBroker::start("inherited-lost", |_: &Seen| Vec::new());
    let connection = PacketSocket::connect(&broker.path()).unwrap();
    let worker = Worker::from_connection(connection.into_fd()).unwrap();
    assert!(matches!(worker.redeem(grant()), Err(WorkerError::Lost { .. })));
    assert_eq!(redemptions(&broker).len(), 1);
}

#[test]
fn a_grant_arrives_over_a_socket_as_exactly_one_handle() {
    let (ours, theirs) = PacketSocket::pair().unwrap();
    theirs.send(b"grant", &[grant().as_fd()]).unwrap();
    assert_eq!(receive::from_socket(&ours).unwrap().read().unwrap(), b"opaque grant");
    theirs.send(b"grant", &[]).unwrap();
    assert!(matches!(receive::from_socket(&ours), Err(WorkerError::Descriptors { count: 0 })));
    theirs.send(b"grant", &[theirs.as_fd()]).unwrap();
    assert!(matches!(receive::from_socket(&ours), Err(WorkerError::Handle { .. })));
    drop(theirs);
    assert!(matches!(receive::from_socket(&ours), Err(WorkerError::Lost { .. })));
}

#[test]
fn nothing_that_a_worker_prints_holds_the_token() {
    let broker = FakeBroker::start("mute", honest(TOKEN));
    let leased = redeem(&broker).unwrap();
    let printed = format!("{leased:?} {leased:#?}");
    assert!(printed.contains("Leased") && !printed.contains("token"));
}

fn grant() -> Handle {
    Handle::seal("grant", b"opaque grant").unwrap()
}

pub(crate) fn redeem(broker: &FakeBroker) -> Result<Leased, WorkerError> {
    Worker::connect(&broker.path())?.redeem(grant())
}

fn refused(name: &str, script: impl FnMut(&Seen) -> Answers + Send + 'static) -> OpenError {
    let broker = FakeBroker::start(name, script);
    match redeem(&broker) {
        Err(WorkerError::Open { source }) => source,
        other => panic!("not refused by the opening: {other:?}"),
    }
}

/// A broker whose vault makes a good parcel that is then changed by `spoil`.
fn spoiling(spoil: impl Fn(&mut Parcel) + Send + 'static) -> impl FnMut(&Seen) -> Answers + Send + 'static {
    let vault = FakeVault::new();
    move |seen| {
        let WorkerRequest::Redeem { request, key, .. } = seen.request else {
            return vec![(WorkerReply::Done, None)];
        };
        let mut parcel = vault.seal(header(request, key, seen.uid), b"token");
        spoil(&mut parcel);
        parcelled(&vault, &parcel.to_bytes())
    }
}

fn push_to_all(broker: &FakeBroker, push: &WorkerReply) -> Result<(), PacketError> {
    broker.connections().iter().try_for_each(|connection| connection.send(&encode(push).unwrap(), &[]))
}

fn redemptions(broker: &FakeBroker) -> Vec<(RequestId, WorkerKey)> {
    let asked = broker.seen().into_iter().filter_map(|seen| match seen.request {
        WorkerRequest::Redeem { request, key, .. } => Some((request, key)),
        _ => None,
    });
    asked.collect()
}

fn asked_first(broker: &FakeBroker) -> (RequestId, WorkerKey) {
    redemptions(broker)[0]
}

#[expect(clippy::disallowed_methods, reason = "compared with the token of the test")]
pub(crate) fn is(token: &Token, expected: &[u8]) -> bool {
    token.expose(|bytes| bytes == expected)
}
