//! Personal data is replaced by keyed tokens: the same value gives the same token, so that what belongs together can
//! still be seen, and without the key no token can be tried against guesses.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use aegis_core::PERSONAL_DATA_RULES;
use regex::Regex;

use super::checksum;
use super::fold::Folded;
use crate::commitment::commit;

/// Hexadecimal digits of a token.
const TOKEN_DIGITS: usize = 16;
/// Passes over a text; the last of them finds nothing but in text made to need more.
const PASSES_MAX: usize = 8;
/// Digits of a payment card (ISO/IEC 7812-1).
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// What finds a value: a linear-time expression, and a check of what it found.
struct Rule {
    name: &'static str,
    pattern: LazyLock<Option<Regex>>,
    /// Where in a candidate the value lies, as a byte range, if it is one; and the form it is hashed in.
    accept: fn(&str) -> Option<Spot>,
    /// What a text must hold at least for the rule to find anything.
    needs: Needs,
}

/// Signs that a text may hold a value: counting them costs less than looking for it.
#[derive(Clone, Copy)]
struct Needs {
    digits: usize,
    /// A byte that every value has.
    sign: Option<u8>,
}

impl Needs {
    fn met(self, text: &str) -> bool {
        self.sign.is_none_or(|sign| text.as_bytes().contains(&sign))
            && text.bytes().filter(u8::is_ascii_digit).take(self.digits).count() == self.digits
    }
}

/// A value in a text: its range and the form it is hashed in.
type Spot = (usize, usize, String);

macro_rules! rule {
    ($name:literal, $digits:literal, $sign:expr, $pattern:literal, $accept:expr) => {
        Rule {
            name: $name,
            pattern: LazyLock::new(|| Regex::new($pattern).ok()),
            accept: $accept,
            needs: Needs { digits: $digits, sign: $sign },
        }
    };
}

// Word boundaries are of ASCII: a letter of another script beside a number does not hide it.
static RULES: [Rule; 12] = [
    rule!(
        "email",
        0,
        Some(b'@'),
        r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}\.){1,8}[A-Za-z]{2,24}(?-u:\b)",
        find_email
    ),
    rule!("iban", 2, None, r"[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,27}", find_iban),
    rule!("credit_card", 13, None, r"(?-u:\b)[0-9](?:[ -]?[0-9]){12,}(?-u:\b)", find_card),
    rule!("es_dni", 7, None, r"(?-u:\b)[XYZ0-9][0-9]{7}-?[A-Z](?-u:\b)", |text| checked(
        text,
        checksum::spanish
    )),
    rule!(
        "it_codice_fiscale",
        0,
        None,
        r"(?-u:\b)[A-Z]{6}[0-9LMNPQRSTUV]{2}[ABCDEHLMPRST][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z](?-u:\b)",
        |text| checked(text, checksum::italian)
    ),
    rule!(
        "fr_nir",
        12,
        None,
        r"(?-u:\b)[12] ?[0-9]{2} ?[0-9]{2} ?(?:[0-9]{2}|2A|2B) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}(?-u:\b)",
        |text| checked(text, checksum::french)
    ),
    rule!("de_steuer_id", 11, None, r"(?-u:\b)[1-9][0-9] ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}(?-u:\b)", |text| {
        checked(text, checksum::german)
    }),
    rule!("br_cpf", 11, None, r"(?-u:\b)[0-9]{3}\.?[0-9]{3}\.?[0-9]{3}-?[0-9]{2}(?-u:\b)", |text| checked(
        text,
        checksum::brazilian
    )),
    rule!("pl_pesel", 11, None, r"(?-u:\b)[0-9]{11}(?-u:\b)", |text| checked(text, checksum::polish)),
    rule!("ipv6", 1, Some(b':'), r"[0-9A-Za-z_]{0,64}:[0-9A-Za-z_:.]+", find_ipv6),
    rule!("ipv4", 4, Some(b'.'), r"(?-u:\b)[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?-u:\b)", |text| {
        // Every machine's own address is nobody's.
        let address: Ipv4Addr = text.parse().ok()?;
        if address.is_loopback() || address.is_unspecified() {
            None
        } else {
            whole(text, address.to_string())
        }
    }),
    rule!("phone", 8, None, r"(?:\+|(?-u:\b)00)[1-9](?:[ ./-]{0,2}\(?[0-9]\)?){6,14}(?-u:\b)", find_phone),
];

