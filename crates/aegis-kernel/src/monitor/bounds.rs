//! How much of what came of an action a model is told.

use aegis_core::limits::TOOL_RESULT_BYTES_MAX;
use aegis_core::{Denial, ToolResult};

/// Room for the note that says what is missing.
const NOTE_BYTES_MAX: usize = 128;
/// Longest condition of a denial that is told: it may quote what the model wrote.
const CONDITION_BYTES_MAX: usize = 4 << 10;

/// Cuts a result that no tool's own limit has cut. Of a command the end is kept, where its errors are, of anything else
/// the beginning; a note says so.
pub(super) fn cap(result: &mut ToolResult) {
    let bytes = result.content.len();
    if bytes <= TOOL_RESULT_BYTES_MAX {
        return;
    }
    let most = TOOL_RESULT_BYTES_MAX - NOTE_BYTES_MAX;
    result.content = if result.exit_code.is_some() {
        let kept = end(&result.content, most);
        format!("(only the last {} of {bytes} bytes are shown)\n{kept}", kept.len())
    } else {
        let kept = beginning(&result.content, most);
        format!("{kept}\n(only the first {} of {bytes} bytes are shown)", kept.len())
    };
}

/// What a model is told of a refusal.
pub(super) fn told(denial: &Denial) -> String {
    let Denial { code, rule, message, remedy } = denial;
    let (condition, more) = match beginning(message, CONDITION_BYTES_MAX) {
        whole if whole.len() == message.len() => (whole, ""),
        cut => (cut, "…"),
    };
    format!("{code} ({rule}). {condition}{more} To permit it: {remedy}")
}

/// Whole characters, at most so many bytes of them.
pub(super) fn beginning(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default()
}

fn end(text: &str, most: usize) -> &str {
    let from = text.len().saturating_sub(most);
    text.get(text.ceil_char_boundary(from)..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use aegis_core::DenialCode;

    use super::*;

    #[test]
    fn results_are_cut_to_the_limit_and_say_so() {
        let long = format!("first{}last", "ä".repeat(TOOL_RESULT_BYTES_MAX));
        let bytes = long.len();
        let mut text = ToolResult::ok(long.clone());
        cap(&mut text);
        assert!(text.content.len() <= TOOL_RESULT_BYTES_MAX);
        assert!(text.content.len() > TOOL_RESULT_BYTES_MAX - NOTE_BYTES_MAX, "{}", text.content.len());
        assert!(text.content.starts_with("firstä") && text.content.contains(&format!("of {bytes} bytes")));
        let mut command = ToolResult { exit_code: Some(1), ..ToolResult::error(long) };
        cap(&mut command);
        assert!(command.content.len() <= TOOL_RESULT_BYTES_MAX);
        assert!(command.content.ends_with("älast") && command.content.starts_with("(only the last"));
        let mut short = ToolResult::ok("x".repeat(TOOL_RESULT_BYTES_MAX));
        cap(&mut short);
        assert_eq!(short.content.len(), TOOL_RESULT_BYTES_MAX, "what fits is left as it is");
    }

    #[test]
    fn denials_quote_no_more_than_a_little_and_keep_their_remedy() {
        let denial = Denial {
            code: DenialCode::PathNotAllowed,
            rule: "manifest:security.filesystem".into(),
            message: format!("reading `{}` is not permitted.", "ä".repeat(1 << 20)),
            remedy: "add the path".into(),
        };
        let told = told(&denial);
        assert!(told.len() < CONDITION_BYTES_MAX + 200, "{}", told.len());
        assert!(told.starts_with("PATH_NOT_ALLOWED (manifest:security.filesystem). reading `ä"));
        assert!(told.ends_with("… To permit it: add the path"));
    }
}
