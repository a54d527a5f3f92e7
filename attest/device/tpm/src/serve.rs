//! Answers one client, request by request.
//!
//! libtss2 and libcrypto copy what passes through them, and free without wiping: so the loop in
//! [`blindferry_device::serve`] executes the process anew after each request that touched a secret.

use std::path::Path;

use blindferry_attest::tpm::PcrSelection;
use blindferry_device::protocol::{Description, DeviceRefusal, Reply, Request};
use blindferry_device::serve::{self, Answer, ServeError, bad};
use blindferry_handle::packet::PacketSocket;
use blindferry_handle::secret::SecretBytes;

use crate::confine::Confined;
use crate::pins::Pins;
use crate::tcti::Tcti;
use crate::transaction::{SaltKey, Transaction};
use crate::{attestation, counter, pcrs, sealing};

/// Serves until the client is gone.
pub(crate) fn serve(_confined: Confined, socket: &PacketSocket, tcti: &Tcti, pins: &Path) -> Result<(), ServeError> {
    serve::serve(socket, |request, key| answer(tcti, pins, request, key))
}

fn answer(tcti: &Tcti, pins: &Path, request: Request, key: Option<SecretBytes>) -> Result<Answer, DeviceRefusal> {
    let pins = Pins::read(pins)?;
    let salt_key = SaltKey::Pinned(&pins.salt_key_name);
    let secret = |secret| Answer::with(Reply::Secret, secret);
    match (request, key) {
        (Request::Describe, _) => {
            Transaction::run(tcti, salt_key, |transaction| attestation::describe(transaction, &pins))
                .map(|description| Reply::Description(Box::new(Description::Tpm(description))).into())
        }
        (Request::Quote { binder, pcrs: indices }, _) => {
            let selection = selection(indices)?;
            Transaction::run(tcti, salt_key, |transaction| attestation::quote(transaction, &pins, binder, selection))
                .map(|evidence| Reply::Evidence(evidence).into())
        }
        (Request::Pcrs { pcrs: indices }, _) => {
            let selection = selection(indices)?;
            Transaction::run(tcti, salt_key, |transaction| pcrs::read(transaction, selection))
                .map(|values| Reply::Pcrs(values.iter().map(|(index, value)| (index, *value)).collect()).into())
        }
        (Request::Activate { credential, encrypted_secret }, _) => Transaction::run(tcti, salt_key, |transaction| {
            attestation::activate(transaction, &pins, &credential, &encrypted_secret)
        })
        .map(secret),
        (Request::Seal { authority, policy_ref }, Some(key)) => {
            Transaction::run(tcti, salt_key, |transaction| sealing::seal(transaction, &key, &authority, policy_ref))
                .map(|blob| Reply::Sealed(blob).into())
        }
        (Request::Seal { .. }, None) => Err(bad("the key to seal is missing")),
        (Request::Unseal { blob, authority, approval }, _) => {
            Transaction::run(tcti, salt_key, |transaction| sealing::unseal(transaction, &blob, &authority, &approval))
                .map(secret)
        }
        (Request::Counter(request), _) => {
            Transaction::run(tcti, salt_key, |transaction| counter::serve(transaction, request))
                .map(|value| Reply::Counter(value).into())
        }
        (Request::SealToGuest { .. } | Request::UnsealAsGuest { .. }, _) => {
            Err(DeviceRefusal::OtherPlatform { platform: "TPM 2.0".to_owned(), wanted: "an SEV-SNP guest".to_owned() })
        }
    }
}

fn selection(indices: Vec<u8>) -> Result<PcrSelection, DeviceRefusal> {
    PcrSelection::new(indices).map_err(|_| DeviceRefusal::BadSelection)
}
