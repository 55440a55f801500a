//! What must not appear in a prompt, a result or a record of a tenant, as it is known now.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aegis_core::{ModelAnswer, ModelFailure, ModelRequest, Tenant, ToolCall};
use aegis_security::redact::{PiiKey, PiiRules, Redactor};
use bytes::Bytes;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::port::{Model, Secrets};

/// The tenants' secrets cannot be known, so nothing can be said to be free of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("what must be redacted cannot be known: {0}")]
pub(crate) struct Unredactable(String);

/// Rules for personal data, which a changed configuration replaces.
type SharedRules = Arc<RwLock<Arc<PiiRules>>>;

/// Of all tenants that were asked for.
pub(crate) struct Redactions {
    secrets: Arc<dyn Secrets>,
    rules: SharedRules,
    linkage: Arc<PiiKey>,
    tenants: Mutex<BTreeMap<Tenant, Arc<Redaction>>>,
}

impl Redactions {
    pub(crate) fn new(secrets: Arc<dyn Secrets>, rules: PiiRules, linkage: Arc<PiiKey>) -> Self {
        Self { secrets, rules: Arc::new(RwLock::new(Arc::new(rules))), linkage, tenants: Mutex::default() }
    }

    /// What is recorded from now on is redacted by these rules.
    pub(crate) fn replace_rules(&self, rules: PiiRules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// The one of `tenant`, up to date.
    pub(crate) async fn of(&self, tenant: &Tenant) -> Result<Arc<Redaction>, Unredactable> {
        let redaction = {
            let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || {
                let source = Some((Arc::clone(&self.secrets), tenant.clone()));
                // Tokens of one tenant are never those of another.
                let key = self.linkage.derive(tenant.as_str());
                Arc::new(Redaction::new(source, Some(Personal { rules: Arc::clone(&self.rules), key })))
            };
            Arc::clone(tenants.entry(tenant.clone()).or_insert_with(new))
        };
        redaction.refresh().await?;
        Ok(redaction)
    }
}

/// Of one tenant; shared by all who write for it.
pub(crate) struct Redaction {
    source: Option<(Arc<dyn Secrets>, Tenant)>,
    personal: Option<Personal>,
    known: RwLock<Known>,
    /// One builds, the others wait for it.
    building: tokio::sync::Mutex<()>,
}

/// How personal data is left out of the evidence.
struct Personal {
    rules: SharedRules,
    key: PiiKey,
}

#[derive(Default)]
struct Known {
    revision: Option<u64>,
    redactor: Arc<Redactor>,
}

impl Redaction {
    fn new(source: Option<(Arc<dyn Secrets>, Tenant)>, personal: Option<Personal>) -> Self {
        Self { source, personal, known: RwLock::default(), building: tokio::sync::Mutex::default() }
    }

    /// For what is recorded as it is: documents, which were looked at before.
    pub(crate) fn none() -> Arc<Self> {
        Arc::new(Self::new(None, None))
    }

    /// For tests: what knows these secrets from the beginning.
    #[cfg(test)]
    pub(crate) fn knowing(redactor: Redactor) -> Arc<Self> {
        let redaction = Self::new(None, None);
        let known = Known { revision: None, redactor: Arc::new(redactor) };
        *redaction.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Arc::new(redaction)
    }

    /// What stays of a text as evidence; `None` if it holds no personal data.
    pub(crate) fn without_personal_data(&self, exact: &[u8]) -> Option<Bytes> {
        let personal = self.personal.as_ref()?;
        let rules = Arc::clone(&personal.rules.read().unwrap_or_else(PoisonError::into_inner));
        // Whatever is recorded is text.
        match rules.redact_document(std::str::from_utf8(exact).ok()?, &personal.key) {
            Cow::Owned(redacted) => Some(Bytes::from(redacted)),
            Cow::Borrowed(_) => None,
        }
    }

    /// Takes note of secrets that were set or rotated since. Nothing may be sent or recorded for the tenant if it fails.
    pub(crate) async fn refresh(&self) -> Result<(), Unredactable> {
        let Some((secrets, tenant)) = &self.source else { return Ok(()) };
        let current = || {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner).revision;
            known == Some(secrets.revision())
        };
        if current() {
            return Ok(());
        }
        let _turn = self.building.lock().await;
        if current() {
            return Ok(());
        }
        // Asked before: what changes meanwhile is built again the next time.
        let revision = secrets.revision();
        let known = secrets.known(tenant).await.map_err(|error| Unredactable(error.to_string()))?;
        let pairs = known.iter().map(|secret| (secret.name.as_str(), secret.value.expose_secret()));
        let redactor = Redactor::new(pairs).map_err(|error| Unredactable(error.to_string()))?;
        *self.known.write().unwrap_or_else(PoisonError::into_inner) =
            Known { revision: Some(revision), redactor: Arc::new(redactor) };
        Ok(())
    }

    /// A request as the model behind its alias may be given it: without secrets, and without personal data if it is not
    /// trusted with that.
    pub(crate) fn for_model(&self, model: &dyn Model, asked: ModelRequest) -> ModelRequest {
        let trusted = model.facts(&asked.alias).is_none_or(|facts| facts.personal_data);
        let mut asked = request(&self.redactor(), asked);
        if trusted {
            return asked;
        }
        for message in &mut asked.messages {
            let content = self.without_personal_data(message.content.as_bytes());
            let calls: Vec<_> = message.tool_calls.iter().map(|call| self.call_without(call)).collect();
            if content.is_none() && calls.iter().all(Option::is_none) {
                continue;
            }
            let message = Arc::make_mut(message);
            if let Some(content) = content {
                message.content = String::from_utf8_lossy(&content).into_owned();
            }
            for (call, arguments) in message.tool_calls.iter_mut().zip(calls) {
                call.arguments = arguments.unwrap_or_else(|| std::mem::take(&mut call.arguments));
            }
        }
        asked
    }

