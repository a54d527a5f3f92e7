//! Which version of systemd-stub an image has, and what that version measures.

use std::{fmt, str::FromStr};

/// A version of systemd-stub: the first number of systemd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StubVersion(u16);

/// Why it is not known what a stub measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownStub {
    /// There is no section `.sdmagic` with a version.
    #[error("the image does not say of which version of systemd-stub it is made")]
    NoVersion,
    /// The version is older or newer than what is known.
    #[error("systemd-stub {found} is not known, versions {FIRST} to {LAST} are")]
    Version {
        /// The version.
        found: u16,
    },
}

impl StubVersion {
    /// A version that is known.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub const fn new(version: u16) -> Result<Self, UnknownStub> {
        if version < FIRST || version > LAST { Err(UnknownStub::Version { found: version }) } else { Ok(Self(version)) }
    }

    /// Reads a section `.sdmagic`, such as `#### LoaderInfo: systemd-stub 252.39-1~deb12u2 ####`.
    pub(super) fn of_magic(section: Option<&[u8]>) -> Result<Self, UnknownStub> {
        let text = section.and_then(|section| section.strip_prefix(b"#### LoaderInfo: systemd-stub "));
        let version = text.and_then(leading_number).ok_or(UnknownStub::NoVersion)?;
        Self::new(version)
    }

    /// The sections that it measures into PCR 11, in its order: `src/fundamental/uki.h` of each version. `.pcrsig` is
    /// none of them, since it signs the result; nor is `.profile`, without which an image has to be.
    pub(super) fn sections(self) -> impl Iterator<Item = &'static str> {
        SECTIONS.iter().filter(move |(since, _)| self.0 >= *since).map(|(_, name)| *name)
    }

    /// The sections that it hands to the kernel as files of the initrd, or as an initrd of their own.
    pub(super) fn wrapped(self) -> impl Iterator<Item = &'static str> {
        WRAPPED.iter().filter(move |(since, _)| self.0 >= *since).map(|(_, name)| *name)
    }
}

impl FromStr for StubVersion {
    type Err = UnknownStub;

    fn from_str(text: &str) -> Result<Self, UnknownStub> {
        Self::new(leading_number(text.as_bytes()).ok_or(UnknownStub::NoVersion)?)
    }
}

impl fmt::Display for StubVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The version of a kernel in a bzImage, major and minor (Linux, Documentation/arch/x86/boot.rst, `kernel_version`).
pub(super) fn kernel_version(kernel: &[u8]) -> Option<(u16, u16)> {
    if kernel.get(0x202..0x206) != Some(b"HdrS") {
        return None;
    }
    let pointer = u16::from_le_bytes(*kernel.get(0x20e..)?.first_chunk()?);
    // Zero is no version.
    let text = kernel.get(usize::from(pointer).checked_add(0x200)?..).filter(|_| pointer != 0)?;
    let dot = text.iter().take(6).position(|byte| *byte == b'.')?;
    Some((leading_number(text)?, leading_number(text.get(dot + 1..)?)?))
}

fn leading_number(text: &[u8]) -> Option<u16> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    str::from_utf8(text.get(..digits)?).ok()?.parse().ok()
}

/// The first version that measures sections.
const FIRST: u16 = 252;
/// The last version whose sections are known.
const LAST: u16 = 258;

/// The version since which a section is measured, and the section, in the order of measuring.
const SECTIONS: &[(u16, &str)] = &[
    (252, ".linux"),
    (252, ".osrel"),
    (252, ".cmdline"),
    (252, ".initrd"),
    (256, ".ucode"),
    (252, ".splash"),
    (252, ".dtb"),
    (253, ".uname"),
    (253, ".sbat"),
    (252, ".pcrpkey"),
    (257, ".dtbauto"),
    (257, ".hwids"),
    (258, ".efifw"),
];

/// The version since which a section becomes part of the initrd, and the section.
const WRAPPED: &[(u16, &str)] = &[(252, ".pcrsig"), (252, ".pcrpkey"), (256, ".ucode"), (257, ".osrel")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_measures_the_sections_that_its_version_knows() {
        let sections = |version| StubVersion::new(version).unwrap().sections().collect::<Vec<_>>().join(" ");
        assert_eq!(sections(252), ".linux .osrel .cmdline .initrd .splash .dtb .pcrpkey");
        assert_eq!(sections(253), ".linux .osrel .cmdline .initrd .splash .dtb .uname .sbat .pcrpkey");
        assert_eq!(sections(255), sections(253));
        assert_eq!(sections(256), ".linux .osrel .cmdline .initrd .ucode .splash .dtb .uname .sbat .pcrpkey");
        assert_eq!(
            sections(258),
            ".linux .osrel .cmdline .initrd .ucode .splash .dtb .uname .sbat .pcrpkey .dtbauto .hwids .efifw"
        );
    }

    #[test]
    fn a_stub_of_which_nothing_is_known_is_refused() {
        let magic = |text: &str| StubVersion::of_magic(Some(text.as_bytes()));
        assert_eq!(magic("#### LoaderInfo: systemd-stub 252.39-1~deb12u2 ####\0"), StubVersion::new(252));
        assert_eq!(magic("#### LoaderInfo: systemd-stub 251 ####"), Err(UnknownStub::Version { found: 251 }));
        assert_eq!(magic("#### LoaderInfo: systemd-stub 259~rc1 ####"), Err(UnknownStub::Version { found: 259 }));
        for text in ["", "#### LoaderInfo: systemd-boot 252 ####", "#### LoaderInfo: systemd-stub v252 ####"] {
            assert_eq!(magic(text), Err(UnknownStub::NoVersion), "{text}");
        }
        assert_eq!(StubVersion::of_magic(None), Err(UnknownStub::NoVersion));
    }

    #[test]
    fn a_kernel_says_its_version_or_has_none() {
        let mut kernel = vec![0; 0x400];
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x20e] = 0x80;
        kernel[0x280..0x28a].copy_from_slice(b"6.12.95-c ");
        assert_eq!(kernel_version(&kernel), Some((6, 12)));
        kernel[0x20e] = 0;
        assert_eq!(kernel_version(&kernel), None);
        kernel[0x20e..0x210].copy_from_slice(&[0xff; 2]);
        assert_eq!(kernel_version(&kernel), None);
        kernel[0x202] = 0;
        assert_eq!(kernel_version(&kernel), None);
        assert_eq!(kernel_version(b""), None);
    }
}
