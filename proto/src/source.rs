//! Where a connection comes from, as far as it is counted for somebody.

use std::net::{IpAddr, Ipv6Addr};

/// Who a connection is counted for: an IPv4 address, or an IPv6 /64, which one customer has to himself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(IpAddr);

impl Source {
    /// The source that an address belongs to. An IPv4 address is the same one when it is written as IPv6.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        })
    }
}
