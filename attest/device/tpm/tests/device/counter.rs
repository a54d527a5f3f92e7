//! The counter against old approvals.

use blindferry_device::protocol::DeviceRefusal;

use crate::machine::{Machine, refusal};

#[tokio::test]
async fn the_counter_is_made_once_and_only_rises() {
    let Some(machine) = Machine::start() else { return };
    assert_eq!(refusal(machine.device.counter_read().await), DeviceRefusal::NoCounter);
    assert_eq!(refusal(machine.device.counter_increment().await), DeviceRefusal::NoCounter);
    let first = machine.device.counter_create().await.unwrap();
    assert_eq!(machine.device.counter_create().await.unwrap(), first);
    assert_eq!(machine.device.counter_read().await.unwrap(), first);
    assert_eq!(machine.device.counter_increment().await.unwrap(), first + 1);
    assert_eq!(machine.device.counter_read().await.unwrap(), first + 1);
}

#[tokio::test]
async fn an_index_that_is_no_counter_is_not_used_as_one() {
    let Some(machine) = Machine::start() else { return };
    machine.tpm.tool("tpm2_nvdefine 0x1804246 -C o -s 8 -a ownerread|ownerwrite|authread|no_da");
    assert_eq!(refusal(machine.device.counter_create().await).code(), "counter-taken");
    assert_eq!(refusal(machine.device.counter_read().await).code(), "counter-taken");
}
