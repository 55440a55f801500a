//! Patterns over host names.

use super::ConstraintError;

/// Which hosts a rule means: one, or all below a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainPattern {
    /// `example.org`
    Host(String),
    /// `*.example.org`: below it, not itself. Holds `.example.org`.
    Below(String),
}

impl DomainPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// Fails on anything but a host name in ASCII, perhaps after `*.`.
    pub fn new(text: &str) -> Result<Self, ConstraintError> {
        let (name, below) = text.strip_prefix("*.").map_or((text, false), |rest| (rest, true));
        let name = canonical_host(name).ok_or_else(|| ConstraintError::Domain(text.to_owned()))?;
        Ok(if below { Self::Below(format!(".{name}")) } else { Self::Host(name) })
    }
    /// Whether it means `host`. What is not a host name is meant by none.
    pub fn matches(&self, host: &str) -> bool {
        let Some(host) = canonical_host(host) else { return false };
        match self {
            Self::Host(whole) => *whole == host,
            Self::Below(suffix) => host.ends_with(suffix.as_str()),
        }
    }
}

/// Lower case, without the root's dot; `None` unless it is made of labels of letters, digits, `-` and `_`.
pub(crate) fn canonical_host(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    (name.len() <= 253 && name.split('.').all(is_label)).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_whole_labels() {
        for (pattern, meant, not_meant) in [
            (
                "Example.org",
                &["example.org", "EXAMPLE.ORG."][..],
                &["www.example.org", "example.org.evil", "xexample.org", "example.org:80", "example.org/x"][..],
            ),
            (
                "*.example.org",
                &["a.example.org", "a.b.example.org"],
                &["example.org", "xexample.org", ".example.org", "a.example.org.evil", "evil@a.example.org"],
            ),
        ] {
            let compiled = DomainPattern::new(pattern).unwrap();
            meant.iter().for_each(|host| assert!(compiled.matches(host), "{pattern} {host}"));
            not_meant.iter().for_each(|host| assert!(!compiled.matches(host), "{pattern} {host}"));
        }
        for host in ["my-host.a_b.example.org", "_dmarc.example.org", "1.example.org"] {
            assert!(DomainPattern::new("*.example.org").unwrap().matches(host), "{host}");
        }
        let (label, four) = ("a".repeat(63), "a".repeat(61));
        let longest = [label.as_str(), &label, &label, &four].join(".");
        assert_eq!(longest.len(), 253);
        for (host, meant) in [(format!("{label}.org"), true), (format!("{label}a.org"), false)] {
            assert_eq!(DomainPattern::new(&host).is_ok(), meant, "a label has at most 63 bytes");
        }
        for (host, meant) in [(longest.clone(), true), (format!("{longest}a"), false)] {
            assert_eq!(DomainPattern::new(&host).is_ok(), meant, "a name has at most 253 bytes");
        }
        for wrong in ["", "*", "*.", "a..b", "*.*.org", "a b", "exämple.org", "a*.org"] {
            assert!(DomainPattern::new(wrong).is_err(), "{wrong}");
        }
    }
}
