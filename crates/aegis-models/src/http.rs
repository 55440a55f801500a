//! The HTTP side of a call: one POST, its answer bounded in size and time.

use std::error::Error as _;
use std::time::Duration;

use aegis_core::Timestamp;
use aegis_core::limits::MODEL_ANSWER_BYTES_MAX;
use http::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use serde_json::Value;

use crate::backoff::retry_after;
use crate::dialect::Reader;
use crate::draft::Draft;
use crate::fault::{Fault, words};
use crate::settings::Patience;
use crate::sse::Decoder;

/// Most bytes read of the body of an error.
const ERROR_BYTES_MAX: usize = 16 << 10;
/// Most bytes of an answer that is not streamed: JSON may escape each character.
const WHOLE_BYTES_MAX: usize = MODEL_ANSWER_BYTES_MAX * 2;
/// Most bytes of a stream, whose framing outweighs its content.
const STREAM_BYTES_MAX: usize = MODEL_ANSWER_BYTES_MAX * 64;

/// Makes a client. Redirects are not followed: they would carry the credential elsewhere. Without `tls` no
/// certificates are loaded and no proxy of the environment is used, as fits an address on this machine.
pub(crate) fn client(patience: Patience, tls: bool) -> Result<Client, String> {
    let builder = Client::builder()
        .redirect(Policy::none())
        .connect_timeout(patience.connect)
        .tcp_nodelay(true)
        .pool_idle_timeout(Duration::from_secs(60))
        .user_agent(concat!("aegis/", env!("CARGO_PKG_VERSION")));
    let builder = if tls { builder } else { builder.no_proxy().tls_certs_only([]) };
    builder.build().map_err(|error| innermost(&error))
}

/// Where and how one provider is asked.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) client: Client,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) patience: Patience,
}

impl Target {
    /// Asks once. `secret` is taken out of whatever the provider says in an error.
    pub(crate) async fn ask(
        &self,
        body: &Value,
        reader: Reader,
        secret: Option<&str>,
        now: Timestamp,
    ) -> Result<Draft, Fault> {
        let sending = self.client.post(self.url.clone()).headers(self.headers.clone()).json(body).send();
        let answered = tokio::time::timeout(self.patience.first_byte, sending).await;
        let response = match answered {
            Err(_) => return Err(Fault::Silent(self.patience.first_byte)),
            Ok(Err(error)) => return Err(self.sending_fault(&error)),
            Ok(Ok(response)) => response,
        };
        let mut body = BoundedBody { response, idle: self.patience.idle };
        if !body.response.status().is_success() {
            return Err(body.status_fault(secret, now).await);
        }
        let result = body.answer(reader).await;
        result.map_err(|fault| match fault {
            Fault::ErrorAnswer(detail) => Fault::ErrorAnswer(words(&detail, secret)),
            Fault::Malformed(detail) => Fault::Malformed(words(&detail, secret)),
            other => other,
        })
    }

    fn sending_fault(&self, error: &reqwest::Error) -> Fault {
        if error.is_connect() {
            let address = self.url.origin().ascii_serialization();
            Fault::Unreachable { address, cause: innermost(error) }
        } else {
            Fault::Broken
        }
    }
}

/// The cause at the end of the chain: the only part that names no URL.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut text = "the connection failed".to_owned();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    words(
        text.trim_end_matches(|c: char| c == ')' || c.is_ascii_digit()).trim_end_matches(" (os error "),
        None,
    )
}

struct BoundedBody {
    response: Response,
    idle: Duration,
}

impl BoundedBody {
    async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, Fault> {
        match tokio::time::timeout(self.idle, self.response.chunk()).await {
            Err(_) => Err(Fault::Silent(self.idle)),
            Ok(Err(_)) => Err(Fault::Broken),
            Ok(Ok(chunk)) => Ok(chunk),
        }
    }

    async fn answer(&mut self, mut reader: Reader) -> Result<Draft, Fault> {
        let content_type = self.response.headers().get(http::header::CONTENT_TYPE);
        let streamed = content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        if !streamed {
            let mut whole = Vec::new();
            while let Some(chunk) = self.chunk().await? {
                if whole.len() + chunk.len() > WHOLE_BYTES_MAX {
                    return Err(Fault::TooLarge);
                }
                whole.extend_from_slice(&chunk);
            }
            return reader.whole(&whole);
        }
        let mut decoder = Decoder::default();
        let mut taken = 0usize;
        while let Some(chunk) = self.chunk().await? {
            taken = taken.saturating_add(chunk.len());
            if taken > STREAM_BYTES_MAX {
                return Err(Fault::TooLarge);
            }
            for data in decoder.feed(&chunk).map_err(|_| Fault::TooLarge)? {
                if reader.event(&data)? {
                    return reader.end();
                }
            }
        }
        if let Some(data) = decoder.finish() {
            reader.event(&data)?;
        }
        reader.end()
    }

    async fn status_fault(&mut self, secret: Option<&str>, now: Timestamp) -> Fault {
        let status = self.response.status().as_u16();
        let header = self.response.headers().get(http::header::RETRY_AFTER);
        let retry_after =
            header.and_then(|value| value.to_str().ok()).and_then(|text| retry_after(text, now));
        let mut body = Vec::new();
        while body.len() < ERROR_BYTES_MAX {
            let Ok(Some(chunk)) = self.chunk().await else { break };
            body.extend_from_slice(&chunk);
        }
        body.truncate(ERROR_BYTES_MAX);
        Fault::Status { status, detail: words(&error_text(&body), secret), retry_after }
    }
}

/// What a provider says in the body of an error, whichever of the usual forms it has.
pub(crate) fn error_text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let Ok(value) = serde_json::from_str::<Value>(&text) else { return text.into_owned() };
    error_in(&value).unwrap_or_else(|| text.into_owned())
}

/// The message of `{"error": {"message"}}`, `{"error": "…"}`, `{"message"}` or `{"detail"}`.
pub(crate) fn error_in(value: &Value) -> Option<String> {
    let candidates =
        [value.pointer("/error/message"), value.get("error"), value.get("message"), value.get("detail")];
    candidates.into_iter().flatten().find_map(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_bodies_are_read_in_their_usual_forms() {
        for (body, text) in [
            (r#"{"error":{"message":"boom","type":"x"}}"#, "boom"),
            (r#"{"error":"model not found"}"#, "model not found"),
            (r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, "Overloaded"),
            (r#"{"detail":"nope"}"#, "nope"),
            ("<html>502</html>", "<html>502</html>"),
            ("", ""),
        ] {
            assert_eq!(error_text(body.as_bytes()), text);
        }
    }
}
