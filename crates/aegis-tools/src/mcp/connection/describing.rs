//! What a server says of itself, read whole, up to bounds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    ClientRequest, ErrorCode, ListPromptsRequest, ListResourceTemplatesRequest, ListToolsRequest,
    PaginatedRequestParams, ServerCapabilities, ServerResult, Tool,
};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::error::McpError;
use super::super::pin::{Offer, PinDocument, PinnedItem, PinnedTool};
use super::{Connection, Terms};

/// Most pages of a list that are read.
const PAGES_MAX: usize = 64;
/// Most tools, prompts or resource templates of one server.
const ITEMS_MAX: usize = 512;

/// A page of a list: its items, and where the next begins.
type Page<T> = (Vec<T>, Option<String>);

impl Connection {
    /// What the server says of itself now. Nothing is taken from the SDK's cache.
    pub(in super::super) async fn describe(&self, time: Duration) -> Result<PinDocument, McpError> {
        let info = self.service.peer_info();
        let instructions = info.as_ref().and_then(|info| info.instructions.clone());
        let capabilities = info.as_ref().map(|info| &info.capabilities);
        let offers = capabilities.map(offers).unwrap_or_default();
        let deadline = Instant::now() + time;
        let mut document = PinDocument { instructions, offers, ..PinDocument::default() };
        if capabilities.is_none_or(|capabilities| capabilities.tools.is_some()) {
            let ask = |page| ClientRequest::ListToolsRequest(ListToolsRequest::with_param(page));
            let tools = self.list(("tools", "tools/list"), deadline, ask, |answer| match answer {
                ServerResult::ListToolsResult(page) => Some((page.tools, page.next_cursor)),
                _ => None,
            });
            document.tools = tools.await?.into_iter().map(pinned).collect();
            document.tools.sort_by(|one, other| one.name.cmp(&other.name));
        }
        if document.offers.contains(&Offer::Prompts) {
            let ask = |page| ClientRequest::ListPromptsRequest(ListPromptsRequest::with_param(page));
            let prompts = self.list(("prompts", "prompts/list"), deadline, ask, |answer| match answer {
                ServerResult::ListPromptsResult(page) => {
                    Some((items(page.prompts, |prompt| &prompt.name), page.next_cursor))
                }
                _ => None,
            });
            document.prompts = sorted(none_if_unknown(prompts.await)?);
        }
        if document.offers.contains(&Offer::Resources) {
            let ask = |page| {
                ClientRequest::ListResourceTemplatesRequest(ListResourceTemplatesRequest::with_param(page))
            };
            let what = ("resource templates", "resources/templates/list");
            let templates = self.list(what, deadline, ask, |answer| match answer {
                ServerResult::ListResourceTemplatesResult(page) => Some((
                    items(page.resource_templates, |template| &template.uri_template),
                    page.next_cursor,
                )),
                _ => None,
            });
            document.templates = sorted(none_if_unknown(templates.await)?);
        }
        self.each_once("tools", document.tools.iter().map(|tool| &tool.name))?;
        self.each_once("prompts", document.prompts.iter().map(|prompt| &prompt.name))?;
        self.each_once("resource templates", document.templates.iter().map(|template| &template.name))?;
        Ok(document)
    }

    async fn list<T>(
        &self,
        (what, method): (&str, &str),
        deadline: Instant,
        ask: impl Fn(PaginatedRequestParams) -> ClientRequest,
        read: impl Fn(ServerResult) -> Option<Page<T>>,
    ) -> Result<Vec<T>, McpError> {
        let mut all: Vec<T> = Vec::new();
        let mut cursor = None;
        let never = CancellationToken::new();
        for _ in 0..PAGES_MAX {
            let page = PaginatedRequestParams::default().with_cursor(cursor);
            let time = deadline.saturating_duration_since(Instant::now());
            let answer = self.request(ask(page), Terms { time, cancel: &never, progress: None }).await?;
            let Some((more, next)) = read(answer) else {
                return Err(self.malformed(format!("it answered `{method}` with something else")));
            };
            all.extend(more);
            if all.len() > ITEMS_MAX {
                return Err(self.malformed(format!("it has more than {ITEMS_MAX} {what}")));
            }
            cursor = next;
            if cursor.is_none() {
                return Ok(all);
            }
        }
        Err(self.malformed(format!("its list of {what} has more than {PAGES_MAX} pages")))
    }

    fn each_once<'a>(&self, what: &str, names: impl Iterator<Item = &'a String>) -> Result<(), McpError> {
        let mut seen = BTreeSet::new();
        for name in names {
            if !seen.insert(name) {
                return Err(self.malformed(format!("two of its {what} have one name")));
            }
        }
        Ok(())
    }
}

fn offers(capabilities: &ServerCapabilities) -> BTreeSet<Offer> {
    let subscribes =
        capabilities.resources.as_ref().is_some_and(|resources| resources.subscribe == Some(true));
    [
        (capabilities.completions.is_some(), Offer::Completions),
        (capabilities.prompts.is_some(), Offer::Prompts),
        (capabilities.resources.is_some(), Offer::Resources),
        (subscribes, Offer::Subscriptions),
    ]
    .into_iter()
    .filter_map(|(declared, offer)| declared.then_some(offer))
    .collect()
}

/// A server may have resources and no templates: then it need not know the method.
fn none_if_unknown(listed: Result<Vec<PinnedItem>, McpError>) -> Result<Vec<PinnedItem>, McpError> {
    match listed {
        Err(McpError::Protocol { code, .. }) if code == ErrorCode::METHOD_NOT_FOUND.0 => Ok(Vec::new()),
        other => other,
    }
}

fn items<T: Serialize>(listed: Vec<T>, name: impl Fn(&T) -> &String) -> Vec<PinnedItem> {
    let item = |item: &T| match serde_json::to_value(item) {
        Ok(Value::Object(described)) => Some(PinnedItem { name: name(item).clone(), described }),
        _ => None,
    };
    listed.iter().filter_map(item).collect()
}

fn sorted(mut items: Vec<PinnedItem>) -> Vec<PinnedItem> {
    items.sort_by(|one, other| one.name.cmp(&other.name));
    items
}

fn pinned(tool: Tool) -> PinnedTool {
    PinnedTool {
        name: tool.name.into_owned(),
        title: tool.title,
        description: tool.description.map(std::borrow::Cow::into_owned),
        input_schema: Arc::unwrap_or_clone(tool.input_schema),
        output_schema: tool.output_schema.map(Arc::unwrap_or_clone),
        annotations: tool.annotations.and_then(|annotations| serde_json::to_value(annotations).ok()),
        icons: tool.icons.and_then(|icons| serde_json::to_value(icons).ok()),
        meta: tool.meta.and_then(|meta| serde_json::to_value(meta).ok()),
    }
}
