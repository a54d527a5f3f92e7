//! The guest device of SEV-SNP, `/dev/sev-guest`: reports and derived keys from the firmware.
//!
//! The form of the calls is that of `linux/sev-guest.h`; what they carry is that of the messages in the SEV-SNP firmware
//! ABI (AMD 56860, chapter 7). What comes back is bytes: nothing of a report is understood here.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use thiserror::Error;
use zeroize::Zeroizing;

/// Bytes of an attestation report.
pub const REPORT_LEN: usize = 1184;
/// Bytes of a derived key.
pub const DERIVED_KEY_LEN: usize = 32;
/// The most bytes of a certificate table that the kernel hands over (`SEV_FW_BLOB_MAX_SIZE`).
pub const TABLE_LIMIT: usize = 0x4000;

/// The open guest device.
#[derive(Debug)]
pub struct SevGuest(File);

/// What a key shall be derived from (MSG_KEY_REQ, AMD 56860 section 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRequest {
    /// `ROOT_KEY_SELECT`: 0 the VCEK (or VLEK, where one is loaded), 1 the VMRK.
    pub root: u32,
    /// `GUEST_FIELD_SELECT`, bit by bit.
    pub fields: u64,
    /// The VMPL to mix in; not below the caller's own.
    pub vmpl: u32,
    /// The guest SVN to mix in; not above the guest's own.
    pub guest_svn: u32,
    /// The TCB version to mix in; in no part above the committed one.
    pub tcb: u64,
}

/// A report and the certificates that the host has for it, as it gave them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedReport {
    /// [`REPORT_LEN`] bytes.
    pub report: Vec<u8>,
    /// The certificate table (AMD 56421, section 4.1.8.1), zeros after its end; at most [`TABLE_LIMIT`] bytes.
    pub table: Vec<u8>,
}

/// Why the device gave nothing.
#[derive(Debug, Error)]
pub enum SevGuestError {
    /// The call failed, or the firmware or the hypervisor refused what was asked.
    #[error("the guest device refused to {operation} (firmware {firmware:#x}, hypervisor {hypervisor:#x})")]
    Call {
        /// What was asked.
        operation: &'static str,
        /// The firmware's status, 0 where it has none (AMD 56860, table of status codes).
        firmware: u32,
        /// The hypervisor's error, 0 where it has none; 2 asks to come again later.
        hypervisor: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The firmware answered, and the answer is no.
    #[error("the firmware answered the request to {operation} with status {status:#x}")]
    Status {
        /// What was asked.
        operation: &'static str,
        /// `STATUS` of its message.
        status: u32,
    },
    /// A report of another length.
    #[error("the firmware gave a report of {found} bytes, want {REPORT_LEN}")]
    ReportLength {
        /// Its length by the message's header.
        found: u32,
    },
}

impl SevGuest {
    /// Opens the device, usually `/dev/sev-guest`.
    ///
    /// # Errors
    /// What the kernel said; a machine that is no SEV-SNP guest has no such device.
    pub fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open(path).map(Self)
    }

    /// A report over `data`, with the certificates that the host has for it (`SNP_GET_EXT_REPORT`).
    ///
    /// # Errors
    /// [`SevGuestError`].
    pub fn extended_report(&self, data: &[u8; 64], vmpl: u32) -> Result<ExtendedReport, SevGuestError> {
        let mut table = vec![0_u8; TABLE_LIMIT];
        let mut request = ExtendedReportRequest {
            report: ReportRequest { data: *data, vmpl, reserved: [0; 28] },
            table: address(table.as_mut_ptr()),
            table_len: TABLE_LIMIT_U32,
        };
        let mut response = Box::new([0_u8; REPORT_RESPONSE]);
        // SAFETY: the kernel reads one ExtendedReportRequest, may write to it, and writes at most `table_len` bytes to
        // `table` and REPORT_RESPONSE bytes to the response; all three live, exclusively ours, until the call is over.
        unsafe { self.call(GET_EXTENDED_REPORT, "make a report", &raw mut request, response.as_mut_ptr()) }?;
        let (header, rest) = response.split_at(REPORT_HEADER);
        checked_status("make a report", header)?;
        let found = word(header, 4);
        match rest.get(..REPORT_LEN) {
            Some(report) if usize::try_from(found) == Ok(REPORT_LEN) => {
                Ok(ExtendedReport { report: report.to_vec(), table })
            }
            _ => Err(SevGuestError::ReportLength { found }),
        }
    }

    /// Writes the derived key into `slot` (`SNP_GET_DERIVED_KEY`). The copy that the kernel made for us is wiped.
    ///
    /// # Errors
    /// [`SevGuestError`]; then `slot` is as it was.
    pub fn derived_key(&self, request: &KeyRequest, slot: &mut [u8; DERIVED_KEY_LEN]) -> Result<(), SevGuestError> {
        let KeyRequest { root, fields, vmpl, guest_svn, tcb } = *request;
        let mut request = DerivedKeyRequest { root, reserved: 0, fields, vmpl, guest_svn, tcb };
        let mut response = Zeroizing::new([0_u8; KEY_RESPONSE]);
        // SAFETY: the kernel reads one DerivedKeyRequest and writes KEY_RESPONSE bytes to the response; both live,
        // exclusively ours, until the call is over.
        unsafe { self.call(GET_DERIVED_KEY, "derive a key", &raw mut request, response.as_mut_ptr()) }?;
        let (header, key) = response.split_at(KEY_HEADER);
        checked_status("derive a key", header)?;
        slot.copy_from_slice(key);
        Ok(())
    }

