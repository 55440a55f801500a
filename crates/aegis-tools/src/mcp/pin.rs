//! What a server says of itself, its hash, and how two of them differ.

mod diff;

use std::collections::BTreeSet;
use std::sync::Arc;

use aegis_core::{Name, Sha256, Tenant};
use aegis_security::canonical;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::Digest as _;

pub use diff::{FieldChange, ItemChange, ItemsDiff, PinDiff, ToolChange};

/// A tool, as its server describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinnedTool {
    /// The server's name for it.
    pub name: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it does, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of its arguments.
    pub input_schema: Map<String, Value>,
    /// JSON Schema of its structured result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Map<String, Value>>,
    /// Hints: what the server says of the tool's behaviour. Shown to people, believed by nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Value>,
    /// Pictures for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icons: Option<Value>,
    /// What else the server says of it, for programs (`_meta`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Value>,
}

/// A prompt or a resource template, as its server describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinnedItem {
    /// The prompt's name, or the template's URI.
    pub name: String,
    /// All of it, as the protocol writes it.
    pub described: Map<String, Value>,
}

/// What a server has beside tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offer {
    /// It completes arguments of its prompts and resource templates.
    Completions,
    /// It has prompts.
    Prompts,
    /// It has resources.
    Resources,
    /// It tells when a resource changed.
    Subscriptions,
}

/// What a server says of itself: all that a model may come to read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PinDocument {
    /// Its instructions for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// Its tools, by name.
    pub tools: Vec<PinnedTool>,
    /// What it has beside tools.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub offers: BTreeSet<Offer>,
    /// Its prompts, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<PinnedItem>,
    /// Its resource templates, by URI. Its resources are not here: they come and go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<PinnedItem>,
}

impl PinDocument {
    /// SHA-256 over `aegis/mcp-pin/v1`, a zero byte and the canonical JSON (RFC 8785) of the document. Integers that
    /// RFC 8785 cannot tell from their neighbours are written as text, with a mark of their own.
    ///
    /// # Errors
    /// If the document has no canonical form.
    pub fn digest(&self) -> Result<Sha256, String> {
        let mut value = serde_json::to_value(self).map_err(|error| error.to_string())?;
        exact(&mut value);
        let bytes = canonical::to_bytes(&value).map_err(|error| error.to_string())?;
        let mut hash = sha2::Sha256::new();
        hash.update(b"aegis/mcp-pin/v1\0");
        hash.update(&bytes);
        Ok(Sha256::from_bytes(hash.finalize().into()))
    }
}

/// What is kept of a server.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PinRecord {
    /// What was accepted; absent if the server was never seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<PinDocument>,
    /// What it showed since; while it is here the server is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<PinDocument>,
}

type Load = dyn Fn(Tenant, Name) -> BoxFuture<'static, Result<Option<PinRecord>, String>> + Send + Sync;
type Save = dyn Fn(Tenant, Name, PinRecord) -> BoxFuture<'static, Result<(), String>> + Send + Sync;

/// Where pins are kept: by tenant and server. The store is durable; a `save` that returned survives a crash.
#[derive(Clone)]
pub struct PinStore {
    /// Reads what is kept.
    pub load: Arc<Load>,
    /// Replaces what is kept.
    pub save: Arc<Save>,
}

impl PinStore {
    /// Keeps pins in memory: for tests and `aegis server add --check`.
    pub fn in_memory() -> Self {
        type Kept = std::sync::Mutex<std::collections::BTreeMap<(String, String), PinRecord>>;
        let kept: Arc<Kept> = Arc::default();
        let key = |tenant: &Tenant, server: &Name| (tenant.to_string(), server.to_string());
        let reader = Arc::clone(&kept);
        Self {
            load: Arc::new(move |tenant, server| {
                let records = reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let record = records.get(&key(&tenant, &server)).cloned();
                Box::pin(async move { Ok(record) })
            }),
            save: Arc::new(move |tenant, server, record| {
                let mut records = kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                records.insert(key(&tenant, &server), record);
                Box::pin(async move { Ok(()) })
            }),
        }
    }
}

/// Puts text in the place of integers that have no canonical form of their own.
fn exact(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let magnitude = number.as_i64().map(i64::unsigned_abs).or_else(|| number.as_u64());
            if magnitude.is_some_and(|magnitude| magnitude > canonical::SAFE_INTEGER_MAX) {
                *value = Value::String(format!("\u{0}integer:{number}"));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(exact),
        Value::Object(members) => members.values_mut().for_each(exact),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tool(name: &str, description: &str, schema: Value) -> PinnedTool {
        PinnedTool {
            name: name.to_owned(),
            title: None,
            description: Some(description.to_owned()),
            input_schema: schema.as_object().unwrap().clone(),
            output_schema: None,
            annotations: None,
            icons: None,
            meta: None,
        }
    }

    #[test]
    fn the_digest_follows_every_word() {
        let tools = vec![tool("a", "x", json!({"type": "object"}))];
        let base = PinDocument { tools, ..PinDocument::default() };
        let same: PinDocument = serde_json::from_str(&serde_json::to_string(&base).unwrap()).unwrap();
        assert_eq!(base.digest(), same.digest());
        let mut other = base.clone();
        other.tools[0].input_schema.insert("x".to_owned(), json!(9_007_199_254_740_993_u64));
        let mut neighbour = base.clone();
        neighbour.tools[0].input_schema.insert("x".to_owned(), json!(9_007_199_254_740_992_u64));
        let mut hinted = base.clone();
        hinted.tools[0].annotations = Some(json!({"readOnlyHint": true}));
        let instructed = PinDocument { instructions: Some(String::new()), ..base.clone() };
        let mut pictured = base.clone();
        pictured.tools[0].icons = Some(json!([{"src": "data:,"}]));
        let mut noted = base.clone();
        noted.tools[0].meta = Some(json!({"a/b": 1}));
        let offering = PinDocument { offers: [Offer::Resources].into(), ..base.clone() };
        let said = json!({"name": "p", "description": "Says."});
        let prompt = PinnedItem { name: "p".to_owned(), described: said.as_object().unwrap().clone() };
        let prompting = PinDocument { prompts: vec![prompt.clone()], ..base.clone() };
        let templated = PinDocument { templates: vec![prompt], ..base.clone() };
        let all = [&base, &other, &neighbour, &hinted, &instructed, &pictured, &noted];
        let digests: BTreeSet<_> = all
            .into_iter()
            .chain([&offering, &prompting, &templated])
            .map(|it| it.digest().unwrap())
            .collect();
        assert_eq!(digests.len(), 10);
    }
}
