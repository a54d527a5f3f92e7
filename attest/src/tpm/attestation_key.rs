//! The form that an attestation key must have, whoever asks: enrolment, and every quote.

use super::public::{Attributes, Public, Scheme};

/// What is wrong with the form of a key that should attest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AkForm {
    /// Its attributes.
    Attributes { missing: Attributes, forbidden: Attributes },
    /// It signs by whatever scheme it is asked to.
    NoScheme,
}

/// The one scheme of a key that can attest: it stays in its TPM, which made it, and signs nothing that merely looks like
/// an attestation; for that it must be restricted, and must not decrypt as well.
pub(crate) fn attesting(ak: &Public) -> Result<Scheme, AkForm> {
    const NEEDED: Attributes = Attributes::FIXED_TPM
        .with(Attributes::FIXED_PARENT)
        .with(Attributes::SENSITIVE_DATA_ORIGIN)
        .with(Attributes::RESTRICTED)
        .with(Attributes::SIGN);
    let missing = NEEDED.without(ak.attributes());
    let forbidden = ak.attributes().shared(Attributes::DECRYPT);
    if !missing.is_empty() || !forbidden.is_empty() {
        return Err(AkForm::Attributes { missing, forbidden });
    }
    ak.scheme().ok_or(AkForm::NoScheme)
}
