//! The addresses of this machine's interfaces, as the kernel lists them now.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses; what cannot be read counts as none, and loopback is refused whatever is listed.
pub(super) fn addresses() -> Vec<IpAddr> {
    let v4 = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let mut all = in_trie(&v4);
    all.extend(in_list(&v6));
    all
}

/// Leaves of the routing table (`|-- 192.0.2.1`) that the line after calls `/32 host LOCAL`.
fn in_trie(text: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    let mut leaf: Option<Ipv4Addr> = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = leaf
            && !found.contains(&address.into())
        {
            found.push(address.into());
        }
    }
    found
}

/// The first column: 32 hexadecimal digits.
fn in_list(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    let column = text.lines().filter_map(|line| line.split_whitespace().next());
    column
        .filter_map(|digits| u128::from_str_radix(digits, 16).ok())
        .map(|bits| Ipv6Addr::from_bits(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lists_are_read() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.1.2.3\n        /32 host LOCAL\n     |-- 10.1.2.0\n        \
                    /24 link UNICAST\n     |-- 10.1.2.255\n        /32 link BROADCAST\n     |-- 10.1.2.3\n        \
                    /32 host LOCAL\n";
        assert_eq!(in_trie(trie), ["10.1.2.3".parse::<IpAddr>().unwrap()]);
        let list = "fe80000000000000000000fffe000001 02 40 20 80 eth0\n00000000000000000000000000000001 01 80 10 80 lo\n";
        let expected = ["fe80::ff:fe00:1", "::1"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(in_list(list).collect::<Vec<_>>(), expected);
        assert!(addresses().iter().any(IpAddr::is_loopback), "this machine has a loopback interface");
    }
}
