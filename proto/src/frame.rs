//! How messages lie on the stream of an attested session: a length of four bytes, big-endian, then that many bytes.

use crate::bounded::TooLong;

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
