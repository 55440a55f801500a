//! AEGIS as a server of the Model Context Protocol: `/mcp`, streamable HTTP, both generations of the protocol.
//!
//! Who asks is known from the credential of each request, never from its session. An agent's key names
//! the tools of its agent; an operator, and whoever has the node's token, the tools that look after the node, and those
//! of the agent that the request names. A call of an agent's tool passes the monitor, in a run that acts as the agent.

#![expect(deprecated, reason = "logging is part of revision 2025-11-25, which is still spoken")]

mod actors;
mod acts;
mod asked;
mod described;
mod management;
mod offers;
mod rounds;
mod sessions;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use aegis_core::limits::REQUEST_BYTES_MAX;
use aegis_core::{ActorLink, Denial, DenialCode, Diagnosis, ErrorCode, KeyRole};
use aegis_kernel::{Acted, Caller, Speaker};
use aegis_tools::mcp::is_offered;
use axum::Router;
use http::request::Parts;
use rmcp::ServerHandler;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams,
    CompleteResult, ContentBlock, DiscoverResult, ErrorCode as RpcCode, ErrorData, GetPromptRequestParams,
    GetPromptResponse, Implementation, InitializeRequestParams, InitializeResult, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ReadResourceRequestParams, ReadResourceResponse, ResultType, ServerCapabilities, ServerConfig,
    SetLevelRequestMethod, SetLevelRequestParams, Tool,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::Value;

use crate::app::App;
use actors::Actors;
use acts::{Brought, Made};
use asked::SessionLog;
use rounds::Rounds;

pub(crate) use sessions::Sessions;

/// What a request's answer is made of.
#[derive(Clone)]
pub(crate) struct McpServer {
    app: Arc<App>,
    /// The HTTP routes, behind the door.
    inside: Router,
    actors: Arc<Actors>,
    rounds: Arc<Rounds>,
    /// Of a session, what it wants of servers' logs.
    session: Option<SessionLog>,
}

/// The service behind `/mcp`. `inside` are the HTTP routes without their door, which has been passed.
pub(crate) fn service(app: &Arc<App>, inside: Router) -> Arc<Sessions> {
    let rounds = Arc::new(Rounds::new(app.ids.as_ref()));
    let server = McpServer { app: app.clone(), inside, actors: Arc::default(), rounds, session: None };
    // Host and origin are the door's to check.
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .with_max_request_body_bytes(REQUEST_BYTES_MAX)
        .with_cancellation_token(app.stop.clone());
    let within = server.clone();
    let manager = sessions::manager();
    let within = StreamableHttpService::new(
        move || Ok(McpServer { session: Some(SessionLog::default()), ..within.clone() }),
        Arc::clone(&manager),
        config.clone(),
    );
    let without = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(NeverSessionManager::default()),
        config.with_legacy_session_mode(false).with_json_response(true),
    );
    Arc::new(Sessions::new(without, within, manager))
}

/// Who asks.
struct Asker {
    caller: Caller,
    /// The API key's role; none for the node's token.
    role: Option<KeyRole>,
    /// The agent to act as.
    agent: Option<String>,
}

impl Asker {
    fn of(context: &RequestContext<RoleServer>) -> Result<Self, ErrorData> {
        let unknown = || ErrorData::internal_error("nobody asks", None);
        let parts = context.extensions.get::<Parts>().ok_or_else(unknown)?;
        let caller = parts.extensions.get::<Caller>().ok_or_else(unknown)?;
        let role = parts.extensions.get::<KeyRole>().copied();
        let named = parts.headers.get(aegis_api::header::AGENT).and_then(|name| name.to_str().ok());
        let agent = match (parts.extensions.get::<Speaker>(), role, named) {
            (Some(Speaker::Key { agent, .. }), ..) => Some(agent.to_string()),
            (_, Some(KeyRole::Agent), _) => return Err(unknown()),
            (_, Some(KeyRole::Viewer), Some(_)) => {
                return Err(ErrorData::invalid_request("a viewer acts as no agent", None));
            }
            (_, _, named) => named.map(str::to_owned),
        };
        // Whoever's credential it is, a program asks: it is no person.
        let actor = caller.actor.clone().then(ActorLink::Mcp);
        Ok(Self { caller: Caller { tenant: caller.tenant.clone(), actor }, role, agent })
    }
}

impl McpServer {
    async fn tools(&self, asker: &Asker) -> Result<Vec<Tool>, ErrorData> {
        let mut tools = management::tools(asker.role);
        if let Some(agent) = &asker.agent {
            let tenant = &asker.caller.tenant;
            let own = self.app.kernel.tools_as(tenant, agent).await.map_err(|error| told(&error))?;
            // Its servers' tools with all that was accepted of them.
            let served = match own.iter().any(|facts| facts.foreign) {
                true => self.app.servers.tools(tenant, Duration::ZERO).await.ok(),
                false => None,
            };
            // Resources and prompts have methods of their own.
            let own = own.into_iter().filter(|facts| !is_offered(&facts.schema.name));
            tools.extend(own.map(|facts| {
                let pinned = served.as_ref().filter(|_| facts.foreign);
                let pinned = pinned.and_then(|served| served.pinned(&facts.schema.name));
                described::tool(facts.clone(), pinned)
            }));
        }
        Ok(tools)
    }