    /// One request to the firmware.
    ///
    /// # Safety
    /// `request` and `response` must point to what `code` makes the kernel read and write, for the length of the call.
    unsafe fn call<R>(
        &self,
        code: libc::Ioctl,
        operation: &'static str,
        request: *mut R,
        response: *mut u8,
    ) -> Result<(), SevGuestError> {
        let mut argument =
            GuestRequest { message_version: 1, request: address(request.cast()), response: address(response), exit: 0 };
        // SAFETY: the argument is one `struct snp_guest_request_ioctl`, which outlives the call; what it points to is the
        // caller's promise. Descriptors of other kinds answer ENOTTY and touch nothing.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), code, &raw mut argument) };
        if result == 0 {
            return Ok(());
        }
        let source = io::Error::last_os_error();
        let [firmware, hypervisor] = halves(argument.exit);
        Err(SevGuestError::Call { operation, firmware, hypervisor, source })
    }
}

/// `struct snp_guest_request_ioctl`.
#[repr(C)]
struct GuestRequest {
    message_version: u8,
    request: u64,
    response: u64,
    /// Firmware's error in the low half, hypervisor's in the high one.
    exit: u64,
}

/// `struct snp_report_req`.
#[repr(C)]
struct ReportRequest {
    data: [u8; 64],
    vmpl: u32,
    reserved: [u8; 28],
}

/// `struct snp_ext_report_req`.
#[repr(C)]
struct ExtendedReportRequest {
    report: ReportRequest,
    table: u64,
    table_len: u32,
}

/// `struct snp_derived_key_req`.
#[repr(C)]
struct DerivedKeyRequest {
    root: u32,
    reserved: u32,
    fields: u64,
    vmpl: u32,
    guest_svn: u32,
    tcb: u64,
}

/// Bytes of `struct snp_report_resp`: the message with its header, and room.
const REPORT_RESPONSE: usize = 4000;
/// Before the report: status, length, reserved (MSG_REPORT_RSP).
const REPORT_HEADER: usize = 32;
/// Bytes of `struct snp_derived_key_resp`.
const KEY_RESPONSE: usize = 64;
/// Before the key: status, reserved (MSG_KEY_RSP).
const KEY_HEADER: usize = 32;
const TABLE_LIMIT_U32: u32 = 0x4000;

const GET_DERIVED_KEY: libc::Ioctl = request_code(1);
const GET_EXTENDED_REPORT: libc::Ioctl = request_code(2);

/// `_IOWR('S', number, struct snp_guest_request_ioctl)`, by the generic layout of asm-generic/ioctl.h.
const fn request_code(number: libc::Ioctl) -> libc::Ioctl {
    const SIZE: libc::Ioctl = 32;
    assert!(size_of::<GuestRequest>() == 32, "the kernel's structure has 32 bytes");
    (3 << 30) | (SIZE << 16) | ((b'S' as libc::Ioctl) << 8) | number
}

fn address(pointer: *mut u8) -> u64 {
    // x86-64 alone has this device, and its addresses fit.
    u64::try_from(pointer.expose_provenance()).unwrap_or(0)
}

fn halves(exit: u64) -> [u32; 2] {
    [exit & 0xffff_ffff, exit >> 32].map(|half| u32::try_from(half).unwrap_or(u32::MAX))
}

/// A 32-bit word, little-endian.
fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    word.map_or(u32::MAX, |word| u32::from_le_bytes(*word))
}

fn checked_status(operation: &'static str, header: &[u8]) -> Result<(), SevGuestError> {
    match word(header, 0) {
        0 => Ok(()),
        status => Err(SevGuestError::Status { operation, status }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_have_the_kernels_numbers_and_sizes() {
        // From linux/sev-guest.h by the C preprocessor.
        assert_eq!(GET_DERIVED_KEY, 0xc020_5301);
        assert_eq!(GET_EXTENDED_REPORT, 0xc020_5302);
        assert_eq!(size_of::<ReportRequest>(), 96);
        assert_eq!(size_of::<ExtendedReportRequest>(), 112);
        assert_eq!(size_of::<DerivedKeyRequest>(), 32);
    }

    #[test]
    fn what_is_no_guest_device_answers_no_request() {
        let device = SevGuest::open(Path::new("/dev/null")).unwrap();
        let mut slot = [7; DERIVED_KEY_LEN];
        let request = KeyRequest { root: 0, fields: 0, vmpl: 0, guest_svn: 0, tcb: 0 };
        let refused = device.derived_key(&request, &mut slot).unwrap_err();
        assert!(matches!(refused, SevGuestError::Call { source, .. } if source.raw_os_error() == Some(libc::ENOTTY)));
        assert_eq!(slot, [7; DERIVED_KEY_LEN]);
        assert!(device.extended_report(&[0; 64], 0).is_err());
    }

    #[test]
    fn a_status_that_is_not_success_is_a_refusal() {
        let header = |status: u32| [&status.to_le_bytes()[..], &[0; 28]].concat();
        assert!(checked_status("", &header(0)).is_ok());
        assert!(matches!(checked_status("", &header(0x16)), Err(SevGuestError::Status { status: 0x16, .. })));
        assert!(checked_status("", &[]).is_err());
    }
}
