//! Reference values: which software and firmware a peer may run. Written by an operator, in TOML, and strict.
//!
//! ```toml
//! version = 1
//! role = "broker"                       # or "vault", "operator": whose evidence this judges
//!
//! [[tpm]]
//! name = "debian 12, kernel 6.1.0-28"   # appears in the audit and in claims
//! firmware = "any"                      # or a list: ["0007000200000000"]
//!
//! [tpm.pcrs]                            # SHA-256 bank; any listed value is accepted for its index
//! 4 = ["d4…"]
//! 7 = ["65…", "9f…"]
//! ```
//!
//! Every `[[tpm]]` lists the same PCRs, since a quote covers one selection, fixed before it is made. A peer is accepted
//! when one set matches in all its PCRs and in its firmware.

use blindferry_proto::role::Role;

use crate::tpm::PcrSelection;

/// The largest file of reference values that is parsed, in bytes.
pub const MAX_REFERENCE: usize = 256 * 1024;

/// Which software and firmware peers of one role may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceValues {
    role: Role,
    selection: PcrSelection,
}

/// Why text is not reference values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// More than [`MAX_REFERENCE`] bytes; nothing was parsed.
    #[error("reference values have {found} bytes, more than {MAX_REFERENCE}")]
    TooLong {
        /// Their length in bytes.
        found: usize,
    },
}

impl ReferenceValues {
    /// Parses reference values.
    ///
    /// # Errors
    ///
    /// On anything but exactly this form: unknown or missing keys, empty sets, PCRs that differ between sets.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.len() > MAX_REFERENCE {
            return Err(ReferenceError::TooLong { found: text.len() });
        }
        todo!()
    }

    /// Writes them in one canonical form, a value a line, so that two versions can be compared.
    #[must_use]
    pub fn to_toml(&self) -> String {
        todo!()
    }

    /// The role whose evidence these judge.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The PCRs that a quote must cover, exactly. PCRs 0 to 7 where any value is accepted.
    #[must_use]
    pub fn selection(&self) -> PcrSelection {
        self.selection
    }
}