    async fn call(
        &self,
        asker: &Asker,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        if let Some(managed) = management::find(&request.name, asker.role) {
            let managed = management::call(self.inside.clone(), managed, &asker.caller, arguments).await;
            return Ok(managed.into());
        }
        if is_offered(&request.name) {
            return Err(unknown_tool(&request.name));
        }
        let brought =
            Brought { state: request.request_state.as_deref(), answers: request.input_responses.as_ref() };
        let made = self.act_in_rounds(asker, &request.name, arguments, brought, context).await?;
        let (acting, acted) = match made {
            Made::Asks(questions) => return Ok(questions.into()),
            Made::Acted(acting, acted) => (acting, acted),
        };
        let answered = match acted {
            Acted::Whole(whole) => whole_result(whole)?,
            Acted::Answered(result) => {
                let content = vec![ContentBlock::text(result.content)];
                if result.is_error {
                    CallToolResult::error(content)
                } else {
                    CallToolResult::success(content)
                }
            }
            Acted::Denied(denial) if acting.tools().all(|(facts, _)| facts.schema.name != request.name) => {
                tracing::debug!(code = %denial.code, "an unknown tool was asked for");
                return Err(unknown_tool(&request.name));
            }
            Acted::Denied(denial) | Acted::Withheld(denial) => {
                CallToolResult::error(vec![ContentBlock::text(denied(&denial))])
            }
            Acted::Interrupted => {
                let told = "interrupted: it is not known whether this call took effect";
                CallToolResult::error(vec![ContentBlock::text(told)])
            }
        };
        Ok(answered.into())
    }
}

impl ServerHandler for McpServer {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_logging().build())
            .with_server_info(Implementation::new("aegis", env!("CARGO_PKG_VERSION")))
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        context.peer.set_peer_info(request.clone());
        let mut result = self.negotiate_initialize(&request)?;
        result.capabilities = self.capabilities(&context).await;
        Ok(result)
    }

    async fn discover(&self, context: RequestContext<RoleServer>) -> Result<DiscoverResult, ErrorData> {
        let mut info = self.get_info();
        info.capabilities = self.capabilities(&context).await;
        Ok(DiscoverResult::from_server_info(self.supported_protocol_versions().into_owned(), info))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.tools(&Asker::of(&context)?).await?;
        // What may be named depends on who asks, and on what was deployed since.
        Ok(ListToolsResult::with_all_items(tools).with_ttl_ms(0).with_cache_scope(CacheScope::Private))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let asker = Asker::of(&context)?;
        self.call(&asker, request, &context).await
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        self.resources(request, &context).await
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        self.resource_templates(&context).await
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        self.read(&request, &context).await
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        self.prompts(&context).await
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        self.prompt(request, &context).await
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        self.completion(request, &context).await
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Asker::of(&context)?;
        match &self.session {
            Some(log) if !asked::keeps_nothing(&context) => {
                *log.lock().unwrap_or_else(PoisonError::into_inner) = asked::level_here(request.level);
                Ok(())
            }
            // Nothing is kept for who opened no session.
            _ => Err(ErrorData::method_not_found::<SetLevelRequestMethod>()),
        }
    }
}

fn malformed(error: &serde_json::Error) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

/// What a server gave, as it gave it.
fn whole_result(mut whole: Value) -> Result<CallToolResult, ErrorData> {
    let malformed = |error: serde_json::Error| malformed(&error);
    match (whole.get_mut("result").map(Value::take), whole.get_mut("error").map(Value::take)) {
        (Some(result), None) => {
            let mut result: CallToolResult = serde_json::from_value(result).map_err(malformed)?;
            // Left out again for those who speak a revision that does not know it.
            result.result_type.get_or_insert(ResultType::COMPLETE);
            Ok(result)
        }
        (None, Some(error)) => Err(serde_json::from_value(error).map_err(malformed)?),
        _ => Err(ErrorData::internal_error("the answer was not recorded whole", None)),
    }
}

fn unknown_tool(name: &str) -> ErrorData {
    ErrorData::invalid_params(format!("Unknown tool: {name}"), None)
}

/// A denial in words, with its code and its remedy.
pub(crate) fn denied(denial: &Denial) -> String {
    let Denial { code, rule, message, remedy } = denial;
    let code: &DenialCode = code;
    format!("{code} ({rule}). {message} To permit it: {remedy}")
}

fn told(diagnosis: &Diagnosis) -> ErrorData {
    let code = match diagnosis.code {
        ErrorCode::InvalidInput | ErrorCode::NotFound => RpcCode::INVALID_PARAMS,
        ErrorCode::Internal => RpcCode::INTERNAL_ERROR,
        _ => RpcCode::INVALID_REQUEST,
    };
    let hint = diagnosis.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    ErrorData::new(code, format!("{}{hint}", diagnosis.message), None)
}
