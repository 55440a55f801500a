//! Servers' tools as AEGIS tools.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aegis_core::limits::TOOL_RESULT_BYTES_MAX;
use aegis_core::{Denial, DenialCode, ToolCall, ToolResult, ToolSchema};
use aegis_kernel::port::{ServerTools, ToolContext, ToolError, ToolFacts, ToolHost};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::error::McpError;
use super::handler::Progress;
use super::offers::{Offers, asking_method, is_offered};
use super::pin::{PinDocument, PinnedTool};
use super::result::McpResult;
use super::servers::CallOptions;
use super::upstream::Upstream;
use super::{governed, names};

/// The tools of one tenant's servers, as they were accepted when the list was taken.
pub struct McpTools {
    facts: Vec<ToolFacts>,
    places: BTreeMap<String, (Arc<Upstream>, PinnedTool)>,
    offers: Offers,
}

impl McpTools {
    pub(super) fn new(upstreams: &[Arc<Upstream>], reserved: &BTreeSet<String>) -> Self {
        let accepted: Vec<(&Arc<Upstream>, Vec<PinnedTool>)> = upstreams
            .iter()
            .map(|upstream| {
                let tools = upstream.with_accepted(|accepted| {
                    let tools = accepted.into_iter().flat_map(|document| &document.tools);
                    tools.filter(|tool| names::is_callable(&tool.name)).cloned().collect()
                });
                (upstream, tools)
            })
            .collect();
        let servers: Vec<(&str, Vec<&str>)> = accepted
            .iter()
            .map(|(upstream, tools)| {
                (upstream.settings.name.as_str(), tools.iter().map(|tool| tool.name.as_str()).collect())
            })
            .collect();
        let names = names::assign(&servers, reserved);
        let offers = Offers::new(upstreams);
        let mut all = Self { facts: offers.facts().collect(), places: BTreeMap::new(), offers };
        for (upstream, tools) in &accepted {
            for tool in tools {
                if let Some(name) = names.get(&(upstream.settings.name.as_str(), tool.name.as_str())) {
                    all.facts.push(facts(upstream, tool, name));
                    all.places.insert(name.clone(), (Arc::clone(upstream), tool.clone()));
                }
            }
        }
        all.facts.sort_by(|one, other| one.schema.name.cmp(&other.schema.name));
        all
    }

    fn is_idempotent(&self, name: &str) -> bool {
        self.facts.iter().any(|facts| facts.schema.name == name && facts.idempotent)
    }

    /// Performs a call that passed the monitor, for who needs the whole answer: progress, structure, attachments.
    ///
    /// # Errors
    /// If there is no result.
    pub async fn perform(&self, call: &ToolCall, options: &CallOptions) -> Result<McpResult, McpError> {
        let (upstream, tool) =
            self.places.get(&call.name).ok_or_else(|| McpError::UnknownTool(call.name.clone()))?;
        let arguments = match &call.arguments {
            Value::Object(arguments) => Some(arguments.clone()),
            Value::Null => None,
            _ => {
                return Err(McpError::Protocol {
                    code: rmcp::model::ErrorCode::INVALID_PARAMS.0,
                    message: "the arguments are not a JSON object".to_owned(),
                    data: None,
                });
            }
        };
        upstream.call(&tool.name, arguments, options).await
    }

    /// The result as the protocol writes it, and whether it says that it failed.
    async fn answer(&self, call: &ToolCall, options: &CallOptions) -> Result<(Value, bool), McpError> {
        if is_offered(&call.name) {
            return Ok((self.offers.perform(&call.name, &call.arguments, options).await?, false));
        }
        let result = self.perform(call, options).await?;
        let malformed = |error: serde_json::Error| McpError::Malformed {
            server: self.place(&call.name).map_or_else(String::new, |(server, _)| server.to_owned()),
            reason: error.to_string(),
        };
        Ok((result.to_json().map_err(malformed)?, result.is_error()))
    }

    /// A tool as it was accepted, by its name here.
    pub fn pinned(&self, name: &str) -> Option<&PinnedTool> {
        self.places.get(name).map(|(_, tool)| tool)
    }

    /// The servers that have what one of the node's names for resources, prompts and completions needs, with what was
    /// accepted of them beside tools.
    pub fn offering(&self, tool: &str) -> impl Iterator<Item = (&str, &PinDocument)> {
        self.offers.servers(tool)
    }

