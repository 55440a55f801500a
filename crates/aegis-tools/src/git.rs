//! `git.clone` and `git.push`: repositories that the node's configuration names, with its credentials.
//!
//! No process is given a credential. The daemon speaks Git's HTTP protocol itself, to the one address that the
//! configuration names; `git` works on objects alone, in sandboxes without network. What is pushed was taken from the
//! agent's volume as a pack, and checked in a repository that nobody else can reach.

mod clone;
mod local;
mod outside;
mod push;
mod settings;
mod wire;
mod workshop;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aegis_core::{Denial, DenialCode, ToolCall, ToolResult, ToolSchema};
use aegis_kernel::port::{
    Access, CallRecord, Egress, Governed, GovernedKind, Ids, Sandbox, Secrets, ToolContext, ToolError,
    ToolFacts, ToolHost,
};
use aegis_manifest::NodeConfig;
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::files::place::Failure;
use crate::tls;
use outside::{Outside, SignIn};
use settings::{Remote, Remotes};
use workshop::{Failed, Workshop};

const GIT_CLONE: &str = "git.clone";
const GIT_PUSH: &str = "git.push";
/// Calls at once: each holds a pack or two in memory. Further ones wait.
const CALLS_MAX: usize = 2;
/// The time of a call that names no repository of this node.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// What the tools work with.
pub struct GitParts {
    /// Where git runs.
    pub sandbox: Arc<dyn Sandbox>,
    /// The way out to remotes.
    pub egress: Arc<dyn Egress>,
    /// Where credentials are.
    pub secrets: Arc<dyn Secrets>,
    /// Fresh ids.
    pub ids: Arc<dyn Ids>,
}

/// The repositories that a configuration names, checked.
pub struct GitRemotes(Remotes);

impl GitRemotes {
    /// Reads `spec.git`.
    ///
    /// # Errors
    /// The first remote that cannot be put into force.
    pub fn of(node: &NodeConfig) -> Result<Self, String> {
        settings::remotes(node).map(Self)
    }
}

/// The tools of Git. On a machine without git there are none.
pub struct GitTools {
    tools: Vec<ToolFacts>,
    workshop: Option<Workshop>,
    egress: Arc<dyn Egress>,
    secrets: Arc<dyn Secrets>,
    remotes: RwLock<Remotes>,
    places: Semaphore,
}

impl std::fmt::Debug for GitTools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitTools").finish_non_exhaustive()
    }
}

impl GitTools {
    /// Tools for these remotes.
    pub fn new(remotes: GitRemotes, parts: GitParts) -> Self {
        let GitParts { sandbox, egress, secrets, ids } = parts;
        let workshop = Workshop::open(sandbox, ids);
        let tools = if workshop.is_some() { vec![clone_facts(), push_facts()] } else { Vec::new() };
        Self {
            tools,
            workshop,
            egress,
            secrets,
            remotes: RwLock::new(remotes.0),
            places: Semaphore::new(CALLS_MAX),
        }
    }

    /// Takes other remotes; calls under way go on under the former.
    pub fn replace(&self, remotes: GitRemotes) {
        *self.remotes.write().unwrap_or_else(PoisonError::into_inner) = remotes.0;
    }

    /// Why remotes that are configured cannot be used here, and what to do.
    pub fn missing(&self) -> Option<String> {
        let named = !self.remotes.read().unwrap_or_else(PoisonError::into_inner).is_empty();
        (named && self.workshop.is_none()).then(|| {
            "`spec.git.remotes`: there is no git in /usr/bin or /usr/local/bin, so that `git.clone` and `git.push` \
             are not there; install it (`apt install git`) and start the node again"
                .to_owned()
        })
    }

    fn remote(&self, name: &str) -> Result<Arc<Remote>, Failure> {
        let remotes = self.remotes.read().unwrap_or_else(PoisonError::into_inner);
        remotes.get(name).map(Arc::clone).ok_or_else(|| {
            let known: Vec<String> = remotes.keys().map(|name| format!("`{name}`")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Failure::told(format!(
                "no repository is called `{}` on this node; there is {known}",
                name.escape_debug()
            ))
        })
    }

    fn workshop(&self) -> Result<&Workshop, Failure> {
        self.workshop.as_ref().ok_or_else(|| {
            Failure::Tool(ToolError::Denied(Denial {
                code: DenialCode::CapabilityMissing,
                rule: "node:git".to_owned(),
                message: "there is no git on this node".to_owned(),
                remedy: "install it (`apt install git`) and start the node again".to_owned(),
            }))
        })
    }

    fn outside(&self) -> Result<Outside, Failure> {
        let connector = tls::connector().map_err(|error| Failure::Tool(ToolError::Internal(error)))?;
        Ok(Outside { egress: Arc::clone(&self.egress), connector })
    }

    /// What the remote is signed in at with; its use is on record before it is used.
    async fn sign_in(&self, context: &ToolContext, remote: &Remote) -> Result<SignIn, Failure> {
        let failed = |error: String| Failure::told(format!("`{}`: {error}", remote.said.name));
        let reference = remote.said.credential.to_string();
        let resolved = self.secrets.resolve(&context.tenant, &reference).await;
        let resolved = resolved.map_err(|error| failed(error.to_string()))?;
        recorder(context)?.secret_used(resolved.reference, resolved.version).await.map_err(unrecorded)?;
        SignIn::new(&remote.said.username, &resolved.value).map_err(failed)
    }

    async fn perform(
        &self,
        context: &ToolContext,
        call: &ToolCall,
        sent: &push::Sent,
    ) -> Result<ToolResult, Failure> {
        match call.name.as_str() {
            GIT_CLONE => self.clone_into(context, arguments(call)?).await,
            GIT_PUSH => self.push_from(context, arguments(call)?, sent).await,
            other => Err(Failure::Tool(ToolError::Internal(format!("no tool `{other}`")))),
        }
    }
}

#[async_trait]
impl ToolHost for GitTools {
    fn tools(&self) -> &[ToolFacts] {
        &self.tools
    }

