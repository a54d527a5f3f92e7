//! How messages lie on the stream of an attested session: a length of four bytes, big-endian, then that many bytes.

use crate::bounded::{CodecError, TooLong};
use serde::Serialize;

/// Bytes of the length in front of each frame.
pub const HEADER: usize = 4;

/// The header for a body of `length` bytes.
///
/// # Errors
/// [`TooLong`] when the body is over `limit`.
pub fn header(length: usize, limit: usize) -> Result<[u8; HEADER], TooLong> {
    let too_long = TooLong { length, most: limit };
    if length > limit {
        return Err(too_long);
    }
    u32::try_from(length).map(u32::to_be_bytes).map_err(|_| too_long)
}

/// A message with its header, in one piece of memory: a frame can be long.
///
/// # Errors
/// [`CodecError`] when the body is over `limit`, or the message cannot be expressed.
pub fn encode<T: Serialize>(message: &T, limit: usize) -> Result<Vec<u8>, CodecError> {
    let mut frame = postcard::to_extend(message, vec![0; HEADER]).map_err(CodecError::Encode)?;
    let announced = header(frame.len().saturating_sub(HEADER), limit).map_err(CodecError::TooLong)?;
    for (to, from) in frame.iter_mut().zip(announced) {
        *to = from;
    }
    Ok(frame)
}

/// The length of the body that a header announces, checked before anything is allocated for it.
///
/// # Errors
/// [`TooLong`] when it is over `limit`.
pub fn body_length(header: [u8; HEADER], limit: usize) -> Result<usize, TooLong> {
    let length =
        usize::try_from(u32::from_be_bytes(header)).map_err(|_| TooLong { length: usize::MAX, most: limit })?;
    if length > limit {
        return Err(TooLong { length, most: limit });
    }
    Ok(length)
}
