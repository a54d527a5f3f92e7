//! Does each call get its own answer, and an end in any case?

use crate::ends::{World, answer, number, request};
use blindferry_proto::identifier::LeaseId;
use blindferry_proto::limits::MAX_FRAME;
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::session::{Answer, Call, FromVault, LeaseEnd};
use blindferry_session::channel::{ChannelError, Reader, Writer};
use blindferry_session::client::{CALL_TIME, CALLS, CallError, Established, PUSHES, SessionOver};
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

#[tokio::test]
async fn answers_find_their_calls_in_any_order() {
    let world = World::new();
    let (Established { caller, driver, mut pushes, .. }, mut standing) = world.session().await;
    let driver = tokio::spawn(driver.run());
    let mut calls = JoinSet::new();
    for number in 0..200 {
        let caller = caller.clone();
        calls.spawn(async move { (number, caller.call(request(number)).await) });
    }
    let mut asked = Vec::new();
    for _ in 0..200 {
        asked.push(take(&mut standing.reader).await);
    }
    // Evens backwards, then odds; a push after each.
    let (evens, odds): (Vec<_>, Vec<_>) = asked.into_iter().partition(|call| call.id % 2 == 0);
    for call in evens.into_iter().rev().chain(odds) {
        let number = number(&call.request);
        say(&mut standing.writer, FromVault::Answer { id: call.id, answer: answer(number) }).await;
        say(&mut standing.writer, ended(number)).await;
    }
    while let Some(call) = calls.join_next().await {
        let (number, answered) = call.unwrap();
        assert_eq!(answered.unwrap(), answer(number));
    }
    let mut leases = Vec::new();
    for _ in 0..200 {
        leases.push(pushes.next().await.unwrap().0.0[0]);
    }
    leases.sort_unstable();
    assert_eq!(leases, (0..200).collect::<Vec<_>>());
    standing.writer.close().await;
    assert!(matches!(driver.await.unwrap(), SessionOver::Closed));
    assert!(pushes.next().await.is_none());
}

#[tokio::test]
async fn pushes_arrive_in_the_order_they_were_sent() {
    let world = World::new();
    let (Established { caller: _caller, driver, mut pushes, .. }, mut standing) = world.session().await;
    for number in 0..100 {
        say(&mut standing.writer, ended(number)).await;
    }
    let driver = tokio::spawn(driver.run());
    for number in 0..100 {
        assert_eq!(pushes.next().await, Some((LeaseId([number; _]), LeaseEnd::Idle)));
    }
    driver.abort();
}

#[tokio::test]
async fn a_refusal_is_the_answer_of_its_own_call_alone() {
    let world = World::new();
    let (Established { caller, driver, .. }, mut standing) = world.session().await;
    let driver = tokio::spawn(driver.run());
    let vault = async {
        let (first, second) = (take(&mut standing.reader).await, take(&mut standing.reader).await);
        let no = Answer::Refused(RefusalCode::Denied.into());
        say(&mut standing.writer, FromVault::Answer { id: second.id, answer: answer(2) }).await;
        say(&mut standing.writer, FromVault::Answer { id: first.id, answer: no }).await;
    };
    let (denied, granted, ()) = tokio::join!(biased; caller.call(request(1)), caller.call(request(2)), vault);
    assert!(matches!(denied.unwrap_err(), CallError::Refused(refusal) if refusal.code == RefusalCode::Denied));
    assert_eq!(granted.unwrap(), answer(2));
    driver.abort();
}

