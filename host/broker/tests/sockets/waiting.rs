//! A parent waits for a person: it is told so, nobody else is held up, and who leaves takes the ask along.

use crate::host::{Host, Process, content};
use crate::vault::{WAITING_ASK, grant};
use blindferry_proto::session::BrokerRequest;
use serde_json::{Value, json};
use std::process::Command;

fn by_hand() -> Value {
    json!({"ask": {"credential": "by-hand", "wait": {"program": "deploy.sh", "reason": "rollback"}}})
}

fn waits() -> Value {
    json!({"waiting": {"ask": WAITING_ASK.to_string(), "seconds": 300}})
}

fn is_withdrawn(told: &BrokerRequest) -> bool {
    *told == BrokerRequest::Withdraw { ask: WAITING_ASK }
}

#[tokio::test]
async fn a_parent_that_waits_is_told_so_and_gets_its_grant_when_a_person_has_approved() {
    let host = Host::start();
    let parent = host.parent();
    let (reply, handle) = parent.ask(&by_hand(), &[]).await;
    assert!(reply == waits() && handle.is_none(), "{reply}");
    let BrokerRequest::Ask(ask) = &host.vault.told()[0] else { panic!("{:?}", host.vault.told()) };
    let words = ask.wait.clone().unwrap();
    assert_eq!((words.program.unwrap().as_str(), words.reason.unwrap().as_str()), ("deploy.sh", "rollback"));

    // Nobody else waits with it.
    let (reply, _handle) = host.parent().ask(&json!({"ask": {"credential": "deploy"}}), &[]).await;
    assert!(reply.get("granted").is_some(), "{reply}");
    host.vault.decide(true);
    let (reply, handle) = parent.hear().await;
    assert!(reply.get("granted").is_some(), "{reply}");
    assert_eq!(content(handle), grant(2));
    assert!(!host.vault.told().iter().any(is_withdrawn));
    // And the connection goes on.
    let (reply, _handle) = parent.ask(&json!({"ask": {"credential": "deploy"}}), &[]).await;
    assert!(reply.get("granted").is_some(), "{reply}");
}

#[tokio::test]
async fn a_no_and_a_vault_that_goes_away_have_their_codes_and_who_does_not_wait_is_refused() {
    let host = Host::start();
    let parent = host.parent();
    assert_eq!(parent.refusal(&json!({"ask": {"credential": "by-hand"}}), &[]).await, "approval-required");
    assert_eq!(parent.ask(&by_hand(), &[]).await.0, waits());
    host.vault.decide(false);
    assert_eq!(parent.hear().await.0["refused"]["code"], "approval-denied");
    assert_eq!(parent.ask(&by_hand(), &[]).await.0, waits());
    host.vault.go_down();
    assert_eq!(parent.hear().await.0["refused"]["code"], "not-ready");
}

#[tokio::test]
async fn a_parent_that_hangs_up_withdraws_its_ask() {
    let host = Host::start();
    let parent = host.parent();
    assert_eq!(parent.ask(&by_hand(), &[]).await.0, waits());
    assert!(!host.vault.told().iter().any(is_withdrawn));
    drop(parent);
    host.vault.wait_for(is_withdrawn).await;
}

#[tokio::test]
async fn a_parent_that_asks_something_else_while_it_waits_withdraws_too() {
    let host = Host::start();
    let parent = host.parent();
    assert_eq!(parent.ask(&by_hand(), &[]).await.0, waits());
    assert_eq!(parent.refusal(&json!({"ask": {"credential": "deploy"}}), &[]).await, "malformed");
    host.vault.wait_for(is_withdrawn).await;
}

#[tokio::test]
async fn a_parent_that_ends_while_another_process_holds_its_socket_withdraws_its_ask() {
    let host = Host::start();
    // The child inherits the socket and outlives the parent, which ends once it was told to wait; the child ends when
    // the broker hangs up.
    let script = "import socket, sys, os\n\
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
        s.connect(sys.argv[1])\n\
        s.send(sys.argv[2].encode())\n\
        print(0, s.recv(4096).decode(), flush=True)\n\
        if os.fork() == 0:\n    \
            [os.dup2(os.open('/dev/null', os.O_WRONLY), stream) for stream in (1, 2)]\n    \
            s.recv(1)\n\
        os._exit(0)\n";
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(host.parents()).arg(by_hand().to_string());
    let mut parent = Process::start(command);
    assert_eq!(parent.hear().await.0, waits());
    parent.child.wait().unwrap();
    host.vault.wait_for(is_withdrawn).await;
}

#[tokio::test]
async fn a_parent_in_plain_python_waits() {
    let host = Host::start();
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parent.py")).args(["by-hand", "true"]);
    command.env("BLINDFERRY_PARENTS", host.parents()).env("REASON", "rollback");
    let mut parent = Process::start(command);
    host.vault.wait_for(|told| matches!(told, BrokerRequest::Collect { .. })).await;
    host.vault.decide(true);
    host.vault.wait_for(|told| matches!(told, BrokerRequest::Delivered(delivered) if delivered.taken)).await;
    assert!(parent.child.wait().unwrap().success());
}
