//! From a quote that is claimed to PCR values that are known: the signature holds, and the values are what was quoted.

use super::{
    PcrSelection, PcrValues,
    attestation_key::{AkForm, attesting},
    public::{Public, Scheme},
    quote::Quote,
    signature::Signature,
};
use crate::refusal::AppraisalError;

/// A quote that an attestation key did sign. Only [`AuthenticQuote::check`] makes one. Whether it is the right key, and
/// whether the quote is fresh, are other questions.
///
/// ```compile_fail,E0451
/// use blindferry_attest::tpm::quoted::AuthenticQuote;
/// let forged = AuthenticQuote { ..panic!() };
/// ```
#[must_use = "a quote that nobody looks at proves nothing"]
#[derive(Debug)]
pub struct AuthenticQuote {
    quote: Quote,
    scheme: Scheme,
}

/// Values that a TPM quoted. Only [`AuthenticQuote::pcrs`] makes one.
///
/// ```compile_fail,E0423
/// use blindferry_attest::tpm::{PcrValues, quoted::QuotedPcrs};
/// fn forged(values: PcrValues) -> QuotedPcrs {
///     QuotedPcrs(values)
/// }
/// ```
#[must_use = "values that nobody compares prove nothing"]
#[derive(Debug)]
pub struct QuotedPcrs(PcrValues);

impl AuthenticQuote {
    /// The quote, when `ak` can attest and signed it by its own scheme.
    ///
    /// # Errors
    ///
    /// The first that fails: the form of the key, the form of the signature, its scheme, the signature itself, the form of
    /// the quote.
    pub fn check(attest: &[u8], signature: &[u8], ak: &Public) -> Result<Self, AppraisalError> {
        let scheme = attesting(ak).map_err(|form| match form {
            AkForm::Attributes { missing, forbidden } => AppraisalError::AkAttributes { missing, forbidden },
            AkForm::NoScheme => AppraisalError::AkScheme,
        })?;
        let signature = Signature::parse(signature)
            .map_err(|cause| AppraisalError::parsing(cause, AppraisalError::SignatureForm))?;
        if signature.scheme() != scheme {
            return Err(AppraisalError::SignatureScheme { found: signature.scheme(), wanted: scheme });
        }
        let signed =
            signature.verify(ak.key(), attest).ok_or_else(|| AppraisalError::Signature { ak: ak.name().clone() })?;
        Ok(Self { quote: Quote::parse(signed.bytes())?, scheme })
    }

    /// What the TPM said.
    #[must_use]
    pub fn quote(&self) -> &Quote {
        &self.quote
    }

    /// The values of exactly the PCRs that were wanted, when they are what was quoted.
    ///
    /// # Errors
    ///
    /// When other PCRs were quoted, values are missing, or their digest is another.
    pub fn pcrs(&self, claimed: &[(u8, [u8; 32])], wanted: PcrSelection) -> Result<QuotedPcrs, AppraisalError> {
        if !self.quote.selection().is_exactly(wanted) {
            return Err(AppraisalError::PcrSelection { found: self.quote.selection().clone(), wanted });
        }
        let values = PcrValues::new(wanted, claimed).map_err(AppraisalError::PcrValues)?;
        let digest = values.digest(self.scheme.hash());
        if digest != self.quote.pcr_digest() {
            return Err(AppraisalError::PcrDigest { found: digest, wanted: self.quote.pcr_digest().to_vec() });
        }
        Ok(QuotedPcrs(values))
    }
}

impl QuotedPcrs {
    /// The values, as plain data.
    #[must_use]
    pub fn values(&self) -> &PcrValues {
        &self.0
    }

    /// The value of one PCR, when it was quoted.
    #[must_use]
    pub fn value(&self, pcr: u8) -> Option<&[u8; 32]> {
        self.0.iter().find(|(index, _)| *index == pcr).map(|(_, value)| value)
    }
}
