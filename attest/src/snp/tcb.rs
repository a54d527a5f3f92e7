//! TCB_VERSION: the security versions of the firmware under a guest (SEV-SNP ABI, structure TCB_VERSION).

use std::fmt;

use super::product::Product;

/// Eight bytes of TCB_VERSION as they stand in a report. What they mean depends on the product.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawTcb(pub [u8; 8]);

/// Security versions by component. There is no order of all of them: one component may be newer and another older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tcb {
    /// The firmware of the microcontroller that boots the processor. Turin alone has it.
    pub fmc: Option<u8>,
    /// The boot loader of the secure processor.
    pub bootloader: u8,
    /// The operating system of the secure processor.
    pub tee: u8,
    /// The SEV-SNP firmware.
    pub snp: u8,
    /// The microcode of the cores.
    pub microcode: u8,
}

impl RawTcb {
    /// Reads the bytes as `product` lays them out; nothing when a reserved byte is not zero.
    #[must_use]
    pub const fn of(self, product: Product) -> Option<Tcb> {
        match (product, self.0) {
            (Product::Milan | Product::Genoa, [bootloader, tee, 0, 0, 0, 0, snp, microcode]) => {
                Some(Tcb { fmc: None, bootloader, tee, snp, microcode })
            }
            (Product::Turin, [fmc, bootloader, tee, snp, 0, 0, 0, microcode]) => {
                Some(Tcb { fmc: Some(fmc), bootloader, tee, snp, microcode })
            }
            _ => None,
        }
    }
}

impl Tcb {
    /// The bytes as `product` lays them out.
    #[must_use]
    pub const fn to_raw(self, product: Product) -> RawTcb {
        let Self { fmc, bootloader, tee, snp, microcode } = self;
        RawTcb(match product {
            Product::Milan | Product::Genoa => [bootloader, tee, 0, 0, 0, 0, snp, microcode],
            Product::Turin => [
                match fmc {
                    Some(fmc) => fmc,
                    None => 0,
                },
                bootloader,
                tee,
                snp,
                0,
                0,
                0,
                microcode,
            ],
        })
    }

    /// Whether every component is at least that of `floor`. A component that only one of the two has is not.
    #[must_use]
    pub fn reaches(&self, floor: &Self) -> bool {
        let fmc = match (self.fmc, floor.fmc) {
            (None, None) => true,
            (Some(found), Some(floor)) => found >= floor,
            (None, Some(_)) | (Some(_), None) => false,
        };
        fmc && self.bootloader >= floor.bootloader
            && self.tee >= floor.tee
            && self.snp >= floor.snp
            && self.microcode >= floor.microcode
    }
}

impl fmt::Display for Tcb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fmc) = self.fmc {
            write!(formatter, "fmc {fmc} ")?;
        }
        let Self { bootloader, tee, snp, microcode, .. } = self;
        write!(formatter, "bootloader {bootloader} tee {tee} snp {snp} microcode {microcode}")
    }
}

impl fmt::Display for RawTcb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for RawTcb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RawTcb({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::{Product, RawTcb, Tcb};

    const MILAN: Tcb = Tcb { fmc: None, bootloader: 4, tee: 0, snp: 24, microcode: 219 };

    #[test]
    fn a_layout_reads_what_it_writes_and_refuses_reserved_bytes() {
        for product in Product::ALL {
            let tcb = Tcb { fmc: (product == Product::Turin).then_some(9), ..MILAN };
            assert_eq!(tcb.to_raw(product).of(product), Some(tcb));
            for index in 0..8 {
                let mut raw = [0; 8];
                raw[index] = 1;
                let reserved = match product {
                    Product::Milan | Product::Genoa => (2..6).contains(&index),
                    Product::Turin => (4..7).contains(&index),
                };
                assert_eq!(RawTcb(raw).of(product).is_none(), reserved, "{product} byte {index}");
            }
        }
        assert_eq!(format!("{:?}", RawTcb([1, 2, 3, 4, 5, 6, 7, 8])), "RawTcb(0102030405060708)");
    }

    #[test]
    fn every_component_counts_alone() {
        assert!(MILAN.reaches(&MILAN));
        for lower in [
            Tcb { bootloader: 3, ..MILAN },
            Tcb { snp: 23, ..MILAN },
            Tcb { microcode: 218, ..MILAN },
            Tcb { fmc: Some(255), ..MILAN },
        ] {
            assert!(!lower.reaches(&MILAN), "{lower}");
        }
        assert!(!MILAN.reaches(&Tcb { tee: 1, ..MILAN }));
        assert!(!MILAN.reaches(&Tcb { fmc: Some(0), ..MILAN }));
        let turin = Tcb { fmc: Some(1), ..MILAN };
        assert!(!turin.reaches(&Tcb { fmc: Some(2), ..turin }));
        assert!(Tcb { fmc: Some(3), ..turin }.reaches(&turin));
    }
}
