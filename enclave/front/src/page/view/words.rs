//! Times and texts as the page writes them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How long ago, in one unit: `3 min ago`.
pub(super) fn ago(then: u64, now: u64) -> String {
    match now.saturating_sub(then) {
        0..=4 => "just now".to_owned(),
        seconds => format!("{} ago", span(seconds)),
    }
}

/// A number of seconds, in one unit.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Seconds since the epoch as RFC 3339 has it, in UTC. What it cannot write stays a number.
pub(super) fn moment(seconds: u64) -> String {
    let instant = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    instant.and_then(|instant| instant.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{seconds} s since the epoch"))
}

/// The same for people: `2026-11-21 09:30:00`.
pub(super) fn readable(seconds: u64) -> String {
    moment(seconds).replace('T', " ").trim_end_matches('Z').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        let said: Vec<_> = [0, 4, 5, 119, 120, 7_200, 172_800].map(|passed| ago(1_000_000 - passed, 1_000_000)).into();
        assert_eq!(said, ["just now", "just now", "5 s ago", "119 s ago", "2 min ago", "2 h ago", "2 days ago"]);
        assert_eq!(ago(2, 1), "just now", "clocks differ");
        assert_eq!((moment(0), readable(61)), ("1970-01-01T00:00:00Z".to_owned(), "1970-01-01 00:01:01".to_owned()));
        assert!(readable(u64::MAX).contains("since the epoch"));
    }
}
