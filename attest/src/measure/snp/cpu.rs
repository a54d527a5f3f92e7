//! What CPUID says of a processor: family, model and stepping, as QEMU's models have them.

use std::{fmt, str::FromStr};

/// CPUID Fn0000_0001_EAX: family, model and stepping of a processor (AMD's CPUID specification, 25481).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CpuSignature(u32);

/// A text is neither a model of QEMU's nor a signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no processor: one of {}, or a signature as 0x00a00f11, is needed", CpuSignature::names().collect::<Vec<_>>().join(", "))]
pub struct UnknownCpu {
    /// The text.
    found: String,
}

impl CpuSignature {
    /// A signature as CPUID gives it.
    #[must_use]
    pub const fn new(eax: u32) -> Self {
        Self(eax)
    }

    /// As CPUID gives it.
    #[must_use]
    pub const fn eax(self) -> u32 {
        self.0
    }

    /// Its signature from a family (which may be above 15), a model and a stepping.
    #[must_use]
    pub const fn of(family: u8, model: u8, stepping: u8) -> Self {
        let (base, extended) = if family > 15 { (15, family - 15) } else { (family, 0) };
        // Widening; `u32::from` is not const.
        Self(
            ((extended as u32) << 20)
                | ((model as u32 >> 4) << 16)
                | ((base as u32) << 8)
                | ((model as u32 & 15) << 4)
                | (stepping as u32 & 15),
        )
    }

    /// The models of QEMU's that can be named, without their version.
    pub fn names() -> impl Iterator<Item = &'static str> {
        MODELS.iter().map(|(name, _)| *name)
    }
}

impl FromStr for CpuSignature {
    type Err = UnknownCpu;

    fn from_str(text: &str) -> Result<Self, UnknownCpu> {
        let unknown = || UnknownCpu { found: text.chars().take(64).collect() };
        if let Some(digits) = text.strip_prefix("0x") {
            // `from_str_radix` would take a sign as well.
            let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            return u32::from_str_radix(digits, 16).ok().filter(|_| hexadecimal).map(Self).ok_or_else(unknown);
        }
        // A version of a model (EPYC-Milan-v2) changes features, never the signature.
        let versioned = text.rsplit_once("-v").filter(|(_, version)| {
            !version.is_empty() && version.len() <= 2 && version.bytes().all(|byte| byte.is_ascii_digit())
        });
        let name = versioned.map_or(text, |(name, _)| name);
        MODELS.iter().find(|(model, _)| *model == name).map(|(_, signature)| *signature).ok_or_else(unknown)
    }
}

impl fmt::Display for CpuSignature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#010x}", self.0)
    }
}

/// The models of QEMU's that are AMD's server processors.
const MODELS: &[(&str, CpuSignature)] = &[
    ("EPYC", CpuSignature::of(23, 1, 2)),
    ("EPYC-IBPB", CpuSignature::of(23, 1, 2)),
    ("EPYC-Rome", CpuSignature::of(23, 49, 0)),
    ("EPYC-Milan", CpuSignature::of(25, 1, 1)),
    ("EPYC-Genoa", CpuSignature::of(25, 17, 0)),
    ("EPYC-Turin", CpuSignature::of(26, 0, 0)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_the_signatures_that_are_published() {
        for (name, eax) in [
            ("EPYC-v4", 0x0080_0f12),
            ("EPYC-Rome", 0x0083_0f10),
            ("EPYC-Milan-v2", 0x00a0_0f11),
            ("EPYC-Genoa", 0x00a1_0f10),
            ("EPYC-Turin", 0x00b0_0f00),
            ("0x00b00f21", 0x00b0_0f21),
        ] {
            assert_eq!(name.parse(), Ok(CpuSignature::new(eax)), "{name}");
        }
    }

    #[test]
    fn what_is_no_processor_is_refused() {
        for text in ["", "epyc", "EPYC-Bergamo", "EPYC-v", "EPYC-v123", "EPYC-v4-v4", "0x", "0x+1", "0x100000000", "1"]
        {
            assert!(text.parse::<CpuSignature>().is_err(), "{text}");
        }
    }
}
