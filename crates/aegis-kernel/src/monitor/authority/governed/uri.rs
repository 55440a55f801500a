//! What a URI names.

use super::host_after_scheme;

/// Schemes whose resources are fetched from a host.
const FETCHED: [&str; 6] = ["http", "https", "ws", "wss", "ftp", "ftps"];

/// What a URI names of the world.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Uri<'a> {
    /// Something at a host.
    Host(&'a str),
    /// A file, by its path.
    File(String),
    /// Something whose meaning is the server's own.
    Other,
}

impl<'a> Uri<'a> {
    /// Reads a URI; `None` if it is none, or two readers could read it as two.
    pub(super) fn read(uri: &'a str) -> Option<Self> {
        if uri.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
            return None;
        }
        let (scheme, rest) = uri.split_once(':')?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(plain) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        // What `git+https` names is fetched as `https` is.
        match scheme.rsplit('+').next() {
            Some("file") => file(rest).map(Self::File),
            Some(last) if FETCHED.contains(&last) => {
                host_after_scheme(rest.strip_prefix("//")?).map(Self::Host)
            }
            _ => Some(Self::Other),
        }
    }
}

/// The path of a `file:` URI, of this machine alone. One that is decoded twice, or has a query, is read in two ways.
fn file(rest: &str) -> Option<String> {
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
        None => rest,
    };
    if !path.starts_with('/') || path.starts_with("//") || path.contains(['?', '#']) {
        return None;
    }
    let path = decoded(path)?;
    let odd = |c: char| c.is_control() || matches!(c, '%' | '\\');
    (!path.contains(odd)).then_some(path)
}

/// The text with its `%` sequences read once.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit()? * 16 + digit()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_what_every_reader_takes_it_for() {
        for (uri, host) in [
            ("https://example.org/a", "example.org"),
            ("HTTPS://example.org:8443?x", "example.org"),
            ("git+https://example.org/a.git", "example.org"),
            ("ws://[::1]:80/", "[::1]"),
        ] {
            assert_eq!(Uri::read(uri), Some(Uri::Host(host)), "{uri}");
        }
        for (uri, path) in [
            ("file:///workspace/a%20b", "/workspace/a b"),
            ("FILE://localhost/etc/passwd", "/etc/passwd"),
            ("file:/workspace/%2e%2e/etc", "/workspace/../etc"),
        ] {
            assert_eq!(Uri::read(uri), Some(Uri::File(path.to_owned())), "{uri}");
        }
        for uri in ["test://static-text", "memo:today", "demo://resource/dynamic/text/1?x#y", "data:,x"] {
            assert_eq!(Uri::read(uri), Some(Uri::Other), "{uri}");
        }
        for odd in [
            "",
            "/etc/passwd",
            "etc/passwd",
            "://x",
            " https://evil",
            "https://good\\@evil",
            "https://good@evil/",
            "https:evil",
            "https:/evil",
            "file://evil/share",
            "file:etc/passwd",
            "file:////evil/share",
            "file:///workspace/%252e%252e/etc",
            "file:///workspace/a?/../../etc/passwd",
            "file:///workspace/a%00",
            "file:///workspace/%zz",
            "file:///workspace/%f",
            "file:///workspace/..%5cetc",
            "ht\ntp://x",
            "1http://x",
            "memo:a b",
            "memo:a\u{7}b",
            "memo:a\\b",
        ] {
            assert_eq!(Uri::read(odd), None, "{odd:?}");
        }
    }
}
