//! Personal data in texts that may be JSON: looked for in its values and keys, so that the text stays JSON.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::pii::{PiiKey, PiiRules};
use crate::canonical;

/// JSON within strings of JSON is looked into so many times.
const WITHIN_MAX: usize = 4;

impl PiiRules {
    /// Like [`PiiRules::redact`], and JSON stays JSON. JSON that two programs may read differently, by a key that is there
    /// twice for instance, is taken as text.
    pub fn redact_document<'text>(&self, text: &'text str, key: &PiiKey) -> Cow<'text, str> {
        self.document(text, key, WITHIN_MAX)
    }

    fn document<'text>(&self, text: &'text str, key: &PiiKey, within: usize) -> Cow<'text, str> {
        let may_be_json = within > 0 && text.trim_start().starts_with(['{', '[', '"']);
        let Some(value) = may_be_json.then(|| canonical::parse_strict(text.as_bytes()).ok()).flatten() else {
            return self.redact(text, key);
        };
        match self.value(&value, key, within - 1) {
            Some(redacted) => Cow::Owned(redacted.to_string()),
            None => Cow::Borrowed(text),
        }
    }

    /// `None` if it holds no personal data. JSON is nested no deeper than its parser allows.
    fn value(&self, value: &Value, key: &PiiKey, within: usize) -> Option<Value> {
        match value {
            Value::String(text) => owned(self.document(text, key, within)).map(Value::String),
            Value::Number(number) => owned(self.redact(&number.to_string(), key)).map(Value::String),
            Value::Array(items) => {
                let redacted: Vec<_> = items.iter().map(|item| self.value(item, key, within)).collect();
                let changed = redacted.iter().any(Option::is_some);
                let whole = |(new, old): (Option<Value>, &Value)| new.unwrap_or_else(|| old.clone());
                changed.then(|| Value::Array(redacted.into_iter().zip(items).map(whole).collect()))
            }
            Value::Object(fields) => self.fields(fields, key, within).map(Value::Object),
            Value::Null | Value::Bool(_) => None,
        }
    }

    fn fields(&self, fields: &Map<String, Value>, key: &PiiKey, within: usize) -> Option<Map<String, Value>> {
        let mut changed = false;
        let mut redacted = Map::with_capacity(fields.len());
        for (name, value) in fields {
            let (new_name, new) = (owned(self.redact(name, key)), self.value(value, key, within));
            changed |= new_name.is_some() || new.is_some();
            redacted.insert(new_name.unwrap_or_else(|| name.clone()), new.unwrap_or_else(|| value.clone()));
        }
        changed.then_some(redacted)
    }
}

fn owned(text: Cow<'_, str>) -> Option<String> {
    match text {
        Cow::Owned(text) => Some(text),
        Cow::Borrowed(_) => None,
    }
}
