//! Schemas of the documents, and what can be read from them: `aegis schema`, `aegis explain`, the reference pages.

use std::fmt::{self, Write};
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

use crate::node::McpServer;
use crate::{AgentManifest, NodeConfig};

/// The kinds that have a schema, as `aegis schema KIND` names them.
pub const KINDS: [&str; 2] = ["agent", "node-config"];

static AGENT: LazyLock<Value> = LazyLock::new(|| generated::<AgentManifest>("Agent"));
static NODE_CONFIG: LazyLock<Value> = LazyLock::new(|| generated::<NodeConfig>("NodeConfig"));
static MCP_SERVER: LazyLock<Value> = LazyLock::new(|| generated::<McpServer>("McpServer"));

/// The JSON Schema (2020-12) of a kind: `agent` or `node-config`; `mcp-server` is an entry of the second.
pub fn schema(kind: &str) -> Option<&'static Value> {
    match kind {
        "agent" => Some(&AGENT),
        "node-config" | "nodeconfig" => Some(&NODE_CONFIG),
        "mcp-server" => Some(&MCP_SERVER),
        _ => None,
    }
}

fn generated<T: JsonSchema>(title: &str) -> Value {
    let generator: SchemaGenerator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    let definitions = schema.get("$defs").cloned().unwrap_or_default();
    tidy(&mut schema, &definitions);
    if let Some(map) = schema.as_object_mut() {
        map.insert("title".to_owned(), Value::from(title));
    }
    schema
}

/// Makes the schema say what the parser does: a field that may be left out may not be null, and the forms that `type`
/// tells apart are whole mappings.
fn tidy(schema: &mut Value, definitions: &Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| tidy(item, definitions)),
        Value::Object(map) => {
            without_null(map);
            whole(map, definitions);
            map.values_mut().for_each(|value| tidy(value, definitions));
        }
        _ => {}
    }
}

fn without_null(map: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            map.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(forms)) = map.get_mut("anyOf") {
        forms.retain(|form| form.get("type").is_none_or(|kind| kind != "null"));
        if let [Value::Object(only)] = forms.as_slice() {
            let only = only.clone();
            map.remove("anyOf");
            for (name, value) in only {
                map.entry(name).or_insert(value);
            }
        }
    }
    if map.get("default").is_some_and(Value::is_null) {
        map.remove("default");
    }
}

/// A reference with fields of its own beside it becomes one mapping.
fn whole(map: &mut Map<String, Value>, definitions: &Value) {
    if !map.contains_key("properties") {
        return;
    }
    let name = map.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/"));
    let Some(Value::Object(definition)) = name.and_then(|name| definitions.get(name)).cloned() else {
        return;
    };
    map.remove("$ref");
    for (name, value) in definition {
        match (map.get_mut(&name), value) {
            (Some(Value::Object(own)), Value::Object(other)) => {
                other.into_iter().for_each(|(name, value)| {
                    own.entry(name).or_insert(value);
                });
            }
            (Some(Value::Array(own)), Value::Array(other)) => own.extend(other),
            (Some(_), _) => {}
            (None, value) => {
                map.insert(name, value);
            }
        }
    }
}

/// What a field is.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Explanation {
    /// The path as asked, `agent.spec.security.network`.
    pub path: String,
    /// Its type, in words.
    pub kind: String,
    /// The value that holds without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Whether it must be there.
    pub required: bool,
    /// What it means.
    pub description: String,
    /// The fields below it.
    pub fields: Vec<FieldSummary>,
}

/// One field of a mapping.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct FieldSummary {
    /// Its name.
    pub name: String,
    /// Its type, in words.
    pub kind: String,
    /// The value that holds without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Whether it must be there.
    pub required: bool,
    /// What it means.
    pub description: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.path, facts(&self.kind, self.default.as_ref(), self.required))?;
        if !self.description.is_empty() {
            writeln!(f, "\n{}", self.description)?;
        }
        if !self.fields.is_empty() {
            writeln!(f, "\nFields:")?;
        }
        for field in &self.fields {
            writeln!(f, "  {}: {}", field.name, facts(&field.kind, field.default.as_ref(), field.required))?;
            if !field.description.is_empty() {
                writeln!(f, "      {}", field.description.replace('\n', " "))?;
            }
        }
        Ok(())
    }
}

fn facts(kind: &str, default: Option<&Value>, required: bool) -> String {
    match (required, default) {
        (true, _) => format!("{kind}, required"),
        (false, Some(default)) => format!("{kind}, default `{}`", plain(default)),
        (false, None) => kind.to_owned(),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Explains a kind or a field of it: `agent`, `agent.spec.security.network`, `node-config.spec.llm_providers.models`.
/// Lists are gone through without an index; `[]` may be written.
pub fn explain(path: &str) -> Option<Explanation> {
    let mut parts = path.split('.');
    let kind = parts.next()?.to_lowercase();
    let root = schema(&kind)?;
    let mut place = Place { schema: root, required: true };
    for part in parts {
        let name = part.split('[').next().unwrap_or(part);
        place = fields(root, place.schema).into_iter().find(|(field, _)| field == name)?.1;
    }
    let fields =
        fields(root, place.schema).into_iter().map(|(name, place)| summary(root, name, &place)).collect();
    let FieldSummary { kind, default, required, description, .. } = summary(root, String::new(), &place);
    Some(Explanation { path: path.to_owned(), kind, default, required, description, fields })
}

struct Place<'s> {
    schema: &'s Value,
    required: bool,
}

fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/"));
    name.and_then(|name| root.get("$defs")?.get(name)).unwrap_or(schema)
}

