//! Event logs: every lie in their form is refused by its own code, and their data is believed only where it was hashed again.

use blindferry_attest::tpm::event_log::{Bank, EventLogError, Kind, Log, MAX_EVENT_LOG, MAX_EVENTS, explain::explain};
use proptest::prelude::*;

use crate::boot::{Boot, Judged as _, Measured, NO_ACTION, event, header, measured, sha1, sha1_event};

fn code(bytes: &[u8]) -> &'static str {
    Log::parse(bytes).unwrap_err().code()
}

#[test]
fn a_log_gives_what_the_machine_extended() {
    let mut boot = Boot::good();
    boot.locality = 3;
    let bytes = boot.log();
    let log = Log::parse(&bytes).unwrap();
    let computed = log.compute(Bank::Sha256);
    for (pcr, value) in boot.pcrs().iter().enumerate().filter(|(pcr, _)| !(17..=22).contains(pcr)) {
        assert_eq!(computed[pcr], value, "PCR {pcr}");
    }
    assert_eq!(log.locality(), 3);
}

#[test]
fn empty_and_over_long_logs_are_refused_before_they_are_parsed() {
    assert_eq!(code(&[]), "event-log-empty");
    assert_eq!(code(&vec![0; MAX_EVENT_LOG + 1]), "event-log-too-long");
}

#[test]
fn a_log_that_ends_inside_an_event_is_refused_wherever_it_ends() {
    let bytes = Boot::good().log();
    let first = header(&[(0xb, 32)]).len();
    let ends: Vec<usize> = Boot::good()
        .events
        .iter()
        .scan(first, |at, one| {
            *at += event(one).len();
            Some(*at)
        })
        .collect();
    for len in 1..bytes.len() {
        let whole = len == first || ends.contains(&len);
        assert_eq!(Log::parse(&bytes[..len]).is_ok(), whole, "{len} bytes");
    }
}

#[test]
fn bytes_behind_the_last_event_are_refused() {
    for extra in [vec![0], vec![0; 12], vec![0; 100], vec![0xff; 7]] {
        let bytes = [Boot::good().log(), extra].concat();
        assert!(["event-log-truncated", "event-log-digests"].contains(&code(&bytes)));
    }
}

#[test]
fn a_length_that_is_a_lie_is_refused() {
    for len in [u32::MAX, 0xffff_fff0, 128 * 1024 + 1] {
        let mut bytes = sha1_event(0, 1, &[0; 20], b"");
        bytes.splice(28..32, len.to_le_bytes());
        assert_eq!(code(&bytes), "event-log-event-too-long");
    }
    let mut bytes = sha1_event(0, 1, &[0; 20], b"four");
    bytes.splice(28..32, 5u32.to_le_bytes());
    assert_eq!(code(&bytes), "event-log-truncated");
}

#[test]
fn more_events_than_any_log_has_are_refused() {
    let one = sha1_event(0, 1, &[0; 20], b"");
    assert!(Log::parse(&one.repeat(MAX_EVENTS)).is_ok());
    assert_eq!(code(&one.repeat(MAX_EVENTS + 1)), "event-log-too-many-events");
}

#[test]
fn a_header_that_names_no_bank_or_a_false_length_is_refused() {
    for algorithms in
        [vec![], vec![(0xb, 20)], vec![(4, 32)], vec![(0xb, 32), (0xb, 32)], vec![(0x99, 65)], vec![(0xb, 32); 17]]
    {
        assert_eq!(code(&header(&algorithms)), "event-log-header", "{algorithms:?}");
    }
    // An unknown bank is stepped over.
    assert!(Log::parse(&header(&[(0xb, 32), (0x12, 32)])).is_ok());
}

#[test]
fn an_event_has_each_digest_of_the_header_once() {
    let one = event(&measured(0, 1, b"x"));
    assert_eq!(code(&[header(&[(0xb, 32), (4, 20)]), one.clone()].concat()), "event-log-digests");
    assert_eq!(code(&[header(&[(4, 20)]), one].concat()), "event-log-digests");
    let mut twice = vec![0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0];
    for _ in 0..2 {
        twice.extend([0x0b, 0]);
        twice.extend([7; 32]);
    }
    twice.extend([0; 4]);
    assert_eq!(code(&[header(&[(0xb, 32), (4, 20)]), twice].concat()), "event-log-digests");
}

