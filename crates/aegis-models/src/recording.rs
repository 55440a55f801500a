//! Recorded answers: what the replay provider answers from, and what recording writes.

use std::path::{Path, PathBuf};

use aegis_core::{FinishReason, Message, ModelAnswer, ModelRequest, ToolCall};
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::fault::Fault;

/// Largest file of recordings, in bytes.
const RECORDING_BYTES_MAX: u64 = 64 << 20;
/// Digits of a key that are shown and used in file names.
const KEY_DIGITS_SHOWN: usize = 12;

/// Recordings that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file or folder could not be read or written.
    #[error("`{path}`: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("`{path}` is not a recording: {problem}; record it again with `just record`")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// One recorded answer with the request it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// What was asked: `{alias, messages, tools, response_format}`. Its key is computed from here.
    pub request: Value,
    /// What was answered.
    pub answer: RecordedAnswer,
}

/// The parts of an answer that are the model's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedAnswer {
    /// The text.
    #[serde(default)]
    pub content: String,
    /// Calls, by AEGIS names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Why it stopped.
    pub finish: FinishReason,
    /// Tokens of the request, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Tokens of the answer, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// The model that answered.
    pub model: String,
    /// Its fingerprint, if it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// The part of a request that an answer depends on.
fn identity(request: &ModelRequest) -> Value {
    json!({
        "alias": request.alias,
        "messages": request.messages.iter().map(AsRef::as_ref).collect::<Vec<&Message>>(),
        "tools": request.tools,
        "response_format": request.response_format,
    })
}

/// The key of a request: SHA-256, in hex, over the canonical JSON (RFC 8785) of its alias, messages, tools and
/// response format.
pub fn request_key(request: &ModelRequest) -> String {
    key_of(&identity(request))
}

fn key_of(identity: &Value) -> String {
    // Writing a JSON value to memory cannot fail; an empty text would only be a key nothing has.
    let canonical = serde_json_canonicalizer::to_vec(identity).unwrap_or_default();
    let hash = digest::digest(&digest::SHA256, &canonical);
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn short(key: &str) -> &str {
    key.get(..KEY_DIGITS_SHOWN).unwrap_or(key)
}

impl Recording {
    /// The recording of an answer that came.
    pub fn of(request: &ModelRequest, answer: &ModelAnswer) -> Self {
        let known = |tokens: u64| (!answer.usage.estimated).then_some(tokens);
        Self {
            request: identity(request),
            answer: RecordedAnswer {
                content: answer.content.clone(),
                tool_calls: answer.tool_calls.clone(),
                finish: answer.finish,
                input_tokens: known(answer.usage.input_tokens),
                output_tokens: known(answer.usage.output_tokens),
                model: answer.model.clone(),
                fingerprint: answer.fingerprint.clone(),
            },
        }
    }
    /// The key of its request.
    pub fn key(&self) -> String {
        key_of(&self.request)
    }
    /// Writes it into `folder` under a name made of its key, in the place of an older one.
    ///
    /// # Errors
    /// If the folder or file cannot be written.
    pub async fn write(&self, folder: &Path) -> Result<PathBuf, RecordingError> {
        let path = folder.join(format!("{}.json", short(&self.key())));
        let failed = |source| RecordingError::Io { path: path.clone(), source };
        let mut text = serde_json::to_string_pretty(self).map_err(|error| failed(error.into()))?;
        text.push('\n');
        tokio::fs::create_dir_all(folder).await.map_err(failed)?;
        tokio::fs::write(&path, text).await.map_err(failed)?;
        Ok(path)
    }
}

/// The recordings of one provider.
#[derive(Debug, Default)]
pub(crate) struct Recordings {
    /// Key, file name and recording.
    held: Vec<(String, String, Recording)>,
}

impl Recordings {
    /// Reads a file, or all `*.json` of a folder. A file holds one recording or a list of them.
    pub(crate) fn read(path: &Path) -> Result<Self, RecordingError> {
        let failed = |source| RecordingError::Io { path: path.to_owned(), source };
        let mut files = Vec::new();
        if std::fs::metadata(path).map_err(failed)?.is_dir() {
            for entry in std::fs::read_dir(path).map_err(failed)? {
                let file = entry.map_err(failed)?.path();
                if file.extension().is_some_and(|extension| extension == "json") {
                    files.push(file);
                }
            }
            files.sort();
        } else {
            files.push(path.to_owned());
        }
        let mut recordings = Self::default();
        for file in &files {
            recordings.read_file(file)?;
        }
        Ok(recordings)
    }

    fn read_file(&mut self, path: &Path) -> Result<(), RecordingError> {
        let failed = |source| RecordingError::Io { path: path.to_owned(), source };
        let form = |problem: String| RecordingError::Form { path: path.to_owned(), problem };
        if std::fs::metadata(path).map_err(failed)?.len() > RECORDING_BYTES_MAX {
            return Err(form(format!("it is larger than {} MiB", RECORDING_BYTES_MAX >> 20)));
        }
        let text = std::fs::read(path).map_err(failed)?;
        let value: Value = serde_json::from_slice(&text).map_err(|error| form(error.to_string()))?;
        let values = match value {
            Value::Array(values) => values,
            one => vec![one],
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for value in values {
            let recording: Recording =
                serde_json::from_value(value).map_err(|error| form(error.to_string()))?;
            self.held.push((recording.key(), name.clone(), recording));
        }
        Ok(())
    }

    pub(crate) fn find(&self, request: &ModelRequest) -> Result<&RecordedAnswer, Fault> {
        let asked = identity(request);
        let key = key_of(&asked);
        if let Some((_, _, recording)) = self.held.iter().find(|(held, ..)| *held == key) {
            return Ok(&recording.answer);
        }
        let nearest = self.held.iter().max_by_key(|(_, _, recording)| closeness(&asked, &recording.request));
        let hint = nearest.map_or_else(
            || "there are no recordings at all".to_owned(),
            |(_, file, recording)| {
                format!("the nearest, in `{file}`, {}", difference(&asked, &recording.request))
            },
        );
        Err(Fault::NotRecorded(format!("has no recording of this request (key {}); {hint}", short(&key))))
    }
}

fn items<'a>(identity: &'a Value, field: &str) -> &'a [Value] {
    identity.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn common_messages(asked: &Value, held: &Value) -> usize {
    let pairs = items(asked, "messages").iter().zip(items(held, "messages"));
    pairs.take_while(|(asked, held)| asked == held).count()
}

/// How near a recording is: the alias first, then how far the conversations agree, then the rest.
fn closeness(asked: &Value, held: &Value) -> (bool, usize, bool, bool) {
    let same = |field: &str| asked.get(field) == held.get(field);
    (same("alias"), common_messages(asked, held), same("messages"), same("tools"))
}

fn difference(asked: &Value, held: &Value) -> String {
    let differs = |field: &str| asked.get(field) != held.get(field);
    if differs("alias") {
        let alias = held.get("alias").and_then(Value::as_str).unwrap_or_default();
        return format!("is of the alias `{alias}`");
    }
    if differs("messages") {
        let number = common_messages(asked, held) + 1;
        let role = items(asked, "messages").get(number - 1).and_then(|message| message.get("role"));
        return match role.and_then(Value::as_str) {
            Some(role) => format!("differs from message {number} ({role}) on"),
            None => format!("goes on after message {}", number - 1),
        };
    }
    let field = if differs("tools") { "the tools offered" } else { "the response format" };
    format!("differs in {field}")
}
