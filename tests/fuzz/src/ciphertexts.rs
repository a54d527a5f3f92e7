//! Targets of what is encrypted and carried by others: grants, parcels, deposits. A changed bit never opens.

use std::sync::LazyLock;

use blindferry_handle::secret::SecretBytes;
use blindferry_proto::{
    bounded::decode,
    identifier::{Digest, GrantId, ParcelKey, ReplicaId, RequestId, WorkerKey},
    limits::{MAX_GRANT, MAX_PARCEL},
    name::HostName,
    operator::DEPOSIT_INFO,
    parcel::{Parcel, ParcelHeader},
    session::{ProcessFacts, WorkerConstraint},
};
use blindferry_vault::{
    deposit,
    grant::{GRANT_LEN, GrantBody, GrantError, GrantKeys},
    hpke_keys::{DepositKeyPair, ParcelKeyPair},
    parcel,
};
use blindferry_worker::{
    key::KeyPair,
    open::{Expected, open},
};
use hpke::{
    Deserializable as _, OpModeS, Serializable as _, aead::ChaCha20Poly1305, kdf::HkdfSha256, kem::X25519HkdfSha256,
    single_shot_seal_inout_detached,
};
use ring::rand::SystemRandom;

use super::patch;

/// A grant: first byte 0: anything, brought as one; 1: a good one, with bytes written over it; else: what a grant says,
/// sealed and opened again.
pub fn grants(data: &[u8]) -> bool {
    let Some((&choice, rest)) = data.split_first() else { return false };
    let random = SystemRandom::new();
    let mut keys = GrantKeys::new(ReplicaId([1; 8]), 0, &random).expect("random bytes");
    match choice {
        0 => {
            let opened = keys.open(rest, &host("h"), 0);
            assert_eq!(opened.map(|_| ()), Err(GrantError::NotOurs), "a grant was made up");
            rest.len() == GRANT_LEN
        }
        1 => {
            let good = keys.seal(&body(), 0, &random).expect("a grant");
            let mut altered = good.clone();
            patch(&mut altered, rest);
            let opened = keys.open(&altered, &host("h"), 0);
            assert_eq!(opened.is_ok(), altered == good, "a changed bit opened");
            altered != good
        }
        _ => {
            let Ok(said) = decode::<GrantBody>(rest, MAX_GRANT) else { return false };
            let sealed = keys.seal(&said, 0, &random).expect("whatever names are legal fit");
            assert_eq!(sealed.len(), GRANT_LEN, "its length tells something");
            let astray = keys.open(&sealed, &host(if said.host.as_str() == "h" { "i" } else { "h" }), 0);
            assert_eq!(astray.map(|_| ()), Err(GrantError::Astray { id: said.id }));
            match keys.open(&sealed, &said.host, 0) {
                Ok(opened) => assert_eq!(opened.into_body(), said),
                Err(error) => assert!(matches!(error, GrantError::Expired { .. }) && said.expires == 0, "{error}"),
            }
            true
        }
    }
}

/// A parcel: first byte 0: anything, taken apart; 1: a good one, with bytes written over it, at its worker; else: a good
/// token for any key.
pub fn parcels(data: &[u8]) -> bool {
    let Some((&choice, rest)) = data.split_first() else { return false };
    let Carriage { sender, worker, good } = &*CARRIAGE;
    match choice {
        0 => {
            let Ok(parcel) = Parcel::from_bytes(rest) else { return false };
            assert!(rest.len() <= MAX_PARCEL);
            assert_eq!(parcel.to_bytes(), rest);
            assert!(open(rest, worker, &expected(sender.public())).is_err(), "a parcel was made up");
            true
        }
        1 => {
            let mut altered = good.clone();
            patch(&mut altered, rest);
            match open(&altered, worker, &expected(sender.public())) {
                Ok(opened) => assert!(altered == *good && opened.token.ct_eq(TOKEN), "a changed bit opened"),
                Err(_) => assert_ne!(altered, *good),
            }
            altered != *good
        }
        _ => {
            let Some((key, of_sender)) = rest.split_first_chunk() else { return false };
            let sealed = parcel::seal(&token(), header(WorkerKey(*key)), sender);
            if let Some(key) = of_sender.first_chunk() {
                let opened = open(good, worker, &expected(ParcelKey(*key)));
                assert!(opened.is_err() || *key == sender.public().0, "another sender was believed");
            }
            sealed.is_ok_and(|sealed| Parcel::from_bytes(&sealed.to_bytes()).as_ref() == Ok(&sealed))
        }
    }
}

