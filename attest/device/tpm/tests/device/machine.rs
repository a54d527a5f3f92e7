//! A machine with a TPM, provisioned, and its device process; and an operator with an authority.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use blindferry_attest::tpm::{PcrSelection, PcrValues};
use blindferry_device::approval::{Approval, PolicyRef, Terms};
use blindferry_device::authority::Authority;
use blindferry_device::client::{Device, DeviceError};
use blindferry_device::protocol::{Description, DeviceRefusal, KEY_LEN, TpmDescription};
use blindferry_device::spawn::spawn;
use blindferry_handle::secret::{SecretBytes, SharedSecret};
use blindferry_proto::logs::LogPaths;
use blindferry_proto::platform::DeviceProcess;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

use crate::swtpm::Swtpm;

/// What the tests seal.
pub(crate) const KEY: [u8; KEY_LEN] = *b"a key that nobody shall find!!!!";

pub(crate) struct Machine {
    pub(crate) device: Device,
    process: Child,
    pub(crate) tpm: Swtpm,
}

impl Machine {
    /// A fresh TPM, provisioned; to be called within a runtime.
    pub(crate) fn start() -> Option<Self> {
        Some(Self::over(Swtpm::start()?))
    }

    pub(crate) fn over(tpm: Swtpm) -> Self {
        let pins = pins(&tpm);
        let provisioned = provision(&tpm.tcti(), &pins, &[]);
        assert!(provisioned.status.success(), "{}", String::from_utf8_lossy(&provisioned.stderr));
        let tcti = tpm.tcti();
        Self::with(tpm, &tcti, &pins)
    }

    /// A device process for a TPM that is reached at `tcti`.
    pub(crate) fn with(tpm: Swtpm, tcti: &str, pins: &Path) -> Self {
        let (process, device) = device(tcti, pins);
        Self { device, process, tpm }
    }

    /// A device process whose pin file is missing.
    pub(crate) fn with_unprovisioned(tpm: Swtpm) -> Self {
        let (tcti, pins) = (tpm.tcti(), pins(&tpm));
        Self::with(tpm, &tcti, &pins)
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// SIGKILL. The child is not waited for until it is replaced or dropped, so its id stays its own.
    pub(crate) fn kill(&self) {
        let id = i32::try_from(self.process.id()).unwrap();
        let status = Command::new("kill").args(["-KILL", &id.to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Another device process in the place of one that was killed.
    pub(crate) fn restart(&mut self, tcti: &str) {
        self.process.wait().unwrap();
        (self.process, self.device) = device(tcti, &pins(&self.tpm));
    }

    pub(crate) async fn seal(&self, operator: &Operator) -> Vec<u8> {
        let sealed = self.device.seal(key(), &operator.authority, operator.policy_ref).await;
        sealed.unwrap()
    }

    pub(crate) async fn describe(&self) -> TpmDescription {
        match self.device.describe().await.unwrap() {
            Description::Tpm(tpm) => tpm,
            Description::Snp(_) => panic!("a guest"),
        }
    }

    pub(crate) async fn values(&self) -> PcrValues {
        self.device.pcrs(&selection()).await.unwrap()
    }
}

/// The same machine, whose device process may give these logs away.
pub(crate) fn with_logs(mut machine: Machine, logs: LogPaths) -> Machine {
    let process = process(&machine.tpm).with_logs(Some(logs));
    let (process, socket) = spawn(executable(), process).unwrap();
    machine.kill();
    machine.process.wait().unwrap();
    (machine.process, machine.device) = (process, Device::new(socket).unwrap());
    machine
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The device process of this TPM.
pub(crate) fn process(tpm: &Swtpm) -> DeviceProcess {
    DeviceProcess::Tpm { tcti: tpm.tcti(), pins: pins(tpm), logs: None }
}

pub(crate) struct Operator {
    key: EcdsaKeyPair,
    pub(crate) authority: Authority,
    pub(crate) policy_ref: PolicyRef,
}

impl Operator {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        let authority = Authority::from_point(key.public_key().as_ref()).unwrap();
        Self { key, authority, policy_ref: PolicyRef::of("test") }
    }

    pub(crate) fn with_policy_ref(self, policy_ref: PolicyRef) -> Self {
        Self { policy_ref, ..self }
    }

    pub(crate) fn approve(&self, values: PcrValues, version: u64) -> Approval {
        let terms = Terms::new(values, self.policy_ref, version);
        let signature = self.key.sign(&SystemRandom::new(), &terms.to_sign()).unwrap();
        terms.signed(signature.as_ref().try_into().unwrap())
    }
}

pub(crate) fn selection() -> PcrSelection {
    PcrSelection::new([0, 4, 7]).unwrap()
}

pub(crate) fn key() -> SharedSecret {
    SharedSecret::create(KEY_LEN, |slot| {
        slot.copy_from_slice(&KEY);
        Ok::<(), std::convert::Infallible>(())
    })
    .unwrap()
}

pub(crate) fn is_key(secret: &SecretBytes) -> bool {
    secret.ct_eq(&KEY)
}

/// What the device process refused.
pub(crate) fn refusal<T>(outcome: Result<T, DeviceError>) -> DeviceRefusal {
    match outcome {
        Err(DeviceError::Refused(refusal)) => refusal,
        Err(error) => panic!("not refused by the device process: {error}"),
        Ok(_) => panic!("not refused"),
    }
}

pub(crate) fn pins(tpm: &Swtpm) -> PathBuf {
    tpm.directory.join("pins.toml")
}

pub(crate) fn provision(tcti: &str, pins: &Path, more: &[&str]) -> Output {
    Command::new(executable()).args(["provision", "--tcti", tcti, "--pins"]).arg(pins).args(more).output().unwrap()
}

pub(crate) fn device(tcti: &str, pins: &Path) -> (Child, Device) {
    let (process, socket) =
        spawn(executable(), DeviceProcess::Tpm { tcti: tcti.to_owned(), pins: pins.to_owned(), logs: None }).unwrap();
    (process, Device::new(socket).unwrap())
}

fn executable() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_blindferry-device"))
}
