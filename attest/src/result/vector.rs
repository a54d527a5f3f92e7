//! The AR4SI trustworthiness vector: what was looked at, in words that other verifiers use as well.
//!
//! Source: draft-ietf-rats-ar4si, section 2.3. A claim is here only when something that we checked speaks for it (or, where
//! an operator spelt out that anything goes, against it); what we did not look at is left out, which means "no claim".

use serde::Serialize;

use crate::tpm::PcrSelection;

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
}

impl TrustVector {
    /// That of a TPM whose pinned key quoted these PCRs, all of which are as the reference values have them.
    ///
    /// Boot is affirmed when the firmware (PCR 0), its drivers (2) and the boot loader or unified kernel image (4) were
    /// compared; configuration when the firmware's settings (1), Secure Boot (7), and the command line by one of the two
    /// PCRs that boot loaders use for it (8 or 12) were. TCG PC Client Platform Firmware Profile, section 3.3.4; the
    /// UAPI group's Linux TPM PCR Registry.
    pub(crate) fn of_compared_pcrs(compared: PcrSelection) -> Self {
        let has = |pcr: u8| compared.indices().any(|index| index == pcr);
        Self {
            instance_identity: Some(Claim::RecognizedInstance),
            configuration: (has(1) && has(7) && (has(8) || has(12))).then_some(Claim::ApprovedConfiguration),
            executables: (has(0) && has(2) && has(4)).then_some(Claim::ApprovedBoot),
            ..Self::default()
        }
    }

    /// That of a TPM whose pinned key quoted PCRs which nobody compared.
    pub(crate) fn of_any_pcrs() -> Self {
        Self {
            instance_identity: Some(Claim::RecognizedInstance),
            executables: Some(Claim::UnrecognizedExecutables),
            ..Self::default()
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
            _ => Tier::Warning,
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
            Claim::UnrecognizedExecutables => 33,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pcrs: &[u8]) -> TrustVector {
        TrustVector::of_compared_pcrs(PcrSelection::new(pcrs.iter().copied()).unwrap())
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
        assert_eq!(TrustVector::of_any_pcrs().tier(), Tier::Warning);
    }
}
