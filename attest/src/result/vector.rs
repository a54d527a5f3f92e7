//! The AR4SI trustworthiness vector: what was looked at, in words that other verifiers use as well.
//!
//! Source: draft-ietf-rats-ar4si, section 2.3. A claim is here only when something that we checked speaks for it (or, where
//! an operator spelt out that anything goes, against it); what we did not look at is left out, which means "no claim".

use serde::Serialize;

use crate::{
    attested::PinnedMachine,
    reference::ReferenceSet,
    snp::{
        anchor::Root,
        rules::{Chips, Rules},
    },
};

/// What was found out about each aspect of a peer; nothing where nothing was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct TrustVector {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instance_identity: Option<Claim>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) configuration: Option<Claim>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) executables: Option<Claim>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hardware: Option<Claim>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) runtime_opaque: Option<Claim>,
    // file-system, storage-opaque and sourced-data: no evidence that we judge speaks of them.
}

/// A value of the vector. Each is used for one aspect alone; its number means nothing without that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "i8")]
pub(crate) enum Claim {
    /// instance-identity: the key that signed was pinned beforehand.
    RecognizedInstance,
    /// configuration: it is one of the reference values.
    ApprovedConfiguration,
    /// executables: what was loaded at boot is one of the reference values. Nothing is said of what runs since.
    ApprovedBoot,
    /// executables: they were not compared with anything, because the reference values say so.
    UnrecognizedExecutables,
    /// hardware: its maker's key speaks for it, and its firmware is not older than what was asked for.
    GenuineHardware,
    /// hardware: its maker's key speaks for it, but others may have such keys, and the reference values say to trust it.
    UnsafeHardware,
    /// hardware: a root that is not its maker's speaks for it, and the reference values say to trust that.
    UnrecognizedHardware,
    /// runtime-opaque: memory is encrypted, and nobody may debug it.
    EncryptedMemory,
}

/// How good the news is (`ear_status`): that of the worst claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Tier {
    /// Nothing is claimed.
    None,
    Affirming,
    Warning,
    Contraindicated,
}

impl TrustVector {
    /// That of a TPM whose pinned key quoted what this set accepted.
    ///
    /// Boot is affirmed when the firmware (PCR 0) and its drivers (2) were compared, and the boot loader or unified kernel
    /// image (4) was, by value or by its event. Configuration is when the firmware's settings (1) were compared, and Secure
    /// Boot (7) and the command line, which boot loaders measure into one of two PCRs (8 or 12), were by value or by event.
    /// TCG PC Client Platform Firmware Profile, section 3.3.4; the UAPI group's Linux TPM PCR Registry.
    pub(crate) fn of_machine(accepted: &ReferenceSet) -> Self {
        let lists = |pcr| accepted.lists(pcr);
        let (configuration_told, images_told) =
            accepted.events().map_or((false, false), |events| (events.names_configuration(), events.names_images()));
        let configured = lists(1) && (configuration_told || (lists(7) && (lists(8) || lists(12))));
        let booted = lists(0) && lists(2) && (images_told || lists(4));
        Self {
            instance_identity: Some(Claim::RecognizedInstance),
            configuration: configured.then_some(Claim::ApprovedConfiguration),
            executables: match accepted.dangerously_accepts_any_pcrs() {
                Some(_) => Some(Claim::UnrecognizedExecutables),
                None => booted.then_some(Claim::ApprovedBoot),
            },
            ..Self::default()
        }
    }

