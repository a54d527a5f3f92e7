//! `status`: how the vault is.

use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::{Table, pairs, printable, span};
use crate::session::with_session;
use blindferry_proto::operator::{OperatorReply, OperatorRequest, Status as Reported};

/// Show how the vault is
#[derive(Debug, clap::Args)]
pub(crate) struct Status {}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation) -> Result<(), Failure> {
    let doing = "ask how the vault is";
    let (reply, pinned) = with_session(invocation, async |session| {
        Ok((session.ask(doing, OperatorRequest::Status).await?, session.vault.audit_key))
    })?;
    let OperatorReply::Status(status) = reply else { return Err(Failure::Unexpected { doing }) };
    invocation.output.show(&status, || {
        let mut text = render(&status);
        if pinned.is_some_and(|pinned| pinned != status.audit_key) {
            text.push_str("! the audit key is not the one of the vault reference\n");
        }
        text
    })
}

fn render(status: &Reported) -> String {
    let mut text = pairs(&[
        ("Version", status.version.to_string()),
        ("Replica", status.replica.to_string()),
        ("Up for", span(status.uptime)),
        ("Secrets in memory", status.memory.to_string()),
        ("Platform", printable(status.platform.as_str())),
        ("Policy", version(status.policy_version)),
        ("Reference values", version(status.reference_version)),
        ("Sessions", status.sessions.to_string()),
        ("Leases", status.leases.to_string()),
        ("Waiting for approval", status.asks_waiting.to_string()),
        ("Audit key", status.audit_key.to_string()),
    ]);
    if !status.figures.is_empty() {
        let mut table = Table::new(&["FIGURE", "OF", "VALUE"]);
        for figure in &status.figures {
            let label = figure.label.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
            table.row([figure.name.to_string(), label, figure.value.to_string()]);
        }
        text.push('\n');
        text.push_str(&table.render());
    }
    for warning in &status.warnings {
        text.push_str(&format!("! {}\n", printable(warning.as_str())));
    }
    text
}

fn version(version: u64) -> String {
    if version == 0 { "none yet".to_owned() } else { format!("version {version}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_proto::bounded::Text;
    use blindferry_proto::identifier::{AuditKey, ReplicaId};

    fn reported() -> Reported {
        Reported {
            replica: ReplicaId([1; 8]),
            version: Text::cut("0.1.0"),
            uptime: 61,
            memory: Text::cut("memfd_secret"),
            policy_version: 0,
            reference_version: 2,
            platform: Text::cut("software TPM 2.0"),
            software_tpm: true,
            dangers: Vec::new(),
            sessions: 1,
            leases: 0,
            asks_waiting: 0,
            figures: Vec::new(),
            audit_key: AuditKey([2; 32]),
            warnings: vec![Text::cut("there is no policy yet: nothing is allowed")],
        }
    }

    #[test]
    fn warnings_and_missing_documents_are_said() {
        let text = render(&reported());
        assert!(text.contains("none yet") && text.contains("version 2") && text.contains("1m 1s"), "{text}");
        assert!(text.contains("! there is no policy yet"), "{text}");
    }

    #[test]
    fn the_document_has_stable_names() {
        let document = serde_json::to_value(reported()).unwrap();
        for name in ["replica", "version", "uptime", "policy_version", "software_tpm", "audit_key", "warnings"] {
            assert!(document.get(name).is_some(), "{name}");
        }
    }
}
