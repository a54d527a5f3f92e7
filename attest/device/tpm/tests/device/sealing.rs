//! What opens a sealed key, and what does not.

use blindferry_device::approval::{PolicyRef, authorize_policy};
use blindferry_device::pcr::never_extended;
use blindferry_device::protocol::DeviceRefusal;

use crate::machine::{Machine, Operator, is_key, key, refusal};

#[tokio::test]
async fn a_sealed_key_opens_under_the_approved_pcrs_again_and_again() {
    let Some(machine) = Machine::start() else { return };
    let operator = Operator::new();
    let blob = machine.seal(&operator).await;
    let approval = operator.approve(machine.values().await, 1);
    for _ in 0..3 {
        let opened = machine.device.unseal(&blob, &operator.authority, &approval).await.unwrap();
        assert!(is_key(&opened));
    }
}

#[tokio::test]
async fn an_extended_pcr_refuses_and_says_which_and_a_new_approval_carries_over() {
    let Some(machine) = Machine::start() else { return };
    let operator = Operator::new();
    let blob = machine.seal(&operator).await;
    let before = machine.values().await;
    let old = operator.approve(before.clone(), 1);
    machine.tpm.tool(&format!("tpm2_pcrextend 7:sha256={}", "ab".repeat(32)));

    let refused = refusal(machine.device.unseal(&blob, &operator.authority, &old).await);
    let DeviceRefusal::WrongPcrs { differing } = &refused else { panic!("{refused}") };
    assert_eq!(differing.iter().map(|pcr| pcr.index).collect::<Vec<_>>(), [7]);
    assert_eq!(differing[0].wanted, [0; 32]);
    let after = machine.values().await;
    assert!(after.iter().any(|(index, value)| index == 7 && *value == differing[0].found));
    assert!(refused.to_string().contains("PCR 7 holds"), "{refused}");

    let new = operator.approve(after, 2);
    assert!(is_key(&machine.device.unseal(&blob, &operator.authority, &new).await.unwrap()));
}

#[tokio::test]
async fn a_replaced_approval_is_refused_once_the_counter_is_past_it() {
    let Some(machine) = Machine::start() else { return };
    let operator = Operator::new();
    let blob = machine.seal(&operator).await;
    let values = machine.values().await;
    let counter = machine.device.counter_create().await.unwrap();
    let old = operator.approve(values.clone(), counter);
    assert!(is_key(&machine.device.unseal(&blob, &operator.authority, &old).await.unwrap()));
    assert_eq!(machine.device.counter_increment().await.unwrap(), counter + 1);
    let refused = refusal(machine.device.unseal(&blob, &operator.authority, &old).await);
    assert_eq!(refused, DeviceRefusal::ApprovalReplaced { version: counter, counter: counter + 1 });
    let new = operator.approve(values, counter + 1);
    assert!(is_key(&machine.device.unseal(&blob, &operator.authority, &new).await.unwrap()));
}

#[tokio::test]
async fn an_approval_by_another_authority_or_for_another_purpose_opens_nothing() {
    let Some(machine) = Machine::start() else { return };
    let (operator, other) = (Operator::new(), Operator::new());
    let blob = machine.seal(&operator).await;
    let values = machine.values().await;
    let by_other = other.approve(values.clone(), 1);
    let refused = refusal(machine.device.unseal(&blob, &operator.authority, &by_other).await);
    assert_eq!(refused, DeviceRefusal::NotApproved);
    let refused = refusal(machine.device.unseal(&blob, &other.authority, &by_other).await);
    assert_eq!(refused.code(), "wrong-authority");
    let elsewhere = operator.with_policy_ref(PolicyRef::of("elsewhere"));
    let approval = elsewhere.approve(values, 1);
    let refused = refusal(machine.device.unseal(&blob, &elsewhere.authority, &approval).await);
    assert_eq!(refused, DeviceRefusal::WrongPolicyRef);
}

/// What a blob says of its authority is for messages. That the TPM decides is shown by a blob that lies everywhere.
#[tokio::test]
async fn a_blob_made_to_name_another_authority_is_refused_by_the_tpm() {
    let Some(machine) = Machine::start() else { return };
    let (operator, thief) = (Operator::new(), Operator::new());
    let blob = machine.seal(&operator).await;
    let approval = thief.approve(machine.values().await, 1);
    let lying = replace(&blob, &operator.authority.name(), &thief.authority.name());
    let refused = refusal(machine.device.unseal(&lying, &thief.authority, &approval).await);
    assert_eq!(refused, DeviceRefusal::BlobForeign);
    let policy = authorize_policy(&operator.authority, operator.policy_ref);
    let lying = replace(&lying, &policy, &authorize_policy(&thief.authority, thief.policy_ref));
    let refused = refusal(machine.device.unseal(&lying, &thief.authority, &approval).await);
    assert_eq!(refused, DeviceRefusal::BlobForeign, "the TPM notices that the public area is not the one it sealed");
}

fn replace(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let at = bytes.windows(old.len()).position(|window| window == old).unwrap();
    let mut replaced = bytes.to_vec();
    replaced[at..at + old.len()].copy_from_slice(new);
    replaced
}

#[tokio::test]
async fn a_sealed_key_does_not_open_on_another_tpm_nor_when_it_was_changed() {
    let (Some(machine), Some(elsewhere)) = (Machine::start(), Machine::start()) else { return };
    let operator = Operator::new();
    let blob = machine.seal(&operator).await;
    let approval = operator.approve(elsewhere.values().await, 1);
    let refused = refusal(elsewhere.device.unseal(&blob, &operator.authority, &approval).await);
    assert_eq!(refused, DeviceRefusal::BlobForeign);
    let mut changed = blob.clone();
    let in_private = changed.len() - 34 - 32 - 20;
    changed[in_private] ^= 1;
    let refused = refusal(machine.device.unseal(&changed, &operator.authority, &approval).await);
    assert_eq!(refused, DeviceRefusal::BlobForeign);
    let refused = refusal(machine.device.unseal(&blob[1..], &operator.authority, &approval).await);
    assert_eq!(refused, DeviceRefusal::BlobMalformed);
}

#[tokio::test]
async fn pcrs_that_nothing_ever_extended_are_told_from_others() {
    let Some(machine) = Machine::start() else { return };
    assert_eq!(never_extended(&machine.values().await), [0, 4, 7]);
    machine.tpm.tool(&format!("tpm2_pcrextend 4:sha256={}", "01".repeat(32)));
    assert_eq!(never_extended(&machine.values().await), [0, 7]);
}

#[tokio::test]
async fn a_secret_that_was_wiped_before_it_arrived_is_not_sealed() {
    let Some(machine) = Machine::start() else { return };
    let operator = Operator::new();
    let zeros =
        blindferry_handle::secret::SharedSecret::create(32, |_| Ok::<(), std::convert::Infallible>(())).unwrap();
    let refused = refusal(machine.device.seal(zeros, &operator.authority, operator.policy_ref).await);
    assert_eq!(refused.code(), "bad-request");
    let short = blindferry_handle::secret::SharedSecret::create(16, |slot| {
        slot.fill(7);
        Ok::<(), std::convert::Infallible>(())
    })
    .unwrap();
    let refused = refusal(machine.device.seal(short, &operator.authority, operator.policy_ref).await);
    assert_eq!(refused.code(), "bad-request");
    // And the process is still there.
    machine.device.seal(key(), &operator.authority, operator.policy_ref).await.unwrap();
}
