//! `enclave`: under which PCR values the vault's own key may be unsealed.

use crate::confirm::confirm;
use crate::document;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::session::with_session;
use blindferry_proto::identifier::Digest;
use blindferry_proto::operator::OperatorRequest;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the enclave may run
#[derive(Debug, Subcommand)]
pub(crate) enum Enclave {
    /// Approve PCR values beside those approved before: do it before an update
    Approve(Approve),
    /// Withdraw all approvals but the newest, or on SEV-SNP every guest but the one that runs: do it when the update runs
    RevokeOld {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Which values.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("values").required(true))]
pub(crate) struct Approve {
    /// Reference values of one platform with one value for each PCR, as `reference capture --role vault` writes them
    #[arg(long, value_name = "FILE", group = "values")]
    from: Option<PathBuf>,
    /// A PCR of the SHA-256 bank and its value in hexadecimal
    #[arg(value_name = "INDEX=HEX", group = "values", value_parser = pcr)]
    pcrs: Vec<(u8, Digest)>,
}

#[derive(Serialize)]
struct Approved {
    approved: BTreeMap<u8, Digest>,
}

#[derive(Serialize)]
struct Revoked {
    revoked_old: bool,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation, enclave: Enclave) -> Result<(), Failure> {
    match enclave {
        Enclave::Approve(approve) => {
            let approved = approve.values()?;
            let request = OperatorRequest::ApproveEnclave { pcrs: approved.clone().into_iter().collect() };
            with_session(invocation, async |session| session.order("approve the values", request).await)?;
            let lines: String = approved.iter().map(|(pcr, value)| format!("{pcr}={value}\n")).collect();
            invocation.output.show(&Approved { approved }, || format!("approved beside those before:\n{lines}"))
        }
        Enclave::RevokeOld { yes } => {
            confirm(
                "The vault will not start any more on anything but the values approved last, or on any guest but the one that runs.",
                yes,
            )?;
            let request = OperatorRequest::RevokeOldApprovals;
            with_session(invocation, async |session| session.order("revoke the old approvals", request).await)?;
            invocation.output.show(&Revoked { revoked_old: true }, || {
                "revoked all approvals but the newest, or on SEV-SNP all guests but this one".to_owned()
            })
        }
    }
}

impl Approve {
    fn values(self) -> Result<BTreeMap<u8, Digest>, Failure> {
        let pairs = match self.from {
            Some(path) => {
                let text = document::read(&path)?;
                from_reference(text.as_str()).map_err(|source| Failure::Approval { path: Some(path), source })?
            }
            None => self.pcrs,
        };
        let mut values = BTreeMap::new();
        for (pcr, value) in pairs {
            if values.insert(pcr, value).is_some() {
                return Err(Failure::Approval { path: None, source: ApprovalError::Twice { pcr } });
            }
        }
        Ok(values)
    }
}

/// The PCR values of a file of reference values, or of a vault's reference, in which they are unambiguous.
fn from_reference(text: &str) -> Result<Vec<(u8, Digest)>, ApprovalError> {
    let table: toml::Table = text.parse().map_err(|source| ApprovalError::Toml { source: Box::new(source) })?;
    if table.get("role").and_then(toml::Value::as_str) != Some("vault") {
        return Err(ApprovalError::Role);
    }
    let Some([platform]) = table.get("tpm").and_then(toml::Value::as_array).map(Vec::as_slice) else {
        return Err(ApprovalError::OnePlatform);
    };
    let pcrs = platform.get("pcrs").and_then(toml::Value::as_table).ok_or(ApprovalError::NoPcrs)?;
    let value = |(index, values): (&String, &toml::Value)| {
        let [toml::Value::String(value)] = values.as_array().map(Vec::as_slice).unwrap_or_default() else {
            return Err(ApprovalError::OneValue { pcr: index.clone() });
        };
        pcr(&format!("{index}={value}"))
    };
    pcrs.iter().map(value).collect()
}

fn pcr(text: &str) -> Result<(u8, Digest), ApprovalError> {
    let (index, value) = text.split_once('=').ok_or(ApprovalError::Pair)?;
    let index = index.parse().ok().filter(|index| *index <= 23).ok_or(ApprovalError::Pair)?;
    Ok((index, value.parse().map_err(|_| ApprovalError::Pair)?))
}

/// Nothing can be approved from this.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApprovalError {
    #[error("not a PCR and its value: expected INDEX=HEX, an index from 0 to 23 and 64 digits in lower case")]
    Pair,
    #[error("PCR {pcr} is named twice")]
    Twice { pcr: u8 },
    #[error("not TOML")]
    Toml { source: Box<toml::de::Error> },
    #[error("these are not reference values for the role vault")]
    Role,
    #[error("there must be exactly one [[tpm]]")]
    OnePlatform,
    #[error("there are no PCR values")]
    NoPcrs,
    #[error("PCR {pcr} must have exactly one value")]
    OneValue { pcr: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(pcrs: &str) -> String {
        format!("version = 1\nrole = \"vault\"\n\n[[tpm]]\nname = \"a\"\nfirmware = \"any\"\n\n[tpm.pcrs]\n{pcrs}")
    }

    #[test]
    fn values_come_from_a_capture_where_they_are_unambiguous() {
        let (one, two) = ("11".repeat(32), "22".repeat(32));
        let captured = reference(&format!("4 = [\"{one}\"]\n7 = [\"{two}\"]\n"));
        assert_eq!(from_reference(&captured).unwrap(), [(4, Digest([0x11; 32])), (7, Digest([0x22; 32]))]);
        let pinned = format!("ak = \"000b\"\naudit_key = \"{one}\"\n{captured}");
        assert_eq!(from_reference(&pinned).unwrap().len(), 2);
        let two_values = reference(&format!("4 = [\"{one}\", \"{two}\"]\n"));
        assert!(matches!(from_reference(&two_values), Err(ApprovalError::OneValue { .. })));
        let two_platforms = format!("{captured}\n[[tpm]]\nname = \"b\"\n");
        assert!(matches!(from_reference(&two_platforms), Err(ApprovalError::OnePlatform)));
        assert!(matches!(from_reference(&captured.replace("vault", "broker")), Err(ApprovalError::Role)));
    }

    #[test]
    fn a_pcr_is_an_index_and_a_value_and_comes_once() {
        let value = "0a".repeat(32);
        assert_eq!(pcr(&format!("7={value}")).unwrap(), (7, Digest([10; 32])));
        for bad in [format!("24={value}"), format!("-1={value}"), format!("7={}", &value[1..]), "7".to_owned()] {
            assert!(pcr(&bad).is_err(), "{bad}");
        }
        let twice = Approve { from: None, pcrs: vec![(7, Digest([0; 32])), (7, Digest([1; 32]))] };
        assert!(matches!(twice.values(), Err(Failure::Approval { source: ApprovalError::Twice { pcr: 7 }, .. })));
    }
}
