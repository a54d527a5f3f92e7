//! Puts away what a client that died left in a TPM without a resource manager: it has three slots for objects and three
//! for sessions, and full slots refuse everybody.
//!
//! This speaks raw TPM commands: libtss2 3.2 cannot flush a session that it did not start itself. Only one client at a time has
//! such a TPM, so whatever is found here belongs to nobody.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::tcti::Tcti;

/// Flushes every transient object and every session, loaded or saved. Does nothing where a resource manager does it.
pub(crate) fn sweep(tcti: &Tcti) -> io::Result<()> {
    if tcti.has_resource_manager() {
        return Ok(());
    }
    match tcti {
        Tcti::Swtpm { host, port } => {
            let mut stream = TcpStream::connect((*host, *port))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            flush_all(&mut stream)
        }
        Tcti::Device(path) => flush_all(&mut OpenOptions::new().read(true).write(true).open(path)?),
    }
}

fn flush_all(tpm: &mut (impl Read + Write)) -> io::Result<()> {
    for first in [TRANSIENT_FIRST, LOADED_SESSION_FIRST, ACTIVE_SESSION_FIRST] {
        for handle in handles(tpm, first)? {
            // One that cannot be flushed will be refused again, with a better message, by the command that needs room.
            command(tpm, &[&FLUSH_CONTEXT.to_be_bytes(), &handle.to_be_bytes()])?;
        }
    }
    Ok(())
}

/// TPM2_GetCapability(TPM_CAP_HANDLES): the handles of one kind.
fn handles(tpm: &mut (impl Read + Write), first: u32) -> io::Result<Vec<u32>> {
    let response = command(
        tpm,
        &[&GET_CAPABILITY.to_be_bytes(), &CAP_HANDLES.to_be_bytes(), &first.to_be_bytes(), &MOST.to_be_bytes()],
    )?;
    // moreData (1 byte), capability (4), count (4), then the handles. A refusal has nothing of it.
    let (words, _) = response.get(9..).unwrap_or_default().as_chunks::<4>();
    Ok(words.iter().map(|word| u32::from_be_bytes(*word)).collect())
}

/// Sends one command without sessions, and gives what follows the header of its response.
fn command(tpm: &mut (impl Read + Write), parts: &[&[u8]]) -> io::Result<Vec<u8>> {
    let body = parts.concat();
    let len = u32::try_from(body.len() + 6).map_err(io::Error::other)?;
    tpm.write_all(&[&NO_SESSIONS.to_be_bytes()[..], &len.to_be_bytes(), &body].concat())?;
    // A device node gives the whole response to one read; a stream may give it in pieces.
    let mut response = vec![0; RESPONSE_LIMIT];
    let mut filled = 0;
    loop {
        let read = tpm.read(response.get_mut(filled..).unwrap_or_default())?;
        filled += read;
        let announced = response.get(2..6).and_then(|len| len.try_into().ok()).map_or(0, u32::from_be_bytes);
        let announced = usize::try_from(announced).map_err(io::Error::other)?;
        if filled >= 10 && filled >= announced {
            return Ok(response.get(10..filled).unwrap_or_default().to_vec());
        }
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A TPM answers these two commands in microseconds, unless another client has it.
const PATIENCE: Duration = Duration::from_secs(30);

/// TPM 2.0 Part 2: TPM_ST_NO_SESSIONS, command codes, capability, and the first handles of each kind.
const NO_SESSIONS: u16 = 0x8001;
const FLUSH_CONTEXT: u32 = 0x0000_0165;
const GET_CAPABILITY: u32 = 0x0000_017a;
const CAP_HANDLES: u32 = 1;
const TRANSIENT_FIRST: u32 = 0x8000_0000;
const LOADED_SESSION_FIRST: u32 = 0x0200_0000;
const ACTIVE_SESSION_FIRST: u32 = 0x0300_0000;

/// More handles of a kind than a TPM without resource manager can hold.
const MOST: u32 = 64;

/// The longest response a TPM gives (TPM2_MAX_RESPONSE_SIZE).
const RESPONSE_LIMIT: usize = 4096;
