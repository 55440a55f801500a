//! `resources/…`

use aegis_tools::mcp::{RESOURCE_LIST, RESOURCE_READ, RESOURCE_TEMPLATES};
use rmcp::model::{
    ErrorData, ListResourceTemplatesResult, ListResourcesResult, PaginatedRequestParams,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Map, Value, json};

use super::super::McpServer;
use super::super::acts::Brought;
use super::Missed;

/// The arguments that ask for a page of a server's resources.
pub(super) fn page(server: &str, cursor: Option<&str>) -> Value {
    match cursor {
        Some(cursor) => json!({"server": server, "cursor": cursor}),
        None => json!({ "server": server }),
    }
}

impl McpServer {
    /// One page of one server at a time. Of several servers a cursor says whose page is next, as `server:cursor`.
    pub(in super::super) async fn resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: &RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let asking = self.asking(context).await?;
        let servers = asking.servers(RESOURCE_LIST, "resources/list")?;
        let cursor = request.and_then(|request| request.cursor);
        if let Some(server) = asking.named(&servers)? {
            let arguments = page(&server, cursor.as_deref());
            return Ok(self.offered(&asking, RESOURCE_LIST, arguments).await?);
        }
        let unknown = || ErrorData::invalid_params("this cursor is none of ours", None);
        let (mut from, mut own) = (0, None);
        if let Some((server, rest)) =
            cursor.as_deref().map(|cursor| cursor.split_once(':').unwrap_or((cursor, "")))
        {
            from = servers.iter().position(|name| name == server).ok_or_else(unknown)?;
            own = (!rest.is_empty()).then(|| rest.to_owned());
        }
        let mut refused = None;
        for (index, server) in servers.iter().enumerate().skip(from) {
            let arguments = page(server, own.take().as_deref());
            match self.offered::<ListResourcesResult>(&asking, RESOURCE_LIST, arguments).await {
                Ok(mut page) => {
                    page.next_cursor = match page.next_cursor {
                        Some(next) => Some(format!("{server}:{next}")),
                        None => servers.get(index + 1).map(|next| format!("{next}:")),
                    };
                    return Ok(page);
                }
                // What the agent may not list is not in the list.
                Err(denied @ Missed::Denied(_)) => refused = Some(denied),
                Err(failed) => return Err(failed.into()),
            }
        }
        // The last page is empty where only refused servers were left; a list of nothing else says why.
        match refused {
            Some(refused) if from == 0 => Err(refused.into()),
            _ => Ok(ListResourcesResult::with_all_items(Vec::new())),
        }
    }

    pub(in super::super) async fn resource_templates(
        &self,
        context: &RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let asking = self.asking(context).await?;
        let servers = asking.servers(RESOURCE_TEMPLATES, "resources/templates/list")?;
        let mut all = Vec::new();
        let mut refused = None;
        for server in &servers {
            let arguments = page(server, None);
            match self.offered::<ListResourceTemplatesResult>(&asking, RESOURCE_TEMPLATES, arguments).await {
                Ok(page) => all.extend(page.resource_templates),
                Err(denied @ Missed::Denied(_)) => refused = Some(denied),
                Err(failed) => return Err(failed.into()),
            }
        }
        match refused {
            Some(refused) if all.is_empty() => Err(refused.into()),
            _ => Ok(ListResourceTemplatesResult::with_all_items(all)),
        }
    }

    pub(in super::super) async fn read(
        &self,
        request: &ReadResourceRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let asking = self.asking(context).await?;
        let servers = asking.servers(RESOURCE_READ, "resources/read")?;
        let server = self.resource(&asking, &servers, &request.uri).await?;
        let uri = request.uri.clone();
        let arguments =
            Map::from_iter([("server".to_owned(), server.into()), ("uri".to_owned(), uri.into())]);
        let brought =
            Brought { state: request.request_state.as_deref(), answers: request.input_responses.as_ref() };
        let read =
            self.offered_in_rounds::<ReadResourceResult, _>(&asking, RESOURCE_READ, arguments, brought);
        Ok(read.await?)
    }
}
