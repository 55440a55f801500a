//! One entry of a list of destinations.

use std::net::IpAddr;
use std::str::FromStr;

use psl::{List, Psl};

use super::address::{AddressClass, Range, canonical_address};
use super::host::Host;

/// The ports of an entry that states none.
pub const PORTS_DEFAULT: [u16; 2] = [80, 443];

/// An entry as its author writes it: a name, `*.name`, an address or a CIDR range, each perhaps with `:port`
/// (`[fd00::/8]:8443` for IPv6).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The text.
    pub text: String,
    /// Whether a tunnel may carry something else than TLS to the named host.
    pub raw: bool,
}

impl From<&str> for Destination {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), raw: false }
    }
}

/// An entry that cannot be a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressRuleError {
    /// Not of the form.
    #[error(
        "`{0}` is not a destination; write `api.example.org`, `*.example.org`, `192.0.2.0/24` or one of them with `:port`"
    )]
    Form(String),
    /// Bits below the prefix are set.
    #[error(
        "`{0}` is not the start of its range; write the first address, or `/32` (`/128`) for one address"
    )]
    NotARange(String),
    /// Everybody may register below it.
    #[error(
        "`{0}` covers a public suffix, below which anybody can have a name; write a name one label longer"
    )]
    PublicSuffix(String),
    /// An IPv6 form of an IPv4 address.
    #[error("`{0}` means an IPv4 range; write it in IPv4 form")]
    Mapped(String),
    /// More entries than a list may have.
    #[error("a list has at most {0} destinations")]
    TooMany(usize),
}

/// What an entry means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// That name.
    Name(String),
    /// All names that end so; starts with a dot.
    Below(String),
    /// These addresses.
    Range(Range),
}

/// An entry, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) place: Place,
    port: Option<u16>,
    pub(super) raw: bool,
}

impl Rule {
    /// An entry that permits: none may cover a public suffix.
    pub(super) fn permitting(entry: &Destination) -> Result<Self, EgressRuleError> {
        let rule = Self::refusing(entry)?;
        match &rule.place {
            Place::Below(suffix) if is_public_suffix(suffix.strip_prefix('.').unwrap_or(suffix)) => {
                Err(EgressRuleError::PublicSuffix(entry.text.clone()))
            }
            _ => Ok(rule),
        }
    }

    /// An entry that refuses.
    pub(super) fn refusing(entry: &Destination) -> Result<Self, EgressRuleError> {
        let text = entry.text.as_str();
        let (place, port) = split_port(text).ok_or_else(|| EgressRuleError::Form(text.to_owned()))?;
        Ok(Self { place: read_place(text, place)?, port, raw: entry.raw })
    }

    /// Whether a permission for `port` follows: the stated one, else 80 and 443.
    pub(super) fn permits_port(&self, port: u16) -> bool {
        self.port.map_or(PORTS_DEFAULT.contains(&port), |stated| stated == port)
    }

    /// Whether a refusal for `port` follows: the stated one, else every one.
    pub(super) fn refuses_port(&self, port: u16) -> bool {
        self.port.is_none_or(|stated| stated == port)
    }

    /// Whether it means this host by its name, or by the address it is written as.
    pub(super) fn means(&self, host: &Host) -> bool {
        match (&self.place, host) {
            (Place::Name(rule), Host::Name(name)) => rule == name,
            (Place::Below(suffix), Host::Name(name)) => name.ends_with(suffix.as_str()),
            (Place::Range(_), Host::Address(address)) => self.covers(*address),
            _ => false,
        }
    }

    /// Whether it is a range with the address that is meant in it.
    pub(super) fn covers(&self, address: IpAddr) -> bool {
        matches!(self.place, Place::Range(range) if range.contains(canonical_address(address)))
    }

    /// Whether it is a range that speaks of this special address, see [`AddressClass::is_meant_by`].
    pub(super) fn states(&self, address: IpAddr) -> bool {
        let address = canonical_address(address);
        matches!(self.place, Place::Range(range) if AddressClass::is_meant_by(range, address))
    }

