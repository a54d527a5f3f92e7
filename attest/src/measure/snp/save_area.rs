//! The initial registers of a virtual processor, as the monitors set them, in the layout of the save area (AMD64
//! Architecture Programmer's Manual volume 2, table B-4).

use super::{CpuSignature, Monitor, digest::PAGE};

/// The address under which the secure processor measures every save area: the last page below 2^52.
pub(super) const ADDRESS: u64 = 0xffff_ffff_f000;

/// Where the first processor starts.
pub(super) const BOOT_RESET: u32 = 0xffff_fff0;

/// The page of a processor that starts at `reset`.
pub(super) fn page(monitor: Monitor, reset: u32, cpu: CpuSignature, guest_features: u64) -> [u8; PAGE] {
    let registers = Registers::of(monitor, reset, cpu);
    let [low, high, base_low, base_high] = reset.to_le_bytes();
    let (offset, base) = (u16::from_le_bytes([low, high]), u32::from_le_bytes([0, 0, base_low, base_high]));

    let mut page = [0; PAGE];
    let mut put = |at: usize, bytes: &[u8]| {
        page.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    };
    let data = Segment { selector: 0, attributes: 0x93, base: 0 };
    put(0x000, &data.bytes()); // ES
    put(0x010, &Segment { selector: 0xf000, attributes: registers.cs, base: u64::from(base) }.bytes());
    put(0x020, &Segment { attributes: registers.ss, ..data }.bytes());
    put(0x030, &data.bytes()); // DS
    put(0x040, &data.bytes()); // FS
    put(0x050, &data.bytes()); // GS
    put(0x060, &Segment { attributes: 0, ..data }.bytes()); // GDTR
    put(0x070, &Segment { attributes: 0x82, ..data }.bytes()); // LDTR
    put(0x080, &Segment { attributes: 0, ..data }.bytes()); // IDTR
    put(0x090, &Segment { attributes: registers.tr, ..data }.bytes());
    put(0x0d0, &0x1000u64.to_le_bytes()); // EFER: SVME, which KVM sets
    put(0x148, &0x40u64.to_le_bytes()); // CR4: MCE, which KVM sets
    put(0x158, &0x10u64.to_le_bytes()); // CR0: ET
    put(0x160, &0x400u64.to_le_bytes()); // DR7
    put(0x168, &0xffff_0ff0u64.to_le_bytes()); // DR6
    put(0x170, &0x2u64.to_le_bytes()); // RFLAGS
    put(0x178, &u64::from(offset).to_le_bytes()); // RIP
    put(0x268, &registers.pat.to_le_bytes());
    put(0x310, &u64::from(registers.rdx).to_le_bytes());
    put(0x3b0, &guest_features.to_le_bytes());
    put(0x3e8, &1u64.to_le_bytes()); // XCR0: x87
    put(0x408, &registers.mxcsr.to_le_bytes());
    put(0x410, &registers.fcw.to_le_bytes());
    page
}

/// The registers in which the monitors differ.
struct Registers {
    cs: u16,
    ss: u16,
    tr: u16,
    pat: u64,
    rdx: u32,
    mxcsr: u32,
    fcw: u16,
}

impl Registers {
    fn of(monitor: Monitor, reset: u32, cpu: CpuSignature) -> Self {
        match monitor {
            Monitor::Qemu => {
                let (mxcsr, fcw) = (0x1f80, 0x37f);
                Self { cs: 0x9b, ss: 0x93, tr: 0x8b, pat: PAT, rdx: cpu.eax(), mxcsr, fcw }
            }
            Monitor::Ec2 => {
                let cs = if reset == BOOT_RESET { 0x9a } else { 0x9b };
                Self { cs, ss: 0x92, tr: 0x83, pat: PAT, rdx: 0x600, mxcsr: 0, fcw: 0 }
            }
            Monitor::Gce => Self { cs: 0x9b, ss: 0x93, tr: 0x8b, pat: 0x0007_0106, rdx: 0x600, mxcsr: 0, fcw: 0 },
        }
    }
}

/// A segment register; each has a limit of 64 KiB here.
#[derive(Clone, Copy)]
struct Segment {
    selector: u16,
    attributes: u16,
    base: u64,
}

impl Segment {
    fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let fields = self.selector.to_le_bytes().into_iter().chain(self.attributes.to_le_bytes());
        let fields = fields.chain(0xffffu32.to_le_bytes()).chain(self.base.to_le_bytes());
        bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        bytes
    }
}

/// The page attribute table after reset (volume 2, section 7.8.2).
const PAT: u64 = 0x0007_0406_0007_0406;
