//! Who links this library links no C TPM stack.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

#[test]
fn neither_libtss2_nor_openssl_is_in_the_tree_of_the_library_but_is_in_that_of_the_device_process() {
    let library = tree("blindferry-device");
    assert!(library.contains("blindferry-attest"), "the tree is not read: {library}");
    for forbidden in ["tss-esapi", "openssl"] {
        assert!(!library.contains(forbidden), "{forbidden} is in the tree:\n{library}");
    }
    assert!(tree("blindferry-device-tpm").contains("tss-esapi"), "the search does not find what is there");
}

fn tree(package: &str) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal,build", "--prefix", "none", "-p", package])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}