    /// The names of prompts here, by server and the server's own name: its own where no other server has it, else
    /// `server.prompt`.
    pub fn prompt_names(&self) -> &BTreeMap<(String, String), String> {
        self.offers.prompt_names()
    }
}

/// The whole answer, for who passes it on: the result as the protocol writes it, and whether it says that it failed.
fn whole(answer: Result<(Value, bool), McpError>, idempotent: bool) -> Result<ToolResult, ToolError> {
    let (whole, is_error) = match answer {
        Ok((result, is_error)) => (json!({ "result": result }), is_error),
        Err(McpError::Protocol { code, message, data }) => {
            (json!({"error": {"code": code, "message": message, "data": data}}), true)
        }
        Err(McpError::Asks(asked)) => (json!({ "result": asked }), false),
        Err(error) => return error.into_outcome(idempotent),
    };
    let content = whole.to_string();
    if content.len() > TOOL_RESULT_BYTES_MAX {
        return Err(ToolError::Denied(Denial {
            code: DenialCode::OutputSizeExceeded,
            rule: "node:result".to_owned(),
            message: format!(
                "the answer has {} bytes, at most {TOOL_RESULT_BYTES_MAX} are passed on.",
                content.len()
            ),
            remedy: "ask for less at once".to_owned(),
        }));
    }
    Ok(if is_error { ToolResult::error(content) } else { ToolResult::ok(content) })
}

fn facts(upstream: &Upstream, tool: &PinnedTool, name: &str) -> ToolFacts {
    let settings = &upstream.settings;
    let described = tool.description.as_deref().or(tool.title.as_deref()).unwrap_or(&tool.name);
    let mut schema = tool.input_schema.clone();
    schema.entry("type").or_insert_with(|| "object".into());
    ToolFacts {
        governed: governed::of_tool(settings.governed.get(&tool.name), &schema),
        schema: ToolSchema {
            name: name.to_owned(),
            description: described.to_owned(),
            parameters: Value::Object(schema),
        },
        foreign: true,
        idempotent: settings.idempotent.contains(&tool.name),
    }
}

impl ServerTools for McpTools {
    fn named(&self, server: &str, tool: &str) -> Option<&str> {
        let mut places = self.places.iter();
        places
            .find(|(_, (upstream, own))| upstream.settings.name.as_str() == server && own.name == tool)
            .map(|(name, _)| name.as_str())
    }
    fn place(&self, name: &str) -> Option<(&str, &str)> {
        self.places.get(name).map(|(upstream, tool)| (upstream.settings.name.as_str(), tool.name.as_str()))
    }
    fn asker(&self, call: &ToolCall) -> Option<(&str, &'static str)> {
        if let Some((server, _)) = self.place(&call.name) {
            return Some((server, "tools/call"));
        }
        let method = asking_method(&call.name)?;
        let named = call.arguments.get("server").and_then(Value::as_str)?;
        let mut servers = self.offers.servers(&call.name);
        servers.find(|(server, _)| *server == named).map(|(server, _)| (server, method))
    }
}

#[async_trait]
impl ToolHost for McpTools {
    fn tools(&self) -> &[ToolFacts] {
        &self.facts
    }

    async fn call(
        &self,
        context: &ToolContext,
        call: &ToolCall,
        cancel: &CancellationToken,
    ) -> Result<ToolResult, ToolError> {
        if !matches!(call.arguments, Value::Object(_) | Value::Null) {
            return Err(ToolError::Arguments("the arguments are not a JSON object".to_owned()));
        }
        let mut options = CallOptions { cancel: cancel.clone(), ..CallOptions::default() };
        if let Some(listener) = context.listener.clone() {
            options.listener = Some(Arc::clone(&listener));
            options.progress = Some(Arc::new(move |progress: Progress| {
                listener.progressed(progress.done, progress.total, progress.message);
            }));
            return whole(self.answer(call, &options).await, self.is_idempotent(&call.name));
        }
        if is_offered(&call.name) {
            return match self.offers.perform(&call.name, &call.arguments, &options).await {
                Ok(result) => Ok(ToolResult::ok(Offers::told(&call.name, &result))),
                Err(error) => error.into_outcome(self.is_idempotent(&call.name)),
            };
        }
        match self.perform(call, &options).await {
            Ok(result) => Ok(result.tool_result()),
            Err(error) => error.into_outcome(self.is_idempotent(&call.name)),
        }
    }
}
