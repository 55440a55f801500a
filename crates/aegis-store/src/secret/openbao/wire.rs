//! One request and its answer, bounded in size and time. No error says a value or a token.

use std::time::Duration;

use aegis_kernel::port::SecretError;
use aegis_security::redact::Redactor;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use zeroize::Zeroizing;

use super::OpenBaoOptions;

/// Largest answer that is read, in bytes: a value of 16 KiB, escaped, and what stands around it.
const ANSWER_BYTES_MAX: usize = 512 << 10;
/// Longest part of the server's own words in an error.
const WORDS_CHARS_MAX: usize = 300;

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl Answer {
    /// The server's words, in its form `{"errors": […]}`, without `secrets`.
    pub(super) fn words(&self, secrets: &[&SecretString]) -> String {
        let errors = self.body.get("errors").and_then(Value::as_array);
        let errors = errors.into_iter().flatten().filter_map(Value::as_str);
        let text = errors.collect::<Vec<_>>().join("; ");
        let named = secrets.iter().map(|secret| ("given", secret.expose_secret()));
        // What cannot be redacted is not said.
        let text =
            Redactor::new(named).map(|redactor| redactor.redact(&text).into_owned()).unwrap_or_default();
        let printable = text.chars().map(|char| if char.is_control() { ' ' } else { char });
        format!("status {} {}", self.status.as_u16(), printable.take(WORDS_CHARS_MAX).collect::<String>())
    }
}

pub(super) struct Wire {
    client: Client,
    base: Url,
    namespace: Option<String>,
    timeout: Duration,
    pub(super) backoff: Duration,
}

impl Wire {
    pub(super) fn new(options: &OpenBaoOptions) -> Result<Self, SecretError> {
        let wrong = |reason: &str| SecretError::Store(format!("the address `{}` {reason}", options.address));
        let mut base: Url = options.address.parse().map_err(|_| wrong("is no URL"))?;
        let local = matches!(base.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        match base.scheme() {
            "https" => {}
            "http" if local => {}
            _ => return Err(wrong("would carry secrets in the clear; use `https://`")),
        }
        if !base.username().is_empty() || base.password().is_some() || base.query().is_some() {
            return Err(wrong("may hold neither credentials nor a query"));
        }
        base.set_path("/v1/");
        let client = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(options.timeout)
            .tcp_nodelay(true)
            .user_agent(concat!("aegis/", env!("CARGO_PKG_VERSION")));
        let client = if base.scheme() == "https" { client } else { client.no_proxy().tls_certs_only([]) };
        let client = client.build().map_err(|error| SecretError::Store(error.without_url().to_string()))?;
        let (timeout, backoff) = (options.timeout, options.backoff);
        Ok(Self { client, base, namespace: options.namespace.clone(), timeout, backoff })
    }

    /// Asks once.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&SecretString>,
        body: Option<&Value>,
    ) -> Result<Answer, SecretError> {
        let url = self.base.join(path).map_err(|_| SecretError::Store("a path is malformed".to_owned()))?;
        let mut request = self.client.request(method, url).header("X-Vault-Request", "true");
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if let Some(token) = token {
            let mut value = reqwest::header::HeaderValue::from_str(token.expose_secret())
                .map_err(|_| SecretError::Store("the token holds what no header may hold".to_owned()))?;
            value.set_sensitive(true);
            request = request.header("X-Vault-Token", value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        match tokio::time::timeout(self.timeout, read(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(SecretError::Unreachable(format!("nothing came within {:?}", self.timeout))),
        }
    }
}

async fn read(request: reqwest::RequestBuilder) -> Result<Answer, SecretError> {
    let broken = |error: reqwest::Error| SecretError::Unreachable(error.without_url().to_string());
    let mut response = request.send().await.map_err(broken)?;
    let status = response.status();
    let mut whole = Zeroizing::new(Vec::with_capacity(4096));
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if whole.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(SecretError::Store("its answer is larger than 512 KiB".to_owned()));
        }
        whole.extend_from_slice(&chunk);
    }
    if whole.is_empty() {
        return Ok(Answer { status, body: Value::Null });
    }
    match serde_json::from_slice(&whole) {
        Ok(body) => Ok(Answer { status, body }),
        Err(_) if !status.is_success() => Ok(Answer { status, body: Value::Null }),
        Err(_) => Err(SecretError::Store("its answer is not JSON".to_owned())),
    }
}
