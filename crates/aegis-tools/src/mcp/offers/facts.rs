//! What each of these tools is.

use aegis_core::ToolSchema;
use aegis_kernel::port::{Governed, GovernedKind, ToolFacts};
use serde_json::{Map, Value, json};

use super::{COMPLETION, PROMPT_GET, PROMPT_LIST, RESOURCE_LIST, RESOURCE_READ, RESOURCE_TEMPLATES};

/// The facts of a tool that these servers are there for.
pub(super) fn of(tool: &str, servers: &[&str]) -> ToolFacts {
    let (description, takes, required) = described(tool);
    let mut properties = Map::new();
    properties.insert(
        "server".to_owned(),
        json!({"type": "string", "enum": servers, "description": "The tool server"}),
    );
    if let Value::Object(takes) = takes {
        properties.extend(takes);
    }
    let required: Vec<&str> = ["server"].iter().chain(required).copied().collect();
    let governed =
        (tool == RESOURCE_READ).then(|| Governed { argument: "uri".into(), kind: GovernedKind::Uri });
    ToolFacts {
        schema: ToolSchema {
            name: tool.to_owned(),
            description: description.to_owned(),
            parameters: json!({
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": false,
            }),
        },
        // Lists of what was accepted ask no server.
        idempotent: matches!(tool, PROMPT_LIST | RESOURCE_TEMPLATES),
        governed: governed.into_iter().collect(),
        foreign: true,
    }
}

/// What it does, what it takes beside the server, and what of that must be given.
fn described(tool: &str) -> (&'static str, Value, &'static [&'static str]) {
    match tool {
        RESOURCE_LIST => (
            "Lists the resources of a tool server, page by page",
            json!({"cursor": {"type": "string", "description": "Where the page begins, as the former page said"}}),
            &[],
        ),
        RESOURCE_TEMPLATES => {
            ("Lists the templates of addresses of a tool server's resources", json!({}), &[])
        }
        RESOURCE_READ => (
            "Reads a resource of a tool server",
            json!({"uri": {"type": "string", "description": "The resource's address"}}),
            &["uri"],
        ),
        PROMPT_LIST => ("Lists the prompts of a tool server", json!({}), &[]),
        PROMPT_GET => (
            "Gets a prompt of a tool server, with its arguments filled in",
            json!({
                "name": {"type": "string", "description": "The prompt's name"},
                "arguments": {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                    "description": "The prompt's arguments",
                },
            }),
            &["name"],
        ),
        COMPLETION => (
            "Completes an argument of a prompt or resource template of a tool server",
            json!({
                "ref": {
                    "type": "object",
                    "description": "{\"type\": \"ref/prompt\", \"name\": …} or {\"type\": \"ref/resource\", \"uri\": …}",
                },
                "argument": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "value": {"type": "string"}},
                    "required": ["name", "value"],
                    "description": "The argument, and what stands there so far",
                },
                "context": {"type": "object", "description": "{\"arguments\": …}: those that are filled in already"},
            }),
            &["ref", "argument"],
        ),
        _ => ("", json!({}), &[]),
    }
}
