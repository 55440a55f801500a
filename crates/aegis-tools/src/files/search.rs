//! `fs.grep` and `fs.glob`

use aegis_core::ToolResult;
use aegis_kernel::port::{FileKind, ToolError, Workspace};
use aegis_security::constraint::PathPattern;
use regex::bytes::{Regex, RegexBuilder};

use super::arguments;
use super::output::{Output, cut};
use super::place::{Failure, Place, Stop};
use super::walk::{Depth, Ended, walk};

/// Lines `fs.grep` gives unless asked otherwise, and paths `fs.glob` gives at most.
pub(super) const RESULTS_DEFAULT: u32 = 500;
/// Most lines `fs.grep` can be asked for.
pub(super) const RESULTS_MAX: u32 = 5000;
/// Largest file that is searched, in bytes.
const FILE_BYTES_MAX: usize = 16 << 20;
/// Most bytes searched in one call.
const TOTAL_BYTES_MAX: usize = 512 << 20;
/// Longest part of a matching line that is given, in bytes.
const LINE_BYTES_MAX: usize = 500;
/// Size of a compiled expression, and of each of its caches, in bytes.
const REGEX_BYTES_MAX: usize = 2 << 20;
/// A NUL among the first bytes of a file means it is not text.
const BINARY_PROBE_BYTES: usize = 8 << 10;

pub(super) fn glob(
    workspace: &Workspace,
    arguments: &arguments::Glob,
    stop: &Stop,
) -> Result<ToolResult, Failure> {
    let place = Place::find(workspace, &arguments.path)?;
    if place.stat()?.kind != FileKind::Directory {
        return Err(Failure::told(format!("`{}` is not a directory", place.path)));
    }
    let pattern = name_pattern(&arguments.pattern, &place.path)?;
    let most = RESULTS_DEFAULT as usize;
    let mut output = Output::default();
    let enters = |relative: &str| {
        let folder = format!("/{relative}");
        pattern.leads_below(&folder) || pattern.matches(&folder)
    };
    let ended = walk(workspace, &place.path, Depth::All, stop, enters, |entry| {
        let is_found =
            entry.meta.kind != FileKind::Directory && pattern.matches(&format!("/{}", entry.relative));
        Ok(!is_found || (output.lines() < most && output.line(entry.path)))
    })?;
    let note = match ended {
        Ended::Complete if output.lines() == 0 => {
            Some(format!("no file below `{}` matches `{}`", place.path, arguments.pattern))
        }
        Ended::Complete => None,
        Ended::Enough => Some("there are more files; narrow the pattern or the path".to_owned()),
        Ended::Bounds => Some("stopped: there is too much to look through; narrow the path".to_owned()),
    };
    Ok(ToolResult::ok(output.finish(note.as_deref())))
}

/// The pattern over paths relative to `folder`, with a slash before them.
fn name_pattern(pattern: &str, folder: &str) -> Result<PathPattern, Failure> {
    let relative = if folder == "/" {
        pattern.trim_start_matches('/')
    } else {
        pattern.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')).unwrap_or(pattern)
    };
    if relative.starts_with('/') {
        return Err(Failure::told(format!("the pattern `{pattern}` does not lie below `{folder}`")));
    }
    PathPattern::new(&format!("/{relative}")).map_err(|error| Failure::told(error.to_string()))
}

pub(super) fn grep(
    workspace: &Workspace,
    arguments: &arguments::Grep,
    stop: &Stop,
) -> Result<ToolResult, Failure> {
    let regex = RegexBuilder::new(&arguments.pattern)
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|error| Failure::told(format!("the pattern cannot be used: {error}")))?;
    let most = arguments.max_results.map_or(RESULTS_DEFAULT, std::num::NonZero::get).min(RESULTS_MAX);
    let place = Place::find(workspace, &arguments.path)?;
    let meta = place.stat()?;
    // As with other programs of this kind, a glob without a slash is about names at any depth.
    let names = match arguments.glob.as_deref() {
        Some(glob) if glob.contains('/') => Some(name_pattern(glob, &place.path)?),
        Some(glob) => Some(name_pattern(&format!("**/{glob}"), &place.path)?),
        None => None,
    };
    let mut search =
        Search { regex, most: most as usize, output: Output::default(), files: 0, passed: 0, bytes: 0 };
    let ended = if meta.kind == FileKind::Directory {
        walk(
            workspace,
            &place.path,
            Depth::All,
            stop,
            |_| true,
            |entry| {
                let is_meant =
                    names.as_ref().is_none_or(|names| names.matches(&format!("/{}", entry.relative)));
                if entry.meta.kind != FileKind::File || !is_meant {
                    return Ok(true);
                }
                search.file(&Place::find(workspace, entry.path)?, stop)
            },
        )?
    } else if search.file(&place, stop)? {
        Ended::Complete
    } else {
        Ended::Enough
    };
    Ok(ToolResult::ok(search.finish(&ended, &arguments.pattern, &place.path)))
}

struct Search {
    regex: Regex,
    most: usize,
    output: Output,
    /// How many files were searched, and how many passed over because they are large or not text.
    files: usize,
    passed: usize,
    bytes: usize,
}

impl Search {
    /// Searches one file; says whether there is room for more.
    fn file(&mut self, place: &Place<'_>, stop: &Stop) -> Result<bool, Failure> {
        if self.bytes >= TOTAL_BYTES_MAX {
            return Ok(false);
        }
        let content = match place.read_whole(FILE_BYTES_MAX, stop) {
            Ok(content) => content,
            Err(failure @ Failure::Tool(ToolError::Cancelled | ToolError::Internal(_))) => {
                return Err(failure);
            }
            // Too large, gone, or hidden by the rules.
            Err(Failure::Told(_) | Failure::Tool(_)) => {
                self.passed += 1;
                return Ok(true);
            }
        };
        self.bytes += content.len();
        if content.iter().take(BINARY_PROBE_BYTES).any(|byte| *byte == 0) {
            self.passed += 1;
            return Ok(true);
        }
        self.files += 1;
        let text = content.strip_suffix(b"\n").unwrap_or(&content);
        for (number, line) in (1u64..).zip(text.split(|byte| *byte == b'\n')) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !self.regex.is_match(line) {
                continue;
            }
            let shown = String::from_utf8_lossy(line);
            let shown = cut(&shown, LINE_BYTES_MAX);
            let found = format!("{}:{number}:{shown}", place.path);
            if self.output.lines() >= self.most || !self.output.line(&found) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn finish(self, ended: &Ended, pattern: &str, path: &str) -> String {
        let passed = match self.passed {
            0 => String::new(),
            count => format!("; {count} not searched, being too large, no text or not readable"),
        };
        let note = match ended {
            Ended::Complete if self.output.lines() == 0 => Some(format!(
                "no line matches `{pattern}` in `{path}`; files searched: {}{passed}",
                self.files
            )),
            Ended::Complete => None,
            Ended::Enough => {
                Some("there may be more matches; narrow the pattern, the path or the glob".to_owned())
            }
            Ended::Bounds => Some(format!("stopped: there is too much to search; narrow the path{passed}")),
        };
        self.output.finish(note.as_deref())
    }
}
