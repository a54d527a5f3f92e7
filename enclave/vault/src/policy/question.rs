//! The question that is put to a policy, in our types; and its form in Cedar's.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;

use blindferry_proto::credential::Kind;
use blindferry_proto::identifier::Digest;
use blindferry_proto::name::{Audience, CredentialName, HostName};
use blindferry_proto::role::Role;
use blindferry_proto::session::{ProcessFacts, WorkerConstraint};
use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression, Schema,
};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A parent asks for a grant.
    Grant,
    /// A worker redeems it.
    Redeem,
    /// A worker renews its lease.
    Renew,
}

/// What was attested of the host, and how the session stands.
#[derive(Clone, Debug)]
pub struct Claims<'a> {
    /// The platform, such as `tpm`.
    pub platform: &'a str,
    /// The name of the reference values that matched.
    pub reference: &'a str,
    /// The Name of the attestation key, in hexadecimal.
    pub ak: &'a str,
    /// The TPM's firmware version.
    pub firmware: &'a str,
    /// Whether no hardware stands behind the TPM.
    pub software_tpm: bool,
    /// The quoted PCRs in hexadecimal, by number.
    pub pcrs: &'a BTreeMap<u8, String>,
    /// Seconds since the session began.
    pub session_age: u64,
}

/// May this worker, on this host, have a token of this credential?
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// What is to be done.
    pub action: Action,
    /// On which host.
    pub host: &'a HostName,
    /// The host's role.
    pub role: Role,
    /// The worker's user.
    pub uid: u32,
    /// The worker's group, where it is known.
    pub gid: Option<u32>,
    /// The SHA-256 of the worker's program, where it was measured.
    pub executable: Option<Digest>,
    /// Which credential.
    pub credential: &'a CredentialName,
    /// Its kind.
    pub kind: &'a Kind,
    /// Whom the token shall be for.
    pub audience: Option<&'a Audience>,
    /// The user of the parent that asked for the grant.
    pub parent_uid: u32,
    /// What was attested.
    pub claims: Claims<'a>,
}

impl<'a> Question<'a> {
    /// What `parent` asks on behalf of a worker that is not there yet: what the constraint says of it is taken for what
    /// it will be, and where that leaves its user open, the parent's. The worker itself is judged when it redeems.
    #[must_use]
    pub fn at_grant(
        host: &'a HostName,
        credential: &'a CredentialName,
        kind: &'a Kind,
        parent: &ProcessFacts,
        worker: &WorkerConstraint,
        audience: Option<&'a Audience>,
        claims: Claims<'a>,
    ) -> Self {
        Self {
            action: Action::Grant,
            host,
            role: Role::Broker,
            uid: worker.uid.unwrap_or(parent.uid),
            gid: None,
            executable: worker.executable,
            credential,
            kind,
            audience,
            parent_uid: parent.uid,
            claims,
        }
    }

    /// In Cedar's form, checked against the schema.
    pub(super) fn put(&self, schema: &Schema) -> Result<(Request, Entities), Box<dyn Error>> {
        let host = uid("Host", self.host.as_str())?;
        let worker = uid("Worker", &format!("{}#{}", self.host, self.uid))?;
        let credential = uid("Credential", self.credential.as_str())?;
        let action = uid("Action", self.action.name())?;

        let entities = [
            Entity::new(
                host.clone(),
                attributes([("name", text(self.host.as_str())), ("role", text(role(self.role)))]),
                HashSet::new(),
            )?,
            Entity::new(worker.clone(), self.worker(), HashSet::from([host]))?,
            Entity::new(
                credential.clone(),
                attributes([("name", text(self.credential.as_str())), ("kind", text(kind(self.kind)))]),
                HashSet::new(),
            )?,
        ];
        let entities = Entities::from_entities(entities, Some(schema))?;
        let context = Context::from_pairs(self.context()?)?;
        Ok((Request::new(worker, action, credential, context, Some(schema))?, entities))
    }

    fn worker(&self) -> HashMap<String, RestrictedExpression> {
        let mut worker = attributes([("uid", long(self.uid))]);
        worker.extend(self.gid.map(|gid| ("gid".to_owned(), long(gid))));
        worker.extend(self.executable.map(|digest| ("executable".to_owned(), text(&digest.to_string()))));
        worker
    }

    fn context(&self) -> Result<HashMap<String, RestrictedExpression>, Box<dyn Error>> {
        let claims = &self.claims;
        let pcrs = claims.pcrs.iter().map(|(index, value)| text(&format!("{index}:{value}")));
        let mut context = attributes([
            ("platform", text(claims.platform)),
            ("reference", text(claims.reference)),
            ("ak", text(claims.ak)),
            ("firmware", text(claims.firmware)),
            ("software_tpm", RestrictedExpression::new_bool(claims.software_tpm)),
            ("pcrs", RestrictedExpression::new_set(pcrs)),
            ("session_age", RestrictedExpression::new_long(i64::try_from(claims.session_age)?)),
            ("parent_uid", long(self.parent_uid)),
        ]);
        context.extend(self.audience.map(|audience| ("audience".to_owned(), text(audience.as_str()))));
        Ok(context)
    }
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Redeem => "redeem",
            Self::Renew => "renew",
        }
    }
}

fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Release => "release",
        Kind::OauthClient(_) => "oauth-client",
        Kind::JwtSigner(_) => "jwt-signer",
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Vault => "vault",
        Role::Broker => "broker",
        Role::Operator => "operator",
    }
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, Box<dyn Error>> {
    let name: EntityTypeName = format!("Blindferry::{kind}").parse()?;
    // The id is taken as it is, not parsed: nothing in a name can change what it names.
    Ok(EntityUid::from_type_name_and_id(name, EntityId::new(id)))
}

fn attributes<const N: usize>(pairs: [(&str, RestrictedExpression); N]) -> HashMap<String, RestrictedExpression> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn long(value: u32) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::from(value))
}
