//! An operator's attested session with the vault.

use crate::configuration::Configuration;
use crate::device::Hardware;
use crate::document;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::note;
use blindferry_attest::reference::{Danger, ReferenceValues};
use blindferry_device::client::Device;
use blindferry_proto::operator::{OperatorReply, OperatorRequest};
use blindferry_proto::role::Role;
use blindferry_proto::session::{Answer, Request, Welcome};
use blindferry_proto::shown::visible;
use blindferry_session::client::{CallError, Caller, Established, SessionOver, connect};
use blindferry_session::{ClientSettings, VaultReference};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// A session that stands.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    /// What the vault said of itself.
    pub(crate) welcome: Welcome,
    /// What was known of the vault beforehand.
    pub(crate) vault: VaultReference,
    caller: Caller,
    over: Arc<Mutex<Option<SessionOver>>>,
    invocation: &'a Invocation,
}

/// Opens a session, does `work` over it, and closes it.
///
/// # Errors
/// Why there is no session, or what `work` returned.
pub(crate) fn with_session<T>(
    invocation: &Invocation,
    work: impl AsyncFnOnce(&Session<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let configuration = invocation.configuration()?;
    let vault = vault_reference(&configuration.vault_reference)?;
    warn_of(&vault.reference);
    let hardware = Hardware::configured(invocation, &configuration)?;
    let runtime = runtime()?;
    let (_device, socket) = hardware.start()?;
    runtime.block_on(async {
        let device =
            Device::new(socket).map_err(|source| Failure::Device { doing: "reach the device process", source })?;
        let attester = hardware.attester(device);
        let settings = ClientSettings { name: configuration.name.clone(), role: Role::Operator, vault: vault.clone() };
        let progress = invocation.progress("proving this machine and the vault to each other");
        let stream = dial(&configuration).await?;
        let established = connect(stream, &settings, attester).await;
        drop(progress);
        let Established { welcome, caller, pushes, driver } = established.map_err(Failure::connect)?;
        // An operator has no leases: nothing is pushed to it.
        drop(pushes);
        let over = Arc::new(Mutex::new(None));
        let driven = tokio::spawn({
            let over = Arc::clone(&over);
            async move {
                let why = driver.run().await;
                *over.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
            }
        });
        let session = Session { welcome, vault, caller, over, invocation };
        let done = work(&session).await;
        // The last caller gone, the driver says goodbye and ends; a vault that hangs does not hold us up.
        drop(session);
        let _closed = tokio::time::timeout(GOODBYE, driven).await;
        done
    })
}

impl Session<'_> {
    /// Asks the vault.
    ///
    /// # Errors
    /// [`Failure::Call`] with what was being done; [`Failure::SessionOver`] when the session ended meanwhile.
    pub(crate) async fn ask(&self, doing: &'static str, request: OperatorRequest) -> Result<OperatorReply, Failure> {
        let _progress = self.invocation.progress("waiting for the vault");
        match self.caller.call(Request::Operator(Box::new(request))).await {
            Ok(Answer::Operator(reply)) => Ok(*reply),
            Ok(_) => Err(Failure::Unexpected { doing }),
            Err(CallError::Over) => match self.over.lock().unwrap_or_else(PoisonError::into_inner).take() {
                Some(source) => Err(Failure::SessionOver { doing, source: Box::new(source) }),
                None => Err(Failure::Call { doing, source: CallError::Over }),
            },
            Err(source) => Err(Failure::Call { doing, source }),
        }
    }

    /// Asks the vault for something that is answered with nothing but done.
    ///
    /// # Errors
    /// Those of [`Session::ask`].
    pub(crate) async fn order(&self, doing: &'static str, request: OperatorRequest) -> Result<(), Failure> {
        match self.ask(doing, request).await? {
            OperatorReply::Done => Ok(()),
            _ => Err(Failure::Unexpected { doing }),
        }
    }
}

/// The runtime: one thread, beside those that look up names.
///
/// # Errors
/// [`Failure::Runtime`].
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread().enable_all().build().map_err(|source| Failure::Runtime { source })
}

/// Reads a vault's reference.
///
/// # Errors
/// [`Failure::NoVaultReference`], [`Failure::VaultReference`].
pub(crate) fn vault_reference(path: &Path) -> Result<VaultReference, Failure> {
    let text = match document::read(path) {
        Err(Failure::Document(source)) => return Err(Failure::NoVaultReference { source }),
        text => text?,
    };
    VaultReference::parse(text.as_str())
        .map_err(|source| Failure::VaultReference { path: path.to_owned(), source: Box::new(source) })
}

/// Says what reference values accept in words that start with `dangerously`, a line each.
pub(crate) fn warn_of(values: &ReferenceValues) {
    for danger in values.dangers() {
        note(&format!("warning: {}", danger_line(&danger)));
    }
}

/// A danger as people and documents get it.
pub(crate) fn danger_line(danger: &Danger<'_>) -> String {
    visible(&format!("{}: {} ({})", danger.key, danger.name, danger.reason))
}

async fn dial(configuration: &Configuration) -> Result<TcpStream, Failure> {
    let address = &configuration.vault;
    let failed = |source| Failure::Dial { address: address.to_string(), source };
    let dialled = tokio::time::timeout(DIALLING, TcpStream::connect((address.host.as_str(), address.port))).await;
    let stream = dialled.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

/// How long a TCP connection may take.
const DIALLING: Duration = Duration::from_secs(10);
/// How long the end of the session may take.
const GOODBYE: Duration = Duration::from_secs(2);
