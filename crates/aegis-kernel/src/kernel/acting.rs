//! Calls of tools by people, and by programs that speak MCP: made in a run that acts as an agent, under its authority.
//! The daemon signs them, as it signs what a model calls.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aegis_core::{
    Actor, ActorLink, Body, Denial, Diagnosis, ErrorCode, ExecutionId, Sha256, Tenant, ToolCall, ToolResult,
};
use aegis_manifest::node::SecurityContext;
use aegis_security::smcp::checks::{self, Admitted, Recorded};
use aegis_security::smcp::{Grant, KernelCall, KernelSigner, SmcpError, TOKEN_SECONDS_DEFAULT};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::door::Prepared;
use super::{AgentSelector, Caller, Kernel};
use crate::door::calls::{Called, Terms};
use crate::door::{DoorRefusal, Live, workload};
use crate::execution::loop_plan;
use crate::port::{AgentState, Listener, SmcpSession, ToolFacts};
use crate::record::RecordError;

/// A run in which a caller acts as an agent. It ends with its session, or by [`Kernel::act_no_more`].
pub struct Acting {
    live: Arc<Live>,
    tenant: Tenant,
    digest: Sha256,
    signer: Mutex<KernelSigner>,
    /// The revision of agents at which the agent was last seen to be the same.
    seen: AtomicU64,
}

impl Acting {
    /// The run.
    pub fn execution(&self) -> ExecutionId {
        self.live.execution
    }
    /// Whether nothing is taken any more.
    pub fn is_over(&self) -> bool {
        self.live.is_closed()
    }
    /// The tools that may be named, and whether each is a server's.
    pub fn tools(&self) -> impl Iterator<Item = (&ToolFacts, bool)> {
        self.live.callable().map(|facts| (facts, self.is_served(&facts.schema.name)))
    }
    fn is_served(&self, tool: &str) -> bool {
        let served = self.live.served.iter().flat_map(|served| served.tools());
        served.map(|facts| facts.schema.name.as_str()).any(|name| name == tool)
    }
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Acted {
    /// The node's own tool answered.
    Answered(ToolResult),
    /// A server answered: what it gave, whole, as the protocol writes it.
    Whole(Value),
    /// It was refused before it was made.
    Denied(Denial),
    /// It was made, and refused for what came of it: its effect stays.
    Withheld(Denial),
    /// It was given up; nobody knows whether it took effect.
    Interrupted,
}

/// A call that a caller asks for.
pub struct Act<'a> {
    /// The caller's own id of the call.
    pub id: &'a str,
    /// The tool.
    pub tool: &'a str,
    /// Its arguments: a JSON object.
    pub arguments: Value,
    /// Told of what happens meanwhile.
    pub listener: Arc<dyn Listener>,
    /// Gives the call up.
    pub cancel: CancellationToken,
}

impl Kernel {
    /// Begins a run in which `caller` acts as an agent.
    ///
    /// # Errors
    /// Unknown or paused agent, one that this node cannot enforce, or too many such runs.
    pub async fn act(&self, caller: &Caller, agent: &str) -> Result<Acting, Diagnosis> {
        let prepared = self.act_as(&caller.tenant, agent).await.map_err(plain)?;
        let key = caller.actor.links().iter().find_map(|link| match link {
            ActorLink::Key { key } => Some(*key),
            _ => None,
        });
        let digest = match &prepared.created {
            Body::ExecutionCreated { digest, .. } => *digest,
            _ => return Err(Diagnosis::internal("a run without a beginning")),
        };
        let (session, signer) = self.acting_session(caller, agent, &prepared)?;
        let execution = session.execution;
        let doors = Arc::clone(&self.services.doors);
        let place = doors.reserve(execution, key).ok_or_else(|| {
            Diagnosis::new(ErrorCode::Overloaded, "too many callers act as agents at once")
                .hint("end some, or wait until their sessions are over")
        })?;
        doors.expect(execution, key);
        let (kernel, tenant, actor) = (self.clone(), caller.tenant.clone(), caller.actor.clone());
        // On a task of its own: a client that goes away must not leave a recorded run that nobody keeps.
        let begun = tokio::spawn(async move {
            let _place = place;
            let begun = kernel.begin_outside(&actor, tenant, &session, prepared).await;
            if begun.is_err() {
                // Its driver may never ask.
                doors.is_expected(session.execution);
            }
            begun
        });
        begun.await.map_err(|error| Diagnosis::internal(error.to_string()))?.map_err(plain)?;
        let live = self.services.doors.live(execution, 0);
        let live = live.ok_or_else(|| Diagnosis::internal("the run ended as it began"))?;
        Ok(Acting {
            live,
            tenant: caller.tenant.clone(),
            digest,
            signer: Mutex::new(signer),
            seen: AtomicU64::new(0),
        })
    }

    /// The tools that whoever acts as an agent may name.
    ///
    /// # Errors
    /// Unknown or paused agent, or one that this node cannot enforce.
    pub async fn tools_as(&self, tenant: &Tenant, agent: &str) -> Result<Vec<ToolFacts>, Diagnosis> {
        self.callable_as(tenant, agent).await.map_err(plain)
    }

