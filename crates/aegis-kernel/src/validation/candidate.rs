//! What is judged: the answer, standard output, or a file.

use aegis_core::limits::MODEL_ANSWER_BYTES_MAX;
use aegis_manifest::agent::Target;
use serde_json::Value;

use crate::execution::{Driver, Halt};
use crate::port::VolumeError;

/// The text under judgement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Candidate {
    pub(crate) text: String,
}

/// The JSON in a text: the whole of it, or its single fenced block.
pub(crate) fn json_of(text: &str) -> Result<Value, String> {
    let whole = match serde_json::from_str(text.trim()) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let mut blocks = fenced_blocks(text);
    match (blocks.next(), blocks.next()) {
        (Some(block), None) => serde_json::from_str(block.trim())
            .map_err(|error| format!("the fenced block is not JSON: {error}")),
        (Some(_), Some(_)) => Err("there are several fenced blocks and the whole is not JSON".to_owned()),
        (None, _) => Err(format!("it is not JSON: {whole}")),
    }
}

/// The insides of ``` fences, in order.
fn fenced_blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").skip(1).step_by(2).map(|block| match block.split_once('\n') {
        // The rest of the opening line names the language.
        Some((first, rest)) if first.trim().chars().all(char::is_alphanumeric) => rest,
        _ => block,
    })
}

impl Driver {
    /// The candidate a validator looks at; the inner error says in words that it is not there.
    pub(crate) async fn candidate(&mut self, target: &Target) -> Result<Result<Candidate, String>, Halt> {
        let text = match target {
            Target::Answer => match &self.ledger.state.current.answer {
                Some(blob) => self.text(blob).await?,
                None => return Ok(Err("there is no answer".to_owned())),
            },
            Target::Stdout => match &self.ledger.state.current.stdout {
                Some(blob) => self.text(blob).await?,
                None => String::new(),
            },
            Target::File(path) => match self.read_file(path).await? {
                Ok(text) => text,
                Err(error) => return Ok(Err(error)),
            },
        };
        Ok(Ok(Candidate { text }))
    }

    async fn read_file(&mut self, path: &str) -> Result<Result<String, String>, Halt> {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/workspace/{path}") };
        let workspace = std::sync::Arc::clone(&self.rooms().await?.workspace);
        let Some(files) = workspace.holding(&path).cloned() else {
            return Ok(Err(format!("`{path}` is on no volume of this agent")));
        };
        let read = tokio::task::spawn_blocking(move || {
            let size = files.stat(&path)?.size;
            if size > MODEL_ANSWER_BYTES_MAX as u64 {
                return Err(VolumeError::WrongKind(format!("`{path}` has {size} bytes, too many to judge")));
            }
            files.read(&path, 0, MODEL_ANSWER_BYTES_MAX)
        });
        Ok(match read.await {
            Ok(Ok(bytes)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_the_whole_or_the_single_fenced_block() {
        for (text, expected) in [
            ("{\"a\":1}", Some(json!({"a": 1}))),
            ("  [1]\n", Some(json!([1]))),
            ("Here:\n```json\n{\"a\":1}\n```\nDone.", Some(json!({"a": 1}))),
            ("```\n2\n```", Some(json!(2))),
            ("```json\n{}\n```\n```json\n{}\n```", None),
            ("no json here", None),
            ("```json\n{\n```", None),
            ("", None),
        ] {
            assert_eq!(json_of(text).ok(), expected, "{text}");
        }
    }
}
