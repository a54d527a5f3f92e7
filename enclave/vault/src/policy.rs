//! The decision whether a worker may have a token: Cedar policies in, an [`Allowed`] or a [`Denied`] out.
//!
//! What policies may speak of stands in `policy/schema.cedarschema`, and a text that does not fit it is refused as a
//! whole, by line and column. Nothing is permitted unless a policy permits it; a `forbid` outweighs every `permit`; and
//! an error in any policy denies, whatever the others say: a rule that could not be evaluated might have been the one
//! that forbids.
//!
//! The proof and the one function that makes it share this file, because the file is the lock.

use std::collections::HashSet;
use std::fmt;

use blindferry_proto::limits::{MAX_DOCUMENT, MAX_PAGE};
use blindferry_proto::protection::ProtectionLevel;
use blindferry_proto::session::ProcessFacts;
use cedar_policy::{
    AuthorizationError, Authorizer, Decision, PolicyId, PolicySet, Response, ValidationMode, Validator,
};
use thiserror::Error;

use self::approval::demands;
use self::problem::one_line;
use self::question::VOCABULARY;

pub use self::approval::Approver;
pub use self::problem::Problem;
pub use self::question::{Action, Question};

mod approval;
mod depth;
mod problem;
mod question;
#[cfg(test)]
mod tests;

/// The policies in force, parsed and validated. Hand it around in an `Arc`.
pub struct Policy {
    version: u64,
    text: String,
    set: PolicySet,
    /// What the policies are called in answers, in the order of the text: `policy0` is the first.
    names: Vec<String>,
    /// Whose approval they demand, in the same order.
    demands: Vec<Option<Approver>>,
}

/// A policy permits what was asked. Only [`Policy::decide`] makes one; it is spent where it is used.
///
/// It cannot be built:
///
/// ```compile_fail,E0451
/// use blindferry_vault::policy::Allowed;
/// let forged = Allowed { version: 1, by: Vec::new() };
/// ```
///
/// It cannot be cloned, so one answer buys one thing:
///
/// ```compile_fail,E0382
/// fn spend(_: blindferry_vault::policy::Allowed) {}
/// fn twice(allowed: blindferry_vault::policy::Allowed) {
///     spend(allowed);
///     spend(allowed);
/// }
/// ```
///
/// And an answer that nobody looks at is an error where warnings are:
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// fn forgotten(allowed: fn() -> blindferry_vault::policy::Allowed) {
///     allowed();
/// }
/// ```
#[must_use = "a permission that nobody spends protects nothing"]
#[derive(Debug)]
pub struct Allowed {
    version: u64,
    by: Vec<String>,
}

/// No policy permits what was asked, or one forbids it, or one could not be evaluated. For our log: the peer learns
/// only that it was refused.
#[derive(Debug, Error)]
#[error("policy version {version}: {why}")]
pub struct Denied {
    version: u64,
    reason: Reason,
    by: Vec<String>,
    why: String,
}

/// Why something was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No policy permits it.
    NothingPermits,
    /// A policy forbids it.
    Forbidden,
    /// A policy could not be evaluated.
    Evaluation,
    /// The question itself does not fit the schema: a fault of this program.
    Question,
    /// It would be permitted if this approval were there.
    Unapproved(Approver),
}

