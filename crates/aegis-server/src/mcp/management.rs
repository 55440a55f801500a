//! Tools that look after the node: each an HTTP route under another name, with the same rights.

use aegis_core::KeyRole;
use aegis_kernel::Caller;
use axum::Router;
use axum::body::Body;
use http::{Method, Request, header};
use rmcp::model::{CallToolResult, ContentBlock, Tool};
use serde_json::{Map, Value, json};

use crate::guard::reaches;

/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What an argument is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A part of the path.
    Place,
    /// Text, left out or given.
    Text,
    /// Text that must be given.
    Needed,
    /// A number, left out or given.
    Count,
    /// Any JSON.
    Any,
}

/// A tool that is a route.
#[derive(Debug)]
pub(super) struct Managed {
    name: &'static str,
    about: &'static str,
    method: Method,
    path: &'static str,
    arguments: &'static [(&'static str, Kind, &'static str)],
}

const AGENT: (&str, Kind, &str) = ("agent", Kind::Place, "The agent's name");
const EXECUTION: (&str, Kind, &str) = ("execution", Kind::Place, "The execution's id");

const TOOLS: [Managed; 9] = [
    Managed {
        name: "aegis.agent.list",
        about: "Lists agents",
        method: Method::GET,
        path: "/v1/agents",
        arguments: &[("limit", Kind::Count, "Most to list")],
    },
    Managed {
        name: "aegis.agent.show",
        about: "Shows an agent",
        method: Method::GET,
        path: "/v1/agents/lookup/{agent}",
        arguments: &[AGENT],
    },
    Managed {
        name: "aegis.task.execute",
        about: "Lets an agent run, and answers with the id of the execution at once",
        method: Method::POST,
        path: "/v1/executions",
        arguments: &[
            ("agent", Kind::Needed, "The agent: id, name or name@version"),
            ("input", Kind::Any, "The input"),
        ],
    },
    Managed {
        name: "aegis.task.list",
        about: "Lists executions, newest first",
        method: Method::GET,
        path: "/v1/executions",
        arguments: &[
            ("status", Kind::Text, "Only those with this status"),
            ("limit", Kind::Count, "Most to list"),
        ],
    },
    Managed {
        name: "aegis.task.status",
        about: "Shows an execution: status, iterations, answer",
        method: Method::GET,
        path: "/v1/executions/{execution}",
        arguments: &[EXECUTION],
    },
    Managed {
        name: "aegis.task.cancel",
        about: "Cancels an execution",
        method: Method::POST,
        path: "/v1/executions/{execution}/cancel",
        arguments: &[EXECUTION],
    },
    Managed {
        name: "aegis.tool.list",
        about: "Lists the tools that agents may name",
        method: Method::GET,
        path: "/v1/tools",
        arguments: &[],
    },
    Managed {
        name: "aegis.server.list",
        about: "Lists tool servers",
        method: Method::GET,
        path: "/v1/servers",
        arguments: &[],
    },
    Managed {
        name: "aegis.system.status",
        about: "Shows how the daemon does",
        method: Method::GET,
        path: "/v1/status",
        arguments: &[],
    },
];

/// Whether a key of this role may; the node's token has none, and may.
fn may(tool: &Managed, role: Option<KeyRole>) -> bool {
    role.is_none_or(|role| reaches(role, &tool.method, tool.path))
}

/// The tools for who asks.
pub(super) fn tools(role: Option<KeyRole>) -> Vec<Tool> {
    let offered = TOOLS.iter().filter(|tool| may(tool, role));
    offered.map(|tool| Tool::new(tool.name, tool.about, schema(tool))).collect()
}

/// The tool of this name, if who asks may call it.
pub(super) fn find(name: &str, role: Option<KeyRole>) -> Option<&'static Managed> {
    static ALL: [Managed; 9] = TOOLS;
    ALL.iter().find(|tool| tool.name == name && may(tool, role))
}

