//! A guest of SEV-SNP, made here, that is good in everything; each part can be made wrong alone.

use blindferry_amd::{Amd, Crl, ReportSpec, VekSpec, certificate::VALIDITY};
use blindferry_attest::{
    attested::{AppraisalError, Attested, Expected, Pinned, PinnedGuest, PinnedMachine, appraise},
    binder::Binder,
    evidence::Evidence,
    reference::{ReferenceError, ReferenceValues},
    snp::{ChipId, EndorsedVek, Examination, ReportData, ReportId, Request, SnpEvidence, examine},
};
use blindferry_proto::role::Role;

use crate::synthetic::binder;

/// 2026-11-21.
pub(crate) const NOW: u64 = 1_795_219_200;

/// The provider of the VLEKs.
pub(crate) const PROVIDER: &str = "CN=cc-us-east-2.amazonaws.com";

/// Everything that a verdict depends on.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) product: &'static str,
    pub(crate) vek: VekSpec,
    /// Whether the root itself signs the key.
    pub(crate) vek_by_root: bool,
    pub(crate) report: ReportSpec,
    /// Changes the finished report.
    pub(crate) tamper: fn(&mut Vec<u8>),
    /// Changes the finished certificates: the key's, the authority's, the root's.
    pub(crate) certificates: fn(&mut Vec<Vec<u8>>),
    pub(crate) crl: Option<Crl>,
    pub(crate) crl_forged: bool,
    pub(crate) reference: Reference,
    pub(crate) now: u64,
    pub(crate) chip: Option<ChipId>,
    pub(crate) provider: Option<String>,
    pub(crate) report_id: Option<ReportId>,
}

/// Reference values as text: keys of `[[snp]]`, then tables.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub(crate) keys: Vec<(&'static str, String)>,
    pub(crate) tables: String,
    pub(crate) root: bool,
}

impl Guest {
    /// On a Genoa chip.
    pub(crate) fn good() -> Self {
        let mut report = ReportSpec::genoa();
        report.report_data[..32].copy_from_slice(binder(Role::Vault).as_bytes());
        Self {
            product: "Genoa",
            vek: VekSpec::genoa(),
            vek_by_root: false,
            report,
            tamper: |_| {},
            certificates: |_| {},
            crl: Some(Crl::empty()),
            crl_forged: false,
            reference: Reference::of("genoa", "bootloader = 10\ntee = 0\nsnp = 23\nmicrocode = 84"),
            now: NOW,
            chip: None,
            provider: None,
            report_id: None,
        }
    }

    pub(crate) fn milan() -> Self {
        let good = Self::good();
        let report = ReportSpec { report_data: good.report.report_data, ..ReportSpec::milan() };
        let reference = Reference::of("milan", "bootloader = 4\ntee = 0\nsnp = 24\nmicrocode = 219");
        let reference = reference.with("dangerously_trust_milan", "\"a bench\"");
        Self { product: "Milan", vek: VekSpec::milan(), report, reference, ..good }
    }

    pub(crate) fn turin() -> Self {
        let good = Self::good();
        let report = ReportSpec { report_data: good.report.report_data, ..ReportSpec::turin() };
        let reference = Reference::of("turin", "fmc = 1\nbootloader = 1\ntee = 1\nsnp = 4\nmicrocode = 81");
        Self { product: "Turin", vek: VekSpec::turin(), report, reference, ..good }
    }

