//! The envelope around one MCP request: what is signed, and by whom.

use aegis_core::limits::REQUEST_BYTES_MAX;
use aegis_core::{Sha256, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::error::{SmcpCode, SmcpError};
use super::strict_json;
use crate::canonical;
use crate::commitment::sha256;
use crate::signature::{self, PUBLIC_KEY_BYTES, SIGNATURE_BYTES, SigningKey};

/// Largest envelope, in bytes of JSON.
pub const ENVELOPE_BYTES_MAX: usize = REQUEST_BYTES_MAX;
/// How long a nonce is kept, in seconds. An envelope is accepted for at most 60 s, from 30 s before to 30 s after its
/// time, so that a kept nonce outlives every moment in which its envelope could pass again.
pub const NONCE_KEPT_SECONDS: u64 = 120;

const TOKEN_BYTES_MAX: usize = 4096;
const REQUEST_ID_BYTES_MAX: usize = 256;
const METHOD_BYTES_MAX: usize = 128;
const TIMESTAMP_BYTES_MAX: usize = 40;
/// Key below `params._meta` under which the daemon says that it signed itself.
const SIGNER_KEY: &str = "aegis/signer";
const SIGNER_KERNEL: &str = "kernel";
/// Key below `params._meta` that names the model's call.
const MODEL_CALL_KEY: &str = "aegis/model_call";

/// The protocol's name; the second is a later name of the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// `smcp/v1`
    #[default]
    Smcp,
    /// `seal/v1`
    Seal,
}

impl Protocol {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Smcp => "smcp/v1",
            Self::Seal => "seal/v1",
        }
    }
    fn parse(name: &str) -> Option<Self> {
        [Self::Smcp, Self::Seal].into_iter().find(|protocol| protocol.name() == name)
    }
}

/// The id of a JSON-RPC request, unique in its session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestId {
    /// A string.
    Text(String),
    /// An integer within ±(2^53 − 1).
    Number(i64),
}

impl RequestId {
    /// As JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Number(number) => (*number).into(),
        }
    }
    /// The key under which a session remembers it: its JSON text, so that `1` and `"1"` are two.
    pub fn key(&self) -> String {
        self.to_json().to_string()
    }
    fn parse(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => (text.len() <= REQUEST_ID_BYTES_MAX).then(|| Self::Text(text.clone())),
            Value::Number(number) => number.as_i64().map(Self::Number),
            _ => None,
        }
    }
}

/// Who signs the envelopes of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// The daemon, for a call that a model made in the inner loop.
    Kernel,
    /// Whoever attested: a program in the sandbox, or an agent outside.
    Client,
}

/// An envelope of the protocol's shape. What it says is not to be believed before it went through [`super::checks`].
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    pub(super) protocol: Protocol,
    pub(super) security_token: String,
    pub(super) signature: [u8; SIGNATURE_BYTES],
    pub(super) payload: Value,
    pub(super) timestamp: String,
    /// Unix seconds of `timestamp`, without its fraction: what is signed.
    pub(super) seconds: i64,
    pub(super) request_id: RequestId,
}

impl Envelope {
    /// Signs `payload`, a JSON-RPC request, with a session's key.
    ///
    /// # Errors
    ///
    /// Fails with [`SmcpCode::InvalidEnvelope`] if the payload is not a request or is one that [`strict_json`] does not
    /// take: it holds a number beyond ±(2^53 − 1), or is nested too deeply.
    pub fn sign(
        protocol: Protocol,
        security_token: &str,
        payload: Value,
        now: Timestamp,
        key: &SigningKey,
    ) -> Result<Self, SmcpError> {
        let request_id = request(&payload)?;
        let canonical = canonical::to_bytes(&payload).map_err(unsignable)?;
        // What is signed is what its reader gets; what no reader would take is not signed.
        let payload = strict_json::parse(&canonical, ENVELOPE_BYTES_MAX).map_err(unsignable)?;
        let seconds = now.micros().div_euclid(1_000_000);
        let signature = key.sign(&frame(canonical, security_token, seconds)?);
        let timestamp = Timestamp::from_micros(seconds.saturating_mul(1_000_000)).seconds();
        let security_token = security_token.to_owned();
        Ok(Self { protocol, security_token, signature, payload, timestamp, seconds, request_id })
    }

    /// Reads an envelope's JSON: the shape, then the protocol's name.
    pub(super) fn parse(text: &[u8]) -> Result<Self, SmcpError> {
        let value = strict_json::parse(text, ENVELOPE_BYTES_MAX)
            .map_err(|error| SmcpError::shape(format!("the envelope cannot be read: {error}")))?;
        let id = value.pointer("/payload/id").and_then(RequestId::parse);
        let named = value.get("protocol").and_then(Value::as_str).and_then(Protocol::parse);
        Self::of(value).map_err(|error| SmcpError {
            request_id: id,
            protocol: named.unwrap_or_default(),
            ..error
        })
    }

