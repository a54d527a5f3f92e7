//! The vault's side of a parcel, for tests: an HPKE sender with a key of its own.

use blindferry_proto::identifier::{GrantId, ParcelKey, RequestId, WorkerKey};
use blindferry_proto::parcel::{HPKE_INFO, Parcel, ParcelHeader};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeS, Serializable, single_shot_seal};

type Suite = X25519HkdfSha256;

pub(crate) struct FakeVault {
    private: <Suite as Kem>::PrivateKey,
    public: <Suite as Kem>::PublicKey,
}

impl FakeVault {
    pub(crate) fn new() -> Self {
        let (private, public) = Suite::gen_keypair();
        Self { private, public }
    }

    pub(crate) fn parcel_key(&self) -> ParcelKey {
        ParcelKey(self.public.to_bytes().into())
    }

    /// Encrypts `token` to the worker that `header` names.
    pub(crate) fn seal(&self, header: ParcelHeader, token: &[u8]) -> Parcel {
        let worker = <Suite as Kem>::PublicKey::from_bytes(header.worker.as_bytes()).unwrap();
        let mode = OpModeS::Auth((self.private.clone(), self.public.clone()));
        let (encapsulated, ciphertext) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, Suite>(
            &mode,
            &worker,
            HPKE_INFO,
            token,
            &header.to_bytes(),
        )
        .unwrap();
        Parcel { header, encapsulated: encapsulated.to_bytes().into(), ciphertext }
    }
}

pub(crate) fn header(request: RequestId, worker: WorkerKey, uid: u32) -> ParcelHeader {
    ParcelHeader { request, grant: GrantId([7; 16]), worker, uid, policy_epoch: 3 }
}
