//! SMCP as commands: attest, invoke, and what may be named.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use aegis_core::{
    Actor, ActorLink, ApiKeyId, Body, Diagnosis, Durability, ErrorCode, ExecutionId, StreamId, Tenant,
    Timestamp,
};
use aegis_security::smcp::attestation::{self, Attestation};
use aegis_security::smcp::checks::{self, Authenticated, Recorded, Session};
use aegis_security::smcp::{
    Envelope, Grant, Signer, SmcpCode, SmcpError, TOKEN_SECONDS_DEFAULT, TOKEN_SECONDS_MAX, success,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{AgentSelector, Caller, Kernel, agents, unrecorded};
use crate::door::calls::{self, Called, Terms, result_json};
use crate::door::{DoorRefusal, Live, Speaker, workload};
use crate::execution::loop_plan;
use crate::port::{AgentState, Append, Claimed, SessionError, SmcpSession};
use crate::record::RecordError;

/// How long a run of a program outside may take to be ready.
const READY_PATIENCE: Duration = Duration::from_secs(10);
const READY_PAUSE: Duration = Duration::from_millis(5);

impl Kernel {
    /// Opens a session: `{status, security_token, expires_at, session_id}`.
    ///
    /// # Errors
    /// As the protocol has it: another's claims, a second session of a generation, an agent that cannot be acted as.
    pub async fn attest(&self, speaker: &Speaker, text: &[u8]) -> Result<Value, DoorRefusal> {
        let asked = Attestation::parse(text)?;
        if self.smcp().is_some_and(|smcp| !smcp.enabled) {
            let message = "the node's configuration takes no attestations (`smcp.enabled`)";
            return Err(refused(SmcpCode::UnknownWorkload, message).into());
        }
        let live = match speaker {
            Speaker::Sandbox { execution, generation } => {
                let live = self.services.doors.live(*execution, *generation);
                live.ok_or_else(|| refused(SmcpCode::UnknownWorkload, "the execution's sandbox is ending"))?
            }
            Speaker::Key { .. } => return self.attest_outside(speaker, &asked).await,
        };
        agree(&asked, &workload(live.execution, live.generation), (live.agent.as_str(), &live.scope))?;
        let now = live.scribe.clock.now();
        let left = live.until.millis_since(now).div_ceil(1000);
        let seconds = u32::try_from(left).unwrap_or(u32::MAX).clamp(1, TOKEN_SECONDS_MAX);
        let session = SmcpSession {
            id: live.scribe.ids.uuid(),
            tenant: self.tenant_of(&live).await?,
            execution: live.execution,
            generation: live.generation,
            public_key: asked.public_key,
            scope: Some(live.scope.clone()),
            api_key: None,
            opened_at: now,
            expires_at: now.plus_millis(u64::from(seconds) * 1000),
            ended_at: None,
        };
        self.open_session(&session).await?;
        live.note(opened(&session)).await.map_err(unwritten)?;
        self.token(&session, (live.agent.as_str(), &live.scope), (now, seconds))
    }

    /// Performs a signed request: `{protocol, status, payload}`.
    ///
    /// # Errors
    /// The first of the protocol's checks that fails, or the denial of the monitor.
    pub async fn invoke(&self, speaker: &Speaker, text: &[u8]) -> Result<Value, DoorRefusal> {
        let envelope = checks::parse(text)?;
        let now = self.services.ports.clock.now();
        let here = match speaker {
            Speaker::Sandbox { execution, generation } => Some(workload(*execution, *generation)),
            Speaker::Key { .. } => None,
        };
        let tokens = &self.services.ports.tokens;
        let authenticated = tokens.with(|keys| checks::authenticate(envelope, keys, here.as_deref(), now))?;
        let (known, live) = self.session(speaker, &authenticated, now).await?;
        let verified = checks::verify(authenticated, known.as_ref(), now)?;
        let (Ok(id), Some(live)) = (Uuid::from_str(verified.session_id()), live) else {
            return Err(refused(SmcpCode::UnknownSession, "the session is over or was never opened").into());
        };
        live.count().map_err(|denial| SmcpError::from(&denial))?;
        let (nonce, request) = (verified.nonce(), verified.request_id().key());
        let claimed = self.services.ports.sessions.claim(id, &nonce, &request);
        let recorded = match claimed.await.map_err(unkept)? {
            Claimed::New => Recorded::New,
            Claimed::NonceSeen => Recorded::NonceSeen,
            Claimed::RequestSeen => Recorded::RequestIdSeen,
        };
        let admitted = checks::admit(verified, recorded)?;
        let envelope = admitted.envelope.clone();
        let result = match envelope.method() {
            "tools/call" => {
                let wanted = calls::wanted(&admitted).map_err(|error| answering(error, &envelope))?;
                let called =
                    live.call(&self.services, admitted, wanted, Terms::default()).await.map_err(unwritten)?;
                match called {
                    Called::Answered(result) => result_json(&result),
                    Called::Denied(denial) | Called::Withheld(denial) => {
                        return Err(answering((&denial).into(), &envelope).into());
                    }
                    Called::Interrupted => {
                        let told = "interrupted: it is not known whether this call took effect";
                        json!({"content": [{"type": "text", "text": told}], "isError": true})
                    }
                }
            }
            "tools/list" => live.tools_json(),
            "ping" => json!({}),
            _ => {
                let message = "the method is none of tools/call, tools/list, ping";
                let error = SmcpError {
                    reason: Some("METHOD_NOT_FOUND"),
                    ..SmcpError::new(SmcpCode::ToolNotAllowed, message)
                };
                return Err(answering(error, &envelope).into());
            }
        };
        Ok(success(envelope.protocol(), envelope.request_id(), result))
    }

    /// The tools that may be named: `{tools: […]}`.
    ///
    /// # Errors
    /// If the execution is over, or the agent cannot be acted as.
    pub async fn callable_tools(&self, speaker: &Speaker) -> Result<Value, DoorRefusal> {
        match speaker {
            Speaker::Sandbox { execution, generation } => {
                let live = self.services.doors.live(*execution, *generation);
                let unknown = || refused(SmcpCode::UnknownWorkload, "the execution's sandbox is ending");
                Ok(live.ok_or_else(unknown)?.tools_json())
            }
            Speaker::Key { tenant, agent, .. } => {
                let tools = self.callable_as(tenant, agent.as_str()).await?;
                Ok(calls::tools_json(tools.iter()))
            }
        }
    }

    /// The tools that whoever acts as the agent may name.
    pub(super) async fn callable_as(
        &self,
        tenant: &Tenant,
        agent: &str,
    ) -> Result<Vec<crate::port::ToolFacts>, DoorRefusal> {
        let prepared = self.act_as(tenant, agent).await?;
        let served = self.served_for(tenant, &prepared.manifest).await?;
        let found = self.found(served.as_ref());
        let tools = prepared.manifest.spec.tools.iter();
        let homes = tools.filter_map(|tool| found.find(found.name_of(tool)?).map(|home| (tool, home)));
        Ok(homes
            .map(|(tool, home)| {
                let mut facts = home.facts().clone();
                if let Some(name) = found.name_of(tool) {
                    name.clone_into(&mut facts.schema.name);
                }
                facts
            })
            .filter(|facts| facts.schema.name != crate::tools::COMMAND_RUN)
            .collect())
    }

    /// Ends the sessions, and the runs, that a key opened: it was revoked.
    pub async fn end_key(&self, caller: &Caller, key: ApiKeyId) {
        for execution in self.services.doors.end_key(key) {
            if let Err(error) = self.cancel(caller, execution, true).await {
                tracing::warn!(%execution, error = %error.message, "a run of a revoked key is over already");
            }
        }
    }

    /// What is known of the session a token names, and the execution it may speak for now.
    async fn session(
        &self,
        speaker: &Speaker,
        authenticated: &Authenticated,
        now: Timestamp,
    ) -> Result<(Option<Session>, Option<Arc<Live>>), DoorRefusal> {
        let envelope = authenticated.envelope();
        let foreign = |message: &str| answering(refused(SmcpCode::InvalidToken, message), envelope);
        if matches!(speaker, Speaker::Key { .. }) && !authenticated.claims().workload.ends_with("/0") {
            return Err(foreign("the token is a sandbox's; it is valid on its own socket alone").into());
        }
        let Ok(id) = Uuid::from_str(authenticated.session_id()) else { return Ok((None, None)) };
        let Some(found) = self.services.ports.sessions.find(id).await.map_err(unkept)? else {
            return Ok((None, None));
        };
        if let Speaker::Key { key, .. } = speaker
            && found.api_key != Some(*key)
        {
            return Err(foreign("the token is of another API key").into());
        }
        let live = self.services.doors.live(found.execution, found.generation);
        let session = Session {
            id: authenticated.session_id().to_owned(),
            public_key: found.public_key,
            signer: Signer::Client,
            active: live.is_some() && found.is_active(now),
        };
        Ok((Some(session), live))
    }

    async fn open_session(&self, session: &SmcpSession) -> Result<(), DoorRefusal> {
        match self.services.ports.sessions.open(session).await {
            Ok(()) => Ok(()),
            Err(error @ SessionError::AttestedAlready(_)) => {
                Err(SmcpError::new(SmcpCode::WorkloadVerificationFailed, error.to_string()).into())
            }
            Err(error) => Err(unkept(error)),
        }
    }

    fn token(
        &self,
        session: &SmcpSession,
        (agent, scope): (&str, &str),
        (now, seconds): (Timestamp, u32),
    ) -> Result<Value, DoorRefusal> {
        let grant = Grant {
            subject: agent.to_owned(),
            scope: scope.to_owned(),
            workload: workload(session.execution, session.generation),
            session: session.id.to_string(),
            seconds,
        };
        let issued = self.services.ports.tokens.with(|keys| keys.issue(&grant, now));
        let (token, claims) = issued.map_err(|error| Diagnosis::internal(error.to_string()))?;
        Ok(attestation::attested(&token, &claims))
    }

    fn smcp(&self) -> Option<aegis_manifest::node::Smcp> {
        self.settings().config.spec.smcp.clone()
    }

    async fn tenant_of(&self, live: &Live) -> Result<Tenant, DoorRefusal> {
        let record = self.services.ports.journal.execution(live.execution).await.map_err(unrecorded)?;
        record.map(|record| record.tenant).ok_or_else(|| Diagnosis::internal("no such execution").into())
    }

    async fn attest_outside(&self, speaker: &Speaker, asked: &Attestation) -> Result<Value, DoorRefusal> {
        let Speaker::Key { tenant, key, agent } = speaker else {
            return Err(refused(SmcpCode::UnknownWorkload, "no API key speaks").into());
        };
        let prepared = self.act_as(tenant, agent.as_str()).await?;
        let context = prepared.manifest.spec.security_context.clone();
        let scope = context.unwrap_or_else(|| aegis_manifest::node::SecurityContext::DEFAULT_NAME.to_owned());
        agree(asked, agent.as_str(), (agent.as_str(), &scope))?;
        let plan = loop_plan(&prepared.manifest);
        let now = self.services.ports.clock.now();
        let limit = u32::try_from(plan.total_timeout_ms / 1000).unwrap_or(u32::MAX);
        let seconds = self.smcp().and_then(|smcp| smcp.token_ttl_seconds).unwrap_or(TOKEN_SECONDS_DEFAULT);
        let seconds = seconds.min(limit.max(1)).min(TOKEN_SECONDS_MAX);
        let execution = ExecutionId::from_uuid(self.services.ports.ids.uuid());
        let place = self
            .services
            .doors
            .reserve(execution, Some(*key))
            .ok_or_else(|| refused(SmcpCode::RateLimitExceeded, "too many sessions are open at once"))?;
        let session = SmcpSession {
            id: execution.uuid(),
            tenant: tenant.clone(),
            execution,
            generation: 0,
            public_key: asked.public_key,
            scope: Some(scope.clone()),
            api_key: Some(*key),
            opened_at: now,
            expires_at: now.plus_millis(u64::from(seconds) * 1000),
            ended_at: None,
        };
        let kernel = self.clone();
        let (key, tenant, begun) = (*key, tenant.clone(), session.clone());
        // On a task of its own: a client that goes away must not leave a recorded run that nobody keeps.
        let actor = Actor::default().then(ActorLink::Key { key });
        let begun = tokio::spawn(async move {
            let _place = place;
            kernel.begin_outside(&actor, tenant, &begun, prepared).await
        });
        begun.await.map_err(|error| Diagnosis::internal(error.to_string()))??;
        self.token(&session, (agent.as_str(), &scope), (now, seconds))
    }

    pub(super) async fn begin_outside(
        &self,
        actor: &Actor,
        tenant: Tenant,
        session: &SmcpSession,
        prepared: Prepared,
    ) -> Result<(), DoorRefusal> {
        self.scheduler.admit()?;
        let scribe = self.scribe();
        let mut blobs = Vec::new();
        let mut created = prepared.created;
        if let Body::ExecutionCreated { input, .. } = &mut created {
            *input = scribe.blob("null", &mut blobs);
        }
        let span = scribe.root_span();
        let bodies = [created, Body::ExecutionStarted {}, opened(session)];
        let append = Append {
            tenant: tenant.clone(),
            stream: StreamId::Execution(session.execution),
            expected: Some(0),
            events: bodies.into_iter().map(|body| scribe.event(span, actor, body)).collect(),
            blobs,
            durability: Durability::Power,
        };
        scribe.journal.append(append).await.map_err(unrecorded)?;
        let opened = self.open_session(session).await;
        self.schedule(session.execution);
        opened?;
        let ready = async {
            while self.services.doors.live(session.execution, 0).is_none() {
                tokio::time::sleep(READY_PAUSE).await;
            }
        };
        if tokio::time::timeout(READY_PATIENCE, ready).await.is_ok() {
            return Ok(());
        }
        // Nobody would ever speak in it.
        let caller = Caller { tenant, actor: actor.clone() };
        if let Err(error) = self.cancel(&caller, session.execution, true).await {
            tracing::warn!(execution = %session.execution, error = %error.message, "a run that was not ready in time is over already");
        }
        let late = Diagnosis::new(ErrorCode::Overloaded, "the run was not ready in time");
        Err(late.hint("try again soon").into())
    }

    /// The agent that a key acts as, as it would run now.
    pub(super) async fn act_as(&self, tenant: &Tenant, agent: &str) -> Result<Prepared, DoorRefusal> {
        let caller = Caller { tenant: tenant.clone(), actor: Actor::default() };
        let selector = AgentSelector::Name { name: agent.to_owned(), version: None };
        let selected = self.select_agent(&caller, &selector).await;
        let (agent, version) = selected.map_err(|error| match error.code {
            ErrorCode::NotFound => {
                refused(SmcpCode::UnknownWorkload, "the key's agent is not deployed").into()
            }
            _ => DoorRefusal::Node(error),
        })?;
        if agent.state == AgentState::Paused {
            return Err(refused(SmcpCode::UnknownWorkload, "the key's agent is paused").into());
        }
        let stream = StreamId::Agent(agent.id);
        let document = self.scribe().text(stream, &version.document).await.map_err(unrecorded)?;
        let manifest = agents::parse(&document).map_err(|refusal| {
            Diagnosis::internal(format!("the deployed manifest no longer parses: {refusal}"))
        })?;
        let served = self.served_for(tenant, &manifest).await?;
        self.refuse_unenforced(&manifest, served.as_ref())?;
        let created = Body::ExecutionCreated {
            agent: agent.id,
            name: agent.name,
            version: version.version,
            digest: version.digest,
            document: version.document,
            input: version.document,
            overrides: None,
            plan: loop_plan(&manifest),
            parent: None,
            depth: 0,
            external: true,
        };
        Ok(Prepared { manifest, created })
    }
}

/// An agent that is acted as.
pub(super) struct Prepared {
    pub(super) manifest: aegis_manifest::AgentManifest,
    /// The run's first event; its input is still to be set.
    pub(super) created: Body,
}

fn agree(asked: &Attestation, workload: &str, (agent, scope): (&str, &str)) -> Result<(), SmcpError> {
    if asked.agent.as_deref().is_some_and(|claim| claim != agent) {
        return Err(refused(SmcpCode::UnknownWorkload, "`agent` is not the one the caller may act as"));
    }
    asked.agrees_with(workload, scope)
}

fn opened(session: &SmcpSession) -> Body {
    Body::SessionOpened {
        session: session.id.to_string(),
        generation: session.generation,
        public_key: STANDARD.encode(session.public_key),
        expires_at: session.expires_at,
        key: session.api_key,
    }
}

fn refused(code: SmcpCode, message: &str) -> SmcpError {
    SmcpError::new(code, message)
}

fn answering(error: SmcpError, envelope: &Envelope) -> SmcpError {
    error.answering(envelope.protocol(), envelope.request_id())
}

fn unkept(error: SessionError) -> DoorRefusal {
    match error {
        SessionError::Overloaded => Diagnosis::new(ErrorCode::Overloaded, error.to_string()).into(),
        other => Diagnosis::internal(other.to_string()).into(),
    }
}

fn unwritten(error: RecordError) -> DoorRefusal {
    match error {
        RecordError::Journal(error) => unrecorded(error).into(),
        RecordError::Refused(_) => {
            refused(SmcpCode::UnknownSession, "the execution is over or being cancelled").into()
        }
        other @ (RecordError::Missing(_) | RecordError::Unredactable(_)) => {
            Diagnosis::internal(other.to_string()).into()
        }
    }
}