    fn of(value: Value) -> Result<Self, SmcpError> {
        let Value::Object(mut members) = value else {
            return Err(SmcpError::shape("the envelope is not a JSON object"));
        };
        let protocol = text(&mut members, "protocol", TIMESTAMP_BYTES_MAX)?;
        let security_token = text(&mut members, "security_token", TOKEN_BYTES_MAX)?;
        let signature = text(&mut members, "signature", SIGNATURE_BYTES * 2)?;
        let timestamp = text(&mut members, "timestamp", TIMESTAMP_BYTES_MAX)?;
        let payload =
            members.remove("payload").ok_or_else(|| SmcpError::shape("the envelope has no `payload`"))?;
        if let Some(unknown) = members.keys().next() {
            let unknown: String = unknown.chars().take(METHOD_BYTES_MAX).collect();
            return Err(SmcpError::shape(format!(
                "the envelope has a member `{unknown}`, which nothing would sign; put it into `payload.params`"
            )));
        }
        let signature = STANDARD.decode(signature).ok().and_then(|bytes| bytes.try_into().ok());
        let signature = signature.ok_or_else(|| SmcpError::shape("`signature` is not base64 of 64 bytes"))?;
        let seconds = unix_seconds(&timestamp).ok_or_else(|| {
            SmcpError::shape("`timestamp` is not ISO 8601 in UTC, such as `2026-11-21T14:00:00Z`")
        })?;
        let request_id = request(&payload)?;
        let protocol = Protocol::parse(&protocol)
            .ok_or_else(|| SmcpError::shape("`protocol` is neither `smcp/v1` nor `seal/v1`"))?;
        Ok(Self { protocol, security_token, signature, payload, timestamp, seconds, request_id })
    }

    /// The bytes that are signed: RFC 8785 of `{"payload", "security_token", "timestamp"}`, the time in Unix seconds.
    ///
    /// # Errors
    ///
    /// Fails with [`SmcpCode::InvalidEnvelope`] if the payload holds an integer beyond ±(2^53 − 1).
    pub fn signed_bytes(&self) -> Result<Vec<u8>, SmcpError> {
        frame(canonical::to_bytes(&self.payload).map_err(unsignable)?, &self.security_token, self.seconds)
    }

    /// Checks the signature. Answers with the nonce: SHA-256 of the signed bytes.
    pub(super) fn verify(&self, public_key: &[u8; PUBLIC_KEY_BYTES]) -> Result<Sha256, SmcpError> {
        let bytes = self.signed_bytes()?;
        signature::verify(public_key, &bytes, &self.signature).map_err(|_| {
            SmcpError::new(SmcpCode::InvalidSignature, "the envelope was not signed by the session's key")
        })?;
        Ok(sha256(&bytes))
    }

    /// Checks a recorded envelope against the key of its session. Answers with the nonce.
    ///
    /// # Errors
    ///
    /// [`SmcpCode::InvalidEnvelope`] or [`SmcpCode::InvalidSignature`].
    pub fn check_recorded(text: &[u8], public_key: &[u8; PUBLIC_KEY_BYTES]) -> Result<Sha256, SmcpError> {
        Self::parse(text)?.verify(public_key)
    }

    /// Which name of the protocol the envelope has, and its answer will have.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }
    /// The token as it came.
    pub fn security_token(&self) -> &str {
        &self.security_token
    }
    /// The request: `{"jsonrpc": "2.0", "id", "method", "params"?}`.
    pub fn payload(&self) -> &Value {
        &self.payload
    }
    /// The request's id.
    pub fn request_id(&self) -> &RequestId {
        &self.request_id
    }
    /// The request's method, such as `tools/call`.
    pub fn method(&self) -> &str {
        self.payload.get("method").and_then(Value::as_str).unwrap_or_default()
    }
    /// The request's parameters; `null` if it has none.
    pub fn params(&self) -> &Value {
        self.payload.get("params").unwrap_or(&Value::Null)
    }
    /// When it says it was made: the whole seconds, which are signed.
    pub fn timestamp(&self) -> Timestamp {
        Timestamp::from_micros(self.seconds.saturating_mul(1_000_000))
    }
    /// Who it says signed it. True only after [`super::checks::verify`], which compares it with the session.
    pub fn signer(&self) -> Signer {
        match self.meta(SIGNER_KEY).and_then(Value::as_str) {
            Some(SIGNER_KERNEL) => Signer::Kernel,
            _ => Signer::Client,
        }
    }
    /// The id of the model's call, in envelopes of [`Signer::Kernel`].
    pub fn model_call(&self) -> Option<&str> {
        self.meta(MODEL_CALL_KEY).and_then(Value::as_str)
    }
    fn meta(&self, key: &str) -> Option<&Value> {
        self.payload.get("params")?.get("_meta")?.get(key)
    }
    /// The envelope as JSON, as it goes over the wire and into the record.
    pub fn to_json(&self) -> Value {
        json!({
            "protocol": self.protocol.name(),
            "security_token": self.security_token,
            "signature": STANDARD.encode(self.signature),
            "payload": self.payload,
            "timestamp": self.timestamp,
        })
    }

