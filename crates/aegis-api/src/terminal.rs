//! Text that an agent, a model or a user wrote, made safe for a terminal.
//!
//! Escape sequences could rewrite what is on the screen, set the clipboard or answer as if typed; bidirectional
//! controls could make a line read as another. They are shown, never sent.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Text for one line: line breaks and tabs are shown as `\n`, `\r`, `\t`, all other control characters as `\u{1b}`.
pub fn printable_line(text: &str) -> Cow<'_, str> {
    escape(text, |_| false, visible)
}

/// Text of several lines: line feeds and tabs stay, all other control characters are shown as `\u{1b}`.
pub fn printable_text(text: &str) -> Cow<'_, str> {
    escape(text, |character| matches!(character, '\n' | '\t'), visible)
}

/// A JSON document: what JSON leaves as it is but a terminal would obey becomes a `\u` escape of the same string.
pub fn printable_json(text: &str) -> Cow<'_, str> {
    escape(
        text,
        |character| matches!(character, '\n' | '\t'),
        |character, out| {
            // Every character in question lies in the basic plane.
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        },
    )
}

fn escape(text: &str, keep: impl Fn(char) -> bool, show: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.chars().any(|character| is_active(character) && !keep(character)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_active(character) && !keep(character) {
            show(character, &mut out);
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

fn visible(character: char, out: &mut String) {
    match character {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        other => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(other));
        }
    }
}

/// C0 and C1 controls, DEL, line and paragraph separators, and the bidirectional controls of Unicode (UAX #9).
fn is_active(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_shown() {
        assert_eq!(printable_line("a\u{1b}[2Jb\nc\r\t"), "a\\u{1b}[2Jb\\nc\\r\\t");
        assert_eq!(printable_text("a\u{1b}]52;c;eA==\u{7}\n\tb\r"), "a\\u{1b}]52;c;eA==\\u{7}\n\tb\\r");
        assert_eq!(printable_line("\u{9b}31m \u{7f}"), "\\u{9b}31m \\u{7f}");
    }

    #[test]
    fn bidirectional_controls_are_shown() {
        for control in ['\u{202e}', '\u{2066}', '\u{200f}', '\u{061c}', '\u{2028}'] {
            let shown = printable_line(&format!("a{control}b")).into_owned();
            assert!(!shown.contains(control), "{shown}");
        }
    }

    #[test]
    fn ordinary_text_is_untouched() {
        for text in ["", "plain", "grüße 日本語 🦀", "שלום"] {
            assert!(matches!(printable_line(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({"text": "a\u{1b}\u{9b}\u{202e}\u{7f}b"});
        let json = serde_json::to_string_pretty(&value).unwrap();
        let shown = printable_json(&json);
        assert!(!shown.contains(['\u{9b}', '\u{202e}', '\u{7f}']));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
