//! Calls as an agent, through the monitor; in rounds, where a server may ask something before it answers.

use std::sync::Arc;

use aegis_kernel::port::Given;
use aegis_kernel::{Act, Acted, Acting};
use rmcp::model::{ErrorData, InputRequiredResult, InputResponses};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Map, Value};

use super::asked::Asking;
use super::rounds::{StateError, Subject};
use super::{Asker, McpServer, malformed, told, unknown_tool};

/// What a caller brings back with a call that answers a former one's questions.
#[derive(Clone, Copy)]
pub(super) struct Brought<'a> {
    /// What it was given to carry.
    pub(super) state: Option<&'a str>,
    /// By the server's names for its questions.
    pub(super) answers: Option<&'a InputResponses>,
}

/// What came of a call.
pub(super) enum Made {
    /// Its server asks something first: its questions, with what the caller is to carry.
    Asks(InputRequiredResult),
    /// Anything else.
    Acted(Arc<Acting>, Acted),
}

impl McpServer {
    /// Makes a call as the agent, through the monitor.
    pub(super) async fn act(
        &self,
        asker: &Asker,
        tool: &str,
        arguments: Value,
        context: &RequestContext<RoleServer>,
    ) -> Result<Acted, ErrorData> {
        Ok(self.act_given(asker, tool, arguments, None, context).await?.1)
    }

    /// The same where the tool's server may ask something first, or is answered what it asked in a former round.
    pub(super) async fn act_in_rounds(
        &self,
        asker: &Asker,
        tool: &str,
        arguments: Map<String, Value>,
        brought: Brought<'_>,
        context: &RequestContext<RoleServer>,
    ) -> Result<Made, ErrorData> {
        let Some(agent) = &asker.agent else { return Err(unknown_tool(tool)) };
        let subject = Subject { caller: &asker.caller, agent, tool, arguments: &arguments };
        let now = self.app.clock.now();
        let given = self.rounds.given(&subject, brought.state, brought.answers, now);
        let (given, round) = given.map_err(|error| unfit(&error))?.unzip();
        let full = Value::Object(arguments.clone());
        let (acting, acted) = self.act_given(asker, tool, full, given, context).await?;
        let questions = match &acted {
            Acted::Whole(whole) if asks(whole) => whole.get("result").cloned().unwrap_or_default(),
            _ => return Ok(Made::Acted(acting, acted)),
        };
        let sealed = self.rounds.seal(&subject, questions, round.unwrap_or_default(), now);
        let sealed = serde_json::from_value(sealed.map_err(|error| unfit(&error))?);
        Ok(Made::Asks(sealed.map_err(|error| malformed(&error))?))
    }

    /// The same with what the caller gives to answer a former call's questions.
    async fn act_given(
        &self,
        asker: &Asker,
        tool: &str,
        arguments: Value,
        given: Option<Given>,
        context: &RequestContext<RoleServer>,
    ) -> Result<(Arc<Acting>, Acted), ErrorData> {
        let Some(agent) = &asker.agent else { return Err(unknown_tool(tool)) };
        let kernel = &self.app.kernel;
        let acting = self.actors.of(kernel, &asker.caller, agent).await.map_err(|error| told(&error))?;
        let act = Act {
            id: &context.id.to_string(),
            tool,
            arguments,
            listener: Arc::new(Asking::of(context, self.session.as_ref(), given)),
            cancel: context.ct.clone(),
        };
        let acted = kernel.act_by(&acting, act).await.map_err(|error| told(&error))?;
        Ok((acting, acted))
    }
}

/// Whether a server asks something before it answers.
fn asks(whole: &Value) -> bool {
    whole.pointer("/result/resultType").and_then(Value::as_str) == Some("input_required")
}

fn unfit(error: &StateError) -> ErrorData {
    ErrorData::invalid_params(error.to_string(), None)
}