fn whole(text: &str, hashed: String) -> Option<Spot> {
    Some((0, text.len(), hashed))
}

/// What stands before the last of these characters is a part of an address to a server, not of a mailbox.
fn find_email(text: &str) -> Option<Spot> {
    let before = text.split_once('@')?.0;
    let start = before.rfind(['=', '&', '?', '/']).map_or(0, |at| at + 1);
    let start = if start == before.len() { 0 } else { start };
    Some((start, text.len(), text.get(start..)?.to_ascii_lowercase()))
}

/// Letters and digits alone.
fn bare(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect()
}

fn checked(text: &str, check: fn(&str) -> bool) -> Option<Spot> {
    let bare = bare(text);
    if check(&bare) { whole(text, bare) } else { None }
}

/// The country says how long it is; a word of capitals may stand behind it.
fn find_iban(text: &str) -> Option<Spot> {
    let length = checksum::iban_length(text.get(..2)?);
    let end =
        text.char_indices().filter(|(_, char)| char.is_ascii_alphanumeric()).nth(length.checked_sub(1)?)?.0
            + 1;
    let number = bare(text.get(..end)?);
    checksum::iban(&number).then_some((0, end, number))
}

/// The first run of whole groups of digits that is a card's number: other numbers may stand beside it. Groups but the
/// last have four digits or more, so that the parts of a date are none.
fn find_card(text: &str) -> Option<Spot> {
    let bytes = text.as_bytes();
    let is_digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    for start in (0..bytes.len()).filter(|at| is_digit(Some(*at)) && !is_digit(at.checked_sub(1))) {
        // The major industry identifiers of banking, travel and commerce.
        if !matches!(bytes.get(start), Some(b'2'..=b'6')) {
            continue;
        }
        let mut number = String::new();
        let mut group = 0;
        for (at, byte) in bytes.iter().enumerate().skip(start).filter(|(_, byte)| byte.is_ascii_digit()) {
            number.push(char::from(*byte));
            group += 1;
            if number.len() > *CARD_DIGITS.end() {
                break;
            }
            if is_digit(Some(at + 1)) {
                continue;
            }
            if CARD_DIGITS.contains(&number.len()) && checksum::luhn(&number) {
                return Some((start, at + 1, number));
            }
            if std::mem::take(&mut group) < 4 {
                break;
            }
        }
    }
    None
}

/// An address that stands by itself or behind `name:`. One of letters alone, such as `a::b`, is a path of names.
fn find_ipv6(text: &str) -> Option<Spot> {
    let foreign = text.rfind(|char: char| !char.is_ascii_hexdigit() && char != ':' && char != '.');
    let start = match foreign {
        // A colon ends the name that stands before.
        Some(at) => text.get(at + 1..)?.starts_with(':').then_some(at + 2)?,
        None => 0,
    };
    let end = text.trim_end_matches('.').len();
    let within = text.get(start..end)?;
    let end = if within.ends_with("::") { end } else { start + within.trim_end_matches(':').len() };
    let within = text.get(start..end)?;
    let address: Ipv6Addr =
        within.parse().ok().filter(|it: &Ipv6Addr| !it.is_loopback() && !it.is_unspecified())?;
    within.bytes().any(|byte| byte.is_ascii_digit()).then(|| (start, end, address.to_string()))
}

fn find_phone(text: &str) -> Option<Spot> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let number = if text.starts_with('+') { digits.as_str() } else { digits.get(2..)? };
    // ITU-T E.164: at most fifteen digits.
    (8..=15).contains(&number.len()).then(|| (0, text.len(), number.to_owned()))
}

/// The key of the tokens.
pub struct PiiKey([u8; 32]);

impl PiiKey {
    /// Wraps 32 random bytes. Tokens under one key can be linked, those under two cannot.
    pub const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }
    /// A key of its own for whatever `label` names: tokens under it cannot be linked with others.
    #[must_use]
    pub fn derive(&self, label: &str) -> Self {
        Self(*commit(&self.0, format!("aegis/pii/{label}").as_bytes()).as_bytes())
    }
    /// `[RULE:TOKEN]`. A token begins with a letter, so that no rule takes it for a number.
    fn token(&self, rule: &str, value: &str) -> String {
        let hash = commit(&self.0, format!("{rule}\0{value}").as_bytes()).to_string();
        let mut digits = hash.chars();
        let first = digits.next().and_then(|digit| digit.to_digit(16)).unwrap_or_default();
        let letter = char::from_digit(10 + first % 6, 16).unwrap_or('a');
        let rest: String = digits.take(TOKEN_DIGITS - 1).collect();
        format!("[{rule}:{letter}{rest}]")
    }
}

