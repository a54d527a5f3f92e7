//! A question as Cedar wants it: the request and the entities that it speaks of, checked against the schema.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use blindferry_attest::attested::Claims;
use blindferry_proto::name::{Audience, CredentialName, HostName, VariableName};
use blindferry_proto::session::ProcessFacts;
use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression, Schema,
};

use super::approval::Approver;

/// What somebody wants to do with a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A parent asks for a grant.
    Grant,
    /// A worker redeems it.
    Redeem,
    /// The worker wants its next token.
    Renew,
}

/// Everything that a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What is wanted.
    pub action: Action,
    /// The host whose session it came over.
    pub host: &'a HostName,
    /// The process that shall have the token, or has it.
    pub worker: &'a ProcessFacts,
    /// Credentials of its parent that the worker gets as well, by the names of their variables.
    pub inherited: &'a [VariableName],
    /// The process that asked for the grant.
    pub parent: &'a ProcessFacts,
    /// What is wanted of.
    pub credential: &'a CredentialName,
    /// The credential's kind: `release`, `oauth-client` or `jwt-signer`.
    pub kind: &'static str,
    /// Whom the token is for.
    pub audience: Option<&'a Audience>,
    /// What the host's attestation found.
    pub claims: &'a Claims,
    /// Seconds since the host's session began.
    pub session_age: u64,
    /// Seconds since the host's last good evidence.
    pub attestation_age: u64,
    /// The approval that a person gave, for this very grant or for the one that it came from.
    pub approval: Option<Approver>,
}

/// The fixed parts of every question: the schema and the names of what is in it.
pub(super) struct Vocabulary {
    pub(super) schema: Schema,
    host: EntityTypeName,
    worker: EntityTypeName,
    credential: EntityTypeName,
    protection: EntityTypeName,
    grant: EntityUid,
    redeem: EntityUid,
    renew: EntityUid,
}

#[expect(clippy::expect_used, reason = "constants of this program: each test of a policy would fail")]
pub(super) static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
    let name = |text: &str| text.parse().expect("a type of the schema");
    let action = |text: &str| text.parse().expect("an action of the schema");
    let (schema, warnings) =
        Schema::from_cedarschema_str(include_str!("schema.cedarschema")).expect("the schema parses");
    debug_assert_eq!(warnings.count(), 0, "the schema has no warnings");
    Vocabulary {
        schema,
        host: name("Blindferry::Host"),
        worker: name("Blindferry::Worker"),
        credential: name("Blindferry::Credential"),
        protection: name("Blindferry::Protection"),
        grant: action(r#"Blindferry::Action::"grant""#),
        redeem: action(r#"Blindferry::Action::"redeem""#),
        renew: action(r#"Blindferry::Action::"renew""#),
    }
});

impl Vocabulary {
    /// What each question is compared with while it is made. It fits by construction, which builds with debug assertions
    /// look at each time; in others the comparison would cost half of the question.
    fn checked_against(&self) -> Option<&Schema> {
        cfg!(debug_assertions).then_some(&self.schema)
    }
}

impl Question<'_> {
    /// The question for Cedar.
    ///
    /// # Errors
    ///
    /// A complaint in words when it does not fit the schema, which is a fault of this program.
    pub(super) fn put(&self) -> Result<(Request, Entities), String> {
        let words = &*VOCABULARY;
        let host = EntityUid::from_type_name_and_id(words.host.clone(), EntityId::new(self.host.as_str()));
        let worker = EntityUid::from_type_name_and_id(
            words.worker.clone(),
            EntityId::new(format!("{}/{}", self.host, self.worker.uid)),
        );
        let credential =
            EntityUid::from_type_name_and_id(words.credential.clone(), EntityId::new(self.credential.as_str()));
        let action = match self.action {
            Action::Grant => &words.grant,
            Action::Redeem => &words.redeem,
            Action::Renew => &words.renew,
        };

        let entities = [
            Entity::new(credential.clone(), HashMap::from([attribute("kind", self.kind)]), HashSet::new()),
            Entity::new(
                host.clone(),
                HashMap::from([attribute("name", self.host.as_str()), attribute("role", "broker")]),
                HashSet::new(),
            ),
            Entity::new(worker.clone(), self.worker_attributes(), HashSet::from([host])),
        ];
        let entities = entities.into_iter().collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
        let entities = Entities::from_entities(entities, words.checked_against()).map_err(|e| e.to_string())?;
        let context = Context::from_pairs(self.circumstances()).map_err(|e| e.to_string())?;
        let request = Request::new(worker, action.clone(), credential, context, words.checked_against())
            .map_err(|e| e.to_string())?;
        Ok((request, entities))
    }

    fn worker_attributes(&self) -> HashMap<String, RestrictedExpression> {
        let mut attributes = HashMap::from([
            ("uid".to_owned(), RestrictedExpression::new_long(self.worker.uid.into())),
            ("gid".to_owned(), RestrictedExpression::new_long(self.worker.gid.into())),
        ]);
        attributes.extend(self.worker.executable.map(|digest| attribute("executable", &digest.to_string())));
        attributes.extend(self.worker.protection.map(|level| {
            let words = &*VOCABULARY;
            let level = EntityUid::from_type_name_and_id(words.protection.clone(), EntityId::new(level.name()));
            ("protection".to_owned(), RestrictedExpression::new_entity_uid(level))
        }));
        attributes
    }

    fn circumstances(&self) -> Vec<(String, RestrictedExpression)> {
        let claims = self.claims;
        let pcrs =
            claims.pcrs.iter().map(|(index, value)| RestrictedExpression::new_string(format!("{index}:{value}")));
        let inherited = self.inherited.iter().map(|name| RestrictedExpression::new_string(name.to_string()));
        let mut pairs = vec![
            attribute("platform", claims.platform),
            attribute("reference", &claims.reference),
            attribute("ak", claims.ak_name.as_deref().unwrap_or_default()),
            attribute("firmware", &claims.firmware),
            ("pcrs".to_owned(), RestrictedExpression::new_set(pcrs)),
            ("inherited".to_owned(), RestrictedExpression::new_set(inherited)),
            ("parent_uid".to_owned(), RestrictedExpression::new_long(self.parent.uid.into())),
            ("session_age".to_owned(), age(self.session_age)),
            ("attestation_age".to_owned(), age(self.attestation_age)),
        ];
        pairs.extend(self.audience.map(|audience| attribute("audience", audience.as_str())));
        pairs
    }
}

fn attribute(name: &str, value: &str) -> (String, RestrictedExpression) {
    (name.to_owned(), RestrictedExpression::new_string(value.to_owned()))
}

/// What is older than Cedar can count is as old as Cedar can count: never younger.
fn age(seconds: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(seconds).unwrap_or(i64::MAX))
}
