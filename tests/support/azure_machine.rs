//! A confidential machine of Azure that is none: a software TPM whose attestation key and blob are as a paravisor leaves
//! them, and a report by a chip that is none, which vouches for that key.

use crate::account::Account;
use crate::silicon::{Silicon, reference};
use crate::tpm::Tpm;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use blindferry_amd::{Amd, Vek};
use blindferry_proto::identifier::KeyName;
use blindferry_proto::role::Role;
use ring::digest::{SHA256, digest};
use std::fs;
use std::path::Path;

/// What the paravisor is launched from.
pub const PARAVISOR: &str = "paravisor";

/// The machine.
#[derive(Debug)]
pub struct AzureMachine {
    /// Its vTPM, provisioned.
    pub tpm: Tpm,
    blob: Vec<u8>,
}

impl AzureMachine {
    /// A machine that has booted `image`, on a chip of this id, with the certificate of the chip beside its pins.
    #[must_use]
    pub fn boot(directory: &Path, account: Account, image: &str, chip: u8) -> Self {
        let tpm = Tpm::power_on(directory, account);
        tpm.measure(image);
        let silicon = Silicon::launch(PARAVISOR, chip);
        let vek = silicon.vek();
        let blob = blob(&silicon, &vek, &make_key(&tpm, directory));
        leave(&tpm, directory, &blob);
        let provisioned = tpm.provision(&["--azure"]);
        assert!(provisioned.status.success(), "{}", String::from_utf8_lossy(&provisioned.stderr));
        let machine = Self { tpm, blob };
        machine.import(directory, account, &vek.der);
        machine
    }

    /// The same vTPM's key and measurements, with the blob of another machine in place of its own.
    pub fn show_blob_of(&self, other: &Self, directory: &Path) {
        self.tpm.tool("tpm2_nvundefine", &["-C", "o", BLOB]);
        leave(&self.tpm, directory, &other.blob);
        let [here, there] = [self, other].map(|machine| machine.tpm.pins().with_file_name("certificates/Genoa"));
        let chip = fs::read_dir(&there).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
        let file = fs::read_dir(&chip).unwrap().next().unwrap().unwrap().path();
        fs::copy(&file, here.join(file.strip_prefix(&there).unwrap())).unwrap();
    }

    /// The Name of its attestation key.
    #[must_use]
    pub fn key(&self) -> KeyName {
        let pins: toml::Table = fs::read_to_string(self.tpm.pins()).unwrap().parse().unwrap();
        pins["ak-name"].as_str().unwrap().parse().unwrap()
    }

    /// Reference values that accept its paravisor, and what its vTPM has measured.
    #[must_use]
    pub fn reference(&self, role: Role) -> String {
        let measured = self.tpm.reference(role, "azure image");
        let (_, sets) = measured.split_once("[[tpm]]").unwrap();
        format!("{}\n[[tpm]]{sets}", reference(&role.to_string(), PARAVISOR))
    }

    fn import(&self, directory: &Path, account: Account, der: &[u8]) {
        let file = directory.join("vcek.der");
        fs::write(&file, der).unwrap();
        let mut command = account.command(&crate::program::ours("blindferry-device"));
        command.args(["import", "--tcti", &self.tpm.tcti(), "--pins"]).arg(self.tpm.pins()).arg(file);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // AMD's are built in; this one is nobody's.
        let ask = self.tpm.pins().with_file_name("certificates").join("Genoa/ask.der");
        fs::write(ask, Amd::of("Genoa").ask_der).unwrap();
    }
}

/// Makes the key where a paravisor keeps it, and gives its modulus.
fn make_key(tpm: &Tpm, directory: &Path) -> Vec<u8> {
    let at = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign";
    let kind = ["-C", "e", "-g", "sha256", "-G", "rsa2048:rsassa-sha256:null", "-a", attributes];
    tpm.tool("tpm2_createprimary", &[&kind[..], &["-c", &at("ak.ctx")]].concat());
    tpm.tool("tpm2_evictcontrol", &["-C", "o", "-c", &at("ak.ctx"), KEY]);
    tpm.tool("tpm2_flushcontext", &["-t"]);
    tpm.tool("tpm2_readpublic", &["-c", KEY, "-f", "tss", "-o", &at("ak.pub")]);
    let public = fs::read(at("ak.pub")).unwrap();
    // A TPMT_PUBLIC of RSA ends with its modulus.
    public[public.len() - 256..].to_vec()
}

/// The blob of a report that vouches for the key with this modulus.
fn blob(silicon: &Silicon, vek: &Vek, modulus: &[u8]) -> Vec<u8> {
    let json = format!(
        r#"{{"keys":[{{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"{}"}}],"vm-configuration":{{"secure-boot":true,"vmUniqueId":"A-1"}},"user-data":"{}"}}"#,
        URL_SAFE_NO_PAD.encode(modulus),
        "00".repeat(64)
    );
    let mut data = [0; 64];
    data[..32].copy_from_slice(digest(&SHA256, json.as_bytes()).as_ref());
    let report = silicon.report_by(vek, &data, 0).report;
    let length = u32::try_from(json.len()).unwrap();
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let header = [b"HCLA".to_vec(), words(&[2, length + 32 + 1184 + 20, 2, 0, 0, 0, 0])].concat();
    let described = words(&[length + 20, 1, 2, 1, length]);
    let mut blob = [header, report, described, json.into_bytes()].concat();
    blob.resize(SIZE, 0);
    blob
}

fn leave(tpm: &Tpm, directory: &Path, blob: &[u8]) {
    let file = directory.join("blob");
    fs::write(&file, blob).unwrap();
    let size = SIZE.to_string();
    tpm.tool("tpm2_nvdefine", &["-C", "o", "-s", &size, "-a", "ownerread|ownerwrite", BLOB]);
    tpm.tool("tpm2_nvwrite", &["-C", "o", "-i", file.to_str().unwrap(), BLOB]);
}

const KEY: &str = "0x81000003";
const BLOB: &str = "0x01400001";
/// Bytes of the index: 2600 on real machines, here as many as libtpms has for one. Zeros fill it up in both.
const SIZE: usize = 2048;