impl Drop for PiiKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// A rule that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no rule for personal data is called `{name}`; there are {}", PERSONAL_DATA_RULES.join(", "))]
pub struct UnknownRule {
    /// What was asked for.
    pub name: String,
}

/// Which rules are applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PiiRules(Vec<&'static str>);

impl Default for PiiRules {
    /// All.
    fn default() -> Self {
        Self(PERSONAL_DATA_RULES.to_vec())
    }
}

impl PiiRules {
    /// All but those switched off by name.
    ///
    /// # Errors
    /// If there is no rule of that name.
    pub fn without<'name>(off: impl IntoIterator<Item = &'name str>) -> Result<Self, UnknownRule> {
        let mut rules = Self::default();
        for name in off {
            if !PERSONAL_DATA_RULES.contains(&name) {
                return Err(UnknownRule { name: name.to_owned() });
            }
            rules.0.retain(|rule| *rule != name);
        }
        Ok(rules)
    }

    /// The rules that are applied.
    pub fn names(&self) -> &[&'static str] {
        &self.0
    }

    /// The text with tokens in place of personal data; the text itself if it holds none.
    ///
    /// Values are found as they are and as escapes of URLs, JSON and HTML, full-width forms and other digits write them,
    /// with characters of no width between.
    pub fn redact<'text>(&self, text: &'text str, key: &PiiKey) -> Cow<'text, str> {
        let mut text = Cow::Borrowed(text);
        // A token has edges where a word may end, so what stood against a value may be seen in the next pass.
        for _ in 0..PASSES_MAX {
            let mut found = false;
            let mut folded = Folded::of(&text);
            for rule in RULES.iter().filter(|rule| self.0.contains(&rule.name)) {
                // As it is read, first: in `\\nada@…` the `n` is no part of the name.
                let mut spots = folded.as_ref().map(|folded| behind(rule, folded)).unwrap_or_default();
                if spots.is_empty() {
                    spots = self::spots(rule, &text);
                }
                if !spots.is_empty() {
                    text = Cow::Owned(replaced(&text, spots, rule, key));
                    folded = Folded::of(&text);
                    found = true;
                }
            }
            if !found {
                break;
            }
        }
        text
    }
}

/// Values that a rule finds in a folded text, where they stand in the text itself.
fn behind(rule: &Rule, folded: &Folded) -> Vec<Spot> {
    let found = spots(rule, folded.text()).into_iter();
    found
        .filter_map(|(start, end, hashed)| {
            folded.origin((start, end)).map(|(start, end)| (start, end, hashed))
        })
        .collect()
}

/// The values a rule finds, in order.
fn spots(rule: &Rule, text: &str) -> Vec<Spot> {
    let mut spots = Vec::new();
    let Some(pattern) = rule.pattern.as_ref().filter(|_| rule.needs.met(text)) else { return spots };
    let mut at = 0;
    while let Some(found) = pattern.find_at(text, at) {
        let Some((start, end, hashed)) = (rule.accept)(found.as_str()) else {
            // A value may begin within what was none; these two looked inside, and what they find may be long.
            let looked_inside = matches!(rule.name, "credit_card" | "ipv6");
            at = if looked_inside { found.end() } else { text.ceil_char_boundary(found.start() + 1) };
            continue;
        };
        spots.push((found.start() + start, found.start() + end, hashed));
        // What stands behind the value in the same candidate is looked at again.
        at = found.start() + end;
    }
    spots
}

/// The text with tokens in the place of values.
fn replaced(text: &str, spots: Vec<Spot>, rule: &Rule, key: &PiiKey) -> String {
    let mut out = String::with_capacity(text.len());
    let mut written = 0;
    for (start, end, hashed) in spots {
        out.push_str(text.get(written..start).unwrap_or_default());
        out.push_str(&key.token(rule.name, &hashed));
        written = end;
    }
    out.push_str(text.get(written..).unwrap_or_default());
    out
}

#[cfg(test)]
#[path = "pii_tests.rs"]
mod tests;