impl Policy {
    /// Parses and validates a policy text, without exception by the schema: also what Cedar only warns of is refused,
    /// for a rule that can never apply is a rule that its author thinks is there. The empty text is a policy, which
    /// denies everything.
    ///
    /// A policy may carry an annotation `@id("…")`, by which answers name it: 1 to 64 printable characters of ASCII,
    /// once in the text; and `@approval("required")` or `@approval("other-machine")` where a person has to approve, see
    /// [`Approver`]; and `@description`. Any other annotation is refused: one that is misspelt would demand nothing.
    /// Templates are refused, because nothing would link them.
    ///
    /// # Errors
    ///
    /// What is wrong and where, as many as [`MAX_PAGE`] problems, in the order of the text.
    pub fn parse(text: &str, version: u64) -> Result<Self, Vec<Problem>> {
        if let Some(problem) = out_of_bounds(text) {
            return Err(vec![problem]);
        }
        let set: PolicySet = text.parse().map_err(|errors: cedar_policy::ParseErrors| {
            in_order(errors.iter().map(|error| Problem::of(text, error, 0)).collect())
        })?;

        let mut problems = Vec::new();
        let names = named(text, &set, &mut problems);
        let demands = demands(text, &set, &mut problems);
        let validated = Validator::new(VOCABULARY.schema.clone()).validate(&set, ValidationMode::Strict);
        let start = |id| offset(&set, id);
        problems.extend(validated.validation_errors().map(|e| Problem::of(text, e, start(e.policy_id()))));
        if problems.is_empty() {
            // Otherwise they are mostly echoes: a policy with an unknown action applies to no action.
            problems.extend(validated.validation_warnings().map(|w| Problem::of(text, w, start(w.policy_id()))));
        }
        if problems.is_empty() {
            Ok(Self { version, text: text.to_owned(), set, names, demands })
        } else {
            Err(in_order(problems))
        }
    }

    /// The policy that permits nothing, version 0: what is in force until an operator sets another.
    #[must_use]
    pub fn deny_all() -> Self {
        Self { version: 0, text: String::new(), set: PolicySet::new(), names: Vec::new(), demands: Vec::new() }
    }

    /// Answers a question.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless a policy permits it, none forbids it, all could be evaluated, and every approval is there that a
    /// policy which permits it demands.
    pub fn decide(&self, question: &Question<'_>) -> Result<Allowed, Denied> {
        let (request, entities) = question.put().map_err(|why| self.denied(Reason::Question, Vec::new(), why))?;
        let response = Authorizer::new().is_authorized(&request, &self.set, &entities);
        if let Some(denied) = self.evaluation_failed(&response) {
            return Err(denied);
        }
        let by = self.names_of(response.diagnostics().reason());
        match response.decision() {
            Decision::Allow if let Some(denied) = self.unapproved(&response, question.approval) => Err(denied),
            Decision::Allow => Ok(Allowed { version: self.version, by }),
            Decision::Deny if by.is_empty() => {
                Err(self.denied(Reason::NothingPermits, by, "no policy permits it".to_owned()))
            }
            Decision::Deny => {
                let why = format!("forbidden by {}", by.join(", "));
                Err(self.denied(Reason::Forbidden, by, why))
            }
        }
    }

    /// The weakest level of protection, stronger than the worker's, at which the answer would be yes: so that a worker
    /// that was denied can be told what to ask for. It is no permission.
    #[must_use]
    pub fn stronger_level_wanted(&self, question: &Question<'_>) -> Option<ProtectionLevel> {
        let stronger = ProtectionLevel::ALL.into_iter().filter(|level| question.worker.protection < Some(*level));
        stronger.into_iter().find(|level| {
            let worker = ProcessFacts { protection: Some(*level), ..*question.worker };
            match self.decide(&Question { worker: &worker, ..*question }) {
                Ok(_) => true,
                Err(denied) => matches!(denied.reason(), Reason::Unapproved(_)),
            }
        })
    }

    /// Counts up with every change; 0 is [`Policy::deny_all`].
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The text as it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    fn evaluation_failed(&self, response: &Response) -> Option<Denied> {
        let mut failed: Vec<_> = response
            .diagnostics()
            .errors()
            .map(|AuthorizationError::PolicyEvaluationError(error)| (position(error.policy_id()), error))
            .collect();
        failed.sort_by_key(|(position, _)| *position);
        let (_, first) = failed.first()?;
        let by = self.names_of(failed.iter().map(|(_, error)| error.policy_id()));
        let why = format!("cannot evaluate {}: {}", by.join(", "), first.inner());
        Some(self.denied(Reason::Evaluation, by, why))
    }

