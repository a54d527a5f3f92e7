//! Where a policy demands that a person approves: the annotation `@approval`, read once when the text is.

use super::problem::Problem;
use super::{offset, position};
use cedar_policy::{Effect, Policy, PolicySet};
use serde::{Deserialize, Serialize};

/// Who has to approve, or has approved. A later one is worth more than an earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Approver {
    /// An operator, `@approval("required")`.
    AnyMachine,
    /// An operator whose machine is other hardware than the host that asks, `@approval("other-machine")`.
    OtherMachine,
}

impl Approver {
    /// For a refusal.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::AnyMachine => "an operator's approval is",
            Self::OtherMachine => "an operator's approval from another machine is",
        }
    }
}

/// What each policy demands, in the order of the text.
pub(super) fn demands(text: &str, set: &PolicySet, problems: &mut Vec<Problem>) -> Vec<Option<Approver>> {
    let mut policies: Vec<_> = set.policies().collect();
    policies.sort_by_key(|policy| position(policy.id()));
    policies
        .into_iter()
        .map(|policy| {
            let mut problem = |message: &str| problems.push(Problem::at(text, offset(set, policy.id()), message));
            for (key, _) in policy.annotations().filter(|(key, _)| !KNOWN.contains(key)) {
                problem(&format!("there is no annotation @{key}: known are @id, @approval and @description"));
            }
            demand(policy).unwrap_or_else(|message| {
                problem(message);
                None
            })
        })
        .collect()
}

fn demand(policy: &Policy) -> Result<Option<Approver>, &'static str> {
    let approver = match policy.annotation("approval") {
        None => return Ok(None),
        Some("required") => Approver::AnyMachine,
        Some("other-machine") => Approver::OtherMachine,
        Some(_) => return Err("@approval is \"required\" or \"other-machine\""),
    };
    match policy.effect() {
        Effect::Permit => Ok(Some(approver)),
        Effect::Forbid => Err("@approval belongs to a permit: nobody can approve what is forbidden"),
    }
}

const KNOWN: [&str; 3] = ["id", "approval", "description"];
