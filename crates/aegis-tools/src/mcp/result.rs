//! What a server's answer becomes for the model and for the record.

use aegis_core::{Sha256, ToolResult};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use serde_json::Value;
use sha2::Digest as _;

/// Bytes that came with an answer and are no text: an image, a sound, a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its media type, as the server states it.
    pub media_type: String,
    /// SHA-256 of the bytes, as the text for the model names it.
    pub digest: Sha256,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A tool's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct McpResult {
    answer: CallToolResult,
}

impl McpResult {
    pub(super) const fn new(answer: CallToolResult) -> Self {
        Self { answer }
    }
    /// Whether the tool says it failed.
    pub fn is_error(&self) -> bool {
        self.answer.is_error == Some(true)
    }
    /// The structured result, if the server gave one.
    pub const fn structured(&self) -> Option<&Value> {
        self.answer.structured_content.as_ref()
    }
    /// The answer as the protocol writes it, for whoever passes it on.
    ///
    /// # Errors
    /// If it does not serialise, which no answer does.
    pub fn to_json(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(&self.answer)
    }
    /// What is no text, in the order of the answer. What is not base64 is left out; the model is told.
    pub fn attachments(&self) -> Vec<Attachment> {
        self.answer.content.iter().filter_map(|block| attachment(block).ok().flatten()).collect()
    }
    /// The model's view: text as it is, everything else described in brackets with size and hash. The structured
    /// result stands alone only where the server gave no content, because the protocol has servers repeat it as text.
    pub fn tool_result(&self) -> ToolResult {
        let mut parts: Vec<String> = self.answer.content.iter().map(describe).collect();
        if parts.is_empty()
            && let Some(structured) = &self.answer.structured_content
        {
            parts.push(structured.to_string());
        }
        let content = parts.join("\n");
        if self.is_error() { ToolResult::error(content) } else { ToolResult::ok(content) }
    }
    /// Bytes of the content, near enough to judge by.
    pub(super) fn size(&self) -> usize {
        let blocks: usize = self
            .answer
            .content
            .iter()
            .map(|block| match block {
                ContentBlock::Text(text) => text.text.len(),
                ContentBlock::Image(image) => image.data.len(),
                ContentBlock::Audio(audio) => audio.data.len(),
                ContentBlock::Resource(embedded) => match &embedded.resource {
                    ResourceContents::TextResourceContents { text, .. } => text.len(),
                    ResourceContents::BlobResourceContents { blob, .. } => blob.len(),
                    _ => 0,
                },
                _ => 0,
            })
            .sum();
        blocks + self.structured().map_or(0, |value| value.to_string().len())
    }
}

fn describe(block: &ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Resource(embedded) => match &embedded.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => format!("[resource {uri}]\n{text}"),
            ResourceContents::BlobResourceContents { uri, .. } => bytes_of(&format!("resource {uri}"), block),
            _ => "[a resource of a kind that is not known here]".to_owned(),
        },
        ContentBlock::Image(_) => bytes_of("image", block),
        ContentBlock::Audio(_) => bytes_of("audio", block),
        ContentBlock::ResourceLink(link) => format!("[resource link {}: {}]", link.uri, link.name),
        _ => "[content of a kind that is not known here]".to_owned(),
    }
}

fn bytes_of(what: &str, block: &ContentBlock) -> String {
    match attachment(block) {
        Ok(Some(Attachment { media_type, digest, bytes })) => {
            format!("[{what}: {media_type}, {} bytes, sha256 {digest}]", bytes.len())
        }
        Ok(None) | Err(_) => format!("[{what}: not valid base64]"),
    }
}

fn attachment(block: &ContentBlock) -> Result<Option<Attachment>, base64::DecodeError> {
    let (media_type, data) = match block {
        ContentBlock::Image(image) => (image.mime_type.as_str(), &image.data),
        ContentBlock::Audio(audio) => (audio.mime_type.as_str(), &audio.data),
        ContentBlock::Resource(embedded) => match &embedded.resource {
            ResourceContents::BlobResourceContents { blob, mime_type, .. } => {
                (mime_type.as_deref().unwrap_or("application/octet-stream"), blob)
            }
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    let bytes = STANDARD.decode(data)?;
    let digest = Sha256::from_bytes(sha2::Sha256::digest(&bytes).into());
    Ok(Some(Attachment { media_type: media_type.to_owned(), digest, bytes }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result(value: Value) -> McpResult {
        McpResult::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn text_stays_and_bytes_are_described() {
        let answer = result(json!({"content": [
            {"type": "text", "text": "here"},
            {"type": "image", "data": "AAEC", "mimeType": "image/png"},
            {"type": "image", "data": "no base64!", "mimeType": "image/png"},
            {"type": "resource", "resource": {"uri": "demo://1", "text": "inside"}},
        ]}));
        let told = answer.tool_result();
        let digest = "ae4b3280e56e2faf83f414a6e3dabe9d5fbe18976544c05fed121accb85b53fc";
        assert_eq!(
            told.content,
            format!(
                "here\n[image: image/png, 3 bytes, sha256 {digest}]\n[image: not valid base64]\n[resource demo://1]\ninside"
            )
        );
        assert!(!told.is_error);
        assert_eq!(answer.attachments()[0].bytes, [0, 1, 2]);
    }

    #[test]
    fn structure_stands_in_for_missing_text_and_errors_stay_errors() {
        let answer = result(json!({"content": [], "structuredContent": {"a": 1}, "isError": true}));
        assert_eq!(answer.tool_result(), ToolResult::error(r#"{"a":1}"#));
        let both = result(json!({"content": [{"type": "text", "text": "x"}], "structuredContent": {"a": 1}}));
        assert_eq!(both.tool_result(), ToolResult::ok("x"));
    }
}
