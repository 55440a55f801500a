//! What servers have beside tools, under names of the node's own: resources, prompts, completions.
//!
//! Each is a tool like any other, so that whoever reads a resource or gets a prompt passes the monitor, and is named in
//! contexts, manifests and policies. The server is always said, so that rules can speak of it.

mod facts;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use aegis_kernel::port::ToolFacts;
use rmcp::model::{
    ClientRequest, CompleteRequest, CompleteRequestParams, ErrorCode, GetPromptRequestParams,
    ListResourcesRequest, PaginatedRequestParams, ReadResourceRequestParams, ServerResult,
};
use serde_json::{Map, Value, json};

use super::connection::Wanted;
use super::error::McpError;
use super::names;
use super::pin::{Offer, PinDocument, PinnedItem};
use super::servers::CallOptions;
use super::upstream::Upstream;

/// Lists a server's resources.
pub const RESOURCE_LIST: &str = "resource.list";
/// Lists a server's resource templates.
pub const RESOURCE_TEMPLATES: &str = "resource.templates";
/// Reads a resource.
pub const RESOURCE_READ: &str = "resource.read";
/// Lists a server's prompts.
pub const PROMPT_LIST: &str = "prompt.list";
/// Gets a prompt.
pub const PROMPT_GET: &str = "prompt.get";
/// Completes an argument of a prompt or resource template.
pub const COMPLETION: &str = "completion.complete";

/// Every name, and what a server must have for it.
const OFFERED: [(&str, Offer); 6] = [
    (RESOURCE_LIST, Offer::Resources),
    (RESOURCE_TEMPLATES, Offer::Resources),
    (RESOURCE_READ, Offer::Resources),
    (PROMPT_LIST, Offer::Prompts),
    (PROMPT_GET, Offer::Prompts),
    (COMPLETION, Offer::Completions),
];

/// The protocol's method behind a name, of those that a server may ask something for before it answers.
pub(super) fn asking_method(tool: &str) -> Option<&'static str> {
    match tool {
        RESOURCE_READ => Some("resources/read"),
        PROMPT_GET => Some("prompts/get"),
        _ => None,
    }
}

/// Whether a tool is one of these, which no server's tool is ever called.
pub fn is_offered(tool: &str) -> bool {
    OFFERED.iter().any(|(name, _)| *name == tool)
}

pub(super) fn all_names() -> impl Iterator<Item = String> {
    OFFERED.iter().map(|(name, _)| (*name).to_owned())
}

/// What the servers of one tenant have, as it was accepted when the list was taken.
#[derive(Default)]
pub(super) struct Offers {
    servers: Vec<(Arc<Upstream>, PinDocument)>,
    /// The names prompts have here, by server and the server's own name.
    prompts: BTreeMap<(String, String), String>,
}

impl Offers {
    pub(super) fn new(upstreams: &[Arc<Upstream>]) -> Self {
        let of = |upstream: &Arc<Upstream>| {
            let document = upstream.with_accepted(|accepted| {
                let offering = accepted.filter(|document| !document.offers.is_empty());
                // The tools are the others' part.
                offering.map(|document| PinDocument { tools: Vec::new(), ..document.clone() })
            });
            document.map(|document| (Arc::clone(upstream), document))
        };
        let servers: Vec<_> = upstreams.iter().filter_map(of).collect();
        let listed: Vec<(&str, Vec<&str>)> = servers
            .iter()
            .map(|(upstream, document)| {
                let prompts = document.prompts.iter().map(|prompt| prompt.name.as_str());
                (upstream.settings.name.as_str(), prompts.collect())
            })
            .collect();
        let assigned = names::assign(&listed, &std::collections::BTreeSet::new());
        let prompts = assigned
            .into_iter()
            .map(|((server, prompt), name)| ((server.to_owned(), prompt.to_owned()), name));
        let prompts = prompts.collect();
        Self { servers, prompts }
    }

    /// The servers that have what a tool needs, in the order of the configuration.
    pub(super) fn servers(&self, tool: &str) -> impl Iterator<Item = (&str, &PinDocument)> {
        let needed = OFFERED.iter().find(|(name, _)| *name == tool).map(|(_, offer)| *offer);
        let having = self
            .servers
            .iter()
            .filter(move |(_, document)| needed.is_some_and(|needed| document.offers.contains(&needed)));
        having.map(|(upstream, document)| (upstream.settings.name.as_str(), document))
    }

    pub(super) fn prompt_names(&self) -> &BTreeMap<(String, String), String> {
        &self.prompts
    }

    /// The tools: those for which there is a server.
    pub(super) fn facts(&self) -> impl Iterator<Item = ToolFacts> {
        OFFERED.iter().filter_map(|(tool, _)| {
            let servers: Vec<&str> = self.servers(tool).map(|(server, _)| server).collect();
            (!servers.is_empty()).then(|| facts::of(tool, &servers))
        })
    }

