//! `prompts/…` and `completion/complete`

use aegis_tools::mcp::{COMPLETION, PROMPT_GET, PROMPT_LIST};
use rmcp::model::{
    CompleteRequestParams, CompleteResult, ErrorData, GetPromptRequestParams, GetPromptResponse,
    GetPromptResult, ListPromptsResult, Reference,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Map, Value, json};

use super::super::McpServer;
use super::super::acts::Brought;
use super::Missed;

impl McpServer {
    pub(in super::super) async fn prompts(
        &self,
        context: &RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let asking = self.asking(context).await?;
        let servers = asking.servers(PROMPT_LIST, "prompts/list")?;
        let mut all = Vec::new();
        let mut refused = None;
        for server in &servers {
            let listed = self.offered::<ListPromptsResult>(&asking, PROMPT_LIST, json!({ "server": server }));
            match listed.await {
                Ok(page) => all.extend(page.prompts.into_iter().map(|mut prompt| {
                    let here = asking.tools.prompt_names().get(&(server.clone(), prompt.name.clone()));
                    if let (Some(here), true) = (here, servers.len() > 1) {
                        prompt.name.clone_from(here);
                    }
                    prompt
                })),
                Err(denied @ Missed::Denied(_)) => refused = Some(denied),
                Err(failed) => return Err(failed.into()),
            }
        }
        match refused {
            Some(refused) if all.is_empty() => Err(refused.into()),
            _ => Ok(ListPromptsResult::with_all_items(all)),
        }
    }

    pub(in super::super) async fn prompt(
        &self,
        request: GetPromptRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let asking = self.asking(context).await?;
        let servers = asking.servers(PROMPT_GET, "prompts/get")?;
        let (server, name) = asking.prompt(&servers, &request.name)?;
        let mut arguments =
            Map::from_iter([("server".to_owned(), server.into()), ("name".to_owned(), name.into())]);
        if let Some(given) = request.arguments {
            arguments.insert("arguments".to_owned(), Value::Object(given));
        }
        let brought =
            Brought { state: request.request_state.as_deref(), answers: request.input_responses.as_ref() };
        let got = self.offered_in_rounds::<GetPromptResult, _>(&asking, PROMPT_GET, arguments, brought);
        Ok(got.await?)
    }

    pub(in super::super) async fn completion(
        &self,
        request: CompleteRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let asking = self.asking(context).await?;
        let servers = asking.servers(COMPLETION, "completion/complete")?;
        let mut request = request;
        request.meta = None;
        let server = match &mut request.r#ref {
            Reference::Prompt(prompt) => {
                let (server, own) = asking.prompt(&servers, &prompt.name)?;
                prompt.name = own;
                server
            }
            Reference::Resource(resource) => self.resource(&asking, &servers, &resource.uri).await?,
            _ => return Err(ErrorData::invalid_params("`ref` is of a kind that is not known here", None)),
        };
        let asked = serde_json::to_value(request);
        let mut asked = asked.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        if let Some(members) = asked.as_object_mut() {
            members.insert("server".to_owned(), server.into());
        }
        Ok(self.offered(&asking, COMPLETION, asked).await?)
    }
}