#[tokio::test(start_paused = true)]
async fn calls_over_the_bound_are_busy_until_the_late_ones_are_given_up() {
    let world = World::new();
    let (Established { caller, driver, .. }, mut standing) = world.session().await;
    let driver = tokio::spawn(driver.run());
    // Twice over: a bound that late calls use up for good would be used up by then.
    for _ in 0..2 {
        let mut calls = JoinSet::new();
        for _ in 0..CALLS {
            let caller = caller.clone();
            calls.spawn(async move { caller.call(request(1)).await });
        }
        let mut unanswered = Vec::new();
        for _ in 0..CALLS {
            unanswered.push(take(&mut standing.reader).await.id);
        }
        assert!(matches!(caller.call(request(2)).await.unwrap_err(), CallError::Busy));
        sleep(CALL_TIME).await;
        while let Some(call) = calls.join_next().await {
            assert!(matches!(call.unwrap().unwrap_err(), CallError::Late));
        }
        // Answers that come after all disturb nobody.
        for id in unanswered {
            say(&mut standing.writer, FromVault::Answer { id, answer: answer(1) }).await;
        }
    }
    let vault = async {
        let Call { id, request } = take(&mut standing.reader).await;
        say(&mut standing.writer, FromVault::Answer { id, answer: answer(number(&request)) }).await;
    };
    let (answered, ()) = tokio::join!(caller.call(request(3)), vault);
    assert_eq!(answered.unwrap(), answer(3));
    driver.abort();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_makes_room_for_another() {
    let world = World::new();
    let (Established { caller, driver, .. }, mut standing) = world.session().await;
    let driver = tokio::spawn(driver.run());
    for _ in 0..CALLS * 2 {
        // The task that asked is gone, as when a worker hangs up.
        timeout(Duration::from_millis(1), caller.call(request(1))).await.unwrap_err();
        take(&mut standing.reader).await;
    }
    driver.abort();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_given_up_before_it_was_sent_is_never_sent() {
    let world = World::new();
    let (Established { caller, driver, .. }, mut standing) = world.session().await;
    timeout(Duration::from_millis(1), caller.call(request(1))).await.unwrap_err();
    let driver = tokio::spawn(driver.run());
    let vault = async { number(&take(&mut standing.reader).await.request) };
    let (first, _unanswered) = tokio::join!(vault, timeout(Duration::from_millis(1), caller.call(request(2))));
    assert_eq!(first, 2);
    driver.abort();
}

#[tokio::test]
async fn calls_end_with_the_session() {
    let world = World::new();
    let (Established { caller, driver, .. }, mut standing) = world.session().await;
    let driver = tokio::spawn(driver.run());
    let vault = async {
        take(&mut standing.reader).await;
        standing.writer.close().await;
    };
    let (call, ()) = tokio::join!(caller.call(request(1)), vault);
    assert!(matches!(call.unwrap_err(), CallError::Over));
    assert!(matches!(driver.await.unwrap(), SessionOver::Closed));
    assert!(matches!(caller.call(request(2)).await.unwrap_err(), CallError::Over));
}

#[tokio::test]
async fn calls_end_when_the_driver_is_dropped() {
    let world = World::new();
    let (Established { caller, driver, .. }, mut standing) = world.session().await;
    let driver = tokio::spawn(driver.run());
    let drops = async {
        take(&mut standing.reader).await;
        driver.abort();
    };
    let (call, ()) = tokio::join!(caller.call(request(1)), drops);
    assert!(matches!(call.unwrap_err(), CallError::Over));

    let (Established { caller, driver, .. }, _standing) = world.session().await;
    drop(driver);
    assert!(matches!(caller.call(request(2)).await.unwrap_err(), CallError::Over));
}

#[tokio::test]
async fn a_session_ends_when_nobody_can_call_any_more() {
    let world = World::new();
    let (Established { caller, driver, .. }, mut standing) = world.session().await;
    drop(caller);
    assert!(matches!(driver.run().await, SessionOver::Ended));
    assert!(matches!(standing.reader.receive::<Call>(MAX_FRAME).await.unwrap_err(), ChannelError::Closed));
}

#[tokio::test]
async fn pushes_that_nobody_takes_end_the_session_before_one_is_lost() {
    let world = World::new();
    let (Established { caller: _caller, driver, mut pushes, .. }, mut standing) = world.session().await;
    let vault = async {
        for number in 0..=PUSHES {
            say(&mut standing.writer, ended(u8::try_from(number % 256).unwrap())).await;
        }
    };
    let (over, ()) = tokio::join!(driver.run(), vault);
    assert!(matches!(over, SessionOver::Pressed));
    for _ in 0..PUSHES {
        assert!(pushes.next().await.is_some());
    }
    assert!(pushes.next().await.is_none());
}

async fn take(reader: &mut Reader<DuplexStream>) -> Call {
    reader.receive(MAX_FRAME).await.unwrap()
}

async fn say(writer: &mut Writer<DuplexStream>, message: FromVault) {
    writer.send(&message, MAX_FRAME).await.unwrap();
}

fn ended(number: u8) -> FromVault {
    FromVault::LeaseEnded { lease: LeaseId([number; _]), why: LeaseEnd::Idle }
}
