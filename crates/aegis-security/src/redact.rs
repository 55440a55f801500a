//! The redact stage: known secret values never enter a prompt, a result or a record.

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// Shortest secret that is looked for, in bytes: shorter ones occur in any text.
pub const SECRET_BYTES_MIN: usize = 4;

/// The secrets are too many or too long to be looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secrets cannot be redacted: {0}")]
pub struct RedactError(String);

/// Replaces known secrets, and their usual encodings, by `[secret:NAME]`.
#[derive(Debug, Default)]
pub struct Redactor {
    /// `None` while there is nothing to look for.
    search: Option<AhoCorasick>,
    /// What each pattern is replaced by.
    replacements: Vec<String>,
}

impl Redactor {
    /// Looks for these secrets, given by name and value. Values shorter than [`SECRET_BYTES_MIN`] are left out.
    ///
    /// # Errors
    ///
    /// Fails if there are more than can be searched for at once.
    pub fn new<'secret>(
        secrets: impl IntoIterator<Item = (&'secret str, &'secret str)>,
    ) -> Result<Self, RedactError> {
        let (mut patterns, mut replacements) = (Vec::new(), Vec::new());
        for (name, value) in secrets {
            if value.len() < SECRET_BYTES_MIN {
                continue;
            }
            for form in forms(value) {
                patterns.push(form);
                replacements.push(format!("[secret:{name}]"));
            }
        }
        if patterns.is_empty() {
            return Ok(Self::default());
        }
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(patterns.iter().map(|form| form.as_bytes()))
            .map_err(|error| RedactError(error.to_string()))?;
        Ok(Self { search: Some(search), replacements })
    }
    /// The text without the secrets; the text itself if it holds none.
    pub fn redact<'text>(&self, text: &'text str) -> Cow<'text, str> {
        match &self.search {
            Some(search) if search.is_match(text) => Cow::Owned(search.replace_all(text, &self.replacements)),
            _ => Cow::Borrowed(text),
        }
    }
}

/// The value and how it looks encoded. Encodings of three bytes at a time are there as they look at each of the three
/// places within a longer text, less the characters that depend on what stands beside.
fn forms(value: &str) -> Vec<Zeroizing<String>> {
    let bytes = value.as_bytes();
    let hex = |upper: bool| {
        bytes.iter().map(|b| if upper { format!("{b:02X}") } else { format!("{b:02x}") }).collect()
    };
    let mut forms: Vec<String> =
        vec![value.to_owned(), hex(false), hex(true), percent(value, true), percent(value, false)];
    if let Ok(quoted) = serde_json::to_string(value) {
        forms.push(quoted.trim_matches('"').to_owned());
    }
    for shift in 0..3 {
        let mut shifted = Zeroizing::new(vec![0u8; shift]);
        shifted.extend_from_slice(bytes);
        // Of `shift` foreign bytes this many characters depend, and of an unfinished group the last one.
        let first = (shift * 8).div_ceil(6);
        let unfinished = usize::from(shifted.len() % 3 != 0);
        for encoded in [STANDARD_NO_PAD.encode(&*shifted), URL_SAFE_NO_PAD.encode(&*shifted)] {
            if let Some(own) = encoded.get(first..encoded.len() - unfinished) {
                forms.push(own.to_owned());
            }
        }
    }
    forms.retain(|form| form.len() >= SECRET_BYTES_MIN);
    forms.sort();
    forms.dedup();
    forms.into_iter().map(Zeroizing::new).collect()
}

/// RFC 3986, section 2.1, of all but unreserved characters.
fn percent(value: &str, upper: bool) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ if upper => format!("%{byte:02X}"),
            _ => format!("%{byte:02x}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    use super::*;

    const SECRET: &str = "s3cr\"t/äö+value?";

    fn redactor() -> Redactor {
        Redactor::new([("api", SECRET), ("other", "hunter22"), ("short", "abc")]).unwrap()
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        let redactor = redactor();
        let hex: String = SECRET.bytes().map(|b| format!("{b:02x}")).collect();
        for form in [
            SECRET.to_owned(),
            hex.to_uppercase(),
            hex,
            percent(SECRET, true),
            percent(SECRET, false),
            serde_json::to_string(SECRET).unwrap().trim_matches('"').to_owned(),
        ] {
            assert_eq!(redactor.redact(&format!("a {form} b")), "a [secret:api] b", "{form}");
        }
    }

    #[test]
    fn a_secret_is_found_inside_what_was_encoded_with_it() {
        let redactor = redactor();
        for before in ["", "u", "us", "user:"] {
            for after in ["", "x", "xy", "xyz"] {
                let whole = format!("{before}{SECRET}{after}");
                for encoded in [STANDARD.encode(&whole), URL_SAFE.encode(&whole)] {
                    let redacted = redactor.redact(&encoded).into_owned();
                    assert!(redacted.contains("[secret:api]"), "{before} {after}: {redacted}");
                    assert!(redacted.len() < "[secret:api]".len() + 16, "{redacted}");
                }
            }
        }
    }

    #[test]
    fn other_text_is_left_as_it_is() {
        let redactor = redactor();
        assert!(matches!(redactor.redact("abc hunter2 s3cr"), Cow::Borrowed(_)));
        assert_eq!(redactor.redact("hunter22hunter22"), "[secret:other][secret:other]");
        assert!(matches!(Redactor::default().redact("hunter22"), Cow::Borrowed(_)));
    }

    #[test]
    fn of_secrets_that_begin_alike_the_longest_is_replaced() {
        let redactor = Redactor::new([("short", "token"), ("long", "token-and-more")]).unwrap();
        assert_eq!(redactor.redact("token-and-more token"), "[secret:long] [secret:short]");
    }
}
