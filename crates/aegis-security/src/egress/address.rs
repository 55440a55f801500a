//! What kind of place an address is (IANA IPv4 and IPv6 Special-Purpose Address Registries).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    base: IpAddr,
    bits: u8,
}

impl Range {
    /// The range of `bits` leading bits; `None` if there are not so many or `base` has others set.
    pub(super) fn new(base: IpAddr, bits: u8) -> Option<Self> {
        let range = Self { base, bits };
        let width = if base.is_ipv4() { 32 } else { 128 };
        (bits <= width && masked(base, bits) == base).then_some(range)
    }

    /// Whether it holds exactly one address.
    pub(super) fn is_single(self) -> bool {
        self.bits == if self.base.is_ipv4() { 32 } else { 128 }
    }

    pub(super) fn contains(self, address: IpAddr) -> bool {
        self.base.is_ipv4() == address.is_ipv4() && masked(address, self.bits) == self.base
    }

    /// Whether all of it lies in `outer`.
    fn lies_in(self, outer: Self) -> bool {
        self.bits >= outer.bits && outer.contains(self.base)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(bits)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(bits)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// A kind of place that is not the public internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressClass {
    /// What people call it: `loopback`, `private`, `link-local`.
    pub name: &'static str,
    /// The registry's range that the address lies in.
    range: Range,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8, name: &'static str) -> AddressClass {
    AddressClass { name, range: Range { base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits } }
}

const fn v6(head: [u16; 4], bits: u8, name: &'static str) -> AddressClass {
    let [a, b, c, d] = head;
    AddressClass { name, range: Range { base: IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)), bits } }
}

/// All of IPv4 that is not global unicast; narrower ranges before wider ones.
const SPECIAL_V4: [AddressClass; 17] = [
    v4(169, 254, 169, 254, 32, "cloud metadata"),
    v4(100, 100, 100, 200, 32, "cloud metadata"),
    v4(168, 63, 129, 16, 32, "cloud metadata"),
    v4(0, 0, 0, 0, 8, "this network"),
    v4(10, 0, 0, 0, 8, "private"),
    v4(100, 64, 0, 0, 10, "shared by carriers"),
    v4(127, 0, 0, 0, 8, "loopback"),
    v4(169, 254, 0, 0, 16, "link-local"),
    v4(172, 16, 0, 0, 12, "private"),
    v4(192, 0, 0, 0, 24, "protocol assignments"),
    v4(192, 0, 2, 0, 24, "documentation"),
    v4(192, 88, 99, 0, 24, "6to4 relay"),
    v4(192, 168, 0, 0, 16, "private"),
    v4(198, 18, 0, 0, 15, "benchmarking"),
    v4(198, 51, 100, 0, 24, "documentation"),
    v4(203, 0, 113, 0, 24, "documentation"),
    // Multicast, reserved and broadcast: 224.0.0.0 to the end.
    v4(224, 0, 0, 0, 3, "multicast or reserved"),
];

/// What of IPv6 is not global unicast but has a name of its own.
const SPECIAL_V6: [AddressClass; 12] = [
    // EC2's metadata service, fd00:ec2::254, lies in it too.
    v6([0xfc00, 0, 0, 0], 7, "private"),
    v6([0xfe80, 0, 0, 0], 10, "link-local"),
    v6([0xfec0, 0, 0, 0], 10, "site-local"),
    v6([0xff00, 0, 0, 0], 8, "multicast"),
    AddressClass { name: "loopback", range: Range { base: IpAddr::V6(Ipv6Addr::LOCALHOST), bits: 128 } },
    AddressClass { name: "unspecified", range: Range { base: IpAddr::V6(Ipv6Addr::UNSPECIFIED), bits: 128 } },
    v6([0x64, 0xff9b, 1, 0], 48, "local translation"),
    v6([0x100, 0, 0, 0], 64, "discard"),
    // Teredo, benchmarking, ORCHID and others.
    v6([0x2001, 0, 0, 0], 23, "protocol assignments"),
    v6([0x2001, 0xdb8, 0, 0], 32, "documentation"),
    v6([0x3fff, 0, 0, 0], 20, "documentation"),
    v6([0x5f00, 0, 0, 0], 16, "segment routing"),
];

/// The only part of IPv6 from which global unicast addresses are given out.
const GLOBAL_V6: Range = Range { base: IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0)), bits: 3 };
const NOT_GLOBAL_V6: AddressClass = v6([0, 0, 0, 0], 0, "not global unicast");

