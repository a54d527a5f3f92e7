//! The device process as it serves has given up its powers, and stays as it is over many programs that it becomes.

use std::fs;

use crate::machine::{Machine, Operator};

/// Landlock ends at 16 layers, so one more for each new program would be noticed.
#[tokio::test]
async fn a_device_process_that_serves_is_confined_once_however_often_it_executes_itself_anew() {
    let Some(machine) = Machine::start() else { return };
    let operator = Operator::new();
    for _ in 0..18 {
        machine.seal(&operator).await;
    }
    machine.values().await;
    let of = |process: &str, name: &str| -> String {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().to_owned()
    };
    let device = machine.process_id().to_string();
    let filters = |process: &str| of(process, "Seccomp_filters:").parse::<u32>().unwrap();
    assert_eq!(filters(&device), filters("self") + 2);
    assert_eq!(of(&device, "Seccomp:"), "2");
    assert_eq!(of(&device, "NoNewPrivs:"), "1");
    assert_eq!(of(&device, "Threads:"), "1");
    let limits = fs::read_to_string(format!("/proc/{device}/limits")).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().next(), Some("0"));
}