    /// The same guest under a VLEK.
    pub(crate) fn loaded(self) -> Self {
        let reference = self.reference.without("chips").with("signed_by", "\"vlek\"");
        let reference = reference.with("providers", &format!("[\"{PROVIDER}\"]"));
        Self { vek: self.vek.loaded(PROVIDER), report: self.report.loaded(), reference, ..self }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(crate) fn evidence(&self) -> SnpEvidence {
        let amd = Amd::of(self.product);
        let vek = match (self.vek_by_root, self.vek.csp_id.is_some()) {
            (true, _) => amd.vek_under_root(&self.vek),
            (false, false) => amd.vcek(&self.vek),
            (false, true) => amd.vlek(&self.vek),
        };
        let mut report = vek.sign(&self.report);
        (self.tamper)(&mut report);
        let authority = if self.vek.csp_id.is_some() { amd.asvk_der.clone() } else { amd.ask_der.clone() };
        let mut certificates = vec![vek.der, authority, amd.ark_der.clone()];
        (self.certificates)(&mut certificates);
        let crl = self.crl.as_ref().map(|crl| if self.crl_forged { amd.forged_crl(crl) } else { amd.crl(crl) });
        SnpEvidence::new(report, certificates, crl.into_iter().collect()).unwrap()
    }

    pub(crate) fn values(&self) -> ReferenceValues {
        self.reference.parse(self.product).unwrap()
    }

    /// The session's road, through the wire form.
    pub(crate) fn judge(&self) -> Result<Attested, AppraisalError> {
        self.judge_evidence(self.evidence(), binder(Role::Vault), None)
    }

    pub(crate) fn judge_evidence(
        &self,
        evidence: SnpEvidence,
        binder: Binder,
        endorsed: Option<&EndorsedVek>,
    ) -> Result<Attested, AppraisalError> {
        let evidence = Evidence::decode(&Evidence::Snp(evidence).encode()).unwrap();
        let machine = match (&self.chip, &self.provider) {
            (Some(chip), _) => PinnedMachine::Chip(chip),
            (None, Some(provider)) => PinnedMachine::Provider(provider),
            (None, None) => PinnedMachine::ByReference,
        };
        let guest = PinnedGuest { machine, report_id: self.report_id.as_ref(), now: self.now, crls: &[], endorsed };
        appraise(evidence, Expected { binder, role: Role::Vault, pinned: Pinned::Guest(guest) }, &self.values())
    }

    /// The command's road.
    pub(crate) fn examine(&self) -> Examination {
        let values = self.values();
        let mut wanted = [0; 64];
        wanted[..32].copy_from_slice(binder(Role::Vault).as_bytes());
        let machine = match (&self.chip, &self.provider) {
            (Some(chip), _) => PinnedMachine::Chip(chip),
            (None, Some(provider)) => PinnedMachine::Provider(provider),
            (None, None) => PinnedMachine::ByReference,
        };
        let request = Request {
            now: self.now,
            reference: Some(&values),
            crls: &[],
            report_data: Some(ReportData::new(wanted)),
            report_id: self.report_id.as_ref(),
            machine: Some(machine),
        };
        examine(&self.evidence(), &request)
    }
}

impl Reference {
    fn of(product: &str, floor: &str) -> Self {
        Self {
            keys: vec![
                ("name", "\"test\"".to_owned()),
                ("products", format!("[\"{product}\"]")),
                ("signed_by", "\"vcek\"".to_owned()),
                ("chips", "\"any\"".to_owned()),
                ("vmpl", "[0]".to_owned()),
                ("measurements", format!("[\"{}\"]", "5f".repeat(48))),
                ("crl", "\"required\"".to_owned()),
            ],
            tables: format!("[snp.floor.{product}]\n{floor}\n"),
            root: true,
        }
    }

    pub(crate) fn with(mut self, key: &'static str, value: &str) -> Self {
        self.keys.retain(|(there, _)| *there != key);
        self.keys.push((key, value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.keys.retain(|(there, _)| *there != key);
        self
    }

    pub(crate) fn and(mut self, table: &str) -> Self {
        self.tables.push_str(table);
        self.tables.push('\n');
        self
    }

    pub(crate) fn text(&self, product: &'static str) -> String {
        let keys: String = self.keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let mut text = format!("version = 2\nrole = \"vault\"\n\n[[snp]]\n{keys}\n{}", self.tables);
        if self.root {
            let (ark, product) = (Amd::of(product).ark_pem(), product.to_lowercase());
            text.push_str(&format!(
                "\n[[dangerously_trusted_root]]\nproduct = \"{product}\"\nreason = \"a bench\"\ncertificate = \"\"\"\n{ark}\"\"\"\n"
            ));
        }
        text
    }

    pub(crate) fn parse(&self, product: &'static str) -> Result<ReferenceValues, ReferenceError> {
        ReferenceValues::parse(&self.text(product))
    }
}

/// Outside of [`VALIDITY`].
pub(crate) const LATER: (i64, i64) = (VALIDITY.1, VALIDITY.1 + 86400);
