//! The protocols models speak. Each writes a request and reads an answer; nothing else of it is known outside.

mod anthropic;
mod openai;

use aegis_core::ModelRequest;
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::draft::Draft;
use crate::fault::Fault;
use crate::names::Names;
use crate::settings::ProviderKind;

/// A protocol, with what differs between those who speak it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// OpenAI's chat completions; `vendor` is OpenAI itself, which has renamed fields others still lack.
    OpenAi {
        vendor: bool,
    },
    Anthropic,
}

impl Dialect {
    /// The dialect of a kind of provider; replay has none.
    pub(crate) const fn of(kind: ProviderKind) -> Option<Self> {
        match kind {
            ProviderKind::OpenAi => Some(Self::OpenAi { vendor: true }),
            ProviderKind::Ollama | ProviderKind::OpenAiCompatible => Some(Self::OpenAi { vendor: false }),
            ProviderKind::Anthropic => Some(Self::Anthropic),
            ProviderKind::Replay => None,
        }
    }
    /// The path below an endpoint, whose version is not part of it.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::OpenAi { .. } => "chat/completions",
            Self::Anthropic => "messages",
        }
    }
    /// The headers that carry the credential. `None` if the credential cannot stand in one.
    pub(crate) fn headers(self, api_key: Option<&SecretString>) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        if self == Self::Anthropic {
            let version = HeaderName::from_static("anthropic-version");
            headers.insert(version, HeaderValue::from_static(anthropic::VERSION));
        }
        if let Some(key) = api_key {
            let (name, text) = match self {
                Self::OpenAi { .. } => {
                    (http::header::AUTHORIZATION, format!("Bearer {}", key.expose_secret()))
                }
                Self::Anthropic => (HeaderName::from_static("x-api-key"), key.expose_secret().to_owned()),
            };
            let mut value = HeaderValue::from_str(&text).ok()?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Some(headers)
    }
    /// The body of a request. `ask_usage` asks for usage at the end of the stream, which some servers refuse.
    pub(crate) fn body(self, request: &ModelRequest, model: &str, names: &Names, ask_usage: bool) -> Value {
        match self {
            Self::OpenAi { vendor } => openai::body(request, model, names, vendor, ask_usage),
            Self::Anthropic => anthropic::body(request, model, names),
        }
    }
    /// What reads the answer.
    pub(crate) fn reader(self) -> Reader {
        match self {
            Self::OpenAi { .. } => Reader::OpenAi(openai::Reader::default()),
            Self::Anthropic => Reader::Anthropic(anthropic::Reader::default()),
        }
    }
}

/// Reads one answer, event by event or whole.
#[derive(Debug)]
pub(crate) enum Reader {
    OpenAi(openai::Reader),
    Anthropic(anthropic::Reader),
}

impl Reader {
    /// Takes the data of one event; true if the answer is complete.
    pub(crate) fn event(&mut self, data: &str) -> Result<bool, Fault> {
        match self {
            Self::OpenAi(reader) => reader.event(data),
            Self::Anthropic(reader) => reader.event(data),
        }
    }
    /// The answer after the last event; a fault if the stream ended before the answer did.
    pub(crate) fn end(self) -> Result<Draft, Fault> {
        match self {
            Self::OpenAi(reader) => reader.end(),
            Self::Anthropic(reader) => reader.end(),
        }
    }
    /// An answer that came whole.
    pub(crate) fn whole(self, body: &[u8]) -> Result<Draft, Fault> {
        let value: Value = serde_json::from_slice(body).map_err(|_| not_json(body))?;
        if let Some(message) = value.get("error").filter(|error| !error.is_null()) {
            let text = crate::http::error_in(&value).unwrap_or_else(|| message.to_string());
            return Err(Fault::ErrorAnswer(text));
        }
        match self {
            Self::OpenAi(_) => openai::whole(&value),
            Self::Anthropic(_) => anthropic::whole(&value),
        }
    }
}

/// The first words of what should have been JSON.
fn not_json(bytes: &[u8]) -> Fault {
    let start: String =
        String::from_utf8_lossy(bytes.get(..80.min(bytes.len())).unwrap_or_default()).into_owned();
    if start.trim().is_empty() {
        Fault::Malformed("an empty answer".to_owned())
    } else {
        Fault::Malformed(format!("not JSON, it starts `{}`", start.trim()))
    }
}

/// Parses an event of a stream; an event that carries an error is one.
fn event_value(data: &str) -> Result<Value, Fault> {
    let value: Value = serde_json::from_str(data).map_err(|_| not_json(data.as_bytes()))?;
    match value.get("error") {
        Some(error) if !error.is_null() => {
            Err(Fault::ErrorAnswer(crate::http::error_in(&value).unwrap_or_else(|| error.to_string())))
        }
        _ => Ok(value),
    }
}

/// A string field; empty if it is missing or is not one.
fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A string field that is worth keeping: present, not empty, of a length an id has.
fn label(value: &Value, field: &str) -> Option<String> {
    const LABEL_BYTES_MAX: usize = 256;
    Some(text(value, field)).filter(|text| (1..=LABEL_BYTES_MAX).contains(&text.len())).map(str::to_owned)
}

/// Elements of a list field.
fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// Temperature as the protocols want it.
fn temperature(request: &ModelRequest) -> Option<f64> {
    request.temperature_milli.map(|milli| f64::from(milli) / 1000.0)
}

#[cfg(test)]
mod tests;
