//! The public keys of JWT signers, for the front to serve as JWKS and discovery documents; with those of signers that were
//! replaced, for as long as what they signed is good.

pub(crate) mod replaced;

use crate::log;
use crate::mint::public_jwk;
use crate::vault::{Vault, lock};
use blindferry_proto::bounded::Text;
use blindferry_proto::causes::with_causes;
use blindferry_proto::credential::{Kind, SigningAlgorithm};
use blindferry_proto::front::{FromVault, Issuer};
use blindferry_proto::name::CredentialName;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use replaced::Replaced;
use std::collections::BTreeMap;

#[derive(Default)]
struct Keys {
    jwks: Vec<serde_json::Value>,
    algorithms: Vec<&'static str>,
}

impl Keys {
    fn add(&mut self, jwk: serde_json::Value, algorithm: SigningAlgorithm) {
        if !self.jwks.contains(&jwk) {
            self.jwks.push(jwk);
        }
        let name = match algorithm {
            SigningAlgorithm::Es256 => "ES256",
            SigningAlgorithm::EdDsa => "EdDSA",
        };
        if !self.algorithms.contains(&name) {
            self.algorithms.push(name);
        }
    }
}

impl Vault {
    /// Publishes anew when the time of a key is over that was published last.
    pub(crate) async fn publish_when_due(&self) {
        let now = self.clock.now();
        let due = lock(&self.publish_again).take_if(|until| *until <= now).is_some();
        if due && self.publish().await.is_err() {
            // The store was complained about; the next turn tries once more.
            *lock(&self.publish_again) = Some(now);
        }
    }

    /// Finds the JWT signers among all credentials: once, since it reads them all.
    ///
    /// # Errors
    /// When the store does not verify.
    pub(crate) async fn find_signers(&self) -> Result<(), Refusal> {
        let mut after: Option<CredentialName> = None;
        loop {
            let page = match self.records.masters(after.as_ref()).await {
                Ok(page) => page,
                Err(error) => return Err(self.store_failed(&error).await),
            };
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (name, settings) in page {
                self.note_signer(&name, &settings.kind);
            }
        }
    }

    /// A credential is about to be stored: its key will have to be published if it is a signer's.
    pub(crate) fn note_signer(&self, name: &CredentialName, kind: &Kind) {
        if matches!(kind, Kind::JwtSigner(_)) {
            lock(&self.signers).insert(name.clone());
        }
    }

    /// Publishes anew if this credential, which was changed, is a signer or was one.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub(crate) async fn publish_if_signer(&self, name: &CredentialName) -> Result<(), Refusal> {
        let concerned = lock(&self.signers).contains(name);
        if concerned { self.publish().await } else { Ok(()) }
    }

    /// Tells the front all public keys. What cannot be published is said in the log, and the rest is.
    ///
    /// # Errors
    /// When the store does not verify or the front is gone.
    pub(crate) async fn publish(&self) -> Result<(), Refusal> {
        let mut issuers: BTreeMap<String, Keys> = BTreeMap::new();
        let signers = lock(&self.signers).clone();
        for name in signers {
            self.publish_one(&name, &mut issuers).await?;
        }
        let replaced = replaced::alive(self, self.clock.now()).await?;
        *lock(&self.publish_again) = replaced.iter().map(|replaced| replaced.until).min();
        for Replaced { issuer, algorithm, jwk, .. } in replaced {
            issuers.entry(issuer).or_default().add(jwk, algorithm);
        }
        let issuers = issuers.into_iter().filter_map(|(url, keys)| issuer(&url, keys)).collect();
        let told = self.link.tell(&FromVault::Publish { issuers }).await;
        told.map_err(|_| Refusal::from(RefusalCode::NotReady))
    }

    async fn publish_one(&self, name: &CredentialName, issuers: &mut BTreeMap<String, Keys>) -> Result<(), Refusal> {
        let master = match self.records.master(name).await {
            Ok(Some(master)) => master,
            Ok(None) => return Ok(()),
            Err(error) => return Err(self.store_failed(&error).await),
        };
        // Something else may be stored under the name by now.
        let Kind::JwtSigner(signer) = &master.settings.kind else { return Ok(()) };
        let (algorithm, keys) = (signer.algorithm, issuers.entry(signer.issuer.as_str().to_owned()).or_default());
        let secret = match master.secret.wake() {
            Ok(secret) => secret,
            Err(error) => {
                unpublished(name, with_causes(&error));
                return Ok(());
            }
        };
        match public_jwk(&secret, algorithm).map(|jwk| serde_json::to_value(&jwk)) {
            Ok(Ok(jwk)) => keys.add(jwk, algorithm),
            Ok(Err(error)) => unpublished(name, error.to_string()),
            Err(error) => unpublished(name, with_causes(&error)),
        }
        Ok(())
    }
}

fn unpublished(name: &CredentialName, why: String) {
    let fields = [("credential", name.to_string()), ("why", why)];
    log::error("key-not-published", "the key of a signer cannot be published", &fields);
}

fn issuer(url: &str, keys: Keys) -> Option<Issuer> {
    let jwks = serde_json::json!({ "keys": keys.jwks }).to_string();
    let issuer = Text::new(url).ok().zip(Text::new(jwks).ok()).map(|(url, jwks)| Issuer {
        url,
        jwks,
        algorithms: keys.algorithms.into_iter().map(Text::cut).collect(),
    });
    if issuer.is_none() {
        let fields = [("issuer", url.to_owned())];
        log::error("key-not-published", "an issuer has more keys than can be published", &fields);
    }
    issuer
}
