//! Fresh evidence in the course of a session: asked for, and judged once.

use super::ServerError;
use crate::asked;
use crate::channel::{Exporter, Stream, fresh_context};
use blindferry_attest::attested::{Attested, Expected, Pinned, appraise};
use blindferry_attest::binder::Binder;
use blindferry_attest::reference::ReferenceValues;
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::role::{Context, Role};
use ring::rand::SecureRandom;

/// One re-attestation under way: a context that was sent and has not been answered. Spent by the answer.
///
/// Evidence that nobody asked for cannot be judged, since a binder of one's choice makes no challenge:
///
/// ```compile_fail,E0451
/// # use blindferry_attest::binder::Binder;
/// # use blindferry_proto::role::Role;
/// # use blindferry_session::server::Rechallenge;
/// fn unasked(binder: Binder) -> Rechallenge {
///     Rechallenge { binder, role: Role::Broker, logs: Default::default() }
/// }
/// ```
///
/// Nor does one challenge take two answers:
///
/// ```compile_fail,E0382
/// # use blindferry_attest::{attested::Pinned, reference::ReferenceValues};
/// # use blindferry_session::server::Rechallenge;
/// fn twice(challenge: Rechallenge, evidence: &[u8], pinned: Pinned<'_>, reference: &ReferenceValues) {
///     let first = challenge.judge(evidence, pinned, reference);
///     let second = challenge.judge(evidence, pinned, reference);
/// }
/// ```
#[derive(Debug)]
pub struct Rechallenge {
    binder: Binder,
    role: Role,
    logs: WantedLogs,
}

impl Rechallenge {
    /// A fresh context to push to the peer, and what its answer has to carry, with these logs.
    ///
    /// # Errors
    /// [`ServerError`] when there is no binder or no random bytes.
    pub fn new<S: Stream>(
        exporter: &Exporter<S>,
        role: Role,
        logs: WantedLogs,
        random: &(dyn SecureRandom + Sync),
    ) -> Result<(Self, Context), ServerError> {
        let context = fresh_context(random)?;
        let binder = exporter.peer_binder(role, &context)?;
        Ok((Self { binder, role, logs }, context))
    }

    /// The logs that were asked for: they make room for the answer.
    #[must_use]
    pub fn logs(&self) -> WantedLogs {
        self.logs
    }

    /// Judges the answer.
    ///
    /// # Errors
    /// [`ServerError::Evidence`] or [`ServerError::Appraisal`]: the session is over.
    pub fn judge(
        self,
        evidence: &[u8],
        pinned: Pinned<'_>,
        reference: &ReferenceValues,
    ) -> Result<Attested, ServerError> {
        let evidence = asked::read(evidence, self.logs).map_err(|source| ServerError::Evidence { source })?;
        let expected = Expected { binder: self.binder, role: self.role, pinned };
        appraise(evidence, expected, reference).map_err(|source| ServerError::Appraisal { source: Box::new(source) })
    }
}
