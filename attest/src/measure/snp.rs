//! The launch measurement of an SEV-SNP guest, from its firmware, kernel, initrd, command line and processors.
//!
//! The secure processor extends the launch digest by each page that the virtual machine monitor puts into the guest
//! (SEV-SNP firmware ABI specification, 56860, section 8.17). Which pages those are, and in which order, is a matter
//! between firmware and monitor: first the firmware image, then the sections that its metadata names, then one page
//! with the initial registers of each virtual processor.

use std::num::NonZeroU16;

mod cpu;
mod digest;
mod firmware;
mod kernel;
mod save_area;

pub use cpu::{CpuSignature, UnknownCpu};
pub use digest::LaunchDigest;
pub use firmware::{Firmware, FirmwareError, MAX_FIRMWARE};
pub use kernel::KernelHashes;

use digest::{Page, PageKind};
use firmware::{Purpose, Section};

/// The most virtual processors of a guest: what QEMU's q35 machine can have.
pub const MAX_VCPUS: u16 = 4096;

/// The virtual machine monitor that launches the guest; they differ in initial registers and in the order of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Monitor {
    /// QEMU with KVM.
    Qemu,
    /// Amazon EC2.
    Ec2,
    /// Google Compute Engine.
    Gce,
}

/// Everything that the measurement of a launch depends on.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// The firmware.
    pub firmware: &'a Firmware<'a>,
    /// Kernel, initrd and command line, when the monitor loads them and puts their hashes into the guest
    /// (`kernel-hashes=on`). Where the guest boots from a disk there is none, and this says nothing of the kernel.
    pub kernel: Option<KernelHashes>,
    /// How many virtual processors there are.
    pub vcpus: NonZeroU16,
    /// What CPUID says of them. Only QEMU puts it into a register; elsewhere it is not measured.
    pub cpu: CpuSignature,
    /// SEV_FEATURES of each processor's save area: 1 is SNP active alone, 0x21 has debug swap besides.
    pub guest_features: u64,
    /// Who launches it.
    pub monitor: Monitor,
}

/// Why a launch cannot be measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// A kernel was given, but this firmware has no place for its hashes, and would boot whatever it finds.
    #[error("the firmware has no section for kernel hashes: it does not check the kernel that the monitor loads")]
    NoKernelHashes,
    /// The place for the table of hashes is not within the section for it.
    #[error("the firmware puts the table of hashes at {table:#x}, outside the page at {page:#x} that is meant for it")]
    HashesOutside {
        /// The address of the table.
        table: u32,
        /// The address of the section.
        page: u32,
    },
    /// There is more than one processor, but the firmware does not say where the others start.
    #[error("the firmware does not say where processors after the first start: only one can be measured")]
    NoApReset,
    /// More processors than any machine has.
    #[error("{found} processors are more than {MAX_VCPUS}")]
    TooManyProcessors {
        /// How many.
        found: u16,
    },
}

impl Launch<'_> {
    /// The measurement that the guest's attestation report will carry.
    ///
    /// # Errors
    ///
    /// When firmware and launch do not fit together.
    pub fn measurement(&self) -> Result<[u8; LaunchDigest::LEN], LaunchError> {
        self.continued(self.firmware.digest())
    }

    /// The same, after firmware pages that have been measured already: where only their digest is published.
    ///
    /// The firmware's tables still come from [`Launch::firmware`].
    ///
    /// # Errors
    ///
    /// As for [`Launch::measurement`].
    pub fn continued(&self, mut digest: LaunchDigest) -> Result<[u8; LaunchDigest::LEN], LaunchError> {
        if self.vcpus.get() > MAX_VCPUS {
            return Err(LaunchError::TooManyProcessors { found: self.vcpus.get() });
        }
        self.sections(&mut digest)?;
        self.processors(&mut digest)?;
        Ok(digest.finish())
    }

    fn sections(&self, digest: &mut LaunchDigest) -> Result<(), LaunchError> {
        let mut hashes = self.kernel.as_ref();
        let mut cpuid = Vec::new();
        for section in self.firmware.sections() {
            match section.purpose {
                // Google's monitor leaves the firmware's scratch memory out of the measurement.
                Purpose::Memory if self.monitor == Monitor::Gce => blank(digest, PageKind::Unmeasured, section),
                Purpose::Memory | Purpose::SvsmCallingArea => blank(digest, PageKind::Zero, section),
                Purpose::Secrets => blank(digest, PageKind::Secrets, section),
                // Amazon's monitor puts it in last.
                Purpose::Cpuid if self.monitor == Monitor::Ec2 => cpuid.push(section),
                Purpose::Cpuid => blank(digest, PageKind::Cpuid, section),
                Purpose::KernelHashes => match hashes.take() {
                    Some(hashes) => {
                        let page = hashes.page(self.hashes_offset(section)?);
                        digest.extend(Page { address: u64::from(section.address), kind: PageKind::Normal(&page) });
                    }
                    None => blank(digest, PageKind::Zero, section),
                },
            }
        }
        cpuid.into_iter().for_each(|section| blank(digest, PageKind::Cpuid, section));
        match hashes {
            Some(_) => Err(LaunchError::NoKernelHashes),
            None => Ok(()),
        }
    }

    /// Where in its page the table of hashes lies.
    fn hashes_offset(&self, section: &Section) -> Result<usize, LaunchError> {
        let table = self.firmware.hashes_address().ok_or(LaunchError::NoKernelHashes)?;
        let outside = LaunchError::HashesOutside { table, page: section.address };
        let offset = table.checked_sub(section.address).and_then(|offset| usize::try_from(offset).ok());
        offset.filter(|offset| *offset <= KernelHashes::MAX_OFFSET).ok_or(outside)
    }

    fn processors(&self, digest: &mut LaunchDigest) -> Result<(), LaunchError> {
        let page = |reset| save_area::page(self.monitor, reset, self.cpu, self.guest_features);
        let address = save_area::ADDRESS;
        digest.extend(Page { address, kind: PageKind::SaveArea(&page(save_area::BOOT_RESET)) });
        let others = self.vcpus.get() - 1;
        if others == 0 {
            return Ok(());
        }
        let reset = self.firmware.ap_reset().ok_or(LaunchError::NoApReset)?;
        let page = page(reset);
        (0..others).for_each(|_| digest.extend(Page { address, kind: PageKind::SaveArea(&page) }));
        Ok(())
    }
}

/// Extends by pages that have no content of ours.
fn blank(digest: &mut LaunchDigest, kind: PageKind<'_>, section: &Section) {
    section.pages().for_each(|address| digest.extend(Page { address, kind }));
}
