//! The public keys of JWT signers whose master was replaced: published until the last token that they signed is over.
//!
//! They are a document of the store, so a restart does not cut their time short. Whoever removes a credential withdraws
//! them: that is for a key that nobody shall believe any more.

use crate::mint::public_jwk;
use crate::store::Document;
use crate::vault::Vault;
use blindferry_proto::bounded::Text;
use blindferry_proto::credential::{Kind, SigningAlgorithm};
use blindferry_proto::name::CredentialName;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use serde::{Deserialize, Serialize};

/// A key that signs no more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Replaced {
    name: CredentialName,
    pub(super) issuer: String,
    pub(super) algorithm: SigningAlgorithm,
    pub(super) jwk: serde_json::Value,
    /// Seconds since the epoch when its last token is over.
    pub(super) until: u64,
}

/// Keeps the public key of a signer that is about to be replaced; of what is no signer, or not there, there is nothing to
/// keep. One that is not replaced after all is published once all the same.
///
/// # Errors
/// When the store fails; the signer must not be replaced then.
pub(crate) async fn keep(vault: &Vault, name: &CredentialName) -> Result<(), Refusal> {
    let master = match vault.records.master(name).await {
        Ok(Some(master)) => master,
        Ok(None) => return Ok(()),
        Err(error) => return Err(vault.store_failed(&error).await),
    };
    let Kind::JwtSigner(signer) = &master.settings.kind else { return Ok(()) };
    // A key that cannot be read or shown was not published.
    let Ok(secret) = master.secret.wake() else { return Ok(()) };
    let jwk = public_jwk(&secret, signer.algorithm).ok().and_then(|jwk| serde_json::to_value(&jwk).ok());
    drop(secret);
    let Some(jwk) = jwk else { return Ok(()) };
    let now = vault.clock.now();
    let until = now.saturating_add(u64::from(master.settings.token_lifetime));
    let (issuer, algorithm) = (signer.issuer.as_str().to_owned(), signer.algorithm);
    let replaced = Replaced { name: name.clone(), issuer, algorithm, jwk, until };
    let _alone = vault.sealing.lock().await;
    let list = with(stored(vault).await?, replaced, now);
    store(vault, &list).await
}

/// Withdraws the keys that a credential had before. Whether there were any.
///
/// # Errors
/// When the store fails.
pub(crate) async fn withdraw(vault: &Vault, name: &CredentialName) -> Result<bool, Refusal> {
    let _alone = vault.sealing.lock().await;
    let mut list = stored(vault).await?;
    let before = list.len();
    list.retain(|replaced| replaced.name != *name);
    if list.len() == before {
        return Ok(false);
    }
    store(vault, &list).await?;
    Ok(true)
}

/// Those whose tokens may live.
///
/// # Errors
/// When the store fails.
pub(super) async fn alive(vault: &Vault, now: u64) -> Result<Vec<Replaced>, Refusal> {
    let mut list = stored(vault).await?;
    list.retain(|replaced| replaced.until > now);
    Ok(list)
}

/// The list with one more: without those that are over, the same key once, and of each issuer the newest few.
fn with(mut list: Vec<Replaced>, new: Replaced, now: u64) -> Vec<Replaced> {
    list.retain(|replaced| replaced.until > now && replaced.jwk != new.jwk);
    while list.iter().filter(|replaced| replaced.issuer == new.issuer).count() >= OF_AN_ISSUER
        && let Some(oldest) = list.iter().position(|replaced| replaced.issuer == new.issuer)
    {
        list.remove(oldest);
    }
    list.push(new);
    let too_many = list.len().saturating_sub(IN_ALL);
    list.drain(..too_many);
    list
}

async fn stored(vault: &Vault) -> Result<Vec<Replaced>, Refusal> {
    match vault.records.document(Document::ReplacedKeys).await {
        Ok(Some(document)) => {
            serde_json::from_str(document.text.as_str()).map_err(|_| Refusal::from(RefusalCode::Internal))
        }
        Ok(None) => Ok(Vec::new()),
        Err(error) => Err(vault.store_failed(&error).await),
    }
}

async fn store(vault: &Vault, list: &[Replaced]) -> Result<(), Refusal> {
    let text = serde_json::to_string(list).ok().and_then(|text| Text::new(text).ok());
    let text = text.ok_or_else(|| Refusal::from(RefusalCode::Internal))?;
    match vault.records.put_document(Document::ReplacedKeys, text).await {
        Ok(_version) => Ok(()),
        Err(error) => Err(vault.store_failed(&error).await),
    }
}

/// Keys of one issuer: with those in force they fit a JWK set of 16 KiB.
const OF_AN_ISSUER: usize = 16;
/// Keys in all: each has under 1 KiB with the longest issuer, and the document 48 KiB.
const IN_ALL: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(issuer: &str, number: u64, until: u64) -> Replaced {
        let (name, algorithm) = ("id".parse().unwrap(), SigningAlgorithm::EdDsa);
        Replaced { name, issuer: issuer.to_owned(), algorithm, jwk: serde_json::json!({ "kid": number }), until }
    }

    #[test]
    fn keys_go_when_their_time_is_over_and_come_once() {
        let list = with(vec![replaced("a", 1, 10), replaced("a", 2, 30)], replaced("a", 3, 40), 10);
        assert_eq!(list, [replaced("a", 2, 30), replaced("a", 3, 40)]);
        assert_eq!(with(list, replaced("a", 2, 50), 11), [replaced("a", 3, 40), replaced("a", 2, 50)]);
    }

    #[test]
    fn however_often_a_key_is_replaced_the_newest_few_stay_and_the_document_fits() {
        let issuer = "i".repeat(512);
        let mut list = vec![replaced("another", 0, 9)];
        for number in 1..100 {
            list = with(list, replaced(&issuer, number, 9), 1);
        }
        assert_eq!(list.len(), 1 + OF_AN_ISSUER);
        assert_eq!(list.last(), Some(&replaced(&issuer, 99, 9)));
        for number in 0..100 {
            list = with(list, replaced(&format!("{number:i<512}"), number, 9), 1);
        }
        assert_eq!(list.len(), IN_ALL);
        let longest = serde_json::to_string(&list).unwrap().len() + IN_ALL * 400;
        assert!(longest < blindferry_proto::limits::MAX_DOCUMENT, "{longest} with whole keys");
    }
}