    /// That of a guest of SEV-SNP that these rules accepted. Debugging is refused by every set of rules, so its memory is
    /// encrypted and opaque, as far as its hardware is genuine.
    pub(crate) fn of_guest(rules: &Rules, machine: PinnedMachine<'_>, root: Root) -> Self {
        let hardware = match root {
            Root::Dangerous(_) => Claim::UnrecognizedHardware,
            Root::Amd(_) if rules.dangers.iter().any(|(key, _)| key != "dangerously_accept_any_measurement") => {
                Claim::UnsafeHardware
            }
            Root::Amd(_) => Claim::GenuineHardware,
        };
        let pinned = matches!(machine, PinnedMachine::Chip(_)) || matches!(rules.chips, Some(Chips::Only(_)));
        let compared = rules.measurements.is_some() || rules.id_keys.is_some() || rules.author_keys.is_some();
        Self {
            instance_identity: pinned.then_some(Claim::RecognizedInstance),
            configuration: None,
            executables: match (&rules.dangers.any_measurement, compared) {
                (Some(_), _) => Some(Claim::UnrecognizedExecutables),
                (None, true) => Some(Claim::ApprovedBoot),
                (None, false) => None,
            },
            hardware: Some(hardware),
            runtime_opaque: (hardware == Claim::GenuineHardware).then_some(Claim::EncryptedMemory),
        }
    }

    /// That of a machine whose vTPM a measured guest of SEV-SNP keeps. What was booted is as good as the worse of the two.
    pub(crate) fn of_vtpm(guest: Self, tpm: Self, known: bool) -> Self {
        let executables = match (guest.executables, tpm.executables) {
            (Some(guest), Some(tpm)) => Some(if guest.tier() > tpm.tier() { guest } else { tpm }),
            _ => None,
        };
        Self {
            instance_identity: known.then_some(Claim::RecognizedInstance),
            configuration: tpm.configuration,
            executables,
            hardware: guest.hardware,
            runtime_opaque: guest.runtime_opaque,
        }
    }

    /// The tier of the worst claim.
    pub(crate) fn tier(&self) -> Tier {
        let Self { instance_identity, configuration, executables, hardware, runtime_opaque } = *self;
        let claims = [instance_identity, configuration, executables, hardware, runtime_opaque];
        claims.into_iter().flatten().map(Claim::tier).max().unwrap_or(Tier::None)
    }
}

impl Claim {
    fn tier(self) -> Tier {
        match i8::from(self) {
            2..=31 => Tier::Affirming,
            32..=95 => Tier::Warning,
            _ => Tier::Contraindicated,
        }
    }
}

impl From<Claim> for i8 {
    fn from(claim: Claim) -> Self {
        match claim {
            Claim::RecognizedInstance
            | Claim::ApprovedConfiguration
            | Claim::GenuineHardware
            | Claim::EncryptedMemory => 2,
            Claim::ApprovedBoot => 3,
            Claim::UnsafeHardware => 32,
            Claim::UnrecognizedExecutables => 33,
            Claim::UnrecognizedHardware => 97,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::ReferenceValues;

    fn of(pcrs: &[u8]) -> TrustVector {
        let values: String = pcrs.iter().map(|pcr| format!("{pcr} = [\"{}\"]\n", "ab".repeat(32))).collect();
        of_text(&format!("[tpm.pcrs]\n{values}"))
    }

    fn of_text(set: &str) -> TrustVector {
        let text = format!("version = 1\nrole = \"broker\"\n[[tpm]]\nname = \"a\"\nfirmware = \"any\"\n{set}");
        TrustVector::of_machine(&ReferenceValues::parse(&text).unwrap().sets()[0])
    }

    #[test]
    fn boot_is_affirmed_only_when_each_of_its_pcrs_was_compared() {
        assert_eq!(of(&[0, 2, 4]).executables, Some(Claim::ApprovedBoot));
        for part in [[0, 2], [0, 4], [2, 4]] {
            assert_eq!(of(&part).executables, None);
        }
    }

    #[test]
    fn configuration_is_affirmed_only_when_settings_secure_boot_and_command_line_were_compared() {
        for whole in [[1, 7, 8], [1, 7, 12]] {
            assert_eq!(of(&whole).configuration, Some(Claim::ApprovedConfiguration));
        }
        for part in [&[1, 7][..], &[1, 8, 12], &[7, 8, 12]] {
            assert_eq!(of(part).configuration, None);
        }
    }

    #[test]
    fn the_worst_claim_makes_the_tier() {
        assert_eq!(TrustVector::default().tier(), Tier::None);
        assert_eq!(of(&[7]).tier(), Tier::Affirming);
        assert_eq!(of_text("dangerously_accept_any_pcrs = \"lab\"\n").tier(), Tier::Warning);
    }
}
