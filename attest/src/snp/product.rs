//! Lines of processors that AMD certifies under one root each.

use std::fmt;

/// A line of processors. Each has a root (ARK) of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Product {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004, 8004 and 97x4: Genoa, Siena, Bergamo.
    Genoa,
    /// EPYC 9005.
    Turin,
}

impl Product {
    /// All that this verifier knows.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// The name as AMD writes it in certificates.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// The line that the productName of a certificate belongs to: the name alone, or with a stepping (`Milan-B0`).
    #[must_use]
    pub fn of_certificate(product_name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|product| match product_name.strip_prefix(product.name()) {
            Some("") => true,
            Some(rest) => rest.strip_prefix('-').is_some_and(is_stepping),
            None => false,
        })
    }

    /// The line that a family and a model (CPUID, combined values) belong to.
    #[must_use]
    pub const fn of_cpu(family: u8, model: u8) -> Option<Self> {
        match (family, model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x1f) => Some(Self::Turin),
            _ => None,
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

fn is_stepping(text: &str) -> bool {
    (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::Product;

    #[test]
    fn a_name_is_taken_only_with_a_stepping_behind_it() {
        for (name, product) in [
            ("Milan-B0", Product::Milan),
            ("Milan", Product::Milan),
            ("Genoa", Product::Genoa),
            ("Turin", Product::Turin),
        ] {
            assert_eq!(Product::of_certificate(name), Some(product));
        }
        for name in ["", "Naples", "milan", "Milan-", "MilanB0", "Milan-B0-B0", "Milan B0", "Milan-B0\0", " Milan"] {
            assert_eq!(Product::of_certificate(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_cpu_of_no_known_line_is_of_none() {
        assert_eq!(Product::of_cpu(0x19, 0x01), Some(Product::Milan));
        assert_eq!(Product::of_cpu(0x19, 0xa0), Some(Product::Genoa));
        assert_eq!(Product::of_cpu(0x1a, 0x02), Some(Product::Turin));
        for (family, model) in [(0, 0), (0x17, 0x31), (0x19, 0x20), (0x1a, 0x20)] {
            assert_eq!(Product::of_cpu(family, model), None);
        }
    }
}
