//! Does the example of a configuration, which is also the one that is installed, say what is so?

use blindferry_broker::configuration::Configuration;
use blindferry_configuration::{Faults, Source, switched_on};
use std::path::Path;

const EXAMPLE: &str = include_str!("../../../deploy/configuration/broker.toml");

fn parse(text: &str) -> Result<Configuration, Faults> {
    Source::new(Path::new("broker.toml"), text.to_owned())?.parse()
}

#[test]
fn what_stands_there_as_a_default_is_the_default() {
    let plain = parse(EXAMPLE).unwrap();
    let mut whole = parse(&switched_on(EXAMPLE)).unwrap();
    assert_eq!(whole.limits, plain.limits);
    assert_eq!((&whole.parents, &whole.workers), (&plain.parents, &plain.workers));
    assert_eq!((&whole.parents_mode, &whole.workers_mode), (&plain.parents_mode, &plain.workers_mode));
    assert_eq!(whole.pcrs, plain.pcrs);
    let platform = plain.platform(|_| true).unwrap();
    assert_eq!(whole.platform(|_| true).unwrap(), platform);
    assert_eq!(whole.device(&platform), plain.device(&platform));
    // And it could have failed.
    whole = parse(&switched_on(EXAMPLE).replace("leases = 1024", "leases = 1023")).unwrap();
    assert_ne!(whole.limits, plain.limits);
}
