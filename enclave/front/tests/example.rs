//! Does the example of a configuration, which is also the one that is installed, say what is so?

use blindferry_configuration::{Faults, Source, switched_on};
use blindferry_front::configuration::Configuration;
use blindferry_proto::logs::LogPaths;
use std::path::Path;

const EXAMPLE: &str = include_str!("../../../deploy/configuration/enclave.toml");

fn parse(text: &str) -> Result<Configuration, Faults> {
    Source::new(Path::new("enclave.toml"), text.to_owned())?.parse()
}

#[test]
fn what_stands_there_as_a_default_is_the_default() {
    let plain = parse(EXAMPLE).unwrap();
    let whole = parse(&switched_on(EXAMPLE)).unwrap();
    assert_eq!(whole.limits, plain.limits);
    let own = Some(Path::new("/usr/libexec/blindferry/blindferry-enclave"));
    assert_eq!(whole.vault(own).unwrap(), plain.vault(own).unwrap());
    // That one has the logs, which is not the default and said to be so.
    let platform = plain.device_process(|_| true).unwrap();
    assert_eq!(whole.device_process(|_| true).unwrap(), platform.clone().with_logs(Some(LogPaths::default())));
    assert_eq!(whole.device(&platform, own).unwrap(), plain.device(&platform, own).unwrap());
    // And it could have failed.
    let other = parse(&switched_on(EXAMPLE).replace("dials = 64", "dials = 63")).unwrap();
    assert_ne!(other.limits, plain.limits);
}
