//! Known secrets are replaced by their names.

use std::borrow::Cow;
use std::fmt;

use aho_corasick::{AhoCorasick, Input, MatchKind};

use super::forms::forms;

/// Shortest secret that is looked for, in bytes: shorter ones occur in any text.
pub const SECRET_BYTES_MIN: usize = 8;
/// Most secrets that are looked for at once.
pub const SECRETS_MAX: usize = 4096;
/// Most bytes of all their forms.
const FORMS_BYTES_MAX: usize = 32 << 20;

/// Secrets that cannot be looked for. Never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedactError {
    /// Too many, or too long.
    #[error(
        "more than {SECRETS_MAX} secrets, or more than 32 MiB of their forms, cannot be redacted at once"
    )]
    TooMany,
    /// A value that holds the text by which a redacted value is written.
    #[error("the value of secret `{0}` holds `[secret:` and cannot be redacted; set another value")]
    Mark(String),
    /// The search could not be built.
    #[error("the search for secrets could not be built: {0}")]
    Search(String),
}

/// Replaces known secrets, and their usual encodings, by `[secret:NAME]`.
///
/// Marks that are there already are left as they are, and nothing is looked for across them, so that redacting twice is
/// redacting once. The search keeps the forms in memory that is not wiped when it is dropped; it belongs in the daemon
/// alone, which cannot be dumped.
#[derive(Default)]
pub struct Redactor {
    /// `None` while there is nothing to look for.
    search: Option<Search>,
}

struct Search {
    forms: AhoCorasick,
    /// What each form is replaced by: a place in `marks`.
    replaced_by: Vec<usize>,
    marks: Vec<String>,
    mark_search: AhoCorasick,
    longest_form: usize,
    longest_mark: usize,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let marks = self.search.as_ref().map_or(0, |search| search.marks.len());
        f.debug_struct("Redactor").field("secrets", &marks).finish_non_exhaustive()
    }
}

impl Redactor {
    /// Looks for these secrets, given by name and value. Values shorter than [`SECRET_BYTES_MIN`] are left out.
    ///
    /// # Errors
    /// If there are more than can be searched for at once, or one holds a redaction's mark.
    pub fn new<'secret>(
        secrets: impl IntoIterator<Item = (&'secret str, &'secret str)>,
    ) -> Result<Self, RedactError> {
        let (mut patterns, mut replaced_by, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0usize;
        for (name, value) in secrets {
            if value.len() < SECRET_BYTES_MIN {
                continue;
            }
            if value.contains("[secret:") {
                return Err(RedactError::Mark(name.to_owned()));
            }
            for form in forms(value) {
                bytes += form.len();
                patterns.push(form);
                replaced_by.push(marks.len());
            }
            // A foreign name with a bracket would make marks that overlap.
            marks.push(format!("[secret:{}]", name.replace(['[', ']'], "_")));
            if marks.len() > SECRETS_MAX || bytes > FORMS_BYTES_MAX {
                return Err(RedactError::TooMany);
            }
        }
        if patterns.is_empty() {
            return Ok(Self::default());
        }
        let longest_form = patterns.iter().map(|form| form.len()).max().unwrap_or_default();
        let longest_mark = marks.iter().map(String::len).max().unwrap_or_default();
        let forms = search(patterns.iter().map(|form| form.as_bytes()))?;
        let mark_search = search(marks.iter().map(String::as_bytes))?;
        let search = Search { forms, replaced_by, marks, mark_search, longest_form, longest_mark };
        Ok(Self { search: Some(search) })
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.search.is_none()
    }

    /// The text without the secrets; the text itself if it holds none.
    pub fn redact<'text>(&self, text: &'text str) -> Cow<'text, str> {
        match &self.search {
            Some(search) if search.forms.is_match(text) => {
                let mut out = String::with_capacity(text.len());
                self.pass(text, text.len(), &mut out);
                Cow::Owned(out)
            }
            _ => Cow::Borrowed(text),
        }
    }

    /// How many bytes from a place on must be known to say whether a secret begins there.
    pub(super) fn lookahead(&self) -> usize {
        self.search.as_ref().map_or(0, |search| search.longest_form + search.longest_mark)
    }

    /// Writes `text`, redacted, as far as it is decided: what begins before `decided` is written whole. Answers with
    /// how many bytes of `text` were dealt with.
    pub(super) fn pass(&self, text: &str, decided: usize, out: &mut String) -> usize {
        let decided = text.floor_char_boundary(decided);
        let Some(search) = &self.search else {
            out.push_str(text.get(..decided).unwrap_or_default());
            return decided;
        };
        let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
        let mut at = 0usize;
        let mut marks = search.mark_search.find_iter(text);
        loop {
            let mark = marks.next();
            let until = mark.map_or(text.len(), |mark| mark.start());
            for found in search.forms.find_iter(Input::new(text).range(at..until)) {
                if found.start() >= decided {
                    break;
                }
                out.push_str(part(at, found.start()));
                let mark = search.replaced_by.get(found.pattern().as_usize());
                out.push_str(
                    mark.and_then(|mark| search.marks.get(*mark)).map_or("[secret]", String::as_str),
                );
                at = found.end();
            }
            match mark {
                Some(mark) if mark.start() < decided => {
                    out.push_str(part(at, mark.end()));
                    at = mark.end();
                }
                _ => {
                    out.push_str(part(at, decided.max(at)));
                    return decided.max(at);
                }
            }
        }
    }
}