    /// An error as the answer to this envelope.
    pub(super) fn refuse(&self, error: SmcpError) -> SmcpError {
        error.answering(self.protocol, &self.request_id)
    }
}

/// The answer to an admitted request: `{protocol, status: "success", payload: <JSON-RPC response>}`.
pub fn success(protocol: Protocol, request_id: &RequestId, result: Value) -> Value {
    json!({
        "protocol": protocol.name(),
        "status": "success",
        "payload": { "jsonrpc": "2.0", "id": request_id.to_json(), "result": result },
    })
}

/// What `_meta` of the daemon's own calls says.
pub(super) fn kernel_meta(model_call: &str) -> Value {
    json!({ SIGNER_KEY: SIGNER_KERNEL, MODEL_CALL_KEY: model_call })
}

fn unsignable(error: impl std::fmt::Display) -> SmcpError {
    SmcpError::shape(format!("the payload cannot be signed: {error}"))
}

/// The signed bytes around a canonical payload.
fn frame(payload: Vec<u8>, security_token: &str, seconds: i64) -> Result<Vec<u8>, SmcpError> {
    // The names are in the order that RFC 8785 puts them.
    let mut bytes = b"{\"payload\":".to_vec();
    bytes.extend(payload);
    bytes.extend_from_slice(b",\"security_token\":");
    bytes.extend(canonical::to_bytes(&Value::from(security_token)).map_err(unsignable)?);
    bytes.extend_from_slice(format!(",\"timestamp\":{seconds}}}").as_bytes());
    Ok(bytes)
}

fn text(members: &mut Map<String, Value>, name: &str, bytes_max: usize) -> Result<String, SmcpError> {
    match members.remove(name) {
        Some(Value::String(text)) if text.len() <= bytes_max => Ok(text),
        Some(Value::String(_)) => Err(SmcpError::shape(format!("`{name}` is longer than {bytes_max} bytes"))),
        Some(_) => Err(SmcpError::shape(format!("`{name}` is not a string"))),
        None => Err(SmcpError::shape(format!("the envelope has no `{name}`"))),
    }
}

/// The id of a payload that is a JSON-RPC 2.0 request. Notifications have none and are not taken: nothing would answer
/// them, and nothing tell one from its repetition.
fn request(payload: &Value) -> Result<RequestId, SmcpError> {
    let wrong = |what: &str| SmcpError::shape(format!("`payload` is not a JSON-RPC request: {what}"));
    let members = payload.as_object().ok_or_else(|| wrong("it is not an object"))?;
    if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(wrong("`jsonrpc` is not \"2.0\""));
    }
    match members.get("method").and_then(Value::as_str) {
        Some(method) if (1..=METHOD_BYTES_MAX).contains(&method.len()) => {}
        _ => return Err(wrong("`method` is not a string of 1 to 128 bytes")),
    }
    if !members.get("params").is_none_or(Value::is_object) {
        return Err(wrong("`params` is not an object"));
    }
    if let Some(unknown) =
        members.keys().find(|key| !matches!(key.as_str(), "jsonrpc" | "id" | "method" | "params"))
    {
        let unknown: String = unknown.chars().take(METHOD_BYTES_MAX).collect();
        return Err(wrong(&format!("it has a member `{unknown}`")));
    }
    let id = members.get("id").and_then(RequestId::parse);
    id.ok_or_else(|| wrong("`id` is neither a string of at most 256 bytes nor an integer"))
}

