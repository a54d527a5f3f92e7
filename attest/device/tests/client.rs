//! The client of the device process against a device process that misbehaves.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use blindferry_attest::tpm::PcrSelection;
use blindferry_device::client::{DEADLINE, Device, DeviceError, WAITING_LIMIT};
use blindferry_device::protocol::{DeviceRefusal, Numbered, REPLY_LIMIT, REQUEST_LIMIT, Reply, Request};
use blindferry_handle::packet::PacketSocket;
use blindferry_handle::secret::SharedSecret;
use std::os::fd::AsFd;

/// The other end, driven by hand.
struct Script(PacketSocket);

impl Script {
    fn start() -> (Device, Self) {
        let (ours, theirs) = PacketSocket::pair().unwrap();
        (Device::new(ours).unwrap(), Self(theirs))
    }

    fn request(&self) -> Numbered<Request> {
        Numbered::decode(&self.0.receive().unwrap().bytes, REQUEST_LIMIT).unwrap()
    }

    fn reply(&self, number: u64, message: Reply) {
        self.0.send(&Numbered { number, message }.encode(REPLY_LIMIT).unwrap(), &[]).unwrap();
    }
}

#[tokio::test]
async fn a_refusal_reaches_the_caller_with_its_code() {
    let (device, script) = Script::start();
    script.reply(1, Reply::Refused(DeviceRefusal::Lockout));
    let error = device.describe().await.unwrap_err();
    assert_eq!(error.code(), "tpm-lockout");
}

#[tokio::test]
async fn more_than_the_limit_waiting_is_busy_at_once() {
    let (device, script) = Script::start();
    let asking: Vec<_> = (0..=WAITING_LIMIT)
        .map(|_| {
            let device = device.clone();
            tokio::spawn(async move { device.counter_read().await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(matches!(device.counter_read().await, Err(DeviceError::Busy)));
    for number in 1..=asking.len() as u64 {
        script.reply(number, Reply::Counter(number));
    }
    for asked in asking {
        asked.await.unwrap().unwrap();
    }
    script.reply(WAITING_LIMIT as u64 + 2, Reply::Counter(0));
    assert_eq!(device.counter_read().await.unwrap(), 0, "the places are free again");
}

#[tokio::test(start_paused = true)]
async fn a_stalled_tpm_is_an_error_and_its_late_reply_answers_nobody() {
    let (device, script) = Script::start();
    assert!(matches!(device.counter_increment().await, Err(DeviceError::Stalled { after: DEADLINE })));
    // Nothing more is sent to a device process that has not answered yet.
    assert!(matches!(device.counter_read().await, Err(DeviceError::Stalled { .. })));
    assert_eq!(script.request().number, 1);
    script.0.set_nonblocking(true).unwrap();
    assert!(script.0.receive().unwrap_err().is_would_block());

    tokio::time::resume();
    script.reply(1, Reply::Counter(7));
    script.reply(2, Reply::Counter(8));
    assert_eq!(device.counter_read().await.unwrap(), 8);
}

#[tokio::test]
async fn a_dropped_request_does_not_leave_its_reply_to_the_next() {
    let (device, script) = Script::start();
    let asked = tokio::time::timeout(Duration::from_millis(20), device.counter_read()).await;
    assert!(asked.is_err());
    script.reply(1, Reply::Counter(1));
    script.reply(2, Reply::Counter(2));
    assert_eq!(device.counter_read().await.unwrap(), 2);
}

#[tokio::test]
async fn a_reply_to_another_number_or_of_another_kind_is_not_believed() {
    let (device, script) = Script::start();
    script.reply(1, Reply::Secret);
    assert!(matches!(device.counter_read().await, Err(DeviceError::Unexpected { .. })));
    script.reply(9, Reply::Counter(1));
    assert!(matches!(device.counter_read().await, Err(DeviceError::Unexpected { .. })));
    assert!(matches!(device.counter_read().await, Err(DeviceError::Ended)), "out of step for good");
}

#[tokio::test]
async fn pcr_values_that_were_not_asked_for_are_not_believed() {
    let (device, script) = Script::start();
    for (number, values) in [(1, vec![(0, [0; 32])]), (2, vec![(4, [0; 32]), (7, [0; 32])]), (3, vec![])] {
        script.reply(number, Reply::Pcrs(values));
        let selection = PcrSelection::new([4]).unwrap();
        assert!(matches!(device.pcrs(&selection).await, Err(DeviceError::Unexpected { .. })));
    }
}

#[tokio::test]
async fn a_secret_without_its_memory_or_in_other_memory_is_not_taken() {
    let (device, script) = Script::start();
    script.reply(1, Reply::Secret);
    assert!(matches!(device.activate(&[1], &[1]).await, Err(DeviceError::Unexpected { .. })));
    let bytes = Numbered { number: 2, message: Reply::Secret }.encode(REPLY_LIMIT).unwrap();
    let (pipe, _writer) = std::io::pipe().unwrap();
    script.0.send(&bytes, &[pipe.as_fd()]).unwrap();
    assert!(matches!(device.activate(&[1], &[1]).await, Err(DeviceError::Adopt { .. })));
    let secret = SharedSecret::create(32, |slot| {
        slot.fill(5);
        Ok::<(), std::convert::Infallible>(())
    })
    .unwrap();
    let bytes = Numbered { number: 3, message: Reply::Secret }.encode(REPLY_LIMIT).unwrap();
    script.0.send(&bytes, &[secret.as_fd()]).unwrap();
    assert!(device.activate(&[1], &[1]).await.unwrap().ct_eq(&[5; 32]));
}

#[tokio::test]
async fn a_device_process_that_is_gone_or_babbles_is_ended() {
    let (device, script) = Script::start();
    drop(script);
    assert!(matches!(device.describe().await, Err(DeviceError::Ended)));
    let (device, script) = Script::start();
    script.0.send(&[0xff; 10], &[]).unwrap();
    assert!(matches!(device.describe().await, Err(DeviceError::Protocol { .. })));
    assert!(matches!(device.describe().await, Err(DeviceError::Ended)));
}
