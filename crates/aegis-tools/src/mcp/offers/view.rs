//! What a model is told of a resource, a prompt or a list.

use rmcp::model::{CallToolResult, ContentBlock, GetPromptResult, ReadResourceResult};
use serde_json::Value;

use super::super::result::McpResult;
use super::{PROMPT_GET, RESOURCE_READ};

/// A result in words: texts as they are, everything else by its kind and size; lists as JSON.
pub(super) fn told(tool: &str, result: &Value) -> String {
    let blocks = match tool {
        RESOURCE_READ => read(result),
        PROMPT_GET => got(result),
        _ => None,
    };
    match blocks {
        Some(blocks) => McpResult::new(CallToolResult::success(blocks)).tool_result().content,
        None => result.to_string(),
    }
}

fn read(result: &Value) -> Option<Vec<ContentBlock>> {
    let result: ReadResourceResult = serde_json::from_value(result.clone()).ok()?;
    Some(result.contents.into_iter().map(ContentBlock::resource).collect())
}

fn got(result: &Value) -> Option<Vec<ContentBlock>> {
    let result: GetPromptResult = serde_json::from_value(result.clone()).ok()?;
    let messages = result.messages.into_iter().flat_map(|message| {
        let role = serde_json::to_value(&message.role).ok();
        let role = role.as_ref().and_then(Value::as_str).unwrap_or("somebody").to_owned();
        [ContentBlock::text(format!("{role}:")), message.content]
    });
    Some(messages.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::RESOURCE_LIST;
    use super::*;

    #[test]
    fn texts_stay_bytes_are_described_and_lists_are_json() {
        let contents = json!({"contents": [
            {"uri": "a://text", "text": "words"},
            {"uri": "a://bytes", "mimeType": "image/png", "blob": "AAEC"},
        ]});
        let told_of = told(RESOURCE_READ, &contents);
        assert!(
            told_of.starts_with("[resource a://text]\nwords\n[resource a://bytes: image/png, 3 bytes, "),
            "{told_of}"
        );
        let prompt = json!({"messages": [{"role": "user", "content": {"type": "text", "text": "Ask."}}]});
        assert_eq!(told(PROMPT_GET, &prompt), "user:\nAsk.");
        assert_eq!(told(RESOURCE_LIST, &json!({"resources": []})), r#"{"resources":[]}"#);
    }
}
