//! Who may have a token: Cedar policies, validated when they are applied and evaluated at grant, redemption and renewal.
//!
//! Nothing is permitted unless a policy permits it. A `forbid` always wins; so does an error: Cedar itself would skip a
//! policy whose evaluation fails, and a `forbid` that was skipped would be a hole. The schema (`schema.cedarschema`) is
//! strict, so that a misspelt attribute is found when the policy is applied and not when it is needed.

mod depth;
mod problem;
mod question;
#[cfg(test)]
mod tests;

use cedar_policy::{Authorizer, Decision, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use thiserror::Error;

use blindferry_proto::limits::MAX_DOCUMENT;

pub use self::problem::Problem;
pub use self::question::{Action, Claims, Question};

/// The policy of a new vault: nothing is permitted.
pub const DENY_ALL: &str = include_str!("policy/deny_all.cedar");
/// The Cedar schema, for tools.
pub const SCHEMA: &str = include_str!("policy/schema.cedarschema");

/// Problems that are reported of one policy text; the rest would only follow from them.
const MAX_PROBLEMS: usize = 64;

/// A policy that parsed and fits the schema.
#[derive(Debug)]
pub struct Policy {
    version: u64,
    policies: PolicySet,
    schema: Schema,
}

/// Proof that the policy allows what was asked. Only [`Policy::decide`] makes one, and it is spent where it is used:
///
/// ```compile_fail
/// let forged = blindferry_vault::policy::Allowed { version: 1, by: vec![] };
/// ```
///
/// ```compile_fail
/// fn twice(allowed: blindferry_vault::policy::Allowed) {
///     let copy = allowed.clone();
/// }
/// ```
#[derive(Debug)]
#[must_use = "permission that nobody uses protects nothing"]
pub struct Allowed {
    version: u64,
    by: Vec<String>,
}

impl Allowed {
    /// The version of the policy that allowed it: the policy epoch.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The policies that permit it, by their `@id`.
    #[must_use]
    pub fn by(&self) -> &[String] {
        &self.by
    }
}

/// The policy does not allow it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("denied by policy version {version}: {reason}")]
pub struct Denied {
    /// The version of the policy.
    pub version: u64,
    /// Why.
    pub reason: Reason,
}

/// Why the policy does not allow it. Policies are named by their `@id`, else by their place in the text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Reason {
    /// No policy permits it.
    #[error("no policy permits it")]
    NothingPermits,
    /// These policies forbid it.
    #[error("forbidden by {}", by.join(", "))]
    Forbidden {
        /// Which.
        by: Vec<String>,
    },
    /// A policy could not be evaluated.
    #[error("policy {policy} could not be evaluated: {why}")]
    Error {
        /// Which.
        policy: String,
        /// In Cedar's words.
        why: String,
    },
    /// The question could not be put to the policy.
    #[error("the question does not fit the schema: {why}")]
    Question {
        /// In Cedar's words.
        why: String,
    },
}

impl Policy {
    /// Parses and validates a policy text, at most [`MAX_DOCUMENT`] bytes of it. An empty one denies everything.
    ///
    /// # Errors
    /// Everything that is wrong with it, with line and column.
    pub fn parse(text: &str, version: u64) -> Result<Self, Vec<Problem>> {
        if text.len() > MAX_DOCUMENT {
            return Err(vec![Problem::whole(format!("longer than {MAX_DOCUMENT} bytes"))]);
        }
        depth::bounded(text)?;
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA)
            .map_err(|error| vec![Problem::whole(format!("the built-in schema is broken: {error}"))])?;
        let policies: PolicySet = text.parse().map_err(|errors| problem::of_parsing(text, &errors, MAX_PROBLEMS))?;
        if let Some(template) = policies.templates().next() {
            let name = template.id();
            return Err(vec![Problem::whole(format!("{name} is a template; there is nothing to fill its slots"))]);
        }
        let verdict = Validator::new(schema.clone()).validate(&policies, ValidationMode::Strict);
        let problems = problem::of_validation(text, verdict.validation_errors(), MAX_PROBLEMS);
        if !problems.is_empty() || !verdict.validation_passed() {
            return Err(problems);
        }
        Ok(Self { version, policies, schema })
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Decides.
    ///
    /// # Errors
    /// [`Denied`] says which policy denied, or that none permits.
    pub fn decide(&self, question: &Question<'_>) -> Result<Allowed, Denied> {
        let denied = |reason| Denied { version: self.version, reason };
        let (request, entities) =
            question.put(&self.schema).map_err(|error| denied(Reason::Question { why: error.to_string() }))?;
        let response = Authorizer::new().is_authorized(&request, &self.policies, &entities);
        if let Some(error) = response.diagnostics().errors().next() {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(at) = error;
            return Err(denied(Reason::Error { policy: self.name(at.policy_id()), why: error.to_string() }));
        }
        let mut by: Vec<_> = response.diagnostics().reason().map(|id| self.name(id)).collect();
        by.sort();
        match response.decision() {
            Decision::Allow if !by.is_empty() => Ok(Allowed { version: self.version, by }),
            Decision::Deny if !by.is_empty() => Err(denied(Reason::Forbidden { by })),
            Decision::Allow | Decision::Deny => Err(denied(Reason::NothingPermits)),
        }
    }

    fn name(&self, id: &PolicyId) -> String {
        self.policies.annotation(id, "id").filter(|name| !name.is_empty()).map_or_else(|| id.to_string(), str::to_owned)
    }
}
