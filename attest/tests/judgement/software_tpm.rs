//! A real TPM 2.0 in software (swtpm), driven by tpm2-tools: what we compute must be what it computes.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// A TPM of its own for one test; ends with it.
pub(crate) struct SoftwareTpm {
    dir: TempDir,
    process: Child,
}

impl SoftwareTpm {
    /// Starts one; says why and gives nothing when the programs are not installed.
    pub(crate) fn start() -> Option<Self> {
        for program in ["swtpm", "tpm2_createek", "tpm2_policyauthorize", "openssl"] {
            if Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
                println!("skipped: {program} is not installed (packages swtpm, tpm2-tools, openssl)");
                return None;
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let socket = |name| format!("type=unixio,path={}", dir.path().join(name).display());
        let process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--tpmstate", &format!("dir={}", dir.path().display())])
            .args(["--server", &socket("tpm"), "--ctrl", &socket("tpm.ctrl")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let tpm = Self { dir, process };
        let started = Instant::now();
        while !tpm.path("tpm.ctrl").exists() {
            assert!(started.elapsed() < Duration::from_secs(10), "swtpm did not start");
            thread::sleep(Duration::from_millis(10));
        }
        Some(tpm)
    }

    /// Runs a command line of tpm2-tools in the TPM's directory, then drops what it left loaded.
    pub(crate) fn run(&self, line: &str) {
        self.once(line);
        self.once("tpm2_flushcontext -t");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// A TPM2B that a tool wrote, without its length.
    pub(crate) fn read_sized(&self, name: &str) -> Vec<u8> {
        self.read(name).split_off(2)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn once(&self, line: &str) {
        let mut words = line.split_whitespace();
        let output = Command::new(words.next().unwrap())
            .args(words)
            .current_dir(self.dir.path())
            .env("TPM2TOOLS_TCTI", format!("swtpm:path={}", self.path("tpm").display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for SoftwareTpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

mod policy_digests {
    use blindferry_attest::tpm::{
        PcrSelection, PcrValues,
        key::{Curve, Key},
        policy::{authorized_hash, policy_authorize, policy_pcr},
    };
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
    };

    use super::SoftwareTpm;

    fn values() -> PcrValues {
        let selection = PcrSelection::new([0, 7, 16]).unwrap();
        PcrValues::new(selection, &[(0, [0; 32]), (7, [0; 32]), (16, [0; 32])]).unwrap()
    }

    /// Vectors that swtpm computed once: they hold where it is not installed, too.
    #[test]
    fn they_are_those_of_a_tpm_recorded_before() {
        assert_eq!(
            hex::encode(policy_pcr(&values())),
            "2c7aaa7f9bcfbd78c8e77afa54b30c36a9db0d24520412274ee010f8ce29ae35"
        );
        let key_name = [&[0x00], &[0x0b; 33][..]].concat();
        assert_eq!(
            hex::encode(policy_authorize(&key_name, b"\x01\x02")),
            "020df6b47f891b97b370ae845f60e6a01e1eec6b9f0b565f8ef9176a8898d6da"
        );
    }

    #[test]
    fn policy_pcr_is_that_of_a_real_tpm() {
        let Some(tpm) = SoftwareTpm::start() else {
            return;
        };
        tpm.run(&format!("tpm2_pcrextend 7:sha256={}", "5a".repeat(32)));
        tpm.run("tpm2_pcrread sha256:0,7,16 -o values");
        let read: Vec<[u8; 32]> = tpm.read("values").chunks_exact(32).map(|value| value.try_into().unwrap()).collect();
        let values = PcrValues::new(values().selection(), &[(0, read[0]), (7, read[1]), (16, read[2])]).unwrap();
        tpm.run("tpm2_startauthsession -S session");
        tpm.run("tpm2_policypcr -S session -l sha256:0,7,16 -L policy");
        assert_eq!(tpm.read("policy"), policy_pcr(&values));
    }

    #[test]
    fn a_tpm_accepts_what_the_authority_signed_and_comes_to_the_same_policy() {
        let Some(tpm) = SoftwareTpm::start() else {
            return;
        };
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let public = Key::Ecc { curve: Curve::P256, point: key.public_key().as_ref().to_vec() };
        tpm.write("authority.der", &public.spki());
        tpm.run("openssl pkey -pubin -inform DER -in authority.der -out authority.pem");
        tpm.once("tpm2_loadexternal -C o -G ecc -u authority.pem -c authority -n authority.name");

        let (approved, policy_ref) = (policy_pcr(&values()), b"the kek");
        // ring hashes the message, so that it signs exactly the authorised hash.
        let signature = key.sign(&random, &[&approved[..], policy_ref].concat()).unwrap();
        tpm.write("signature", signature.as_ref());
        tpm.write("hash", &authorized_hash(&approved, policy_ref));
        tpm.run("tpm2_verifysignature -c authority -d hash -s signature -f ecdsa -t ticket");

        tpm.write("approved", &approved);
        tpm.write("reference", policy_ref);
        tpm.run("tpm2_startauthsession --policy-session -S session");
        tpm.run("tpm2_policypcr -S session -l sha256:0,7,16");
        tpm.run("tpm2_policyauthorize -S session -i approved -q reference -n authority.name -t ticket -L policy");
        assert_eq!(tpm.read("policy"), policy_authorize(&tpm.read("authority.name"), policy_ref));
    }
}
