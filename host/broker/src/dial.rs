//! Dials the vault for real: TCP, then the attested session.

use crate::backoff::Setback;
use crate::configuration::Address;
use crate::uplink::{Call, Dial, DialError, NotHeard, Session, SessionEnd};
use blindferry_proto::causes::with_causes;
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::session::{Answer, Request};
use blindferry_session::client::{CallError, Caller, ClientSettings, ConnectError, Established, SessionOver, connect};
use blindferry_session::platform::Platform;
use rustix::net::sockopt;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Dials one vault, proving this host by `platform`.
#[derive(Debug)]
pub struct Dialler<P> {
    /// Where.
    pub vault: Address,
    /// Who we are, and which vault is the right one.
    pub settings: ClientSettings,
    /// What makes this host's evidence.
    pub platform: P,
}

impl<P: Platform> Dial for Dialler<P> {
    type Caller = Caller;

    async fn dial(&mut self) -> Result<Session<Caller>, DialError> {
        let failed = |source| DialError::Connect { address: self.vault.to_string(), source };
        let stream = TcpStream::connect((self.vault.host(), self.vault.port())).await.map_err(failed)?;
        keep_alive(&stream).map_err(failed)?;
        let Established { welcome, caller, mut pushes, driver } =
            connect(stream, &self.settings, self.platform.clone()).await.map_err(refused)?;
        let (end, ends) = mpsc::channel(1);
        let driver = async move {
            let pump = async {
                while let Some(ended) = pushes.next().await {
                    if end.send(ended).await.is_err() {
                        break;
                    }
                }
                std::future::pending().await
            };
            tokio::select! {
                over = driver.run() => session_end(&over),
                end = pump => end,
            }
        };
        Ok(Session { replica: welcome.replica, parcel_key: welcome.parcel_key, caller, ends, driver: Box::pin(driver) })
    }
}

impl Call for Caller {
    async fn call(&self, request: Request) -> Result<Answer, NotHeard> {
        Self::call(self, request).await.map_err(|error| match error {
            CallError::Refused(refusal) => NotHeard::Refused(refusal),
            CallError::Over | CallError::Late => NotHeard::Lost,
            CallError::Busy => NotHeard::Busy,
        })
    }
}

fn refused(error: ConnectError) -> DialError {
    match error {
        ConnectError::Refused { refusal } => DialError::Refused(refusal),
        ConnectError::VaultRefused { .. } => DialError::VaultNotAccepted { source: Box::new(error) },
        ConnectError::AnotherVault => DialError::AnotherVault,
        error => DialError::Session { source: Box::new(error) },
    }
}

fn session_end(over: &SessionOver) -> SessionEnd {
    let setback = match over {
        SessionOver::Refused { refusal } if refusal.code == RefusalCode::NotAttested => Setback::Standing,
        _ => Setback::Passing,
    };
    SessionEnd { reason: with_causes(over), setback }
}

/// A vault whose host vanished is noticed within a minute and a half, also when nobody asks it anything.
fn keep_alive(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(30))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    // The same for what was sent and never acknowledged, in milliseconds.
    Ok(sockopt::set_tcp_user_timeout(stream, 60_000)?)
}
