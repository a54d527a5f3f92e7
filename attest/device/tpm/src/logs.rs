//! The logs beside a quote: read when they are asked for, after the quote was made, whole or not at all.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use blindferry_attest::evidence::{MAX_EVENT_LOG, MAX_IMA_LOG, TpmEvidence};
use blindferry_device::protocol::DeviceRefusal;
use blindferry_proto::logs::{LogPaths, WantedLogs};

/// Where the logs are, on the command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LogArguments {
    /// The TPM's event log, which may be given away beside quotes; without it no log is
    #[arg(long, value_name = "FILE", requires = "ima_log")]
    event_log: Option<PathBuf>,
    /// The IMA list, the same
    #[arg(long, value_name = "FILE", requires = "event_log")]
    ima_log: Option<PathBuf>,
}

impl LogArguments {
    /// Where they are, if they may be given away.
    pub(crate) fn paths(self) -> Option<LogPaths> {
        self.event_log.zip(self.ima_log).map(|(events, ima)| LogPaths { events, ima })
    }
}

/// Whether these logs may be given away at all: asked before the TPM is.
pub(crate) fn given(paths: Option<&LogPaths>, wanted: WantedLogs) -> Result<Option<&LogPaths>, DeviceRefusal> {
    match (wanted, paths) {
        (WantedLogs::NONE, _) => Ok(None),
        (_, Some(paths)) => Ok(Some(paths)),
        (_, None) => Err(DeviceRefusal::LogsNotGiven),
    }
}

/// Puts logs beside a quote. The IMA list may have grown since; a verifier judges what was quoted, and no more.
pub(crate) fn beside(
    evidence: TpmEvidence,
    paths: &LogPaths,
    wanted: WantedLogs,
) -> Result<TpmEvidence, DeviceRefusal> {
    let events = if wanted.events { read("event log", &paths.events, MAX_EVENT_LOG)? } else { Vec::new() };
    let ima = if wanted.ima { read("IMA list", &paths.ima, MAX_IMA_LOG)? } else { Vec::new() };
    evidence.with_logs(events, ima).map_err(|error| DeviceRefusal::Process {
        operation: "put logs beside a quote".to_owned(),
        reason: error.to_string(),
    })
}

/// The kernel says nothing of a log's length before it was read: securityfs has files of length 0.
fn read(log: &str, path: &Path, limit: usize) -> Result<Vec<u8>, DeviceRefusal> {
    let unreadable =
        |reason: String| DeviceRefusal::LogUnreadable { log: log.to_owned(), path: path.display().to_string(), reason };
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map_err(|error| unreadable(explained(&error)))?;
    if bytes.is_empty() {
        return Err(unreadable(
            "it is empty: was this machine started through UEFI, and does its kernel measure?".into(),
        ));
    }
    if bytes.len() > limit {
        return Err(DeviceRefusal::LogTooLong { log: log.to_owned(), path: path.display().to_string(), limit });
    }
    Ok(bytes)
}

fn explained(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => {
            format!("{error}; is securityfs mounted on /sys/kernel/security, and is this the TPM's number?")
        }
        ErrorKind::PermissionDenied => format!(
            "{error}; let the user of this process read it, such as by a line of tmpfiles.d(5), and start the process \
             again if the file was not there when it started"
        ),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn evidence() -> TpmEvidence {
        TpmEvidence::new(vec![1], vec![2], vec![3], vec![]).unwrap()
    }

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let directory = std::env::temp_dir().join(format!("blindferry-logs-{name}-{}", std::process::id()));
            fs::create_dir_all(&directory).unwrap();
            Self(directory)
        }

        fn paths(&self) -> LogPaths {
            LogPaths { events: self.0.join("events"), ima: self.0.join("ima") }
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    const BOTH: WantedLogs = WantedLogs { events: true, ima: true };
    const EVENTS: WantedLogs = WantedLogs { events: true, ima: false };

    #[test]
    fn only_the_logs_that_were_asked_for_are_read_and_lie_beside_the_quote() {
        let scratch = Scratch::new("asked");
        let paths = scratch.paths();
        fs::write(&paths.events, "events").unwrap();
        let with = beside(evidence(), &paths, EVENTS).unwrap();
        assert_eq!((with.event_log(), with.ima_log()), (Some(&b"events"[..]), None));
        assert_eq!(beside(evidence(), &paths, BOTH).unwrap_err().code(), "log-unreadable");
        fs::write(&paths.ima, "files").unwrap();
        assert_eq!(beside(evidence(), &paths, BOTH).unwrap().ima_log(), Some(&b"files"[..]));
    }

    #[test]
    fn a_log_of_one_byte_too_many_is_refused_and_never_cut() {
        let scratch = Scratch::new("long");
        let paths = scratch.paths();
        fs::write(&paths.events, vec![7; MAX_EVENT_LOG]).unwrap();
        assert_eq!(beside(evidence(), &paths, EVENTS).unwrap().event_log().map(<[u8]>::len), Some(MAX_EVENT_LOG));
        fs::write(&paths.events, vec![7; MAX_EVENT_LOG + 1]).unwrap();
        let refusal = beside(evidence(), &paths, EVENTS).unwrap_err();
        assert_eq!(refusal.code(), "log-too-long");
        assert!(refusal.to_string().contains("196608"), "{refusal}");
    }

    #[test]
    fn a_machine_without_a_log_is_told_what_to_look_for_only_when_logs_are_asked_for() {
        let scratch = Scratch::new("none");
        let paths = scratch.paths();
        assert_eq!(beside(evidence(), &paths, WantedLogs::NONE).unwrap(), evidence());
        let refusal = beside(evidence(), &paths, EVENTS).unwrap_err().to_string();
        assert!(refusal.contains("securityfs"), "{refusal}");
        fs::write(&paths.events, "").unwrap();
        let refusal = beside(evidence(), &paths, EVENTS).unwrap_err().to_string();
        assert!(refusal.contains("empty"), "{refusal}");
    }

    #[test]
    fn where_nothing_is_configured_nothing_is_given_away() {
        assert!(given(None, WantedLogs::NONE).unwrap().is_none());
        assert_eq!(given(None, EVENTS).unwrap_err().code(), "logs-not-given");
        let paths = LogPaths::default();
        assert_eq!(given(Some(&paths), EVENTS).unwrap(), Some(&paths));
    }
}
