//! A report that an endorsed key signed: the type, and the one function that makes it.

use ring::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};

use super::{
    chain::EndorsedVek,
    question::Question,
    refusal::SnpRefusal,
    report::{Body, Report},
};

/// A report that a chip of AMD's signed (or whoever holds the key of a root that was trusted dangerously). What it says is
/// what the firmware said; whether that is good enough is asked next. Only [`EndorsedVek::authenticate`] makes one.
#[must_use = "an authentic report that nobody judges protects nothing"]
#[derive(Debug)]
pub struct Authentic<'a> {
    report: Report,
    vek: &'a EndorsedVek,
}

impl EndorsedVek {
    /// Checks the signature over a report.
    ///
    /// # Errors
    ///
    /// When a certificate of the chain is not valid at `now` (seconds since 1970), or the signature does not hold.
    pub fn authenticate(&self, report: Report, now: u64) -> Result<Authentic<'_>, SnpRefusal> {
        self.valid_at(now)?;
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, self.key())
            .verify(report.signed(), &report.signature())
            .map_err(|_| {
                let wanted = format!("signed by the {} of {}", self.kind().name(), self.product());
                SnpRefusal::new(Question::Signature, "a signature that does not hold", wanted)
            })?;
        Ok(Authentic { report, vek: self })
    }
}

impl<'a> Authentic<'a> {
    /// What the firmware said.
    #[must_use]
    pub fn body(&self) -> &Body {
        self.report.body()
    }

    /// The key that signed.
    pub fn vek(&self) -> &'a EndorsedVek {
        self.vek
    }
}