    /// Whether the run still stands, and the agent is what it was when the run began.
    pub async fn acts_still(&self, acting: &Acting) -> bool {
        if acting.live.is_closed() {
            return false;
        }
        // Read first: what changes while the record is asked is asked for again the next time.
        let revision = self.agents_revision.load(Ordering::Acquire);
        if acting.seen.load(Ordering::Acquire) == revision {
            return true;
        }
        let caller = Caller { tenant: acting.tenant.clone(), actor: Actor::default() };
        let selector = AgentSelector::Name { name: acting.live.agent.to_string(), version: None };
        let selected = self.select_agent(&caller, &selector).await;
        let same = selected.is_ok_and(|(agent, version)| {
            agent.state != AgentState::Paused && version.digest == acting.digest
        });
        if same {
            acting.seen.store(revision, Ordering::Release);
        }
        same
    }

    /// Passes a call through the monitor, and performs it if nothing refuses it.
    ///
    /// # Errors
    /// If it cannot be signed or recorded.
    pub async fn act_by(&self, acting: &Acting, act: Act<'_>) -> Result<Acted, Diagnosis> {
        let Act { id, tool, arguments, listener, cancel } = act;
        let call = ToolCall { id: id.to_owned(), name: tool.to_owned(), arguments };
        let admitted = self.admit(acting, &call).map_err(|error| {
            Diagnosis::new(
                ErrorCode::InvalidInput,
                format!("the call cannot be recorded exactly: {}", error.message),
            )
        })?;
        let terms = Terms { listener: Some(listener), cancel };
        let called = acting.live.call(&self.services, admitted, call, terms).await;
        Ok(match called.map_err(unwritten)? {
            Called::Answered(result) if acting.is_served(tool) => match serde_json::from_str(&result.content)
            {
                Ok(whole @ Value::Object(_)) => Acted::Whole(whole),
                _ => Acted::Answered(result),
            },
            Called::Answered(result) => Acted::Answered(result),
            Called::Denied(denial) => Acted::Denied(denial),
            Called::Withheld(denial) => Acted::Withheld(denial),
            Called::Interrupted => Acted::Interrupted,
        })
    }

    /// Ends the run; calls under way are waited for.
    pub fn act_no_more(&self, acting: &Acting) {
        acting.live.finish();
    }

    fn acting_session(
        &self,
        caller: &Caller,
        agent: &str,
        prepared: &Prepared,
    ) -> Result<(SmcpSession, KernelSigner), Diagnosis> {
        let ids = &self.services.ports.ids;
        let now = self.services.ports.clock.now();
        let plan = loop_plan(&prepared.manifest);
        let limit = u32::try_from(plan.total_timeout_ms / 1000).unwrap_or(u32::MAX);
        let seconds = TOKEN_SECONDS_DEFAULT.min(limit.max(1));
        let scope = prepared.manifest.spec.security_context.clone();
        let scope = scope.unwrap_or_else(|| SecurityContext::DEFAULT_NAME.to_owned());
        let execution = ExecutionId::from_uuid(ids.uuid());
        let mut seed = Zeroizing::new([0u8; 32]);
        ids.fill(seed.as_mut());
        let grant = Grant {
            subject: agent.to_owned(),
            scope: scope.clone(),
            workload: workload(execution, 0),
            session: execution.uuid().to_string(),
            seconds,
        };
        let tokens = &self.services.ports.tokens;
        let signer = tokens.with(|keys| KernelSigner::new(seed, keys, &grant, now));
        let signer = signer.map_err(|error| Diagnosis::internal(error.to_string()))?;
        let session = SmcpSession {
            id: execution.uuid(),
            tenant: caller.tenant.clone(),
            execution,
            generation: 0,
            public_key: signer.session().public_key,
            scope: Some(scope),
            // No client holds this session's key: none may speak in it.
            api_key: None,
            opened_at: now,
            expires_at: now.plus_millis(u64::from(seconds) * 1000),
            ended_at: None,
        };
        Ok((session, signer))
    }

    /// The daemon's own envelope of the call, through the checks that every envelope passes.
    fn admit(&self, acting: &Acting, call: &ToolCall) -> Result<Admitted, SmcpError> {
        let now = self.services.ports.clock.now();
        let request_id = self.services.ports.ids.uuid().to_string();
        let here = workload(acting.live.execution, 0);
        let tokens = &self.services.ports.tokens;
        let mut signer = acting.signer.lock().unwrap_or_else(PoisonError::into_inner);
        // A token that cannot be renewed is refused below once it has expired.
        let _ = tokens.with(|keys| signer.renew(keys, now));
        let kernel_call = KernelCall {
            request_id: &request_id,
            model_call: &call.id,
            tool: &call.name,
            arguments: &call.arguments,
        };
        let envelope = signer.sign(&kernel_call, now)?;
        let session = signer.session();
        let authenticated = tokens.with(|keys| checks::authenticate(envelope, keys, Some(&here), now))?;
        checks::admit(checks::verify(authenticated, Some(&session), now)?, Recorded::New)
    }
}

fn plain(refusal: DoorRefusal) -> Diagnosis {
    match refusal {
        DoorRefusal::Node(diagnosis) => diagnosis,
        DoorRefusal::Smcp(error) => Diagnosis::new(ErrorCode::PermissionDenied, error.message),
    }
}

fn unwritten(error: RecordError) -> Diagnosis {
    match error {
        RecordError::Journal(error) => super::unrecorded(error),
        RecordError::Refused(_) => {
            Diagnosis::new(ErrorCode::Conflict, "the run is over or being cancelled").hint("try again")
        }
        other => Diagnosis::internal(other.to_string()),
    }
}