/// `YYYY-MM-DDTHH:MM:SS`, a fraction of up to nine digits or none, `Z` or `+00:00`: the whole seconds since the epoch.
fn unix_seconds(text: &str) -> Option<i64> {
    let clock = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"))?;
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let all_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if !(1..=9).contains(&fraction.len()) || !all_digits(fraction) {
        return None;
    }
    let form = b"0000-00-00T00:00:00";
    let fits = whole.len() == form.len()
        && whole
            .bytes()
            .zip(form)
            .all(|(byte, form)| if *form == b'0' { byte.is_ascii_digit() } else { byte == *form });
    // A leap second would be counted as the second before it.
    if !fits || whole.ends_with("60") {
        return None;
    }
    Timestamp::parse(&format!("{whole}Z")).map(|time| time.micros().div_euclid(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_in_utc_only_and_in_whole_seconds() {
        for (text, seconds) in [
            ("2026-11-21T14:00:00Z", Some(1_795_269_600)),
            ("2026-11-21T14:00:00.999999Z", Some(1_795_269_600)),
            ("2026-11-21T14:00:00.5+00:00", Some(1_795_269_600)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1969-12-31T23:59:59.5Z", Some(-1)),
            ("2026-11-21T14:00:00", None),
            ("2026-11-21T14:00:00-00:00", None),
            ("2026-11-21T15:00:00+01:00", None),
            ("2026-11-21 14:00:00Z", None),
            ("2026-11-21t14:00:00Z", None),
            ("2026-11-21T14:00Z", None),
            ("2026-11-21T14:00:60Z", None),
            ("2026-11-31T14:00:00Z", None),
            ("2026-11-21T14:00:00.Z", None),
            ("2026-11-21T14:00:00.0000000001Z", None),
            ("2026-11-21T14:00:00Z[UTC]", None),
            ("1795269600", None),
            ("", None),
        ] {
            assert_eq!(unix_seconds(text), seconds, "{text}");
        }
    }

    #[test]
    fn ids_of_two_types_are_two_ids() {
        assert_ne!(RequestId::Text("1".to_owned()).key(), RequestId::Number(1).key());
        assert_eq!(RequestId::parse(&json!(1.5)), None);
        assert_eq!(RequestId::parse(&Value::Null), None);
        assert_eq!(RequestId::parse(&json!("x".repeat(257))), None);
    }

    #[test]
    fn the_signed_bytes_are_the_canonical_form_of_the_three() {
        let key = SigningKey::from_seed(&[1; 32]);
        let payload = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"b": "\u{e9}\u{7}", "a": 0.5}});
        let now = Timestamp::from_micros(1_795_269_600_900_000);
        let envelope = Envelope::sign(Protocol::Smcp, "to\"ken", payload.clone(), now, &key).unwrap();
        let whole = json!({"timestamp": 1_795_269_600, "security_token": "to\"ken", "payload": payload});
        assert_eq!(envelope.signed_bytes().unwrap(), canonical::to_bytes(&whole).unwrap());
        assert_eq!(envelope.to_json()["timestamp"], "2026-11-21T14:00:00Z");
        assert!(envelope.verify(&key.public_key()).is_ok());
    }

    #[test]
    fn what_is_signed_is_what_its_reader_gets() {
        let key = SigningKey::from_seed(&[1; 32]);
        let payload =
            json!({"jsonrpc": "2.0", "id": 1, "method": "x", "params": {"whole": 2.0, "zero": -0.0}});
        let envelope = Envelope::sign(Protocol::Smcp, "t", payload, Timestamp::from_micros(0), &key).unwrap();
        assert_eq!(envelope.params(), &json!({"whole": 2, "zero": 0}));
        assert_eq!(Envelope::parse(envelope.to_json().to_string().as_bytes()), Ok(envelope));
    }

    #[test]
    fn what_is_not_a_request_is_not_signed() {
        let key = SigningKey::from_seed(&[1; 32]);
        for payload in [
            json!(null),
            json!([]),
            json!({"jsonrpc": "2.0", "method": "x"}),
            json!({"jsonrpc": "2.0", "method": "x", "id": null}),
            json!({"jsonrpc": "1.0", "method": "x", "id": 1}),
            json!({"jsonrpc": "2.0", "method": "", "id": 1}),
            json!({"jsonrpc": "2.0", "method": "x", "id": 1, "params": []}),
            json!({"jsonrpc": "2.0", "method": "x", "id": 1, "result": {}}),
            json!({"jsonrpc": "2.0", "method": "x", "id": 1, "params": {"n": u64::MAX}}),
            json!({"jsonrpc": "2.0", "method": "x", "id": 1, "params": {"n": 1e300}}),
        ] {
            let signed =
                Envelope::sign(Protocol::Smcp, "t", payload.clone(), Timestamp::from_micros(0), &key);
            assert_eq!(signed.unwrap_err().code, SmcpCode::InvalidEnvelope, "{payload}");
        }
    }
}