    /// Of all policies that permit it, each demand has to be met, whether another permits it without one or not: who
    /// writes a demand beside a wide permission means the demand.
    fn unapproved(&self, response: &Response, given: Option<Approver>) -> Option<Denied> {
        let unmet = |id: &&PolicyId| position(id).and_then(|at| self.demands.get(at).copied().flatten()) > given;
        let unmet: Vec<_> = response.diagnostics().reason().filter(unmet).collect();
        let demanded = unmet.iter().filter_map(|id| self.demands.get(position(id)?).copied().flatten()).max()?;
        let by = self.names_of(unmet.into_iter());
        let why = format!("{} demanded by {}", demanded.words(), by.join(", "));
        Some(self.denied(Reason::Unapproved(demanded), by, why))
    }

    fn denied(&self, reason: Reason, by: Vec<String>, why: String) -> Denied {
        Denied { version: self.version, reason, by, why: one_line(&why) }
    }

    /// What these policies are called, in the order of the text.
    fn names_of<'a>(&self, ids: impl Iterator<Item = &'a PolicyId>) -> Vec<String> {
        let mut positions: Vec<_> = ids.filter_map(position).collect();
        positions.sort_unstable();
        positions.iter().filter_map(|position| self.names.get(*position).cloned()).collect()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("version", &self.version).field("names", &self.names).finish_non_exhaustive()
    }
}

impl Allowed {
    /// The version of the policy that permitted it.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The policies that permitted it, by name, in the order of the text.
    #[must_use]
    pub fn by(&self) -> &[String] {
        &self.by
    }
}

impl Denied {
    /// The version of the policy that denied it.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The policies that forbade it or failed, by name, in the order of the text.
    #[must_use]
    pub fn by(&self) -> &[String] {
        &self.by
    }
}

impl Reason {
    /// The same in every version, for metrics and audit.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NothingPermits => "nothing-permits",
            Self::Forbidden => "forbidden",
            Self::Evaluation => "evaluation",
            Self::Question => "question",
            Self::Unapproved(_) => "unapproved",
        }
    }
}

/// A text that is not even handed to the parser.
fn out_of_bounds(text: &str) -> Option<Problem> {
    if text.len() > MAX_DOCUMENT {
        let message = format!("{} bytes are more than the {MAX_DOCUMENT} that a policy text may have", text.len());
        return Some(Problem::at("", 0, &message));
    }
    depth::too_deep(text).map(|(at, what)| Problem::at(text, at, what))
}

/// What each policy is called: by its annotation, or by its position and line.
fn named(text: &str, set: &PolicySet, problems: &mut Vec<Problem>) -> Vec<String> {
    for template in set.templates() {
        let at = template.as_ref().loc().map_or(0, |loc| loc.start());
        problems.push(Problem::at(text, at, "templates are of no use here, because nothing links them"));
    }
    let mut policies: Vec<_> = set.policies().collect();
    policies.sort_by_key(|policy| position(policy.id()));
    let mut seen = HashSet::new();
    policies
        .into_iter()
        .map(|policy| {
            let at = offset(set, policy.id());
            let Some(id) = policy.annotation("id") else {
                return format!("{} (line {})", policy.id(), Problem::at(text, at, "").line());
            };
            if id.is_empty() || id.len() > MAX_NAME || !id.bytes().all(|b| b.is_ascii_graphic()) {
                let message = format!("@id is not 1 to {MAX_NAME} printable characters of ASCII");
                problems.push(Problem::at(text, at, &message));
            } else if !seen.insert(id) {
                problems.push(Problem::at(text, at, &format!("another policy has the @id {id} already")));
            }
            id.to_owned()
        })
        .collect()
}

/// Bytes of a policy's name.
const MAX_NAME: usize = 64;

/// Where a policy begins in the text.
fn offset(set: &PolicySet, id: &PolicyId) -> usize {
    set.policy(id).and_then(|policy| policy.as_ref().loc()).map_or(0, |loc| loc.start())
}

/// Which policy of the text it is, from 0. Cedar calls them `policy0`, `policy1`, ….
fn position(id: &PolicyId) -> Option<usize> {
    AsRef::<str>::as_ref(id).strip_prefix("policy")?.parse().ok()
}

fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| (problem.line(), problem.column()));
    // Cedar says the same for each action, in words of its own.
    problems.dedup_by_key(|problem| (problem.line(), problem.column()));
    problems.truncate(MAX_PAGE);
    problems
}