    /// Performs a call that passed the monitor: the result, as the protocol writes it.
    pub(super) async fn perform(
        &self,
        tool: &str,
        arguments: &Value,
        options: &CallOptions,
    ) -> Result<Value, McpError> {
        let server = text(arguments, "server")?;
        let known = self.servers(tool).any(|(name, _)| name == server);
        let upstream = self.servers.iter().map(|(upstream, _)| upstream);
        let upstream =
            upstream.into_iter().find(|upstream| known && upstream.settings.name.as_str() == server);
        let upstream = upstream.ok_or_else(|| invalid(format!("`{server}` has nothing for `{tool}`")))?;
        if tool == PROMPT_LIST {
            return Ok(json!({"prompts": listed(&upstream.accepted_now()?.prompts)}));
        }
        if tool == RESOURCE_TEMPLATES {
            return Ok(json!({"resourceTemplates": listed(&upstream.accepted_now()?.templates)}));
        }
        let answer = match tool {
            RESOURCE_READ | PROMPT_GET => upstream.ask(wanted(tool, arguments, upstream)?, options).await?,
            _ => upstream.request(request(tool, arguments)?, options).await?,
        };
        let answered = matches!(
            (tool, &answer),
            (RESOURCE_LIST, ServerResult::ListResourcesResult(_))
                | (RESOURCE_READ, ServerResult::ReadResourceResult(_))
                | (PROMPT_GET, ServerResult::GetPromptResult(_))
                | (COMPLETION, ServerResult::CompleteResult(_))
        );
        let malformed = |reason: String| McpError::Malformed { server: server.to_owned(), reason };
        if !answered {
            return Err(malformed(format!("it answered for `{tool}` with something else")));
        }
        let max = upstream.settings.limits.response_bytes_max;
        let answer = serde_json::to_value(answer).map_err(|error| malformed(error.to_string()))?;
        // What a server asks passed the grants before; an answer that looks like a question is none of both.
        if answer.get("resultType").is_some_and(|kind| kind != "complete") {
            return Err(malformed(format!("it answered for `{tool}` with something that is no answer")));
        }
        if answer.to_string().len() > max {
            return Err(McpError::TooLarge { server: server.to_owned(), max });
        }
        Ok(answer)
    }

    /// A result for a model.
    pub(super) fn told(tool: &str, result: &Value) -> String {
        view::told(tool, result)
    }
}

/// A request that the server may ask something for first.
fn wanted(tool: &str, arguments: &Value, upstream: &Upstream) -> Result<Wanted, McpError> {
    if tool == RESOURCE_READ {
        return Ok(Wanted::Resource(ReadResourceRequestParams::new(text(arguments, "uri")?)));
    }
    let name = text(arguments, "name")?;
    // What was not accepted is not got.
    if !upstream.accepted_now()?.prompts.iter().any(|prompt| prompt.name == name) {
        return Err(invalid(format!("Unknown prompt: {name}")));
    }
    let mut params = GetPromptRequestParams::new(name);
    if let Some(Value::Object(given)) = arguments.get("arguments") {
        params = params.with_arguments(given.clone());
    }
    Ok(Wanted::Prompt(params))
}

/// Any other request.
fn request(tool: &str, arguments: &Value) -> Result<ClientRequest, McpError> {
    Ok(match tool {
        RESOURCE_LIST => {
            let cursor = arguments.get("cursor").and_then(Value::as_str).map(str::to_owned);
            let page = PaginatedRequestParams::default().with_cursor(cursor);
            ClientRequest::ListResourcesRequest(ListResourcesRequest::with_param(page))
        }
        COMPLETION => {
            let mut asked = arguments.as_object().cloned().unwrap_or_default();
            asked.remove("server");
            let params: CompleteRequestParams =
                serde_json::from_value(Value::Object(asked)).map_err(|error| invalid(error.to_string()))?;
            ClientRequest::CompleteRequest(CompleteRequest::new(params))
        }
        _ => return Err(McpError::UnknownTool(tool.to_owned())),
    })
}

fn listed(items: &[PinnedItem]) -> Vec<&Map<String, Value>> {
    items.iter().map(|item| &item.described).collect()
}

fn text<'a>(arguments: &'a Value, name: &str) -> Result<&'a str, McpError> {
    let given = arguments.get(name).and_then(Value::as_str);
    given.ok_or_else(|| invalid(format!("`{name}` is missing")))
}

fn invalid(message: String) -> McpError {
    McpError::Protocol { code: ErrorCode::INVALID_PARAMS.0, message, data: None }
}
