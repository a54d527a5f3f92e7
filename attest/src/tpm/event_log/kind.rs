//! The types of events, by the names of the TCG PC Client Platform Firmware Profile, section 10.4.1.

use std::fmt;

/// What an event is said to be. No digest covers it, so it only tells how the data is meant to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u32);

impl Kind {
    /// Not extended into any PCR.
    pub const NO_ACTION: Self = Self(0x3);
    /// The end of what the firmware measures before it hands over.
    pub const SEPARATOR: Self = Self(0x4);
    /// A text that a boot loader measures.
    pub const IPL: Self = Self(0xd);
    /// An Authenticode digest of an application that firmware or a loader started.
    pub const EFI_BOOT_SERVICES_APPLICATION: Self = Self(0x8000_0003);
    /// The same, of a driver of the time before the hand-over.
    pub const EFI_BOOT_SERVICES_DRIVER: Self = Self(0x8000_0004);
    /// The same, of a driver that stays.
    pub const EFI_RUNTIME_SERVICES_DRIVER: Self = Self(0x8000_0005);
    /// A text that the firmware measures when something happens.
    pub const EFI_ACTION: Self = Self(0x8000_0007);
    /// A UEFI variable as it was when the firmware read it.
    pub const EFI_VARIABLE_DRIVER_CONFIG: Self = Self(0x8000_0001);
    /// A variable that says what to boot.
    pub const EFI_VARIABLE_BOOT: Self = Self(0x8000_0002);
    /// The same, hashed by a newer rule.
    pub const EFI_VARIABLE_BOOT2: Self = Self(0x8000_000c);
    /// The partition table of the disk that was started from.
    pub const EFI_GPT_EVENT: Self = Self(0x8000_0006);
    /// The entry of a variable by which an image was found good.
    pub const EFI_VARIABLE_AUTHORITY: Self = Self(0x8000_00e0);

    /// The name, when it is a known type.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(number, _)| *number == self.0).map(|(_, name)| *name)
    }

    /// Whether its data should be a UEFI variable.
    #[must_use]
    pub fn is_variable(self) -> bool {
        [
            Self::EFI_VARIABLE_DRIVER_CONFIG,
            Self::EFI_VARIABLE_BOOT,
            Self::EFI_VARIABLE_BOOT2,
            Self::EFI_VARIABLE_AUTHORITY,
        ]
        .contains(&self)
    }

    /// Whether its digest should be the Authenticode digest of an image.
    #[must_use]
    pub fn is_image(self) -> bool {
        [Self::EFI_BOOT_SERVICES_APPLICATION, Self::EFI_BOOT_SERVICES_DRIVER, Self::EFI_RUNTIME_SERVICES_DRIVER]
            .contains(&self)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "event type {:#010x}", self.0),
        }
    }
}

const NAMES: &[(u32, &str)] = &[
    (0x0, "EV_PREBOOT_CERT"),
    (0x1, "EV_POST_CODE"),
    (0x3, "EV_NO_ACTION"),
    (0x4, "EV_SEPARATOR"),
    (0x5, "EV_ACTION"),
    (0x6, "EV_EVENT_TAG"),
    (0x7, "EV_S_CRTM_CONTENTS"),
    (0x8, "EV_S_CRTM_VERSION"),
    (0x9, "EV_CPU_MICROCODE"),
    (0xa, "EV_PLATFORM_CONFIG_FLAGS"),
    (0xb, "EV_TABLE_OF_DEVICES"),
    (0xc, "EV_COMPACT_HASH"),
    (0xd, "EV_IPL"),
    (0xe, "EV_IPL_PARTITION_DATA"),
    (0xf, "EV_NONHOST_CODE"),
    (0x10, "EV_NONHOST_CONFIG"),
    (0x11, "EV_NONHOST_INFO"),
    (0x12, "EV_OMIT_BOOT_DEVICE_EVENTS"),
    (0x13, "EV_POST_CODE2"),
    (0x8000_0001, "EV_EFI_VARIABLE_DRIVER_CONFIG"),
    (0x8000_0002, "EV_EFI_VARIABLE_BOOT"),
    (0x8000_0003, "EV_EFI_BOOT_SERVICES_APPLICATION"),
    (0x8000_0004, "EV_EFI_BOOT_SERVICES_DRIVER"),
    (0x8000_0005, "EV_EFI_RUNTIME_SERVICES_DRIVER"),
    (0x8000_0006, "EV_EFI_GPT_EVENT"),
    (0x8000_0007, "EV_EFI_ACTION"),
    (0x8000_0008, "EV_EFI_PLATFORM_FIRMWARE_BLOB"),
    (0x8000_0009, "EV_EFI_HANDOFF_TABLES"),
    (0x8000_000a, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"),
    (0x8000_000b, "EV_EFI_HANDOFF_TABLES2"),
    (0x8000_000c, "EV_EFI_VARIABLE_BOOT2"),
    (0x8000_000d, "EV_EFI_GPT_EVENT2"),
    (0x8000_0010, "EV_EFI_HCRTM_EVENT"),
    (0x8000_00e0, "EV_EFI_VARIABLE_AUTHORITY"),
    (0x8000_00e1, "EV_EFI_SPDM_FIRMWARE_BLOB"),
    (0x8000_00e2, "EV_EFI_SPDM_FIRMWARE_CONFIG"),
];
