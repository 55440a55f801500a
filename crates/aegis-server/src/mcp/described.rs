//! A tool as it is described to callers: a server's with all that was accepted of it.

use aegis_kernel::port::ToolFacts;
use aegis_tools::mcp::PinnedTool;
use rmcp::model::Tool;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The description of a tool; `pinned` is what was accepted of it, if it is a server's.
pub(super) fn tool(facts: ToolFacts, pinned: Option<&PinnedTool>) -> Tool {
    let schema = match facts.schema.parameters {
        Value::Object(schema) => schema,
        _ => Map::new(),
    };
    let mut tool = Tool::new(facts.schema.name, facts.schema.description, schema);
    let Some(pinned) = pinned else { return tool };
    tool.title.clone_from(&pinned.title);
    tool.description = pinned.description.clone().map(Into::into);
    tool.output_schema = pinned.output_schema.clone().map(Into::into);
    tool.annotations = typed(pinned.annotations.as_ref());
    tool.icons = typed(pinned.icons.as_ref());
    tool.meta = typed(pinned.meta.as_ref());
    tool
}

/// What was read from these types when it was pinned.
fn typed<T: DeserializeOwned>(value: Option<&Value>) -> Option<T> {
    value.and_then(|value| serde_json::from_value(value.clone()).ok())
}
