//! Answers one client, request by request.
//!
//! libtss2 and libcrypto copy what passes through them, and free without wiping: so the loop in
//! [`blindferry_device::serve`] executes the process anew after each request that touched a secret.

use std::path::PathBuf;

use blindferry_attest::evidence::Evidence;
use blindferry_attest::tpm::PcrSelection;
use blindferry_device::protocol::{Description, DeviceRefusal, Reply, Request};
use blindferry_device::serve::{self, Answer, ServeError, bad};
use blindferry_handle::packet::PacketSocket;
use blindferry_handle::secret::SecretBytes;
use blindferry_proto::logs::LogPaths;

use crate::azure::Vouching;
use crate::confine::Confined;
use crate::logs;
use crate::pins::Pins;
use crate::tcti::Tcti;
use crate::transaction::{SaltKey, Transaction};
use crate::{attestation, counter, pcrs, sealing};

/// What this process serves.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The TPM.
    pub(crate) tcti: Tcti,
    /// The file of its pinned Names.
    pub(crate) pins: PathBuf,
    /// The logs that may be given away beside quotes.
    pub(crate) logs: Option<LogPaths>,
}

/// Serves until the client is gone.
pub(crate) fn serve(_confined: Confined, socket: &PacketSocket, machine: &Machine) -> Result<(), ServeError> {
    serve::serve(socket, |request, key| answer(machine, request, key))
}

fn answer(machine: &Machine, request: Request, key: Option<SecretBytes>) -> Result<Answer, DeviceRefusal> {
    let pins = Pins::read(&machine.pins)?;
    let tcti = &machine.tcti;
    let salt_key = SaltKey::Pinned(&pins.salt_key_name);
    let secret = |secret| Answer::with(Reply::Secret, secret);
    match (request, key) {
        (Request::Describe, _) => {
            Transaction::run(tcti, salt_key, |transaction| attestation::describe(transaction, &pins))
                .map(|description| Reply::Description(Box::new(Description::Tpm(description))).into())
        }
        (Request::Quote { binder, pcrs: indices, logs: wanted }, _) => {
            let selection = selection(indices)?;
            let given = logs::given(machine.logs.as_ref(), wanted)?;
            let (quoted, vouching) = Transaction::run(tcti, salt_key, |transaction| {
                let quoted = attestation::quote(transaction, &pins, binder, selection)?;
                let vouching = pins.azure.then(|| Vouching::read(transaction, &pins)).transpose()?;
                Ok((quoted, vouching))
            })?;
            let quoted = match given {
                Some(paths) => logs::beside(quoted, paths, wanted)?,
                None => quoted,
            };
            let evidence = match vouching {
                Some(vouching) => vouching.with(quoted)?,
                None => Evidence::Tpm(quoted),
            };
            let evidence = evidence.encode();
            if given.is_some() { Answer::with_evidence(&evidence) } else { Ok(Reply::Evidence(evidence).into()) }
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