/// A master on its way in: first byte 0: a good deposit, with bytes written over it; else: anything.
pub fn deposits(data: &[u8]) -> bool {
    let Some((&choice, rest)) = data.split_first() else { return false };
    let Deposit { own, encapsulated, ciphertext } = &*DEPOSIT;
    let name = "a-credential".parse().expect("a name");
    if choice == 0 {
        let good = [encapsulated.as_bytes().as_slice(), ciphertext].concat();
        let mut altered = good.clone();
        patch(&mut altered, rest);
        let (key, body) = altered.split_first_chunk().expect("as long as before");
        match deposit::open(&Digest(*key), body, &name, own) {
            Ok(master) => assert!(altered == good && master.ct_eq(TOKEN), "a changed bit opened"),
            Err(_) => assert_ne!(altered, good),
        }
        altered != good
    } else {
        let Some((key, body)) = rest.split_first_chunk() else { return false };
        assert!(deposit::open(&Digest(*key), body, &name, own).is_err(), "a deposit was made up");
        let other = "another".parse().expect("a name");
        assert!(deposit::open(encapsulated, ciphertext, &other, own).is_err(), "opened under another name");
        body.len() > 16
    }
}

const TOKEN: &[u8] = b"a token that nobody else shall read";

fn token() -> SecretBytes {
    SecretBytes::copy_and_wipe(&mut TOKEN.to_vec()).expect("secret memory")
}

fn host(name: &str) -> HostName {
    name.parse().expect("a name")
}

fn body() -> GrantBody {
    GrantBody {
        id: GrantId([7; 16]),
        credential: "api-key".parse().expect("a name"),
        host: host("h"),
        audience: None,
        worker: WorkerConstraint::default(),
        parent: ProcessFacts { uid: 1, gid: 2, pid: 3, executable: None, protection: None },
        expires: 100,
        approval: None,
    }
}

fn header(worker: WorkerKey) -> ParcelHeader {
    ParcelHeader { request: RequestId([1; 16]), grant: GrantId([2; 16]), worker, uid: 3, policy_epoch: 4 }
}

/// Nothing but its request and its user is known to a worker that redeems.
fn expected(claimed_sender: ParcelKey) -> Expected {
    Expected { request: RequestId([1; 16]), uid: 3, grant: None, claimed_sender, sender: None }
}

struct Carriage {
    sender: ParcelKeyPair,
    worker: KeyPair,
    good: Vec<u8>,
}

static CARRIAGE: LazyLock<Carriage> = LazyLock::new(|| {
    let sender = ParcelKeyPair::generate(&SystemRandom::new()).expect("a key");
    let worker = KeyPair::generate().expect("a key");
    let good = parcel::seal(&token(), header(worker.public()), &sender).expect("a parcel").to_bytes();
    Carriage { sender, worker, good }
});

struct Deposit {
    own: DepositKeyPair,
    encapsulated: Digest,
    ciphertext: Vec<u8>,
}

static DEPOSIT: LazyLock<Deposit> = LazyLock::new(|| {
    let own = DepositKeyPair::generate(&SystemRandom::new()).expect("a key");
    let to = <X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(&own.public().0).expect("a key");
    let mut ciphertext = TOKEN.to_vec();
    let (encapsulated, tag) = single_shot_seal_inout_detached::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &to,
        DEPOSIT_INFO,
        ciphertext.as_mut_slice().into(),
        b"a-credential",
    )
    .expect("a deposit");
    ciphertext.extend_from_slice(&tag.to_bytes());
    Deposit { own, encapsulated: Digest(encapsulated.to_bytes().into()), ciphertext }
});
