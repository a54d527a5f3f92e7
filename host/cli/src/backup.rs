//! `backup`: keeps a copy of a running enclave's store.

use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::moment;
use crate::reserve::Reserved;
use crate::session::{Session, with_session};
use blindferry_proto::backup::{MAGIC, Manifest, Part, Position};
use blindferry_proto::bounded::CodecError;
use blindferry_proto::identifier::Digest;
use blindferry_proto::operator::{OperatorReply, OperatorRequest};
use ring::digest::{Context, SHA256};
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};

/// Keep a copy of the store, while the enclave goes on
///
/// The copy is the store as it was at one moment, all of it ciphertext: it is worth nothing without the enclave's TPM or
/// guest, or the recovery key. That it was taken is audited, and a vault that is restored from it says so.
#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    /// The file that is made; one that is there is not replaced
    file: PathBuf,
}

#[derive(Serialize)]
struct Kept<'a> {
    backup: &'a Path,
    record: u64,
    hash: &'a Digest,
    taken: u64,
    pieces: u64,
    bytes: u64,
    sha256: &'a Digest,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation, backup: &Backup) -> Result<(), Failure> {
    if backup.file.symlink_metadata().is_ok() {
        return Err(CopyError::Occupied { path: backup.file.clone() }.into());
    }
    let file = Reserved::create(&backup.file, 0o600)?;
    let progress = invocation.progress("copying the store");
    let (written, manifest) = with_session(invocation, async |session| copy(session, file).await)?;
    drop(progress);
    let Written { file, digest, pieces, bytes } = written;
    let sha256 = digest_of(&digest);
    let path = file.settle()?;
    if path != backup.file {
        return Err(CopyError::Beside { path }.into());
    }
    let kept = Kept {
        backup: &path,
        record: manifest.record,
        hash: &manifest.hash,
        taken: manifest.taken,
        pieces,
        bytes,
        sha256: &sha256,
    };
    invocation.output.show(&kept, || {
        format!(
            "The store as of {} is in {} ({bytes} bytes).\nIts audit ends with {}:{}; keep that beside it.\nIt opens with \
             the enclave's TPM or guest, or the recovery key, and with nothing else.\n",
            moment(manifest.taken),
            path.display(),
            manifest.record,
            manifest.hash
        )
    })
}

async fn copy(session: &Session<'_>, file: Reserved) -> Result<(Written, Manifest), Failure> {
    let doing = "take a backup";
    let (snapshot, manifest) = match session.ask(doing, OperatorRequest::BackUp).await? {
        OperatorReply::BackupBegun { snapshot, manifest } => (snapshot, manifest),
        _ => return Err(Failure::Unexpected { doing }),
    };
    let mut written = Written { file, digest: Context::new(&SHA256), pieces: 0, bytes: 0 };
    written.add(MAGIC)?;
    written.part(&Part::Begin(manifest.clone()))?;
    let mut after: Option<Position> = None;
    loop {
        let request = OperatorRequest::BackupPieces { snapshot, after: after.clone() };
        let OperatorReply::BackupPieces(pieces) = session.ask(doing, request).await? else {
            return Err(Failure::Unexpected { doing });
        };
        let Some(last) = pieces.last() else { break };
        after = Some(last.end());
        for piece in pieces {
            written.pieces += 1;
            written.part(&Part::Piece(piece))?;
        }
    }
    let digest = digest_of(&written.digest);
    written.part(&Part::End { pieces: written.pieces, digest })?;
    Ok((written, manifest))
}

/// What is in the file so far.
struct Written {
    file: Reserved,
    digest: Context,
    pieces: u64,
    bytes: u64,
}

impl Written {
    fn part(&mut self, part: &Part) -> Result<(), Failure> {
        let bytes = part.to_bytes().map_err(|source| CopyError::Part { source })?;
        self.add(&bytes)
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.digest.update(bytes);
        self.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(self.file.write(bytes)?)
    }
}

fn digest_of(context: &Context) -> Digest {
    let mut digest = Digest([0; Digest::LEN]);
    digest.0.copy_from_slice(context.clone().finish().as_ref());
    digest
}

/// No backup is kept, or none can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error("{path} exists", path = path.display())]
    Occupied { path: PathBuf },
    #[error("something took the name meanwhile; the backup is in {path}", path = path.display())]
    Beside { path: PathBuf },
    #[error("cannot encode a part of it")]
    Part { source: CodecError },
    #[error("cannot read {path}", path = path.display())]
    Open { path: PathBuf, source: io::Error },
}
