//! A tool as a manifest names it: a string, or a mapping.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A tool the agent may call.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolRef {
    /// Its name, like `fs.read`.
    pub name: String,
    /// The tool server it comes from; a built-in tool without it.
    pub server: Option<String>,
    /// Settings for it.
    pub config: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ToolMapping {
    /// Its name, like `fs.read`.
    name: String,
    /// The tool server it comes from; a built-in tool without it.
    server: Option<String>,
    /// Settings for it.
    config: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ToolForm {
    Name(String),
    Mapping(ToolMapping),
}

impl<'de> Deserialize<'de> for ToolRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match ToolForm::deserialize(deserializer)? {
            ToolForm::Name(name) => Self { name, server: None, config: None },
            ToolForm::Mapping(ToolMapping { name, server, config }) => Self { name, server, config },
        })
    }
}

impl Serialize for ToolRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.server.is_none() && self.config.is_none() {
            return serializer.serialize_str(&self.name);
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        if let Some(server) = &self.server {
            map.serialize_entry("server", server)?;
        }
        if let Some(config) = &self.config {
            map.serialize_entry("config", config)?;
        }
        map.end()
    }
}

impl JsonSchema for ToolRef {
    fn schema_name() -> Cow<'static, str> {
        "ToolRef".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mapping = generator.subschema_for::<ToolMapping>();
        json_schema!({
            "description": "A tool the agent may call: its name, or a mapping of `name`, `server` and `config`.",
            "anyOf": [{ "type": "string" }, mapping],
        })
    }
}
