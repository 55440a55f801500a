//! `fs.read`

use aegis_core::ToolResult;
use aegis_kernel::port::Workspace;

use super::arguments;
use super::output::{TEXT_BYTES_MAX, bracketed, cut};
use super::place::{Failure, Place, Stop};

/// Lines given unless asked otherwise.
pub(super) const LINES_DEFAULT: u32 = 2000;
/// Most bytes looked through for the first line asked for.
const SCAN_BYTES_MAX: u64 = 1 << 30;

pub(super) fn read(
    workspace: &Workspace,
    arguments: &arguments::Read,
    stop: &Stop,
) -> Result<ToolResult, Failure> {
    let place = Place::find(workspace, &arguments.path)?;
    place.refuse_directory()?;
    let first = arguments.offset.map_or(1, std::num::NonZero::get);
    let limit = arguments.limit.map_or(LINES_DEFAULT, std::num::NonZero::get);
    let mut window = Window::new(first, first.saturating_add(limit.into()));
    let mut scanned = 0u64;
    place.read_pieces(stop, |piece| {
        scanned += piece.len() as u64;
        if scanned > SCAN_BYTES_MAX || stop.out_of_time.is_cancelled() {
            return Err(Failure::told(format!(
                "line {first} of `{}` is too far from its beginning",
                place.path
            )));
        }
        Ok(window.take(piece))
    })?;
    if window.kept.is_empty() && first > 1 {
        let lines = window.line - u64::from(window.at_line_start);
        return Err(Failure::told(format!("`{}` has only {lines} lines", place.path)));
    }
    Ok(window.into_result())
}

/// Why the text ends before the file does.
enum Cut {
    /// The lines asked for are given.
    Lines,
    /// There is no more room.
    Bytes,
}

/// The lines from `first` up to but not with `end`, found in a file that passes by.
struct Window {
    first: u64,
    end: u64,
    /// The line the next byte belongs to, counted from 1.
    line: u64,
    at_line_start: bool,
    kept: Vec<u8>,
    cut: Option<Cut>,
}

impl Window {
    fn new(first: u64, end: u64) -> Self {
        Self { first, end, line: 1, at_line_start: true, kept: Vec::new(), cut: None }
    }

    /// Takes what belongs to the window; says whether there is use for more.
    fn take(&mut self, piece: &[u8]) -> bool {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            if self.line >= self.end {
                self.cut = Some(Cut::Lines);
                return false;
            }
            if self.line >= self.first {
                let room = TEXT_BYTES_MAX - self.kept.len();
                self.kept.extend(part.iter().take(room));
                if part.len() > room {
                    self.cut = Some(Cut::Bytes);
                    return false;
                }
            }
            self.at_line_start = part.ends_with(b"\n");
            self.line += u64::from(self.at_line_start);
        }
        true
    }

    fn into_result(mut self) -> ToolResult {
        if self.kept.is_empty() {
            return ToolResult { size: Some(0), ..ToolResult::ok(bracketed("the file is empty")) };
        }
        if let (Some(Cut::Bytes), Err(error)) = (&self.cut, str::from_utf8(&self.kept))
            && error.error_len().is_none()
        {
            // The cut went through a character.
            self.kept.truncate(error.valid_up_to());
        }
        let size = self.kept.len() as u64;
        let lossy = String::from_utf8_lossy(&self.kept);
        let is_binary = matches!(lossy, std::borrow::Cow::Owned(_)) || lossy.contains('\0');
        let mut text = cut(&lossy, TEXT_BYTES_MAX).to_owned();
        let mut note = |note: &str| {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&bracketed(note));
        };
        match self.cut {
            Some(Cut::Lines) => note(&format!(
                "lines {} to {}; the file goes on: read on with offset {}",
                self.first,
                self.end - 1,
                self.end
            )),
            Some(Cut::Bytes) if self.line > self.first => note(&format!(
                "cut after {size} bytes within line {}; read on with offset {}",
                self.line, self.line
            )),
            Some(Cut::Bytes) => {
                note(&format!("cut after {size} bytes; line {} is longer than fits", self.line))
            }
            None => {}
        }
        if is_binary {
            note("the file is not UTF-8 text; what cannot be shown is replaced");
        }
        ToolResult { size: Some(size), ..ToolResult::ok(text) }
    }
}