    /// Whether it is a range of this one address.
    pub(super) fn names_only(&self, address: IpAddr) -> bool {
        self.covers(address) && matches!(self.place, Place::Range(range) if range.is_single())
    }
}

/// The place and the port of an entry; `None` if the port is none.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let number = |text: &str| match text.as_bytes() {
        [b'1'..=b'9', ..] => u16::from_str(text).ok(),
        _ => None,
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, port) = rest.split_once(']')?;
        return match port.strip_prefix(':') {
            Some(port) => Some((inside, Some(number(port)?))),
            None => port.is_empty().then_some((inside, None)),
        };
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((place, port)) => Some((place, Some(number(port)?))),
        None => Some((text, None)),
    }
}

fn read_place(text: &str, place: &str) -> Result<Place, EgressRuleError> {
    let form = || EgressRuleError::Form(text.to_owned());
    let (address, bits) = match place.split_once('/') {
        Some((address, bits)) => (address, Some(u8::from_str(bits).map_err(|_| form())?)),
        None => (place, None),
    };
    if let Ok(address) = IpAddr::from_str(address) {
        if canonical_address(address) != address {
            return Err(EgressRuleError::Mapped(text.to_owned()));
        }
        let bits = bits.unwrap_or(if address.is_ipv4() { 32 } else { 128 });
        let range = Range::new(address, bits).ok_or_else(|| EgressRuleError::NotARange(text.to_owned()))?;
        return Ok(Place::Range(range));
    }
    if bits.is_some() {
        return Err(form());
    }
    let (name, below) = place.strip_prefix("*.").map_or((place, false), |name| (name, true));
    match Host::parse(name) {
        Ok(Host::Name(name)) if !below => Ok(Place::Name(name)),
        Ok(Host::Name(name)) => Ok(Place::Below(format!(".{name}"))),
        _ => Err(form()),
    }
}

/// Whether anybody may have a name right below it: it is in the Public Suffix List, or has one label.
fn is_public_suffix(name: &str) -> bool {
    List.suffix(name.as_bytes()).is_none_or(|suffix| suffix.as_bytes() == name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Rule, EgressRuleError> {
        Rule::permitting(&text.into())
    }

    #[test]
    fn entries_are_read_whole_or_not_at_all() {
        for text in [
            "example.org",
            "*.example.org",
            "example.org:8443",
            "*.a.example.org:22",
            "10.0.0.0/8",
            "10.0.0.1",
            "10.0.0.0/8:8080",
            "0.0.0.0/0",
            "fd00::/8",
            "[fd00::/8]:8443",
            "[::1]:80",
            "::1",
            "localhost:8080",
            "bücher.example",
        ] {
            assert!(read(text).is_ok(), "{text} {:?}", read(text));
        }
        for text in [
            "",
            "*",
            "*.",
            "*.*.org",
            "a.*.org",
            "https://example.org",
            "example.org/x",
            "example.org:",
            "a:0",
            "a:65536",
            "a:+80",
            "a:080",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "[::1",
            "[::1]80",
            "[example.org]x",
            "a:b:c",
            "127.1",
        ] {
            assert!(
                matches!(read(text), Err(EgressRuleError::Form(_) | EgressRuleError::NotARange(_))),
                "{text}"
            );
        }
        assert!(matches!(read("10.0.0.1/8"), Err(EgressRuleError::NotARange(_))));
        assert!(matches!(read("::ffff:10.0.0.0/104"), Err(EgressRuleError::Mapped(_))));
        assert!(matches!(read("2002::/16"), Err(EgressRuleError::Mapped(_))));
    }

    #[test]
    fn nobody_is_given_all_names_below_a_public_suffix() {
        for text in
            ["*.org", "*.co.uk", "*.github.io", "*.s3.amazonaws.com", "*.internal", "*.com:443", "*.ORG."]
        {
            assert!(matches!(read(text), Err(EgressRuleError::PublicSuffix(_))), "{text} {:?}", read(text));
            assert!(Rule::refusing(&text.into()).is_ok(), "to refuse them all is no harm: {text}");
        }
        for text in ["*.example.co.uk", "*.aegis.github.io", "*.corp.internal"] {
            assert!(read(text).is_ok(), "{text}");
        }
    }
}