#[test]
fn there_is_no_pcr_above_23_but_for_events_that_extend_nothing() {
    let of = |pcr, kind| [header(&[(0xb, 32)]), event(&measured(pcr, kind, b"x"))].concat();
    assert_eq!(code(&of(24, 1)), "event-log-pcr");
    assert_eq!(code(&of(u32::MAX, 1)), "event-log-pcr");
    assert!(Log::parse(&of(u32::MAX, NO_ACTION)).is_ok());
}

#[test]
fn the_locality_at_start_is_told_once_and_first() {
    let told = |locality: &[u8]| {
        let data = [b"StartupLocality\0".as_slice(), locality].concat();
        event(&Measured { pcr: 0, kind: NO_ACTION, digest: [0; 32], data })
    };
    let head = header(&[(0xb, 32)]);
    let extended = event(&measured(0, 1, b"x"));
    assert!(Log::parse(&[head.clone(), told(&[4]), extended.clone()].concat()).is_ok());
    assert_eq!(code(&[head.clone(), extended, told(&[3])].concat()), "event-log-locality");
    assert_eq!(code(&[head.clone(), told(&[3]), told(&[3])].concat()), "event-log-locality");
    assert_eq!(code(&[head.clone(), told(&[1])].concat()), "event-log-locality");
    assert_eq!(code(&[head, told(&[3, 0])].concat()), "event-log-locality");
}

#[test]
fn a_sha1_log_is_explained_and_not_judged() {
    let text = b"Calling EFI Application from Boot Option";
    let digest: [u8; 20] = sha1(text).try_into().unwrap();
    let bytes = sha1_event(4, 0x8000_0007, &digest, text);
    let log = Log::parse(&bytes).unwrap();
    assert!(explain(&log)[0].verified);
    assert_ne!(log.compute(Bank::Sha1)[4], vec![0; 20]);
    let mut case = Boot::good().whole_case();
    case.event_log = bytes;
    assert_eq!(case.judge().unwrap_err().code(), "event-log-no-sha256");
}

#[test]
fn what_an_event_says_is_marked_as_a_claim_unless_it_was_hashed() {
    let mut boot = Boot::good();
    boot.variable("SecureBoot").data[50] ^= 1;
    let bytes = boot.log();
    let lines = explain(&Log::parse(&bytes).unwrap());
    let claims: Vec<_> = lines.iter().filter(|line| !line.verified).map(|line| line.pcr).collect();
    // The variable that was changed, the image and the two of the kernel, whose digests are not of their data.
    assert_eq!(claims, [Some(7), Some(4), Some(9), Some(9)]);
    assert!(lines[1].to_string().ends_with("(unverified claim)"));
    assert_eq!(lines[12].kind, Kind::SEPARATOR);
}

#[test]
fn nothing_that_a_log_says_reaches_a_terminal_as_a_command() {
    let bytes = [header(&[(0xb, 32)]), event(&measured(8, 0xd, "\u{1b}]0;x\u{7}\u{202e}txt\0".as_bytes()))].concat();
    for line in explain(&Log::parse(&bytes).unwrap()) {
        assert!(!line.to_string().chars().any(|one| one.is_control() || one == '\u{202e}'), "{line}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        if let Ok(log) = Log::parse(&bytes) {
            prop_assert!(log.events().len() <= bytes.len() / 14);
        }
    }

    /// Altered logs reach deeper than random bytes. Whatever parses takes room in proportion, and can be explained.
    #[test]
    fn no_altered_log_makes_the_parser_panic(
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut altered = Boot::good().log();
        let at = at.index(altered.len());
        for (to, from) in altered[at..].iter_mut().zip(&bytes) {
            *to = *from;
        }
        for log in [&altered[..], &altered[..cut.index(altered.len())]] {
            match Log::parse(log) {
                Ok(parsed) => {
                    let data: usize = parsed.events().iter().map(|event| event.data().len()).sum();
                    prop_assert!(data <= log.len());
                    prop_assert_eq!(explain(&parsed).len(), parsed.events().len());
                }
                Err(EventLogError::TooLong { .. }) => prop_assert!(false, "it is short"),
                Err(error) => prop_assert!(error.code().starts_with("event-log-")),
            }
        }
    }
}
