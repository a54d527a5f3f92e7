//! An operator: what the command asks of the vault, over the same session.

use crate::peer::Peer;
use crate::process::eventually;
use blindferry_proto::audit::{Body, Event, Record};
use blindferry_proto::bounded::{Bytes, Text};
use blindferry_proto::credential::{
    ClientAuthentication, CredentialSettings, JwtSigner, Kind, OauthClient, SigningAlgorithm,
};
use blindferry_proto::front::Figure;
use blindferry_proto::identifier::{DepositKey, Digest};
use blindferry_proto::name::CredentialName;
use blindferry_proto::operator::{Approvee, DEPOSIT_INFO, HostEntry, OperatorReply, OperatorRequest, Status};
use blindferry_proto::refusal::Refusal;
use blindferry_proto::role::Role;
use blindferry_proto::session::{Answer, Request};
use blindferry_vault::audit::verify::{Verified, verify};
use hpke::aead::ChaCha20Poly1305;
use hpke::inout::InOutBuf;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256 as Suite;
use hpke::{Deserializable, Kem, OpModeS, Serializable, single_shot_seal_inout_detached};
use std::net::SocketAddr;

/// An operator's session.
#[derive(Debug)]
pub struct Operator(pub Peer);

impl Operator {
    /// Asks.
    ///
    /// # Errors
    /// The vault's refusal.
    pub fn ask(&self, request: OperatorRequest) -> Result<OperatorReply, Refusal> {
        match self.0.ask(Request::Operator(Box::new(request)))? {
            Answer::Operator(reply) => Ok(*reply),
            other => panic!("not an operator's answer: {other:?}"),
        }
    }

    /// Stores a master.
    pub fn put(&self, name: &str, settings: CredentialSettings, master: &[u8]) {
        self.store(name, settings, master, false);
    }

    /// Stores a master, in place of one of that name if there is one.
    pub fn replace(&self, name: &str, settings: CredentialSettings, master: &[u8]) {
        self.store(name, settings, master, true);
    }

    fn store(&self, name: &str, settings: CredentialSettings, master: &[u8], replace: bool) {
        let name: CredentialName = name.parse().unwrap();
        let (encapsulated, ciphertext) = encrypt(self.0.welcome.deposit_key, &name, master);
        let settings = Box::new(settings);
        let put =
            OperatorRequest::Put { name, settings, encapsulated, ciphertext: Bytes::new(ciphertext).unwrap(), replace };
        assert_eq!(self.ask(put), Ok(OperatorReply::Done));
    }

    /// Puts a policy in force.
    pub fn apply_policy(&self, text: &str) {
        let reply = self.ask(OperatorRequest::Policy { text: Text::new(text.to_owned()).unwrap(), apply: true });
        match reply {
            Ok(OperatorReply::Checked { applied: Some(_), .. }) => {}
            other => panic!("not applied: {other:?}"),
        }
    }

    /// Puts reference values in force.
    pub fn apply_reference(&self, text: &str) {
        let reply = self.ask(OperatorRequest::Reference { text: Text::new(text.to_owned()).unwrap() });
        assert!(matches!(reply, Ok(OperatorReply::Checked { applied: Some(_), .. })), "{reply:?}");
    }

    /// Allows a machine to enrol as a broker.
    pub fn approve(&self, host: &str, whom: Approvee) {
        self.approve_as(Role::Broker, host, whom);
    }

    /// Allows a machine to enrol.
    pub fn approve_as(&self, role: Role, host: &str, whom: Approvee) {
        let approve = OperatorRequest::HostApprove { host: host.parse().unwrap(), whom, role };
        assert_eq!(self.ask(approve), Ok(OperatorReply::Done));
    }

