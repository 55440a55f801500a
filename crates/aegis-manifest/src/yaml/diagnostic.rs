//! Problems of a document, as people and programs read them.

use std::fmt::{self, Write};

use aegis_core::{Diagnosis, ErrorCode};
use serde::Serialize;

/// What kind of problem it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// Not YAML.
    Syntax,
    /// Larger or deeper than a document may be.
    Limit,
    /// The same key twice.
    DuplicateKey,
    /// A field that does not exist.
    UnknownField,
    /// A field that must be there.
    MissingField,
    /// A list where a text belongs, and the like.
    WrongType,
    /// A value that the field does not take.
    WrongValue,
    /// Fields that do not go together.
    Rule,
    /// `${…}` that names nothing.
    Variable,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What kind of problem it is.
    pub code: ProblemCode,
    /// The field: `spec.security.network.mode`; empty for the whole document.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong: a lower-case fragment with the author's text in backticks.
    pub message: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line as it stands in the file.
    pub source_line: String,
}

impl Problem {
    /// The same problem with a remedy.
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// All problems of a file, in the order of its lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostics {
    /// The file as it was named.
    pub file: String,
    /// The problems.
    pub problems: Vec<Problem>,
}

/// Most problems that are told of one file.
const PROBLEMS_MAX: usize = 100;
/// Most characters of a source line that are shown.
const LINE_SHOWN_MAX: usize = 120;

impl Diagnostics {
    pub(super) fn new(file: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems.dedup();
        problems.truncate(PROBLEMS_MAX);
        let lines: Vec<&str> = text.lines().collect();
        for problem in &mut problems {
            let line =
                problem.line.checked_sub(1).and_then(|index| lines.get(index)).copied().unwrap_or_default();
            problem.source_line = line.chars().take(4 * LINE_SHOWN_MAX).collect();
        }
        Self { file: file.to_owned(), problems }
    }

    /// All problems, each with its place, the line shown, a caret, and the remedy.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                out.push('\n');
            }
            problem.render(&self.file, &mut out);
        }
        out
    }

    /// One diagnosis a problem, for answers to programs.
    pub fn to_diagnoses(&self) -> Vec<Diagnosis> {
        let diagnosis = |problem: &Problem| {
            let place = format!("{}:{}:{}", self.file, problem.line, problem.column);
            let field = if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
            let message = printable(&format!("{place}: {field}{}", problem.message));
            Diagnosis { code: ErrorCode::InvalidInput, message, hint: problem.hint.clone() }
        };
        self.problems.iter().map(diagnosis).collect()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render())
    }
}
impl std::error::Error for Diagnostics {}

impl Problem {
    fn render(&self, file: &str, out: &mut String) {
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let (shown, caret) = window(&self.source_line, self.column.saturating_sub(1));
        let field = if self.path.is_empty() { String::new() } else { format!("{}: ", printable(&self.path)) };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "error: {field}{}", self.message);
        let _ = writeln!(out, "{gutter}--> {}:{number}:{}", printable(file), self.column);
        let _ = writeln!(out, "{gutter} |");
        let _ = writeln!(out, "{number} | {shown}");
        let _ = writeln!(out, "{gutter} | {}^", " ".repeat(caret));
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "{gutter} = hint: {hint}");
        }
    }
}

/// The part of a line around a column, and the column within it.
fn window(line: &str, column: usize) -> (String, usize) {
    let start = if column > LINE_SHOWN_MAX - 20 { column - LINE_SHOWN_MAX / 2 } else { 0 };
    let cut: String = line.chars().skip(start).take(LINE_SHOWN_MAX).collect();
    let shown = printable(&cut);
    (shown.trim_end().to_owned(), column - start)
}

/// The author's text in backticks: cut, and without characters that would act on a terminal.
pub(super) fn quoted(text: &str) -> String {
    const QUOTED_MAX: usize = 60;
    let cut: String = text.chars().take(QUOTED_MAX).collect();
    let dots = if text.chars().nth(QUOTED_MAX).is_some() { "…" } else { "" };
    format!("`{}{dots}`", printable(&cut))
}

/// One column a character: control and direction characters are shown as `�`, tabs as a space.
pub(super) fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        '\t' => ' ',
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
            '\u{fffd}'
        }
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// The known name nearest to what was written, if near enough to be meant.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (written.chars().count() / 3).clamp(1, 4);
    let lower = written.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|name| (distance(&lower, &name.to_lowercase().replace('-', "_")), name))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Levenshtein's distance over the first 64 characters, which is enough for names.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, l) in left.chars().take(64).enumerate() {
        let mut diagonal = index;
        let mut before = index + 1;
        let mut next = vec![before];
        for (r, above) in right.iter().zip(row.iter().skip(1)) {
            before = (diagonal + usize::from(l != *r)).min(above + 1).min(before + 1);
            diagonal = *above;
            next.push(before);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_meant_one() {
        let known = ["network", "filesystem", "resources"];
        assert_eq!(nearest("netwrok", known), Some("network"));
        assert_eq!(nearest("fileSystem", known), Some("filesystem"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
