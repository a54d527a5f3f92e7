//! `list`: the stored credentials.

use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::{Table, span};
use crate::session::{Session, with_session};
use blindferry_proto::credential::{CredentialSettings, Kind};
use blindferry_proto::name::CredentialName;
use blindferry_proto::operator::{OperatorReply, OperatorRequest};
use serde::Serialize;

/// List the stored credentials
#[derive(Debug, clap::Args)]
pub(crate) struct List {}

#[derive(Serialize)]
struct Credentials {
    credentials: Vec<Credential>,
}

#[derive(Serialize)]
struct Credential {
    name: CredentialName,
    settings: CredentialSettings,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation) -> Result<(), Failure> {
    let credentials = Credentials { credentials: with_session(invocation, async |session| all(session).await)? };
    invocation.output.show(&credentials, || render(&credentials))
}

async fn all(session: &Session<'_>) -> Result<Vec<Credential>, Failure> {
    let doing = "list the credentials";
    let mut all: Vec<Credential> = Vec::new();
    loop {
        let after = all.last().map(|last| last.name.clone());
        let OperatorReply::Credentials(page) = session.ask(doing, OperatorRequest::List { after }).await? else {
            return Err(Failure::Unexpected { doing });
        };
        // A page that does not go on would be asked for again and again.
        let goes_on = page.first().zip(all.last()).is_none_or(|((first, _), last)| *first > last.name);
        if !goes_on {
            return Err(Failure::Unexpected { doing });
        }
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page.into_iter().map(|(name, settings)| Credential { name, settings }));
    }
}

fn render(credentials: &Credentials) -> String {
    let mut table = Table::new(&["NAME", "KIND", "TOKEN", "LEASE IDLE", "CACHE IDLE", "FROM"]);
    for Credential { name, settings } in &credentials.credentials {
        let (kind, from) = match &settings.kind {
            Kind::Release => ("release", String::new()),
            Kind::OauthClient(client) => ("oauth-client", client.token_url.to_string()),
            Kind::JwtSigner(signer) => ("jwt-signer", signer.issuer.to_string()),
        };
        table.row([
            name.to_string(),
            kind.to_owned(),
            span(settings.token_lifetime.into()),
            span(settings.lease_idle.into()),
            settings.cache_idle.map_or_else(|| "-".to_owned(), |idle| span(idle.into())),
            from,
        ]);
    }
    if table.is_empty() { "There are no credentials yet.\n".to_owned() } else { table.render() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Credentials {
        let settings =
            CredentialSettings { kind: Kind::Release, token_lifetime: 900, lease_idle: 60, cache_idle: None };
        Credentials { credentials: vec![Credential { name: "key".parse().unwrap(), settings }] }
    }

    #[test]
    fn the_document_has_stable_names() {
        let document = serde_json::to_value(one()).unwrap();
        assert_eq!(
            document,
            serde_json::json!({"credentials": [{"name": "key", "settings":
                {"kind": "release", "token_lifetime": 900, "lease_idle": 60, "cache_idle": null}}]})
        );
    }

    #[test]
    fn people_get_a_table_or_a_sentence() {
        assert!(render(&one()).contains("key   release  15m"));
        assert!(render(&Credentials { credentials: Vec::new() }).contains("no credentials"));
    }
}
