//! A dialler that goes to one local port, whatever it is asked for, as a front taken over by an attacker would.

use blindferry_vault::upstream::{Dial, DialError};
use tokio::net::TcpStream;

pub(crate) struct Dialler(pub(crate) u16);

impl Dial for Dialler {
    async fn dial(&self, _: &str, _: u16) -> Result<TcpStream, DialError> {
        TcpStream::connect(("127.0.0.1", self.0)).await.map_err(|e| DialError::Refused { why: e.to_string() })
    }
}
