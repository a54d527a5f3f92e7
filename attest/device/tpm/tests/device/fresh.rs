//! After a request that touched a secret, no address space is left that saw it.

use std::future::Future;

use blindferry_device::client::DeviceError;

use crate::attestation::credential;
use crate::machine::{KEY, Machine, Operator, is_key, pins, provision};
use crate::recorder::Recorder;
use crate::scan::{address_space, memory_holds};
use crate::swtpm::{Swtpm, tcti};

const CC_UNSEAL: u32 = 0x15e;
const CC_CREATE: u32 = 0x153;
const CC_ACTIVATE: u32 = 0x147;

/// While the device process holds the key it is found, which shows that the search finds; afterwards it is not.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_in_the_device_process_during_a_request_and_not_after_it() {
    let Some((machine, recorder)) = recorded() else { return };
    let operator = Operator::new();
    let process = machine.process_id();

    let blob = watched(&machine, &recorder, CC_CREATE, machine.seal(&operator)).await;
    let approval = operator.approve(machine.values().await, 1);
    let unseal = machine.device.unseal(&blob, &operator.authority, &approval);
    assert!(is_key(&watched(&machine, &recorder, CC_UNSEAL, unseal).await.unwrap()));
    let described = machine.describe().await;
    let (wrapped, encrypted_secret) = credential(&machine.tpm, &described);
    let activate = machine.device.activate(&wrapped, &encrypted_secret);
    assert!(is_key(&watched(&machine, &recorder, CC_ACTIVATE, activate).await.unwrap()));
    assert_eq!(machine.process_id(), process);
}

/// Killed while it held the key and three slots, again and again: the next process finds a TPM that it can use.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_process_killed_in_the_middle_leaves_the_tpm_usable() {
    let Some((mut machine, recorder)) = recorded() else { return };
    let operator = Operator::new();
    let blob = machine.seal(&operator).await;
    let approval = operator.approve(machine.values().await, 1);
    for _ in 0..5 {
        recorder.hold_after(CC_UNSEAL);
        let unseal = machine.device.unseal(&blob, &operator.authority, &approval);
        let kill = async {
            tokio::task::block_in_place(|| recorder.wait_until_held());
            machine.kill();
            recorder.release();
        };
        let unseal = async {
            let outcome = unseal.await;
            assert!(matches!(outcome, Err(DeviceError::Ended)), "{:?}", outcome.err());
        };
        tokio::join!(unseal, kill);
        machine.restart(&tcti(recorder.port));
        // Also so that the next request is sent at once, before this task waits for the recorder.
        machine.values().await;
    }
    assert!(is_key(&machine.device.unseal(&blob, &operator.authority, &approval).await.unwrap()));
}

/// Holds the device process right after the TPM's answer to `code`, looks for the key, lets go, and looks again.
async fn watched<T>(machine: &Machine, recorder: &Recorder, code: u32, request: impl Future<Output = T>) -> T {
    let process = machine.process_id();
    machine.values().await;
    let before = address_space(process);
    recorder.hold_after(code);
    let look = async {
        tokio::task::block_in_place(|| recorder.wait_until_held());
        let held = memory_holds(process, &KEY);
        recorder.release();
        held
    };
    let (answer, held) = tokio::join!(request, look);
    if held.is_none() {
        println!("the memory of the device process cannot be read: run as root to see the search find");
    }
    assert_ne!(held, Some(false), "the search does not find what is there: it shows nothing");
    // The next answer comes from the new address space.
    machine.values().await;
    let after = memory_holds(process, &KEY);
    assert_ne!(after, Some(true), "command {code:#x} left the key behind");
    assert_eq!(held.is_some(), after.is_some());
    assert!(before.is_none() || before != address_space(process), "the address space is the same");
    answer
}

fn recorded() -> Option<(Machine, Recorder)> {
    let tpm = Swtpm::start()?;
    let recorder = Recorder::before(tpm.port);
    let (tcti, pins) = (tcti(recorder.port), pins(&tpm));
    assert!(provision(&tcti, &pins, &[]).status.success());
    Some((Machine::with(tpm, &tcti, &pins), recorder))
}
