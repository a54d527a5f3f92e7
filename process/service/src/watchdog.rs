//! How often the service manager wants to hear that this process lives.

use std::ffi::OsString;
use std::time::Duration;
use thiserror::Error;

/// What the service manager wants cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("WATCHDOG_USEC is {value:?}, no number of microseconds")]
pub struct WatchdogError {
    value: OsString,
}

/// How often [`ServiceManager::alive`](crate::ServiceManager::alive) is to be called: twice in the time that
/// `WATCHDOG_USEC` gives, if that is meant for this process (`WATCHDOG_PID`).
///
/// # Errors
/// [`WatchdogError`]; the service manager would end this process, so it should not go on.
pub fn watchdog(variable: impl Fn(&str) -> Option<OsString>, own_id: u32) -> Result<Option<Duration>, WatchdogError> {
    let Some(value) = variable("WATCHDOG_USEC") else { return Ok(None) };
    let meant = variable("WATCHDOG_PID").is_none_or(|id| id.to_str() == Some(own_id.to_string().as_str()));
    if !meant {
        return Ok(None);
    }
    match value.to_str().and_then(|value| value.parse().ok()) {
        Some(microseconds @ 1..) => Ok(Some(Duration::from_micros(microseconds) / 2)),
        _ => Err(WatchdogError { value }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(time: &'static str, id: Option<&'static str>) -> Result<Option<Duration>, WatchdogError> {
        let variable = move |name: &str| match name {
            "WATCHDOG_USEC" => Some(time.into()),
            "WATCHDOG_PID" => id.map(Into::into),
            _ => None,
        };
        watchdog(variable, 7)
    }

    #[test]
    fn a_process_that_is_meant_says_twice_in_the_time_that_it_lives() {
        assert_eq!(asked("30000000", Some("7")), Ok(Some(Duration::from_secs(15))));
        assert_eq!(asked("30000000", None), Ok(Some(Duration::from_secs(15))));
        assert_eq!(asked("30000000", Some("8")), Ok(None), "meant for another");
        assert_eq!(watchdog(|_| None, 7), Ok(None));
    }

    #[test]
    fn a_time_that_is_none_is_refused() {
        for time in ["", "0", "-1", "soon", "99999999999999999999999"] {
            assert!(asked(time, Some("7")).is_err(), "{time}");
        }
    }
}
