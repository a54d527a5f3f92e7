//! Texts that an operator hands in from files, bounded; `-` is standard input.

use crate::failure::Failure;
use blindferry_proto::bounded::Text;
use blindferry_proto::limits::MAX_DOCUMENT;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Reads a document of at most [`MAX_DOCUMENT`] bytes.
///
/// # Errors
/// [`Failure::Document`].
pub(crate) fn read(path: &Path) -> Result<Text<MAX_DOCUMENT>, Failure> {
    read_bounded(path)
}

/// Reads a text of at most `MAX` bytes.
///
/// # Errors
/// [`Failure::Document`].
pub(crate) fn read_bounded<const MAX: usize>(path: &Path) -> Result<Text<MAX>, Failure> {
    let failed = |source| DocumentError::Read { path: path.to_owned(), source };
    let limit = u64::try_from(MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(|_| DocumentError::NotText { path: path.to_owned() });
    // A text that is too long may be cut within a character.
    match text {
        Ok(text) => Ok(Text::new(text).map_err(|_| DocumentError::TooLong { path: path.to_owned(), most: MAX })?),
        Err(error) => Err(error.into()),
    }
}

/// A file is no document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DocumentError {
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not text in UTF-8", path = path.display())]
    NotText { path: PathBuf },
    #[error("{path} is longer than {most} bytes", path = path.display())]
    TooLong { path: PathBuf, most: usize },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_document_is_bounded_and_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("document");
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read_bounded::<4>(&path)
        };
        assert_eq!(read(b"four").unwrap().as_str(), "four");
        assert!(matches!(read(b"fives"), Err(Failure::Document(DocumentError::TooLong { .. }))));
        assert!(matches!(read(b"\xff"), Err(Failure::Document(DocumentError::NotText { .. }))));
        fs::remove_file(&path).unwrap();
        assert!(matches!(read_bounded::<4>(&path), Err(Failure::Document(DocumentError::Read { .. }))));
    }
}
