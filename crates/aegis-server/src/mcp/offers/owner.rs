//! Whose a resource or a prompt is, where an agent has several servers.

use aegis_tools::mcp::{RESOURCE_LIST, RESOURCE_TEMPLATES};
use rmcp::model::{ErrorData, ListResourcesResult};
use serde_json::json;

use super::super::McpServer;
use super::{Asking, Missed};

/// Where a request says whose server it means.
pub(super) const SERVER: &str = "ai.100monkeys/server";
/// Most pages of one server's list that are read to find a resource.
const PAGES_MAX: usize = 16;

impl Asking<'_> {
    /// The server that the request names, or the only one there is.
    pub(super) fn named(&self, servers: &[String]) -> Result<Option<String>, ErrorData> {
        if let Some(named) = self.context.meta.get(SERVER).and_then(serde_json::Value::as_str) {
            let found = servers.iter().find(|server| *server == named);
            let unknown = || ErrorData::invalid_params(format!("`{named}` is no server for this"), None);
            return found.cloned().map(Some).ok_or_else(unknown);
        }
        match servers {
            [sole] => Ok(Some(sole.clone())),
            _ => Ok(None),
        }
    }

    /// The server of a prompt, and the server's own name for it.
    pub(super) fn prompt(&self, servers: &[String], name: &str) -> Result<(String, String), ErrorData> {
        if let Some(server) = self.named(servers)? {
            return Ok((server, name.to_owned()));
        }
        let mut places = self.tools.prompt_names().iter();
        let place = places.find(|((server, _), here)| *here == name && servers.contains(server));
        let unknown = || ErrorData::invalid_params(format!("Unknown prompt: {name}"), None);
        place.map(|(place, _)| place.clone()).ok_or_else(unknown)
    }

    /// Whether one of a server's templates makes such a URI, as far as what stands before its first variable tells.
    fn makes(&self, server: &str, uri: &str) -> bool {
        let mut offering = self.tools.offering(RESOURCE_TEMPLATES);
        let document = offering.find(|(name, _)| *name == server).map(|(_, document)| document);
        document.into_iter().flat_map(|document| &document.templates).any(|template| {
            template.name == uri
                || template.name.split_once('{').is_some_and(|(before, _)| uri.starts_with(before))
        })
    }
}

impl McpServer {
    /// The server of a resource: the one that lists it, or has a template that makes it.
    pub(super) async fn resource(
        &self,
        asking: &Asking<'_>,
        servers: &[String],
        uri: &str,
    ) -> Result<String, ErrorData> {
        if let Some(server) = asking.named(servers)? {
            return Ok(server);
        }
        let mut owners = Vec::new();
        for server in servers {
            if asking.makes(server, uri) || self.lists(asking, server, uri).await? {
                owners.push(server.as_str());
            }
        }
        match owners.as_slice() {
            [owner] => Ok((*owner).to_owned()),
            [] => Err(ErrorData::resource_not_found("Resource not found", Some(json!({ "uri": uri })))),
            several => Err(ErrorData::invalid_params(
                format!(
                    "several servers have `{uri}`: {}; say which one in `_meta` as `{SERVER}`",
                    several.join(", ")
                ),
                Some(json!({ "uri": uri })),
            )),
        }
    }

    async fn lists(&self, asking: &Asking<'_>, server: &str, uri: &str) -> Result<bool, ErrorData> {
        if !asking.names.contains(RESOURCE_LIST) {
            return Ok(false);
        }
        let mut cursor = None;
        for _ in 0..PAGES_MAX {
            let arguments = super::resources::page(server, cursor.as_deref());
            let page: ListResourcesResult = match self.offered(asking, RESOURCE_LIST, arguments).await {
                Ok(page) => page,
                // What the agent may not list is not found by a list.
                Err(Missed::Denied(_)) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            if page.resources.iter().any(|resource| resource.uri == uri) {
                return Ok(true);
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        Ok(false)
    }
}
