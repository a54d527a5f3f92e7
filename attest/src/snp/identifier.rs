//! The fixed-length values of a report that people copy and compare: each a type of its own, shown in hexadecimal.

use std::fmt;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// The value of these bytes, as they are.
            #[must_use]
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Whether every byte is zero, by which the firmware says that there is none.
            #[must_use]
            pub fn is_zero(&self) -> bool {
                self.0.iter().all(|byte| *byte == 0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0; 2 * $len];
                // The text has the room that this needs, and hexadecimal digits are UTF-8.
                hex::encode_to_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
                formatter.write_str(str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({self})", stringify!($name))
            }
        }
    };
}

identifier! {
    /// CHIP_ID: a processor. All zero where the host masks it, and where the report is signed by a VLEK. On Turin the
    /// first 8 bytes count and the others are zero.
    ChipId, 64
}
identifier! {
    /// REPORT_ID: a running guest, chosen by the firmware at its launch. A guest that was started again has another.
    ReportId, 32
}
identifier! {
    /// MEASUREMENT: what the guest was launched from (SHA-384).
    Measurement, 48
}
identifier! {
    /// ID_KEY_DIGEST or AUTHOR_KEY_DIGEST: SHA-384 of a key that signed the guest's id block.
    KeyDigest, 48
}
identifier! {
    /// HOST_DATA: what the host said about the guest at launch. The guest cannot change it, the host can say anything.
    HostData, 32
}
identifier! {
    /// REPORT_DATA: what the guest asked to have signed.
    ReportData, 64
}