    async fn call(
        &self,
        context: &ToolContext,
        call: &ToolCall,
        cancel: &CancellationToken,
    ) -> Result<ToolResult, ToolError> {
        let sent = push::Sent::default();
        let named = call.arguments.get("repository").and_then(Value::as_str).unwrap_or_default();
        let limit = self.remote(named).map(|remote| remote.timeout()).unwrap_or_default();
        let work = async {
            // Waiting for its turn is part of a call's time.
            let _place = self.places.acquire().await;
            self.perform(context, call, &sent).await
        };
        let work = tokio::time::timeout(limit.max(TIMEOUT_MIN), work);
        let performed = tokio::select! {
            performed = work => performed,
            () = cancel.cancelled() => return Err(ToolError::Cancelled),
        };
        match performed {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(Failure::Told(message))) => Ok(ToolResult::error(message)),
            Ok(Err(Failure::Tool(error))) => Err(error),
            Err(_) => {
                let told = format!("it took longer than {} s{}", limit.as_secs(), sent.doubt());
                if sent.is_so() { Err(ToolError::Unanswered(told)) } else { Ok(ToolResult::error(told)) }
            }
        }
    }
}

fn recorder(context: &ToolContext) -> Result<&dyn CallRecord, Failure> {
    context.record.as_deref().ok_or_else(|| unrecorded("nothing records the call".to_owned()))
}

fn unrecorded(error: String) -> Failure {
    Failure::Tool(ToolError::Internal(format!("its record cannot be written, so it was not done: {error}")))
}

fn arguments<'call, T: Deserialize<'call>>(call: &'call ToolCall) -> Result<T, Failure> {
    T::deserialize(&call.arguments).map_err(|error| Failure::Tool(ToolError::Arguments(error.to_string())))
}

/// What came of work, for the model.
fn not_done(failed: Failed) -> Failure {
    match failed {
        Failed::Refused(said) => Failure::told(format!("git refuses it: {}", workshop::words(&said))),
        Failed::TooLarge(most) => {
            Failure::told(format!("its pack has more than {most} bytes, which this node does not carry"))
        }
        Failed::Broken(why) => Failure::Tool(ToolError::Internal(why)),
    }
}

fn repository_property() -> Value {
    json!({
        "type": "string", "minLength": 1, "maxLength": 63,
        "description": "The repository's name on this node",
    })
}

fn clone_facts() -> ToolFacts {
    ToolFacts {
        schema: ToolSchema {
            name: GIT_CLONE.to_owned(),
            description:
                "Clones a repository that this node knows by name into a new or empty folder. What it holds \
                          is not to be trusted."
                    .to_owned(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "repository": repository_property(),
                    "path": {"type": "string", "minLength": 1, "description": "The folder to make"},
                    "ref": {
                        "type": "string", "minLength": 1, "maxLength": 200,
                        "description": "A branch, or `refs/tags/NAME`; the repository's usual branch without it",
                    },
                },
                "required": ["repository", "path"],
                "additionalProperties": false,
                "examples": [{"repository": "site", "path": "/workspace/site"}],
            }),
        },
        idempotent: false,
        foreign: true,
        governed: vec![Governed { argument: "path".into(), kind: GovernedKind::Path(Access::Write) }],
    }
}

fn push_facts() -> ToolFacts {
    ToolFacts {
        schema: ToolSchema {
            name: GIT_PUSH.to_owned(),
            description: "Pushes a branch of a repository in the workspace to the branch of the same name of a \
                          repository that this node knows by name. Nothing is ever overwritten: the commit must \
                          follow the one that is there."
                .to_owned(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "repository": repository_property(),
                    "path": {"type": "string", "minLength": 1, "description": "The folder that holds `.git`"},
                    "branch": {"type": "string", "minLength": 1, "maxLength": 200, "description": "The branch"},
                    "commit": {
                        "type": "string", "pattern": "^[0-9a-f]{40}$",
                        "description": "The commit that the branch must name, so that nothing else is pushed",
                    },
                },
                "required": ["repository", "path", "branch"],
                "additionalProperties": false,
                "examples": [{"repository": "site", "path": "/workspace/site", "branch": "agent/draft"}],
            }),
        },
        idempotent: false,
        foreign: true,
        governed: vec![Governed { argument: "path".into(), kind: GovernedKind::Path(Access::Read) }],
    }
}