    /// Arguments without personal data; `None` if they hold none.
    fn call_without(&self, call: &ToolCall) -> Option<Value> {
        let redacted = self.without_personal_data(call.arguments.to_string().as_bytes())?;
        Some(serde_json::from_slice(&redacted).unwrap_or(Value::Null))
    }

    pub(crate) fn redactor(&self) -> Arc<Redactor> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner).redactor)
    }
}

/// A request on its way to a model, without secrets. What holds none is not copied.
pub(crate) fn request(redactor: &Redactor, mut request: ModelRequest) -> ModelRequest {
    if redactor.is_empty() {
        return request;
    }
    for message in &mut request.messages {
        let clean = matches!(redactor.redact(&message.content), Cow::Borrowed(_))
            && message.tool_calls.iter().all(|call| is_clean(redactor, call));
        if !clean {
            let message = Arc::make_mut(message);
            text(redactor, &mut message.content);
            message.tool_calls.iter_mut().for_each(|one| call(redactor, one));
        }
    }
    for tool in &mut request.tools {
        // A server that was given a secret describes its tools itself.
        text(redactor, &mut tool.name);
        text(redactor, &mut tool.description);
        if matches!(redactor.redact(&tool.parameters.to_string()), Cow::Owned(_)) {
            tool.parameters = value(redactor, std::mem::take(&mut tool.parameters));
        }
    }
    request
}

/// A model's answer: its words, its calls, and what the provider says of itself.
pub(crate) fn answer(redactor: &Redactor, answer: &mut ModelAnswer) {
    text(redactor, &mut answer.content);
    answer.tool_calls.iter_mut().for_each(|one| call(redactor, one));
    text(redactor, &mut answer.model);
    if let Some(fingerprint) = &mut answer.fingerprint {
        text(redactor, fingerprint);
    }
}

/// A model's failure, which may quote what it was sent.
pub(crate) fn failure(redactor: &Redactor, failure: &mut ModelFailure) {
    text(redactor, &mut failure.message);
}

/// A call, down to the keys of its arguments.
pub(crate) fn call(redactor: &Redactor, call: &mut ToolCall) {
    if is_clean(redactor, call) {
        return;
    }
    text(redactor, &mut call.id);
    text(redactor, &mut call.name);
    call.arguments = value(redactor, std::mem::take(&mut call.arguments));
}

/// Whether no word of a call is a secret.
pub(crate) fn is_clean(redactor: &Redactor, call: &ToolCall) -> bool {
    let clean = |text: &str| matches!(redactor.redact(text), Cow::Borrowed(_));
    redactor.is_empty() || (clean(&call.id) && clean(&call.name) && clean(&call.arguments.to_string()))
}

/// JSON is nested no deeper than its parser allows.
fn value(redactor: &Redactor, value_: Value) -> Value {
    match value_ {
        Value::String(inner) => Value::String(redactor.redact(&inner).into_owned()),
        Value::Array(items) => items.into_iter().map(|item| value(redactor, item)).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, item)| (redactor.redact(&key).into_owned(), value(redactor, item)))
            .collect(),
        // A secret of digits alone may be given as a number.
        Value::Number(number) => {
            let shown = number.to_string();
            match redactor.redact(&shown) {
                Cow::Borrowed(_) => Value::Number(number),
                Cow::Owned(redacted) => Value::String(redacted),
            }
        }
        other => other,
    }
}

pub(crate) fn text(redactor: &Redactor, text: &mut String) {
    if let Cow::Owned(redacted) = redactor.redact(text) {
        *text = redacted;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn descriptions_of_tools_are_redacted_down_to_their_schemas() {
        let redactor = Redactor::new([("word", "hunter22")]).unwrap();
        let tool = aegis_core::ToolSchema {
            name: "look".to_owned(),
            description: "connected as hunter22".to_owned(),
            parameters: json!({"type": "object", "properties": {"a": {"default": "hunter22"}}}),
        };
        let asked = ModelRequest {
            alias: "default".to_owned(),
            messages: Vec::new(),
            tools: vec![tool],
            response_format: None,
            temperature_milli: None,
            max_output_tokens: None,
            timeout_ms: 1,
            jitter_seed: 0,
        };
        let told = request(&redactor, asked).tools.remove(0);
        assert_eq!(told.description, "connected as [secret:word]");
        assert_eq!(told.parameters["properties"]["a"]["default"], "[secret:word]");
    }

    #[test]
    fn calls_are_redacted_down_to_keys_and_numbers() {
        let redactor = Redactor::new([("word", "hunter22"), ("pin", "12345678")]).unwrap();
        let mut one = ToolCall {
            id: "hunter22".to_owned(),
            name: "fs.write".to_owned(),
            arguments: json!({"hunter22": [{"a": "xhunter22"}, 12_345_678, 1.5, null]}),
        };
        call(&redactor, &mut one);
        let expected = json!({"[secret:word]": [{"a": "x[secret:word]"}, "[secret:pin]", 1.5, null]});
        assert_eq!((one.id.as_str(), one.arguments), ("[secret:word]", expected));
    }
}