fn forms(schema: &Value) -> impl Iterator<Item = &Value> {
    let list = |key| schema.get(key).and_then(Value::as_array).into_iter().flatten();
    list("anyOf").chain(list("oneOf"))
}

/// The fields below a schema, lists and forms gone through; each name once.
fn fields<'s>(root: &'s Value, schema: &'s Value) -> Vec<(String, Place<'s>)> {
    let schema = resolved(root, schema);
    let mut found: Vec<(String, Place<'s>)> = Vec::new();
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        found.push((name.clone(), Place { schema: field, required: required.contains(&name.as_str()) }));
    }
    let below = schema.get("items").into_iter().chain(forms(schema));
    for (name, place) in below.flat_map(|below| fields(root, below)) {
        if !found.iter().any(|(known, _)| *known == name) {
            found.push((name, place));
        }
    }
    found
}

fn summary(root: &Value, name: String, place: &Place<'_>) -> FieldSummary {
    let target = resolved(root, place.schema);
    let get = |key: &str| place.schema.get(key).or_else(|| target.get(key));
    let scalar = |value: &&Value| !value.is_object() && value.as_array().is_none_or(Vec::is_empty);
    let default = get("default").filter(scalar).or_else(|| get("x-default")).cloned();
    FieldSummary {
        name,
        kind: kind_of(root, place.schema),
        default,
        required: place.required,
        description: get("description").and_then(Value::as_str).unwrap_or_default().to_owned(),
    }
}

/// The type of a schema in words.
fn kind_of(root: &Value, schema: &Value) -> String {
    let schema = resolved(root, schema);
    if let Some(only) = schema.get("const") {
        return format!("`{}`", plain(only));
    }
    let names = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    let names: Vec<String> = names.map(plain).collect();
    if !names.is_empty() {
        return format!("one of `{}`", names.join("`, `"));
    }
    let mut kinds: Vec<String> = Vec::new();
    for form in forms(schema) {
        let tag = resolved(root, form).get("properties").and_then(|fields| fields.get("type")?.get("const"));
        let kind = tag.map_or_else(|| kind_of(root, form), |tag| format!("`type: {}`", plain(tag)));
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    if !kinds.is_empty() {
        return kinds.join(" or ");
    }
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    match schema.get("type").and_then(Value::as_str) {
        Some("array") => match schema.get("items") {
            Some(items) => format!("list of {}", kind_of(root, items)),
            None => "list".to_owned(),
        },
        Some("object") => "mapping".to_owned(),
        Some("string") => match format {
            "byte-size" => "size".to_owned(),
            "duration" | "regex" | "template" | "reference" | "name" | "command" => format.to_owned(),
            "semver" => "semantic version".to_owned(),
            "ip" => "IP address".to_owned(),
            _ => "text".to_owned(),
        },
        Some("integer") => "whole number".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some(other) => other.to_owned(),
        None => "any value".to_owned(),
    }
}

/// Deepest level of the reference page.
const REFERENCE_DEPTH_MAX: usize = 12;

/// The reference page of a kind, in Markdown.
pub fn manifest_reference(kind: &str) -> Option<String> {
    let root = schema(kind)?;
    let title = root.get("title").and_then(Value::as_str).unwrap_or(kind);
    let about = root.get("description").and_then(Value::as_str).unwrap_or_default();
    let mut page = format!(
        "# {title}\n\n{about}\n\nGenerated from the types that parse the document; `aegis explain {kind}` shows the same.\n"
    );
    section(root, root, kind, 0, &mut page);
    Some(page)
}

fn section(root: &Value, schema: &Value, path: &str, depth: usize, page: &mut String) {
    let list = fields(root, schema);
    if list.is_empty() || depth > REFERENCE_DEPTH_MAX {
        return;
    }
    // Writing to a string cannot fail.
    let _ = write!(page, "\n## `{path}`\n\n| field | type | default | meaning |\n|---|---|---|---|\n");
    for (name, place) in &list {
        let field = summary(root, name.clone(), place);
        let default = match (&field.default, field.required) {
            (_, true) => "required".to_owned(),
            (Some(default), false) => format!("`{}`", cell(&plain(default))),
            (None, false) => String::new(),
        };
        let _ =
            writeln!(page, "| `{name}` | {} | {default} | {} |", cell(&field.kind), cell(&field.description));
    }
    for (name, place) in &list {
        section(root, place.schema, &format!("{path}.{name}"), depth + 1, page);
    }
}

fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}