    /// All hosts.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostEntry> {
        match self.ask(OperatorRequest::Hosts { after: None }) {
            Ok(OperatorReply::Hosts(hosts)) => hosts,
            other => panic!("no hosts: {other:?}"),
        }
    }

    /// How the vault is.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.ask(OperatorRequest::Status) {
            Ok(OperatorReply::Status(status)) => *status,
            other => panic!("no status: {other:?}"),
        }
    }

    /// The audit from its first record on, verified: signatures, chain, and that it ends where the vault says it does.
    #[must_use]
    pub fn audit(&self) -> Vec<Body> {
        let (records, end) = self.records();
        let key = self.status().audit_key;
        let verified: Verified = verify(&records, &key, None).unwrap();
        let head = verified.head().map(|head| (head.number, head.hash));
        assert_eq!(head, end, "the audit ends where the vault says");
        records.iter().map(|record| record.body().unwrap()).collect()
    }

    /// What happened, in order.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.audit().into_iter().map(|body| body.event).collect()
    }

    /// The codes under which a host of this name was not accepted, in order, once there are so many of them: the record of
    /// a refusal may come a moment after the host heard of it.
    #[must_use]
    pub fn not_attested(&self, name: &str, times: usize) -> Vec<String> {
        let code = |event| match event {
            Event::NotAttested { host, code, .. } if host.as_str() == name => Some(code.as_str().to_owned()),
            _ => None,
        };
        eventually("the audit of the refusals", || {
            let codes: Vec<_> = self.events().into_iter().filter_map(code).collect();
            (codes.len() >= times).then_some(codes)
        })
    }

    /// How many handshakes the vault refused for this.
    #[must_use]
    pub fn refused_handshakes(&self, why: &str) -> u64 {
        let is = |figure: &Figure| {
            figure.name.as_str() == "handshakes_refused_total"
                && figure.label.as_ref().is_some_and(|label| label.as_str() == why)
        };
        self.status().figures.iter().filter(|figure| is(figure)).map(|figure| figure.value).sum()
    }

    /// The audit's records, unverified, and the head that belongs to them.
    #[must_use]
    pub fn records(&self) -> (Vec<Record>, Option<(u64, Digest)>) {
        let mut all = Vec::new();
        loop {
            let from = u64::try_from(all.len()).unwrap();
            match self.ask(OperatorRequest::Audit { from }) {
                Ok(OperatorReply::Records { records, head, .. }) => {
                    let caught_up = |all: &Vec<Record>| head.is_none_or(|(number, _)| number < all.len() as u64);
                    if records.is_empty() || caught_up(&all) {
                        return (all, head);
                    }
                    all.extend(records);
                    if caught_up(&all) {
                        return (all, head);
                    }
                }
                other => panic!("no audit: {other:?}"),
            }
        }
    }
}

/// Encrypts a master to the running vault, under its name.
#[must_use]
pub fn encrypt(to: DepositKey, name: &CredentialName, master: &[u8]) -> (Digest, Vec<u8>) {
    let to = <Suite as Kem>::PublicKey::from_bytes(&to.0).unwrap();
    let mut ciphertext = master.to_vec();
    let (encapsulated, tag) = single_shot_seal_inout_detached::<ChaCha20Poly1305, HkdfSha256, Suite>(
        &OpModeS::Base,
        &to,
        DEPOSIT_INFO,
        InOutBuf::from(ciphertext.as_mut_slice()),
        name.as_str().as_bytes(),
    )
    .unwrap();
    ciphertext.extend_from_slice(&tag.to_bytes());
    (Digest(encapsulated.to_bytes().into()), ciphertext)
}

/// Settings with the default times.
#[must_use]
pub fn settings(kind: Kind) -> CredentialSettings {
    CredentialSettings {
        kind,
        token_lifetime: CredentialSettings::TOKEN_LIFETIME,
        lease_idle: CredentialSettings::LEASE_IDLE,
        cache_idle: None,
    }
}

/// A signer of JWTs for one audience.
#[must_use]
pub fn jwt_signer(algorithm: SigningAlgorithm, issuer: &str, audience: &str) -> Kind {
    Kind::JwtSigner(JwtSigner {
        algorithm,
        issuer: Text::new(issuer.to_owned()).unwrap(),
        subject: Text::new("{host}/{uid}".to_owned()).unwrap(),
        audiences: vec![audience.parse().unwrap()],
    })
}

/// A client of the test's OAuth server, which revokes what is revoked.
#[must_use]
pub fn oauth_client(server: SocketAddr) -> Kind {
    let url = |path: &str| Text::new(format!("http://{server}{path}")).unwrap();
    Kind::OauthClient(OauthClient {
        token_url: url("/token"),
        revocation_url: Some(url("/revoke")),
        client_id: Text::new("blindferry").unwrap(),
        authentication: ClientAuthentication::ClientSecretPost,
        scope: None,
        resource: None,
        trust: None,
    })
}
