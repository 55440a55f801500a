//! A text as a reader takes it: escapes written out, forms of other keyboards brought to ASCII, and what has no width
//! left out. Personal data that is written in such ways is found in it, and replaced where it stands in the text.

/// Longest escape, in bytes: `&#x0000040;`.
const ESCAPE_BYTES_MAX: usize = 11;

/// A text that reads differently from how it is written.
pub(super) struct Folded {
    text: String,
    /// For each byte of `text`, where what it was made of begins and ends.
    origins: Vec<(usize, usize)>,
}

impl Folded {
    /// `None` if the text reads as it is written.
    pub(super) fn of(text: &str) -> Option<Self> {
        if text.bytes().all(|byte| byte.is_ascii() && !matches!(byte, b'%' | b'\\' | b'&')) {
            return None;
        }
        let mut folded = Self { text: String::new(), origins: Vec::new() };
        let mut differs = false;
        let mut at = 0;
        while let Some(char) = text.get(at..).and_then(|rest| rest.chars().next()) {
            let rest = text.get(at..).unwrap_or_default();
            let (read, length) = match escape(rest) {
                Some((read, length)) => (Some(read), length),
                None => (plain(char), char.len_utf8()),
            };
            differs |= read != Some(char) || length != char.len_utf8();
            if let Some(read) = read {
                folded.text.push(read);
                folded.origins.resize(folded.text.len(), (at, at + length));
            }
            at += length;
        }
        differs.then_some(folded)
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Where a part of the folded text stands in the text itself.
    pub(super) fn origin(&self, (start, end): (usize, usize)) -> Option<(usize, usize)> {
        let first = self.origins.get(start)?;
        let last = self.origins.get(end.checked_sub(1)?)?;
        Some((first.0, last.1))
    }
}

/// How a character is read; `None` if it has no width.
fn plain(char: char) -> Option<char> {
    let shifted = |zero: char| char::from_digit(u32::from(char) - u32::from(zero), 10);
    let read = match char {
        '\u{ad}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}'
        | '\u{fe00}'..='\u{fe0f}' => return None,
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{3000}' => Some(' '),
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe63}' => Some('-'),
        // Full-width forms of ASCII.
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(char) - 0xfee0),
        '\u{fe6b}' => Some('@'),
        '\u{660}'..='\u{669}' => shifted('\u{660}'),
        '\u{6f0}'..='\u{6f9}' => shifted('\u{6f0}'),
        '\u{966}'..='\u{96f}' => shifted('\u{966}'),
        '\u{1d7ce}'..='\u{1d7ff}' => char::from_digit((u32::from(char) - 0x1d7ce) % 10, 10),
        _ => None,
    };
    Some(read.unwrap_or(char))
}

/// What an escape at the beginning of `text` stands for, if that is printable ASCII or a space, and its length.
fn escape(text: &str) -> Option<(char, usize)> {
    let digits = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
        u32::from_str_radix(digits, 16).ok()
    };
    let (code, length) = match text.as_bytes() {
        [b'%', ..] => (digits(1, 3)?, 3),
        [b'\\', b'u', ..] => (digits(2, 6)?, 6),
        [b'\\', b'x', ..] => (digits(2, 4)?, 4),
        [b'\\', b'n' | b'r' | b't', ..] => (u32::from(' '), 2),
        [b'&', b'#', ..] => {
            let end = text.bytes().take(ESCAPE_BYTES_MAX).position(|byte| byte == b';')?;
            let number = text.get(2..end)?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
                None => number.parse(),
            };
            (code.ok()?, end + 1)
        }
        _ => return None,
    };
    let read = plain(char::from_u32(code)?)?;
    (read == ' ' || read.is_ascii_graphic()).then_some((read, length))
}
