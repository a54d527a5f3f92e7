//! What somebody hears who listens on the bus.

use crate::attestation::credential;
use crate::machine::{KEY, Machine, Operator, is_key, pins, provision, refusal, selection};
use crate::recorder::Recorder;
use crate::swtpm::{Swtpm, tcti, tool};

/// TPM_CC_Create, TPM_CC_Unseal, TPM_CC_ActivateCredential, TPM_CC_Quote.
const COMMANDS: [u32; 4] = [0x153, 0x15e, 0x147, 0x158];

#[tokio::test]
async fn neither_the_sealed_key_nor_the_activation_secret_is_ever_on_the_bus() {
    let Some(tpm) = Swtpm::start() else { return };
    let recorder = Recorder::before(tpm.port);
    let (tcti, pins) = (tcti(recorder.port), pins(&tpm));
    assert!(provision(&tcti, &pins, &[]).status.success());
    let machine = Machine::with(tpm, &tcti, &pins);
    let operator = Operator::new();

    let blob = machine.seal(&operator).await;
    let approval = operator.approve(machine.values().await, 1);
    assert!(is_key(&machine.device.unseal(&blob, &operator.authority, &approval).await.unwrap()));
    machine.device.quote([3; 32], Some(&selection())).await.unwrap();
    let described = machine.describe().await;
    let (wrapped, encrypted_secret) = credential(&machine.tpm, &described);
    assert!(is_key(&machine.device.activate(&wrapped, &encrypted_secret).await.unwrap()));

    for code in COMMANDS {
        assert!(recorder.heard_command(code), "command {code:#x} did not pass the recorder");
    }
    assert!(!recorder.heard(&KEY));
    assert!(!recorder.heard(&KEY[..8]) && !recorder.heard(&KEY[24..]), "not even a part of it");
}

#[tokio::test]
async fn an_answer_that_was_changed_on_the_bus_is_noticed() {
    const PCR_READ: u32 = 0x17e;
    const NV_READ: u32 = 0x14e;
    let Some(tpm) = Swtpm::start() else { return };
    let recorder = Recorder::before(tpm.port);
    let (tcti, pins) = (tcti(recorder.port), pins(&tpm));
    assert!(provision(&tcti, &pins, &[]).status.success());
    let machine = Machine::with(tpm, &tcti, &pins);
    machine.device.counter_create().await.unwrap();
    recorder.tamper_with_responses_to(PCR_READ);
    assert_eq!(refusal(machine.device.pcrs(&selection()).await).code(), "tpm-refused");
    machine.device.counter_read().await.unwrap();
    recorder.tamper_with_responses_to(NV_READ);
    assert_eq!(refusal(machine.device.counter_read().await).code(), "tpm-refused");
    machine.device.pcrs(&selection()).await.unwrap();
}

/// The positive control: the same ear on the same bus hears a key that is unsealed in the plain way.
#[tokio::test]
async fn the_same_recorder_hears_a_key_that_plain_tpm2_unseal_opens() {
    let Some(tpm) = Swtpm::start() else { return };
    let recorder = Recorder::before(tpm.port);
    std::fs::write(tpm.directory.join("key"), KEY).unwrap();
    let tool = |command: &str| tool(&tpm.directory, recorder.port, command);
    tool("tpm2_createprimary -Q -C o -c primary.ctx");
    tool("tpm2_flushcontext -t");
    // Sealed without the recorder, so that what it hears is the unsealing.
    tpm.tool("tpm2_create -Q -C primary.ctx -i key -u sealed.pub -r sealed.priv");
    tpm.tool("tpm2_flushcontext -t");
    tool("tpm2_load -Q -C primary.ctx -u sealed.pub -r sealed.priv -c sealed.ctx");
    tool("tpm2_flushcontext -t");
    assert!(!recorder.heard(&KEY));
    assert_eq!(tool("tpm2_unseal -c sealed.ctx"), KEY);
    assert!(recorder.heard(&KEY));
}
