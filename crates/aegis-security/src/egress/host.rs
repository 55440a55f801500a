//! Hosts as requests name them, in one form each.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use idna::AsciiDenyList;

/// Longest name, in bytes, without the root's dot (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// Longest label, in bytes.
const LABEL_BYTES_MAX: usize = 63;
/// Longest text that is looked at: an international name may be longer than its ASCII form.
const TEXT_BYTES_MAX: usize = 1024;

/// A host: a name in ASCII and lower case without the root's dot, or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// `api.example.org`; international names in their `xn--` form (UTS 46).
    Name(String),
    /// An address, written as such.
    Address(IpAddr),
}

/// A text that names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is neither a host name nor an IP address in its usual form; write one like `api.example.org` or `192.0.2.1`"
)]
pub struct HostError(String);

impl Host {
    /// Reads a host without a port; an IPv6 address may stand in brackets.
    ///
    /// The shorter, octal and hexadecimal forms of IPv4 addresses are refused: programs read them differently.
    ///
    /// # Errors
    ///
    /// Fails on anything that is neither a name of labels nor an address.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let wrong = || HostError(text.chars().take(LABEL_BYTES_MAX).collect());
        if text.len() > TEXT_BYTES_MAX {
            return Err(wrong());
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(inside) = bare {
            return Ipv6Addr::from_str(inside)
                .map(|address| Self::Address(address.into()))
                .map_err(|_| wrong());
        }
        if let Ok(address) = IpAddr::from_str(text) {
            return Ok(Self::Address(address));
        }
        let name = idna::domain_to_ascii_cow(text.as_bytes(), AsciiDenyList::URL).map_err(|_| wrong())?;
        let name = name.strip_suffix('.').unwrap_or(&name);
        // What the mapping made of an international text may be an address again, such as digits of full width.
        if let Ok(address) = Ipv4Addr::from_str(name) {
            return Ok(Self::Address(address.into()));
        }
        let last = name.rsplit('.').next().unwrap_or_default();
        if name.len() > NAME_BYTES_MAX || !name.split('.').all(is_label) || is_number(last) {
            return Err(wrong());
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
    }

    /// The name, if it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Address(_) => None,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Whether resolvers take a name that ends so for an IPv4 address (WHATWG URL, "ends in a number").
fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|b| b.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_has_one_form() {
        for (text, form) in [
            ("Example.ORG", "example.org"),
            ("example.org.", "example.org"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("example。org", "example.org"),
            ("a_b.example", "a_b.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("１２７.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("::1", "[::1]"),
            ("::FFFF:1.2.3.4", "[::ffff:1.2.3.4]"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(Host::parse(text).map(|host| host.to_string()), Ok(form.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_programs_read_differently_is_refused() {
        for text in [
            "",
            ".",
            "a..b",
            ".example",
            "example.org..",
            "0x7f.0.0.1",
            "0x7f000001",
            "127.1",
            "2130706433",
            "0177.0.0.1",
            "1.2.3.4.5",
            "example.0x",
            "[127.0.0.1]",
            "[::1",
            "::1%1",
            "[fe80::1%25lo]",
            "a b",
            "a/b",
            "a@b",
            "a:80",
            "a\0b",
            "a\nb",
            "a%2eb",
            "xn--a",
            "exa\u{200d}mple.org",
        ] {
            assert!(Host::parse(text).is_err(), "{text:?} {:?}", Host::parse(text));
        }
        assert!(Host::parse(&"a".repeat(64)).is_err());
        assert!(Host::parse(&vec!["a"; 200].join(".")).is_err());
    }
}
