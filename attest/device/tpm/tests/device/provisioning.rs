//! Pins: that they are needed, kept, and compared in every transaction.

use std::os::fd::AsFd;

use blindferry_device::protocol::DeviceRefusal;

use crate::machine::{Machine, device, pins, provision, refusal, selection};
use crate::swtpm::Swtpm;

#[tokio::test]
async fn nothing_is_done_with_a_tpm_that_is_not_provisioned() {
    let Some(tpm) = Swtpm::start() else { return };
    let machine = Machine::with_unprovisioned(tpm);
    let refused = refusal(machine.device.pcrs(&selection()).await);
    assert_eq!(refused.code(), "not-provisioned");
}

#[tokio::test]
async fn provisioning_refuses_to_overwrite_and_obeys_force() {
    let Some(tpm) = Swtpm::start() else { return };
    let pins = pins(&tpm);
    assert!(provision(&tpm.tcti(), &pins, &[]).status.success());
    let first = std::fs::read_to_string(&pins).unwrap();
    let again = provision(&tpm.tcti(), &pins, &[]);
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("--force"));
    assert!(provision(&tpm.tcti(), &pins, &["--force", "--ek", "rsa-2048"]).status.success());
    let forced = std::fs::read_to_string(&pins).unwrap();
    assert_ne!(first, forced);
    assert!(forced.contains("rsa-2048"));
}

#[tokio::test]
async fn another_salt_key_than_the_pinned_one_is_refused_by_every_request() {
    let (Some(tpm), Some(interposer)) = (Swtpm::start(), Swtpm::start()) else { return };
    let pins = pins(&tpm);
    assert!(provision(&tpm.tcti(), &pins, &[]).status.success());
    // Whoever answers in the TPM's place answers with a key of his own.
    let machine = Machine::with(tpm, &interposer.tcti(), &pins);
    let codes = [
        refusal(machine.device.describe().await),
        refusal(machine.device.pcrs(&selection()).await),
        refusal(machine.device.quote([1; 32], Some(&selection())).await),
        refusal(machine.device.counter_create().await),
        refusal(machine.device.activate(&[0, 1, 1], &[0, 1, 1]).await),
    ]
    .map(|refused| refused.code());
    // The activation is malformed, but is not even looked at.
    assert_eq!(codes, ["salt-key-changed"; 5]);
}

#[tokio::test]
async fn another_attestation_key_or_endorsement_key_than_the_pinned_one_is_refused() {
    let Some(machine) = Machine::start() else { return };
    let path = pins(&machine.tpm);
    let genuine = std::fs::read_to_string(&path).unwrap();
    for (field, code) in [("ak-name", "attestation-key-changed"), ("ek-hash", "endorsement-key-changed")] {
        let changed: String = genuine
            .lines()
            .map(|line| {
                if line.starts_with(field) {
                    format!("{field} = \"000b{}\"\n", "00".repeat(32))
                } else {
                    format!("{line}\n")
                }
            })
            .collect();
        std::fs::write(&path, changed).unwrap();
        assert_eq!(refusal(machine.device.describe().await).code(), code);
    }
    std::fs::write(&path, genuine).unwrap();
    machine.describe().await;
}

#[tokio::test]
async fn a_tpm_whose_slots_a_dead_client_left_full_is_swept() {
    let Some(machine) = Machine::start() else { return };
    // Without a resource manager, tpm2-tools leave what they load.
    for _ in 0..3 {
        machine.tpm.tool("tpm2_createprimary -Q -C o -c primary.ctx");
    }
    for _ in 0..3 {
        machine.tpm.tool("tpm2_startauthsession -S session.ctx");
    }
    machine.device.quote([1; 32], Some(&selection())).await.unwrap();
}

#[tokio::test]
async fn a_tpm_that_is_not_there_is_said_to_be_unreachable() {
    let Some(tpm) = Swtpm::start() else { return };
    let path = pins(&tpm);
    assert!(provision(&tpm.tcti(), &path, &[]).status.success());
    let nowhere = crate::swtpm::tcti(crate::swtpm::adjacent_ports());
    let (mut process, device) = device(&nowhere, &path);
    let refused = refusal(device.pcrs(&selection()).await);
    assert!(matches!(refused, DeviceRefusal::Unreachable { .. }), "{refused}");
    drop(device);
    assert!(process.wait().unwrap().success());
}

#[test]
fn swtpm_over_a_unix_socket_is_refused_with_the_reason() {
    let refused = provision("swtpm:path=/tmp/x.sock", std::path::Path::new("/nonexistent/pins"), &[]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("unix socket"));
}

#[tokio::test]
async fn what_is_no_request_ends_the_process() {
    let Some(machine) = Machine::start() else { return };
    let executable = std::path::Path::new(env!("CARGO_BIN_EXE_blindferry-device"));
    for bytes in [&[0_u8; 4][..], &[1, 0, 200], &[1; 9000]] {
        let (mut process, socket) =
            blindferry_device::spawn::spawn(executable, crate::machine::process(&machine.tpm)).unwrap();
        socket.send(bytes, &[socket.as_fd()][..0]).unwrap();
        assert!(!process.wait().unwrap().success());
    }
}
