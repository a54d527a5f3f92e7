//! A man in the middle: ends TLS on both sides with a key of his own, and carries every byte across.

use blindferry_session::{Identity, tls};
use rustls::pki_types::ServerName;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// His place. Each connection to it becomes two, until he is dropped.
#[derive(Debug)]
pub struct Relay {
    /// Where his victims connect.
    pub address: SocketAddr,
    carried: Arc<AtomicU64>,
    _runtime: Runtime,
}

impl Relay {
    /// Takes his place before a vault.
    #[must_use]
    pub fn before(vault: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let carried = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&carried);
        runtime.spawn(async move {
            while let Ok((victim, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    // It fails when either side hangs up, which is what the tests are about.
                    let _over = carry(victim, vault, &count).await;
                });
            }
        });
        Self { address, carried, _runtime: runtime }
    }

    /// How many bytes of the vault's he has had in the clear, to pass on.
    #[must_use]
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

async fn carry(victim: TcpStream, vault: SocketAddr, carried: &AtomicU64) -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let identity = Identity::generate().unwrap();
    let acceptor = TlsAcceptor::from(tls::server(&identity).unwrap());
    let connector = TlsConnector::from(tls::client(&identity).unwrap());
    let (victim, vault) = tokio::try_join!(acceptor.accept(victim), async {
        connector.connect(ServerName::try_from("vault.invalid").unwrap(), TcpStream::connect(vault).await?).await
    })?;
    let (mut from_victim, mut to_victim) = tokio::io::split(victim);
    let (mut from_vault, mut to_vault) = tokio::io::split(vault);
    let up = async {
        tokio::io::copy(&mut from_victim, &mut to_vault).await?;
        to_vault.shutdown().await
    };
    let down = async {
        let mut buffer = vec![0; 4096];
        loop {
            let length = from_vault.read(&mut buffer).await?;
            if length == 0 {
                return to_victim.shutdown().await;
            }
            carried.fetch_add(u64::try_from(length).unwrap(), Ordering::Relaxed);
            to_victim.write_all(&buffer[..length]).await?;
            to_victim.flush().await?;
        }
    };
    tokio::try_join!(up, down).map(|_| ())
}
