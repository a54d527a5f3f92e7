//! What to try about each refusal: the last column of docs/refusals.md, which a test holds to it word for word.

use blindferry_proto::refusal::RefusalCode;

/// The next step.
pub(crate) fn fix(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::Malformed => "the detail says what; bring both sides to one version",
        RefusalCode::Version => "bring both sides to one version",
        RefusalCode::NotAttested => {
            "the audit's record \"not attested\" has the judge's code; compare this machine's PCRs \
             (`blindferry reference capture`) with the reference values in force"
        }
        RefusalCode::HostPending => {
            "ask an operator to approve this machine: `blindferry host list` has its hash, `blindferry tpm` \
             shows the same here, then `blindferry host approve`"
        }
        RefusalCode::Denied => {
            "the audit says which policy or right was missing; or it is a lease of another process, or a \
             connection whose maker has ended"
        }
        RefusalCode::Unknown => {
            "look at what there is, for example with `blindferry list` or `blindferry host list`; a lease \
             may be over"
        }
        RefusalCode::GrantForeign => {
            "ask anew; the vault was restarted, or the grant was carried to another host, which is an alarm"
        }
        RefusalCode::GrantExpired => "ask anew; find out what takes so long",
        RefusalCode::GrantSpent => "look at the alarm: somebody else was first",
        RefusalCode::WorkerMismatch => "ask for the worker that there is, or start the one that was asked for",
        RefusalCode::Busy => "the same again in a moment; if it stays so, the metrics say which limit",
        RefusalCode::NotReady => "the same again in a moment; if it stays so, the broker's log, then the enclave's",
        RefusalCode::Upstream => "the same again in a moment; the enclave's log has the upstream's code",
        RefusalCode::Store => "the enclave's log; with an alarm beside it, what is stored was tampered with",
        RefusalCode::Exists => "remove it first, or say --replace where there is such an option",
        RefusalCode::Internal => "the log of the process that said it says more; report it",
        RefusalCode::ProtectionTooLow => {
            "`blindferry run --explain` tells which levels this machine offers, and --protection LEVEL asks \
             for the one that the detail names"
        }
        RefusalCode::ApprovalRequired => {
            "ask anew and wait for it (leave --no-wait out), and have an operator approve meanwhile: \
             `blindferry approve`"
        }
        RefusalCode::ApprovalDenied => "the detail has that operator's machine and reason",
        RefusalCode::ApprovalTimedOut => {
            "tell an operator before asking again; they say `blindferry approve`; `approval_wait` says how \
             long they have"
        }
        RefusalCode::ApprovalQueueFull => "have an operator decide about what waits: `blindferry approve`",
        RefusalCode::ApprovalMismatch => "see what waits now: `blindferry approve`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_command_says_to_try_is_what_the_page_of_refusals_says() {
        let page = include_str!("../../../docs/refusals.md");
        let (_, section) = page.split_once("\n### What a peer is told\n").unwrap();
        let (section, _) = section.split_once("\n### ").unwrap();
        let rows: Vec<(&str, &str)> = section
            .lines()
            .filter_map(|line| {
                let cells: Vec<&str> = line.strip_prefix("| `")?.trim_end_matches(" |").split(" | ").collect();
                Some((*cells.first()?, *cells.last()?))
            })
            .collect();
        assert!(rows.len() > 20, "{rows:?}");
        for (code, told) in rows {
            let code: RefusalCode = serde_json::from_value(code.trim_end_matches('`').into()).unwrap();
            assert_eq!(fix(code), told, "{code}");
        }
    }
}
