//! A token under a descriptor: is it moved, and is nothing left where it was?

use blindferry_handle::inherit::keep_over_exec;
use blindferry_handle::secret::{SecretBytes, SecretError, SharedSecret};
use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Command, Output};

fn aware(variable: &str) -> Output {
    let tests = std::env::current_exe().unwrap();
    let built: PathBuf = tests.ancestors().nth(2).unwrap().join("examples/aware");
    Command::new(built).arg("db").env("DB_FD", variable).output().unwrap()
}

#[test]
fn a_program_takes_its_token_and_leaves_zeros() {
    let shared = SharedSecret::create(5, |place| {
        place.copy_from_slice(b"token");
        Ok::<_, Infallible>(())
    });
    let shared = shared.unwrap();
    keep_over_exec(shared.as_fd()).unwrap();
    let output = aware(&format!("{}:4000000000:Bearer", shared.as_fd().as_raw_fd()));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "5 bytes, Bearer\n", "{output:?}");
    let again = SecretBytes::adopt(shared.as_fd().try_clone_to_owned().unwrap(), 5);
    assert!(matches!(again, Err(SecretError::Wiped)));
}

#[test]
fn what_is_no_secret_memory_is_refused() {
    let file = std::fs::File::open("/etc/passwd").unwrap();
    keep_over_exec(file.as_fd()).unwrap();
    for bad in [format!("{}:1:Bearer", file.as_raw_fd()), "999:1:Bearer".to_owned(), "nonsense".to_owned()] {
        assert!(!aware(&bad).status.success(), "{bad}");
    }
}
