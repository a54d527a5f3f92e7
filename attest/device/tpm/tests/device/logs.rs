//! Logs beside a quote: only those that were asked for, whole, and only where they may be given away.

use std::fs;
use std::path::PathBuf;

use blindferry_attest::evidence::{Evidence, MAX_EVENT_LOG, MAX_IMA_LOG, TpmEvidence};
use blindferry_device::client::{Device, DeviceError};
use blindferry_proto::logs::{LogPaths, WantedLogs};

use crate::machine::{Machine, refusal, selection, with_logs};

const BOTH: WantedLogs = WantedLogs { events: true, ima: true };

fn paths(machine: &Machine) -> LogPaths {
    let directory: PathBuf = machine.tpm.directory.join("logs");
    fs::create_dir_all(&directory).unwrap();
    LogPaths { events: directory.join("events"), ima: directory.join("ima") }
}

async fn quote(device: &Device, wanted: WantedLogs) -> Result<TpmEvidence, DeviceError> {
    let encoded = device.quote_with([9; 32], Some(&selection()), wanted).await?;
    match Evidence::decode(&encoded).unwrap() {
        Evidence::Tpm(evidence) => Ok(evidence),
        _ => panic!("another platform"),
    }
}

#[tokio::test]
async fn the_longest_logs_come_whole_beside_the_quote_and_none_comes_unasked() {
    let Some(machine) = Machine::start() else { return };
    let paths = paths(&machine);
    let (events, ima) = (vec![b'e'; MAX_EVENT_LOG], vec![b'i'; MAX_IMA_LOG]);
    fs::write(&paths.events, &events).unwrap();
    fs::write(&paths.ima, &ima).unwrap();
    let machine = with_logs(machine, paths);
    let both = quote(&machine.device, BOTH).await.unwrap();
    assert_eq!((both.event_log(), both.ima_log()), (Some(&events[..]), Some(&ima[..])));
    let one = quote(&machine.device, WantedLogs { events: true, ima: false }).await.unwrap();
    assert_eq!((one.event_log(), one.ima_log()), (Some(&events[..]), None));
    assert_eq!(quote(&machine.device, WantedLogs::NONE).await.unwrap().logs(), WantedLogs::NONE);
    assert_eq!(both.ak_public(), one.ak_public());
}

#[tokio::test]
async fn the_list_is_read_when_it_is_asked_for_and_so_has_what_was_measured_meanwhile() {
    let Some(machine) = Machine::start() else { return };
    let paths = paths(&machine);
    fs::write(&paths.events, "events").unwrap();
    fs::write(&paths.ima, "before").unwrap();
    let machine = with_logs(machine, paths.clone());
    assert_eq!(quote(&machine.device, BOTH).await.unwrap().ima_log(), Some(&b"before"[..]));
    // The same file, as securityfs has it: a confined process may open this one and no other in its place.
    fs::write(&paths.ima, "before and after").unwrap();
    assert_eq!(quote(&machine.device, BOTH).await.unwrap().ima_log(), Some(&b"before and after"[..]));
}

#[tokio::test]
async fn a_log_too_many_too_long_or_missing_is_a_refusal_and_the_next_quote_works() {
    let Some(machine) = Machine::start() else { return };
    assert_eq!(refusal(quote(&machine.device, BOTH).await).code(), "logs-not-given");
    let paths = paths(&machine);
    fs::write(&paths.events, vec![0; MAX_EVENT_LOG + 1]).unwrap();
    let machine = with_logs(machine, paths);
    assert_eq!(refusal(quote(&machine.device, BOTH).await).code(), "log-too-long");
    let ima = WantedLogs { events: false, ima: true };
    assert_eq!(refusal(quote(&machine.device, ima).await).code(), "log-unreadable");
    quote(&machine.device, WantedLogs::NONE).await.unwrap();
}
