//! stub
use crate::exit::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
/// Show audit
#[derive(Debug, clap::Args)]
pub(crate) struct Audit {}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub(crate) struct AuditError;
impl AuditError {
    pub(crate) fn exit(&self) -> Exit {
        Exit::Audit
    }
    pub(crate) fn hint(&self) -> Option<&'static str> {
        None
    }
}
pub(crate) fn run(_: &Invocation, _: Audit) -> Result<(), Failure> {
    Err(AuditError.into())
}