/// The address that is meant: the IPv4 address inside a mapped (`::ffff:0:0/96`), translated (NAT64, `64:ff9b::/96`)
/// or 6to4 (`2002::/16`) one, else the address itself.
pub fn canonical_address(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(mapped) = v6.to_ipv4_mapped() {
        return mapped.into();
    }
    let low = u32::try_from(v6.to_bits() & u128::from(u32::MAX)).unwrap_or(0);
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Ipv4Addr::from_bits(low).into(),
        [0x2002, high, low, ..] => Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into(),
        _ => address,
    }
}

/// Whether the address that is meant is global unicast.
pub fn is_public(address: IpAddr) -> bool {
    AddressClass::of(address).is_none()
}

impl AddressClass {
    /// The class of the address that is meant; `None` for a public one.
    pub fn of(address: IpAddr) -> Option<Self> {
        let address = canonical_address(address);
        match address {
            IpAddr::V4(_) => SPECIAL_V4.into_iter().find(|class| class.range.contains(address)),
            IpAddr::V6(_) => {
                let named = SPECIAL_V6.into_iter().find(|class| class.range.contains(address));
                named.or_else(|| (!GLOBAL_V6.contains(address)).then_some(NOT_GLOBAL_V6))
            }
        }
    }

    /// Whether a rule that states `range` means this address that is not public: the range lies wholly in the
    /// narrowest known one around the address, so that `0.0.0.0/0` or `192.0.0.0/8` opens nothing but what is public
    /// and `169.254.0.0/16` no metadata.
    pub(super) fn is_meant_by(range: Range, address: IpAddr) -> bool {
        let special: &[Self] = if address.is_ipv4() { &SPECIAL_V4 } else { &SPECIAL_V6 };
        let narrowest = special.iter().find(|class| class.range.contains(address));
        range.contains(address) && narrowest.is_some_and(|class| range.lies_in(class.range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(text: &str) -> Option<&'static str> {
        AddressClass::of(text.parse().unwrap()).map(|class| class.name)
    }

    #[test]
    fn addresses_that_are_not_public_are_known() {
        for (text, name) in [
            ("127.0.0.1", "loopback"),
            ("127.255.255.255", "loopback"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("64:ff9b::7f00:1", "loopback"),
            ("2002:7f00:1::", "loopback"),
            ("0.0.0.0", "this network"),
            ("::", "unspecified"),
            ("10.1.2.3", "private"),
            ("172.31.255.255", "private"),
            ("192.168.0.1", "private"),
            ("fd00:ec2::254", "private"),
            ("64:ff9b::a00:1", "private"),
            ("2002:a00:1::1", "private"),
            ("169.254.169.254", "cloud metadata"),
            ("::ffff:a9fe:a9fe", "cloud metadata"),
            ("169.254.1.1", "link-local"),
            ("fe80::1", "link-local"),
            ("100.64.0.1", "shared by carriers"),
            ("100.100.100.200", "cloud metadata"),
            ("168.63.129.16", "cloud metadata"),
            ("192.0.0.192", "protocol assignments"),
            ("198.19.0.1", "benchmarking"),
            ("224.0.0.1", "multicast or reserved"),
            ("255.255.255.255", "multicast or reserved"),
            ("64:ff9b:1::1", "local translation"),
            ("2001::1", "protocol assignments"),
            ("2001:db8::1", "documentation"),
            ("::127.0.0.1", "not global unicast"),
            ("4000::1", "not global unicast"),
        ] {
            assert_eq!(class(text), Some(name), "{text}");
        }
        for text in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "100.63.255.255",
            "100.128.0.0",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2002:101:101::",
            "64:ff9b::101:101",
            "::ffff:1.1.1.1",
        ] {
            assert_eq!(class(text), None, "{text}");
        }
    }

    #[test]
    fn a_range_has_no_bits_below_its_length() {
        let range = |text: &str, bits| Range::new(text.parse().unwrap(), bits);
        assert!(
            range("10.0.0.0", 8).is_some() && range("0.0.0.0", 0).is_some() && range("::1", 128).is_some()
        );
        assert!(
            range("10.0.0.1", 8).is_none() && range("10.0.0.0", 33).is_none() && range("::1", 64).is_none()
        );
        assert!(range("10.0.0.0", 8).unwrap().contains("10.255.0.1".parse().unwrap()));
        assert!(!range("0.0.0.0", 0).unwrap().contains("::1".parse().unwrap()));
    }
}