fn schema(tool: &Managed) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, kind, about) in tool.arguments {
        let of_type = match kind {
            Kind::Place | Kind::Needed | Kind::Text => json!({"type": "string", "description": about}),
            Kind::Count => json!({"type": "integer", "minimum": 1, "description": about}),
            Kind::Any => json!({ "description": about }),
        };
        properties.insert((*name).to_owned(), of_type);
        if matches!(kind, Kind::Place | Kind::Needed) {
            required.push(Value::from(*name));
        }
    }
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema.insert("required".to_owned(), Value::Array(required));
    schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    schema
}

/// Calls the route as `caller`.
pub(super) async fn call(
    mut inside: Router,
    tool: &Managed,
    caller: &Caller,
    arguments: Map<String, Value>,
) -> CallToolResult {
    let mut request = match request(tool, arguments) {
        Ok(request) => request,
        Err(wrong) => return CallToolResult::error(vec![ContentBlock::text(wrong)]),
    };
    request.extensions_mut().insert(caller.clone());
    let answer = match tower::Service::call(&mut inside, request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    };
    let succeeded = answer.status().is_success();
    let Ok(bytes) = axum::body::to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await else {
        return CallToolResult::error(vec![ContentBlock::text(
            "the answer is too large; ask for less at once",
        )]);
    };
    let content = vec![ContentBlock::text(String::from_utf8_lossy(&bytes).into_owned())];
    if succeeded { CallToolResult::success(content) } else { CallToolResult::error(content) }
}

fn request(tool: &Managed, mut arguments: Map<String, Value>) -> Result<Request<Body>, String> {
    let (mut path, mut query, mut body) = (tool.path.to_owned(), Vec::new(), Map::new());
    for (name, kind, _) in tool.arguments {
        let given = arguments.remove(*name).filter(|value| !value.is_null());
        match (kind, given) {
            (Kind::Place | Kind::Needed, None) => return Err(format!("`{name}` is missing")),
            (_, None) => {}
            (Kind::Place, Some(Value::String(text))) => {
                path = path.replace(&format!("{{{name}}}"), &encoded(&text));
            }
            (Kind::Count, Some(value @ Value::Number(_))) => query.push(format!("{name}={value}")),
            (Kind::Text, Some(Value::String(text))) => query.push(format!("{name}={}", encoded(&text))),
            (Kind::Needed, Some(value @ Value::String(_))) | (Kind::Any, Some(value)) => {
                body.insert((*name).to_owned(), value);
            }
            _ => return Err(format!("`{name}` is of another type")),
        }
    }
    if let Some(name) = arguments.keys().next() {
        return Err(format!("`{name}` is no argument of `{}`", tool.name));
    }
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    let builder = Request::builder().method(tool.method.clone()).uri(path);
    let built = if body.is_empty() {
        builder.body(Body::empty())
    } else {
        builder
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(Value::Object(body).to_string()))
    };
    built.map_err(|error| error.to_string())
}

/// Text as a part of a path or query.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_argument_leaves_its_place() {
        let show = find("aegis.agent.show", None).unwrap();
        let of = |agent: &str| {
            let arguments = [("agent".to_owned(), Value::from(agent))].into_iter().collect();
            request(show, arguments).map(|request| request.uri().to_string())
        };
        assert_eq!(of("a").unwrap(), "/v1/agents/lookup/a");
        assert_eq!(of("../../keys?x#y").unwrap(), "/v1/agents/lookup/..%2F..%2Fkeys%3Fx%23y");
        assert!(request(show, Map::new()).is_err());
        let foreign = json!({"agent": "a", "force": true});
        assert!(request(show, foreign.as_object().unwrap().clone()).is_err());
    }

    #[test]
    fn a_viewer_is_offered_what_only_reads_and_an_agent_nothing() {
        assert!(find("aegis.task.execute", Some(KeyRole::Viewer)).is_none());
        assert!(find("aegis.task.list", Some(KeyRole::Viewer)).is_some());
        assert!(find("aegis.task.execute", Some(KeyRole::Operator)).is_some());
        assert!(tools(Some(KeyRole::Agent)).is_empty());
        assert_eq!(tools(None).len(), TOOLS.len());
    }
}
