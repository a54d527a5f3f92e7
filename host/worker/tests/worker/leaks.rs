//! Is the token of a worker that links the library anywhere but in its secret pages? Asked as root, which reads it all.
//!
//! The worker is this very test program, started again: it gets nothing but what a broker sends.

use crate::fake_broker::{FakeBroker, honest};
use crate::memory::{MASK, search};
use blindferry_handle::memfd::Handle;
use blindferry_handle::secret::{Protection, protection};
use blindferry_worker::{Worker, workers_socket};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

#[test]
fn not_even_root_finds_the_token_in_a_workers_memory() {
    if protection() == Protection::LockedPages {
        eprintln!("skipped: this kernel has no memfd_secret");
        return;
    }
    let (broker, masked) = broker("memory");
    let worker = start("leaks::a_worker_that_keeps_its_token", &broker);
    let (found, readable) = search(worker.id(), &masked);
    assert!(readable > 100_000, "only {readable} bytes could be read");
    assert_eq!(found, 0);
    stop(worker);
}

#[test]
fn the_search_finds_a_token_in_the_memory_of_a_worker_that_copies_it() {
    let (broker, masked) = broker("control");
    let worker = start("leaks::a_worker_that_copies_its_token", &broker);
    assert!(search(worker.id(), &masked).0 >= 1);
    stop(worker);
}

#[test]
#[ignore = "the worker of the tests above, not a test"]
fn a_worker_that_keeps_its_token() {
    let leased = Worker::connect(&workers_socket()).unwrap().redeem(Handle::seal("grant", b"grant").unwrap()).unwrap();
    assert_eq!(leased.token().len(), 40);
    say_ready_and_wait();
    drop(leased);
}

#[test]
#[ignore = "the worker of the tests above, not a test"]
fn a_worker_that_copies_its_token() {
    let leased = Worker::connect(&workers_socket()).unwrap().redeem(Handle::seal("grant", b"grant").unwrap()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the copy that the search shall find")]
    let copy = leased.token().expose(<[u8]>::to_vec);
    say_ready_and_wait();
    black_box(copy);
}

/// A broker with a random token of 40 bytes, and that token masked.
fn broker(name: &str) -> (FakeBroker, Vec<u8>) {
    let mut token = vec![0; 40];
    rustix::rand::getrandom(&mut token[..], rustix::rand::GetRandomFlags::empty()).unwrap();
    let masked = token.iter().map(|byte| byte ^ MASK).collect();
    (FakeBroker::start(name, honest(token.leak())), masked)
}

fn start(name: &str, broker: &FakeBroker) -> Child {
    let mut worker = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"])
        .env("BLINDFERRY_WORKERS", broker.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(worker.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
    assert!(said.into_iter().any(|line| line.ends_with("ready")), "the worker did not come up");
    worker
}

fn stop(mut worker: Child) {
    drop(worker.stdin.take());
    assert!(worker.wait().unwrap().success());
}

fn say_ready_and_wait() {
    println!("ready");
    std::io::stdout().flush().unwrap();
    let _end = std::io::stdin().lock().read_line(&mut String::new());
}
