//! `remove`: removes a credential.

use crate::confirm::confirm;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::session::with_session;
use blindferry_proto::name::CredentialName;
use blindferry_proto::operator::OperatorRequest;
use serde::Serialize;

/// Remove a credential; its leases end
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// Its name
    name: CredentialName,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Removed<'a> {
    removed: &'a CredentialName,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation, Remove { name, yes }: Remove) -> Result<(), Failure> {
    confirm(&format!("The vault forgets the master of {name}, and its leases end."), yes)?;
    with_session(invocation, async |session| {
        session.order("remove the credential", OperatorRequest::Remove { name: name.clone() }).await
    })?;
    invocation.output.show(&Removed { removed: &name }, || format!("removed {name}"))
}
