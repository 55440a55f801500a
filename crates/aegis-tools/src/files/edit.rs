//! `fs.edit` and `fs.multi_edit`

use aegis_core::ToolResult;
use aegis_kernel::port::Workspace;

use super::arguments::{Edit, MultiEdit, Replacement};
use super::place::{Failure, Place, Stop};

/// Most edits of one call.
pub(super) const EDITS_MAX: usize = 100;
/// Largest file that is edited, before and after, in bytes.
const FILE_BYTES_MAX: usize = 16 << 20;

pub(super) fn edit(workspace: &Workspace, arguments: &Edit, stop: &Stop) -> Result<ToolResult, Failure> {
    let Edit { path, old_string, new_string, replace_all } = arguments;
    let place = Place::find(workspace, path)?;
    let text = read_text(&place, stop)?;
    let (text, count) = replaced(&text, old_string, new_string, *replace_all)
        .map_err(|reason| not_fitting(&place, &reason))?;
    write_text(&place, &text, count)
}

pub(super) fn multi_edit(
    workspace: &Workspace,
    arguments: &MultiEdit,
    stop: &Stop,
) -> Result<ToolResult, Failure> {
    if arguments.edits.is_empty() || arguments.edits.len() > EDITS_MAX {
        return Err(Failure::told(format!("give 1 to {EDITS_MAX} edits")));
    }
    let place = Place::find(workspace, &arguments.path)?;
    let mut text = read_text(&place, stop)?;
    let mut total = 0;
    for (number, Replacement { old_string, new_string, replace_all }) in (1..).zip(&arguments.edits) {
        let (next, count) = replaced(&text, old_string, new_string, *replace_all).map_err(|reason| {
            not_fitting(&place, &format!("edit {number} of {}: {reason}", arguments.edits.len()))
        })?;
        text = next;
        total += count;
    }
    write_text(&place, &text, total)
}

fn read_text(place: &Place<'_>, stop: &Stop) -> Result<String, Failure> {
    place.refuse_directory()?;
    String::from_utf8(place.read_whole(FILE_BYTES_MAX, stop)?)
        .map_err(|_| Failure::told(format!("`{}` is not UTF-8 text and cannot be edited", place.path)))
}

fn write_text(place: &Place<'_>, text: &str, count: usize) -> Result<ToolResult, Failure> {
    place.files.write(&place.path, text.as_bytes())?;
    let plural = if count == 1 { "" } else { "s" };
    let answer = format!("replaced {count} occurrence{plural} in `{}`", place.path);
    Ok(ToolResult { size: Some(text.len() as u64), ..ToolResult::ok(answer) })
}

fn not_fitting(place: &Place<'_>, reason: &str) -> Failure {
    Failure::told(format!("`{}` was not changed: {reason}", place.path))
}

/// The text after the replacement, and how many there were; else why it does not fit.
fn replaced(text: &str, old: &str, new: &str, all: bool) -> Result<(String, usize), String> {
    if old.is_empty() {
        return Err("old_string is empty; fs.write makes a new file".to_owned());
    }
    if old == new {
        return Err("old_string and new_string are the same".to_owned());
    }
    let Some(first) = text.find(old) else {
        let advice = if old.contains('\n') && text.contains("\r\n") && !old.contains('\r') {
            "; the file's lines end in \\r\\n"
        } else {
            "; it must be exactly what stands in the file, with its white space: read the file again"
        };
        return Err(format!("old_string was not found{advice}"));
    };
    let count = text.matches(old).count();
    // Occurrences that overlap make the place as doubtful as others.
    let after_first_character =
        first + text.get(first..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
    let is_unique = text.get(after_first_character..).is_none_or(|rest| !rest.contains(old));
    if !all && !is_unique {
        let times =
            if count > 1 { format!("{count} times") } else { "more than once, overlapping".to_owned() };
        return Err(format!(
            "old_string occurs {times}; add the lines around it until it is unique, or set replace_all"
        ));
    }
    if text.len().saturating_add(new.len().saturating_mul(count)) > 2 * FILE_BYTES_MAX {
        return Err("the file would become too large".to_owned());
    }
    Ok((text.replace(old, new), count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_fits_once_or_everywhere() {
        let one = |text, old, new| replaced(text, old, new, false);
        assert_eq!(one("a b c", "b", "x"), Ok(("a x c".to_owned(), 1)));
        assert_eq!(one("a b", "b", ""), Ok(("a ".to_owned(), 1)));
        assert!(one("a b b", "b", "x").unwrap_err().contains("2 times"));
        assert!(one("aaa", "aa", "x").unwrap_err().contains("overlapping"));
        assert!(one("ééé", "éé", "x").unwrap_err().contains("overlapping"));
        assert!(one("a", "b", "x").unwrap_err().contains("not found"));
        assert!(one("a\r\nb", "a\nb", "x").unwrap_err().contains("\\r\\n"));
        assert!(one("a", "", "x").is_err());
        assert!(one("a", "a", "a").is_err());
        assert_eq!(replaced("a b b", "b", "bb", true), Ok(("a bb bb".to_owned(), 2)));
        assert!(
            replaced(&"a".repeat(1000), "a", &"x".repeat(1 << 20), true).unwrap_err().contains("too large")
        );
    }
}
