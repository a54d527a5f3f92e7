//! Every bound that holds on both sides of a boundary, in one place.

/// Bytes of a session frame's body before the peer is attested: evidence with a certificate chain fits.
pub const MAX_FRAME_UNATTESTED: usize = 32 * 1024;
/// Bytes of a session frame's body once the peer is attested.
pub const MAX_FRAME: usize = 64 * 1024;
/// Bytes of one packet on a Unix socket, descriptors not counted.
pub const MAX_PACKET: usize = 128 * 1024;
/// Bytes of encoded evidence without logs.
pub const MAX_EVIDENCE: usize = 16 * 1024;
/// Bytes of a firmware's event log beside evidence: twice the longest that we have seen of a real machine.
pub const MAX_EVENT_LOG: usize = 192 * 1024;
/// Bytes of an IMA list beside evidence: about 3000 files.
pub const MAX_IMA_LOG: usize = 304 * 1024;
/// Bytes of encoded evidence with both logs, which nobody accepts who did not ask for them.
pub const MAX_EVIDENCE_WITH_LOGS: usize = MAX_EVIDENCE + MAX_EVENT_LOG + MAX_IMA_LOG;
/// Bytes of one certificate.
pub const MAX_CERTIFICATE: usize = 4 * 1024;
/// Certificates in an EK's chain.
pub const MAX_CERTIFICATES: usize = 4;
/// Bytes of an opaque grant.
pub const MAX_GRANT: usize = 1024;
/// Bytes of a token in the clear. Signed JWTs of large providers stay below it.
pub const MAX_TOKEN: usize = 16 * 1024;
/// Bytes of a parcel: a token, its tag, and its header.
pub const MAX_PARCEL: usize = MAX_TOKEN + 256;
/// Bytes of a master in the clear: a private key in PEM fits.
pub const MAX_MASTER: usize = 16 * 1024;
/// Bytes of a policy text, and of a reference-value text.
pub const MAX_DOCUMENT: usize = 48 * 1024;
/// Bytes of one value in the store.
pub const MAX_STORED: usize = 96 * 1024;
/// Records, hosts or credentials in one page of a listing.
pub const MAX_PAGE: usize = 64;
/// Inherited credentials that a redemption tells of: with names of full length an audit record still holds them.
pub const MAX_INHERITED: usize = 8;
/// Operations in one store transaction: as many of the longest audit records fit a packet.
pub const MAX_OPERATIONS: usize = 32;