fn search<'pattern>(patterns: impl Iterator<Item = &'pattern [u8]>) -> Result<AhoCorasick, RedactError> {
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(patterns)
        .map_err(|error| RedactError::Search(error.to_string()))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::super::StreamRedactor;
    use super::*;

    const SECRET: &str = "s3cr\"t/äö+value? &<x>";

    fn redactor() -> Redactor {
        Redactor::new([("api", SECRET), ("other", "hunter22"), ("short", "abcdefg")]).unwrap()
    }

    /// Forms as other programs write them, told here apart from the code under test.
    fn written(value: &str) -> Vec<String> {
        let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        let quoted = serde_json::to_string(value).unwrap();
        let inner = quoted[1..quoted.len() - 1].to_owned();
        let twice = serde_json::to_string(&inner).unwrap();
        let all = |byte: u8| format!("%{byte:02X}");
        let component = |byte: u8| {
            let kept = byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
            if kept { char::from(byte).to_string() } else { all(byte) }
        };
        vec![
            value.to_owned(),
            hex.to_uppercase(),
            hex,
            value.bytes().map(component).collect(),
            value.bytes().map(component).collect::<String>().replace("%20", "+"),
            twice[1..twice.len() - 1].to_owned(),
            inner,
        ]
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        let redactor = redactor();
        for form in written(SECRET) {
            assert_eq!(redactor.redact(&format!("a {form} b")), "a [secret:api] b", "{form}");
        }
        let ascii = "s3cr\\\"t/\\u00e4\\u00f6+value? \\u0026\\u003cx\\u003e";
        assert_eq!(redactor.redact(ascii), "[secret:api]");
        assert_eq!(redactor.redact("s3cr\\\"t\\/äö+value? &<x>"), "[secret:api]");
        assert_eq!(redactor.redact("s3cr%22t/%C3%A4%C3%B6%2Bvalue%3F%20%26%3Cx%3E"), "[secret:api]");
    }

    #[test]
    fn a_secret_is_found_inside_what_was_encoded_with_it() {
        let redactor = redactor();
        for before in ["", "u", "us", "user:"] {
            for after in ["", "x", "xy", "xyz"] {
                let whole = format!("{before}{SECRET}{after}");
                for engine in [&STANDARD, &URL_SAFE, &STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                    let redacted = redactor.redact(&engine.encode(&whole)).into_owned();
                    assert!(redacted.contains("[secret:api]"), "{before} {after}: {redacted}");
                    assert!(redacted.len() < "[secret:api]".len() + 16, "{redacted}");
                }
            }
        }
    }

    #[test]
    fn other_text_is_left_as_it_is() {
        let redactor = redactor();
        assert!(matches!(redactor.redact("abcdefg hunter2 s3cr"), Cow::Borrowed(_)));
        assert_eq!(redactor.redact("hunter22hunter22"), "[secret:other][secret:other]");
        assert!(matches!(Redactor::default().redact("hunter22"), Cow::Borrowed(_)));
        assert!(!format!("{redactor:?}").contains("hunter"));
    }

    #[test]
    fn of_secrets_that_begin_alike_the_longest_is_replaced() {
        let redactor = Redactor::new([("short", "tokentok"), ("long", "tokentok-and-more")]).unwrap();
        assert_eq!(redactor.redact("tokentok-and-more tokentok"), "[secret:long] [secret:short]");
    }

    #[test]
    fn a_mark_is_no_hiding_place_and_is_not_marked_again() {
        let redactor = Redactor::new([("a", "password["), ("b", "secret:a"), ("c", "]trailing")]).unwrap();
        let once = redactor.redact("passwordpassword[ secret:a]trailing [secret:password[]").into_owned();
        assert_eq!(once, "password[secret:a] [secret:b][secret:c] [secret:[secret:a]]");
        assert_eq!(redactor.redact(&once), once);
        let error = Redactor::new([("x", "ab[secret:y]")]).unwrap_err();
        assert_eq!(error, RedactError::Mark("x".to_owned()));
    }

    fn secrets() -> impl Strategy<Value = Vec<String>> {
        // A small alphabet, so that secrets overlap, hold each other and touch marks.
        proptest::collection::vec("[ab:\\[\\]\"/ é]{8,14}", 1..4)
            .prop_filter("no marks", |values| values.iter().all(|value| !value.contains("[secret:")))
    }

    /// The text between marks.
    fn outside_marks(text: &str, count: usize) -> Vec<&str> {
        let mut parts = vec![text];
        for name in 0..count {
            let mark = format!("[secret:n{name}]");
            parts = parts.iter().flat_map(|part| part.split(mark.as_str())).collect();
        }
        parts
    }

    proptest! {
        #[test]
        fn no_form_survives_any_chunking_and_twice_is_once(
            secrets in secrets(),
            noise in proptest::collection::vec("[ab:\\[\\]\"/ é]{0,9}|\\[secret:n[0-3]\\]", 1..8),
            picks in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..8),
            cuts in proptest::collection::vec(1usize..40, 1..60),
        ) {
            let names: Vec<String> = (0..secrets.len()).map(|at| format!("n{at}")).collect();
            let redactor =
                Redactor::new(names.iter().map(String::as_str).zip(secrets.iter().map(String::as_str))).unwrap();
            let mut text = String::new();
            for ((secret, form), noise) in picks.iter().zip(noise.iter().cycle()) {
                let secret: &String = secret.get(&secrets);
                let mut forms = written(secret);
                forms.extend([STANDARD.encode(secret), URL_SAFE.encode(secret)]);
                text.push_str(noise);
                let form: &String = form.get(&forms);
                text.push_str(form);
            }
            let whole = redactor.redact(&text).into_owned();
            for part in outside_marks(&whole, secrets.len()) {
                for secret in &secrets {
                    for form in written(secret) {
                        prop_assert!(!part.contains(&form), "{form:?} in {part:?}");
                    }
                }
            }
            prop_assert_eq!(redactor.redact(&whole), whole.as_str());
            let mut stream = StreamRedactor::new(&redactor);
            let mut streamed = String::new();
            let mut rest = text.as_str();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let cut = rest.ceil_char_boundary(*cut);
                let (now, later) = rest.split_at(cut);
                streamed.push_str(&stream.push(now));
                rest = later;
            }
            streamed.push_str(&stream.finish());
            prop_assert_eq!(streamed, whole);
        }
    }
}
