//! How a value looks when a program wrote it down: as it is, and in the usual encodings.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::secrets::SECRET_BYTES_MIN;

/// The value and how it looks encoded, each form once.
pub(super) fn forms(value: &str) -> Vec<Zeroizing<String>> {
    let mut forms = vec![Zeroizing::new(value.to_owned())];
    for upper in [false, true] {
        forms.push(hex(value.as_bytes(), upper));
        forms.extend(PERCENT_KEPT.map(|kept| percent(value, kept, upper)));
        // Spaces as forms write them; `~` and `*` are the two that encoders disagree on.
        forms.extend(
            ["-._*", "-._~"].map(|kept| Zeroizing::new(percent(value, kept, upper).replace("%20", "+"))),
        );
    }
    for escaped in json_escaped(value) {
        // JSON within JSON, as results of tools are carried in messages.
        forms.extend(json_escaped(&escaped));
        forms.push(escaped);
    }
    base64_forms(value.as_bytes(), &mut forms);
    forms.retain(|form| form.len() >= SECRET_BYTES_MIN);
    forms.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    forms.dedup_by(|one, other| one.as_str() == other.as_str());
    forms
}

fn hex(bytes: &[u8], upper: bool) -> Zeroizing<String> {
    let digits = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    let nibble = |nibble: u8| char::from(digits.get(usize::from(nibble)).copied().unwrap_or_default());
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2));
    for byte in bytes {
        text.push(nibble(byte >> 4));
        text.push(nibble(byte & 15));
    }
    text
}

/// What percent-encoders leave as it is beside letters and digits: RFC 3986 unreserved; the same with `/` as for
/// paths; and what ECMAScript's `encodeURIComponent` and `encodeURI` leave.
const PERCENT_KEPT: [&str; 4] = ["-._~", "-._~/", "-._~!'()*", "-._~!'()*;/?:@&=+$,#"];

/// Percent-encoding (RFC 3986, section 2.1) of all but letters, digits and `kept`.
fn percent(value: &str, kept: &str, upper: bool) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(value.len() * 3));
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.push_str(&hex(&[byte], upper));
        }
    }
    text
}

/// The inside of a JSON string that holds the value (RFC 8259, section 7), as the common encoders write it: with the
/// least escapes; with `/` escaped; with all but ASCII escaped; with what HTML minds escaped, too.
fn json_escaped(value: &str) -> Vec<Zeroizing<String>> {
    let mut forms = Vec::new();
    for also in ["", "<>&\u{2028}\u{2029}", "<>&'\u{2028}\u{2029}"] {
        for (ascii, upper) in [(false, false), (false, true), (true, false), (true, true)] {
            let form = json(value, ascii, also, upper);
            forms.push(Zeroizing::new(form.replace('/', "\\/")));
            forms.push(form);
        }
    }
    forms.sort_by(|one, other| one.as_str().cmp(other));
    forms.dedup();
    forms
}

fn json(value: &str, ascii: bool, also: &str, upper: bool) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(value.len() * 2));
    for char in value.chars() {
        match char {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            _ if char < ' ' || (ascii && !char.is_ascii()) || also.contains(char) => {
                let mut units = [0u16; 2];
                for unit in char.encode_utf16(&mut units) {
                    text.push_str("\\u");
                    text.push_str(&hex(&unit.to_be_bytes(), upper));
                }
            }
            _ => text.push(char),
        }
    }
    text
}

/// Base64 (RFC 4648, sections 4 and 5) as it looks at each of the three places within a longer text, less the
/// characters that depend on what stands beside; with that the padding does not matter.
fn base64_forms(bytes: &[u8], forms: &mut Vec<Zeroizing<String>>) {
    for shift in 0..3usize {
        let mut shifted = Zeroizing::new(vec![0u8; shift]);
        shifted.reserve_exact(bytes.len());
        shifted.extend_from_slice(bytes);
        // Of `shift` foreign bytes this many characters depend, and of an unfinished group the last one.
        let first = (shift * 8).div_ceil(6);
        let unfinished = usize::from(shifted.len() % 3 != 0);
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let encoded = Zeroizing::new(engine.encode(&*shifted));
            if let Some(own) = encoded.get(first..encoded.len() - unfinished) {
                forms.push(Zeroizing::new(own.to_owned()));
            }
        }
    }
}
