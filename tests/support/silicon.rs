//! A chip with SEV-SNP that is none: reports signed under a root whose keys everybody has, derived keys from a secret that
//! everybody knows. What it is lies in a file, which a test changes as a host or an update would.

use blindferry_amd::{Amd, ReportSpec, Vek, VekSpec, certificate_table, guid};
use blindferry_handle::sev_guest::{ExtendedReport, KeyRequest, TABLE_LIMIT};
use ring::digest::{SHA256, SHA384, digest};
use ring::hmac::{self, HMAC_SHA256};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// The guest's firmware, and the guest as it was launched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silicon {
    /// What the guest was launched from; its measurement is the SHA-384 of it.
    pub image: String,
    /// The guest policy.
    pub policy: u64,
    /// Every byte of the chip's id.
    pub chip: u8,
    /// How often the guest was launched: another number is another guest.
    pub launches: u64,
    /// Boot loader, SEV-SNP firmware and microcode: committed, current and reported.
    pub tcb: [u8; 3],
    /// The guest SVN.
    pub guest_svn: u32,
    /// Whether the host gives certificates beside a report.
    pub certificates: bool,
}

impl Silicon {
    /// A Genoa chip under the newest firmware, and a guest on it.
    #[must_use]
    pub fn launch(image: &str, chip: u8) -> Self {
        Self {
            image: image.to_owned(),
            policy: 0x3_0000,
            chip,
            launches: 1,
            tcb: [10, 23, 84],
            guest_svn: 0,
            certificates: true,
        }
    }

    /// What [`Silicon::write`] wrote.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// Keeps it, for whoever plays the firmware.
    pub fn write(&self, path: &Path) {
        let unfinished = path.with_extension("new");
        fs::write(&unfinished, serde_json::to_vec(self).unwrap()).unwrap();
        fs::rename(unfinished, path).unwrap();
    }

    /// The measurement, in hexadecimal.
    #[must_use]
    pub fn measurement(&self) -> String {
        hex::encode(digest(&SHA384, self.image.as_bytes()))
    }

    /// What MSG_REPORT_REQ gives, and what the host has beside it.
    #[must_use]
    pub fn report(&self, data: &[u8; 64], vmpl: u32) -> ExtendedReport {
        self.report_by(&self.vek(), data, vmpl)
    }

    /// The same, by a key that somebody keeps.
    #[must_use]
    pub fn report_by(&self, vek: &Vek, data: &[u8; 64], vmpl: u32) -> ExtendedReport {
        let amd = Amd::of("Genoa");
        let mut measurement = [0; 48];
        measurement.copy_from_slice(digest(&SHA384, self.image.as_bytes()).as_ref());
        let mut report_id = [0; 32];
        let launch = format!("{} on {}, launch {}", self.image, self.chip, self.launches);
        report_id.copy_from_slice(digest(&SHA256, launch.as_bytes()).as_ref());
        let spec = ReportSpec {
            policy: self.policy,
            guest_svn: self.guest_svn,
            vmpl,
            report_data: *data,
            measurement,
            report_id,
            chip_id: [self.chip; 64],
            ..ReportSpec::genoa()
        };
        let report = vek.sign(&spec.under(self.tcb()));
        if !self.certificates {
            return ExtendedReport { report, table: Vec::new() };
        }
        let mut table = certificate_table(&[(guid::VCEK, &vek.der), (guid::ASK, &amd.ask_der)]);
        table.resize(TABLE_LIMIT, 0);
        ExtendedReport { report, table }
    }

    /// A key of the chip's, with the certificate that AMD's service would have for it: another one each time.
    #[must_use]
    pub fn vek(&self) -> Vek {
        let [bootloader, snp, microcode] = self.tcb;
        let spls = vec![(1, bootloader), (2, 0), (4, 0), (5, 0), (6, 0), (7, 0), (3, snp), (8, microcode)];
        Amd::of("Genoa").vcek(&VekSpec { spls, hwid: Some(vec![self.chip; 64]), ..VekSpec::genoa() })
    }

    /// What MSG_KEY_REQ gives; `None` where the firmware refuses.
    #[must_use]
    pub fn derived_key(&self, request: &KeyRequest) -> Option<[u8; 32]> {
        let KeyRequest { root, fields, vmpl, guest_svn, tcb } = *request;
        let newer = |(asked, own): (&u8, &u8)| asked > own;
        let committed = self.tcb();
        if guest_svn > self.guest_svn || tcb.to_le_bytes().iter().zip(&committed).any(newer) {
            return None;
        }
        let chosen = |bit: u64, bytes: &[u8]| if fields & bit == 0 { Vec::new() } else { bytes.to_vec() };
        let mixed = [
            fields.to_le_bytes().to_vec(),
            root.to_le_bytes().to_vec(),
            vmpl.to_le_bytes().to_vec(),
            chosen(1, &self.policy.to_le_bytes()),
            chosen(1 << 3, self.measurement().as_bytes()),
            chosen(1 << 4, &guest_svn.to_le_bytes()),
            chosen(1 << 5, &tcb.to_le_bytes()),
        ];
        let chip = hmac::Key::new(HMAC_SHA256, &[self.chip; 32]);
        hmac::sign(&chip, &mixed.concat()).as_ref().try_into().ok()
    }

    fn tcb(&self) -> [u8; 8] {
        let [bootloader, snp, microcode] = self.tcb;
        [bootloader, 0, 0, 0, 0, 0, snp, microcode]
    }
}

/// Reference values that accept this image on any chip, under the root that everybody has.
#[must_use]
pub fn reference(role: &str, image: &str) -> String {
    let root = Amd::of("Genoa").ark_pem();
    format!("{}\n{}", amd_reference(role, image), trusting(&root))
}

/// The same under AMD's own roots alone.
#[must_use]
pub fn amd_reference(role: &str, image: &str) -> String {
    let measurement = Silicon::launch(image, 0).measurement();
    format!(
        "version = 2\nrole = \"{role}\"\n\n[[snp]]\nname = \"{image}\"\nproducts = [\"genoa\"]\nsigned_by = \"vcek\"\n\
         chips = \"any\"\nvmpl = [0]\nmeasurements = [\"{measurement}\"]\ncrl = \"optional\"\n\n[snp.floor.genoa]\n\
         bootloader = 10\ntee = 0\nsnp = 23\nmicrocode = 84\n"
    )
}

fn trusting(root: &str) -> String {
    format!(
        "[[dangerously_trusted_root]]\nproduct = \"genoa\"\nreason = \"a test without silicon\"\ncertificate = '''\n{root}'''\n"
    )
}
