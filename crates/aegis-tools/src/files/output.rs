//! Answers of bounded size.

use aegis_core::limits::TOOL_RESULT_BYTES_MAX;

/// Room kept for a note at the end.
const NOTE_BYTES_MAX: usize = 1 << 10;
/// Most bytes of an answer before its note.
pub(super) const TEXT_BYTES_MAX: usize = TOOL_RESULT_BYTES_MAX - NOTE_BYTES_MAX;

/// The lines of an answer.
#[derive(Default)]
pub(super) struct Output {
    text: String,
    lines: usize,
}

impl Output {
    /// Adds a line; says `false` and adds nothing if there is no room.
    #[must_use]
    pub(super) fn line(&mut self, line: &str) -> bool {
        if self.text.len() + line.len() + 1 > TEXT_BYTES_MAX {
            return false;
        }
        self.text.push_str(line);
        self.text.push('\n');
        self.lines += 1;
        true
    }
    pub(super) fn lines(&self) -> usize {
        self.lines
    }
    /// The text, with a note in brackets as its last line if there is one.
    pub(super) fn finish(mut self, note: Option<&str>) -> String {
        if let Some(note) = note {
            self.text.push_str(&bracketed(note));
        }
        self.text
    }
}

/// A remark of the tool's own, marked as such.
pub(super) fn bracketed(note: &str) -> String {
    format!("[{}]\n", cut(note, NOTE_BYTES_MAX - 3))
}

/// At most `bytes_max` bytes of `text`, in whole characters.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}
