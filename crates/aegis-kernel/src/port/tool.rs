//! Tools: what they are called, what they take, and which of their arguments are governed.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use aegis_core::{Denial, ExecutionId, Tenant, ToolCall, ToolResult, ToolSchema};
use async_trait::async_trait;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::{Listener, Workspace};

/// What a path argument is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only read.
    Read,
    /// Changed, made or removed.
    Write,
}

/// What a governed argument names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GovernedKind {
    /// A path inside the sandbox.
    Path(Access),
    /// A command: an array of strings, or a string that is its name.
    Command,
    /// A URL: its host is checked as a domain.
    Url,
    /// A host name.
    Domain,
    /// A URI: the host of one that is fetched over the network is checked as a domain, the path of a `file:` as one that
    /// is read; of any other scheme nothing can be checked.
    Uri,
}

/// An argument whose value the monitor checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Governed {
    /// The argument's name at the top level of the arguments.
    pub argument: Cow<'static, str>,
    /// What it names.
    pub kind: GovernedKind,
}

impl Governed {
    /// What a call gives for the argument: nothing if it leaves it out or gives `null`, one text, or a list of them.
    /// `None` if it is anything else, so that nothing which cannot be checked is taken for a default.
    pub fn values<'call>(&self, arguments: &'call Value) -> Option<Vec<&'call str>> {
        match arguments.get(self.argument.as_ref()) {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(Value::String(text)) => Some(vec![text]),
            Some(Value::Array(items)) => items.iter().map(Value::as_str).collect(),
            Some(_) => None,
        }
    }
}

/// What a tool is.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolFacts {
    /// Name, description and argument schema.
    pub schema: ToolSchema,
    /// Whether it may be performed again after a crash. Said by us or the operator, never by a server.
    pub idempotent: bool,
    /// Arguments the monitor checks.
    pub governed: Vec<Governed>,
    /// Whether it is a server's: its arguments leave the execution, and nobody vouches for its answers.
    pub foreign: bool,
}

/// On whose behalf, and on which files, a tool works.
#[derive(Clone)]
pub struct ToolContext {
    /// The execution.
    pub execution: ExecutionId,
    /// Its volumes.
    pub workspace: Arc<Workspace>,
    /// Who listens, if the call is no model's.
    pub listener: Option<Arc<dyn Listener>>,
    /// Its way out of the node, where its manifest grants one.
    pub way_out: Option<Arc<dyn WayOut>>,
    /// The tenant.
    pub tenant: Tenant,
    /// Where facts of the call itself are recorded; there once the call is being performed.
    pub record: Option<Arc<dyn CallRecord>>,
}

/// What a push is about to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushBinding {
    /// The remote's name in the node's configuration.
    pub remote: String,
    /// `refs/heads/NAME`.
    pub reference: String,
    /// The id of the commit that it is to name.
    pub commit: String,
    /// The id of the commit that it names there now, if it is there.
    pub former: Option<String>,
}

/// Records facts of one call under way, between its intent and its outcome. Each is durable when this returns; what
/// cannot be recorded is not to be done.
#[async_trait]
pub trait CallRecord: Send + Sync {
    /// A credential is about to be used for the call.
    async fn secret_used(&self, reference: String, version: Option<u64>) -> Result<(), String>;
    /// A push is about to be sent.
    async fn push_bound(&self, binding: PushBinding) -> Result<(), String>;
}

/// An execution's way out of the node, for tools that work in the daemon.
#[async_trait]
pub trait WayOut: Send + Sync {
    /// A connection to the egress proxy, which is asked over it for one tunnel or one plain request, as by a program
    /// inside: the same rules hold, and the same is recorded.
    async fn connection(&self) -> io::Result<UnixStream>;
}

/// A call that gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// The file core refused, by its own rules.
    #[error("{0}")]
    Denied(Denial),
    /// The arguments are not what the schema says.
    #[error("{0}")]
    Arguments(String),
    /// The tool was cancelled or timed out.
    #[error("the tool was cancelled")]
    Cancelled,
    /// It was asked, and no answer came: nobody knows whether the call took effect. Not for idempotent tools.
    #[error("{0}")]
    Unanswered(String),
    /// The tool itself broke.
    #[error("{0}")]
    Internal(String),
}

/// A place where tools live: the built-in ones, or a server's.
#[async_trait]
pub trait ToolHost: Send + Sync {
    /// The tools, in a fixed order.
    fn tools(&self) -> &[ToolFacts];
    /// Performs a call that passed the monitor. A failure of the tool's own making, such as a missing file, is a
    /// result with `is_error`; the model learns from it.
    async fn call(
        &self,
        context: &ToolContext,
        call: &ToolCall,
        cancel: &CancellationToken,
    ) -> Result<ToolResult, ToolError>;
}

/// The tools of one tenant's tool servers, as they stand when the list is taken.
pub trait ServerTools: ToolHost {
    /// The name a server's tool has here, by the server's own name for it.
    fn named(&self, server: &str, tool: &str) -> Option<&str>;
    /// The server of a tool, and the server's own name for the tool.
    fn place(&self, name: &str) -> Option<(&str, &str)>;
    /// The server that may ask something before it answers a call, and the protocol's method that the call is.
    fn asker(&self, call: &ToolCall) -> Option<(&str, &'static str)>;
}

/// Tool servers, whose tools are a tenant's own.
#[async_trait]
pub trait ToolServers: Send + Sync {
    /// The tools of a tenant's servers. Starts servers that do not run; waits for a bounded time for those never seen.
    ///
    /// # Errors
    /// If what was accepted of them cannot be read; the text is for people.
    async fn tools(&self, tenant: &Tenant) -> Result<Arc<dyn ServerTools>, String>;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_texts_or_nothing_that_passes() {
        let governed = Governed { argument: "paths".into(), kind: GovernedKind::Path(Access::Read) };
        let of = |arguments: Value| governed.values(&arguments).map(|values| values.join(" "));
        assert_eq!(of(json!({})).as_deref(), Some(""));
        assert_eq!(of(json!({"paths": null})).as_deref(), Some(""));
        assert_eq!(of(json!({"paths": "/a"})).as_deref(), Some("/a"));
        assert_eq!(of(json!({"paths": ["/a", "/b"]})).as_deref(), Some("/a /b"));
        for odd in [json!({"paths": ["/a", 1]}), json!({"paths": {"0": "/a"}}), json!({"paths": 1})] {
            assert_eq!(of(odd.clone()), None, "{odd}");
        }
    }
}
