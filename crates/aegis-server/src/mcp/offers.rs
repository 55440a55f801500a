//! Resources, prompts and completions of an agent's servers: each request is a call of one of the node's names for
//! them, which passes the monitor as the agent's.

mod owner;
mod prompts;
mod resources;

use std::collections::BTreeSet;
use std::time::Duration;

use aegis_core::Denial;
use aegis_kernel::Acted;
use aegis_tools::mcp::{
    COMPLETION, McpTools, PROMPT_GET, PROMPT_LIST, RESOURCE_LIST, RESOURCE_READ, RESOURCE_TEMPLATES,
    is_offered,
};
use rmcp::model::{
    ErrorCode as RpcCode, ErrorData, InputRequiredResult, PromptsCapability, ResourcesCapability,
    ServerCapabilities,
};
use rmcp::service::{RequestContext, RoleServer};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::acts::{Brought, Made};
use super::{Asker, McpServer, denied, told};

/// How long a server never seen may take to start. What the agent may name was found before, and has waited for it.
const STARTED_WAIT: Duration = Duration::from_secs(1);

/// Why a request came to nothing.
enum Missed {
    /// The monitor, or the server's guard, refused it.
    Denied(Denial),
    /// Anything else.
    Failed(ErrorData),
}

impl From<Missed> for ErrorData {
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::Failed(error) => error,
            Missed::Denied(denial) => {
                let data = json!({"code": denial.code, "rule": denial.rule, "remedy": denial.remedy});
                Self::new(RpcCode::INVALID_REQUEST, denied(&denial), Some(data))
            }
        }
    }
}

/// Who asks, and where the answer goes.
struct Asking<'a> {
    asker: Asker,
    context: &'a RequestContext<RoleServer>,
    /// The node's names for resources, prompts and completions that the agent may name.
    names: BTreeSet<String>,
    tools: McpTools,
}

impl McpServer {
    /// What is declared to who asks: tools, and what servers of its agent have beside them.
    pub(super) async fn capabilities(&self, context: &RequestContext<RoleServer>) -> ServerCapabilities {
        let mut declared = ServerCapabilities::builder().enable_tools().enable_logging().build();
        let names = match Asker::of(context) {
            Ok(asker) => self.offered_to(&asker).await.unwrap_or_default(),
            Err(_) => BTreeSet::new(),
        };
        let any = |of: &[&str]| of.iter().any(|name| names.contains(*name));
        declared.resources =
            any(&[RESOURCE_LIST, RESOURCE_TEMPLATES, RESOURCE_READ]).then(ResourcesCapability::default);
        declared.prompts = any(&[PROMPT_LIST, PROMPT_GET]).then(PromptsCapability::default);
        declared.completions = any(&[COMPLETION]).then(Map::new);
        declared
    }

    async fn offered_to(&self, asker: &Asker) -> Result<BTreeSet<String>, ErrorData> {
        let Some(agent) = &asker.agent else { return Ok(BTreeSet::new()) };
        let tools = self.app.kernel.tools_as(&asker.caller.tenant, agent).await;
        let names = tools.map_err(|error| told(&error))?.into_iter().map(|facts| facts.schema.name);
        Ok(names.filter(|name| is_offered(name)).collect())
    }

    async fn asking<'a>(&self, context: &'a RequestContext<RoleServer>) -> Result<Asking<'a>, ErrorData> {
        let asker = Asker::of(context)?;
        let names = self.offered_to(&asker).await?;
        let tools = self.app.servers.tools(&asker.caller.tenant, STARTED_WAIT).await;
        let tools = tools.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        Ok(Asking { asker, context, names, tools })
    }

    /// Makes a call of one of the node's names, and reads what the server gave.
    async fn offered<R: DeserializeOwned>(
        &self,
        asking: &Asking<'_>,
        tool: &str,
        arguments: Value,
    ) -> Result<R, Missed> {
        let acted = self.act(&asking.asker, tool, arguments, asking.context).await;
        given(acted.map_err(Missed::Failed)?)
    }

    /// The same where the server may ask something first.
    async fn offered_in_rounds<R, A>(
        &self,
        asking: &Asking<'_>,
        tool: &str,
        arguments: Map<String, Value>,
        brought: Brought<'_>,
    ) -> Result<A, Missed>
    where
        R: DeserializeOwned + Into<A>,
        A: From<InputRequiredResult>,
    {
        let made = self.act_in_rounds(&asking.asker, tool, arguments, brought, asking.context).await;
        match made.map_err(Missed::Failed)? {
            Made::Asks(questions) => Ok(questions.into()),
            Made::Acted(_, acted) => given::<R>(acted).map(Into::into),
        }
    }
}

/// What the server gave.
fn given<R: DeserializeOwned>(acted: Acted) -> Result<R, Missed> {
    let failed = |what: &str| Missed::Failed(ErrorData::internal_error(what.to_owned(), None));
    let mut whole = match acted {
        Acted::Whole(whole) => whole,
        Acted::Denied(denial) | Acted::Withheld(denial) => return Err(Missed::Denied(denial)),
        Acted::Answered(result) => return Err(failed(&result.content)),
        Acted::Interrupted => return Err(failed("interrupted: nobody waited for the answer any more")),
    };
    let malformed = |error: serde_json::Error| failed(&error.to_string());
    match (whole.get_mut("result").map(Value::take), whole.get_mut("error").map(Value::take)) {
        (Some(mut result), None) => {
            if let Value::Object(members) = &mut result {
                // Left out again for those who speak a revision that does not know it.
                members.entry("resultType").or_insert_with(|| "complete".into());
            }
            serde_json::from_value(result).map_err(malformed)
        }
        (None, Some(error)) => Err(Missed::Failed(serde_json::from_value(error).map_err(malformed)?)),
        _ => Err(failed("the answer was not recorded whole")),
    }
}

impl Asking<'_> {
    /// The servers that have what a name needs, if the agent may name it; else the method is not there.
    fn servers(&self, tool: &str, method: &'static str) -> Result<Vec<String>, ErrorData> {
        let servers: Vec<String> = match self.names.contains(tool) {
            true => self.tools.offering(tool).map(|(server, _)| server.to_owned()).collect(),
            false => Vec::new(),
        };
        if servers.is_empty() {
            return Err(ErrorData::new(RpcCode::METHOD_NOT_FOUND, method, None));
        }
        Ok(servers)
    }
}
