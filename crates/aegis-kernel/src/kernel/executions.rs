//! Starting, cancelling and removing executions; resuming them after a restart.

use std::sync::Arc;
use std::time::Duration;

use aegis_core::execution::{FailureReason, Input};
use aegis_core::{AgentId, Body, Diagnosis, Durability, ErrorCode, Event, ExecutionId, StreamId, Tenant};
use aegis_manifest::AgentManifest;
use serde_json::Value;

use super::served::resolved;
use super::{Caller, Execute, Kernel, Started, agents, unrecorded};
use crate::execution::{Blueprint, Driver, Signals, loop_plan, recover};
use crate::monitor::{Authority, Member};
use crate::port::{
    AgentState, Append, ExecutionQuery, ExecutionRecord, ExecutionStatus, JournalError, ServerTools,
};
use crate::record::{Ledger, RecordError};
use crate::validation::Schema;

/// Names of templates that overrides may not take.
const TEMPLATE_NAMES: [&str; 6] =
    ["instruction", "input", "iteration_number", "previous_error", "context", "agentskills"];
/// First and longest pause before a run is tried again whose record could not be written.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Most ancestors of an execution.
const ANCESTORS_MAX: usize = 32;
/// Executions read at once when unfinished ones are resumed.
const PAGE: usize = 500;

impl Kernel {
    /// Starts a run. Everything that can be refused is refused before anything is recorded or spent.
    ///
    /// # Errors
    /// Unknown or paused agent, wrong input, or a manifest this node cannot enforce (`capability_missing`).
    pub async fn execute(&self, caller: &Caller, request: Execute) -> Result<Started, Diagnosis> {
        self.scheduler.admit()?;
        let (agent, version) = self.select_agent(caller, &request.agent).await?;
        if agent.state == AgentState::Paused {
            let message = format!("agent `{}` is paused", agent.name);
            return Err(Diagnosis::new(ErrorCode::Conflict, message)
                .hint(format!("`aegis agent resume {}` lets it run again", agent.name)));
        }
        let scribe = self.scribe();
        let document = scribe.text(StreamId::Agent(agent.id), &version.document).await.map_err(unrecorded)?;
        let manifest = agents::parse(&document).map_err(|refusal| {
            Diagnosis::internal(format!("the deployed manifest no longer parses: {refusal}"))
        })?;
        let served = self.served_for(&caller.tenant, &manifest).await?;
        self.refuse_unenforced(&manifest, served.as_ref())?;
        check_input(&manifest, &request.input)?;
        check_overrides(request.context_overrides.as_ref())?;
        let scribe = self.scribe_for(&caller.tenant).await?;
        let execution_id = ExecutionId::from_uuid(scribe.ids.uuid());
        let mut blobs = Vec::new();
        let body = Body::ExecutionCreated {
            agent: agent.id,
            name: agent.name,
            version: version.version,
            digest: version.digest,
            document: version.document,
            input: scribe.blob(request.input.to_string(), &mut blobs),
            overrides: request.context_overrides.map(|value| scribe.blob(value.to_string(), &mut blobs)),
            plan: loop_plan(&manifest),
            parent: None,
            depth: 0,
            external: false,
        };
        let append = Append {
            tenant: caller.tenant.clone(),
            stream: StreamId::Execution(execution_id),
            expected: Some(0),
            events: vec![scribe.event(scribe.root_span(), &caller.actor, body)],
            blobs,
            durability: Durability::Power,
        };
        let kernel = self.clone();
        // On a task of its own: a client that goes away in between must not leave a recorded run unscheduled.
        let begun = tokio::spawn(async move {
            scribe.journal.append(append).await.map_err(unrecorded)?;
            kernel.schedule(execution_id);
            Ok(())
        });
        begun.await.map_err(|error| Diagnosis::internal(error.to_string()))??;
        Ok(Started { execution_id, status: "pending" })
    }

    /// Asks a run to stop; `forced` kills its processes at once. Asking again changes nothing.
    ///
    /// # Errors
    /// Unknown or already ended execution.
    pub async fn cancel(&self, caller: &Caller, id: ExecutionId, forced: bool) -> Result<(), Diagnosis> {
        if self.scheduler.is_cancelled(id, forced) {
            return Ok(());
        }
        let (kernel, caller) = (self.clone(), caller.clone());
        let cancelled = tokio::spawn(async move { kernel.record_cancel(&caller, id, forced).await });
        cancelled.await.map_err(|error| Diagnosis::internal(error.to_string()))?
    }

    async fn record_cancel(&self, caller: &Caller, id: ExecutionId, forced: bool) -> Result<(), Diagnosis> {
        let record = self.own_execution(&caller.tenant, id).await?;
        if record.status.is_final() {
            let message = format!("execution `{id}` is {} already", record.status.name());
            return Err(Diagnosis::new(ErrorCode::Conflict, message));
        }
        let scribe = self.scribe();
        let append = Append {
            tenant: record.tenant,
            stream: StreamId::Execution(id),
            expected: None,
            events: vec![scribe.event(
                scribe.child_span(record.trace_id, None),
                &caller.actor,
                Body::CancelRequested { forced },
            )],
            blobs: Vec::new(),
            durability: Durability::Power,
        };
        scribe.journal.append(append).await.map_err(unrecorded)?;
        if let Err(error) = self.services.ports.sessions.end_of(id).await {
            tracing::warn!(execution = %id, %error, "its sessions end with its door");
        }
        if !self.scheduler.cancel(id, forced) && !self.scheduler.holds(id) {
            // It is not under way here (its driver gave up): a new driver sees the request and records the end.
            self.schedule(id);
        }
        Ok(())
    }

    /// Takes an ended run from the lists; its evidence stays.
    ///
    /// # Errors
    /// Unknown or running execution.
    pub async fn remove_execution(&self, caller: &Caller, id: ExecutionId) -> Result<(), Diagnosis> {
        let record = self.own_execution(&caller.tenant, id).await?;
        if !record.status.is_final() {
            let message = format!("execution `{id}` is {}", record.status.name());
            return Err(Diagnosis::new(ErrorCode::Conflict, message)
                .hint(format!("`aegis task cancel {id}` stops it first")));
        }
        let scribe = self.scribe();
        let span = scribe.child_span(record.trace_id, None);
        let stream = StreamId::Execution(id);
        scribe
            .note(
                &record.tenant,
                stream,
                &caller.actor,
                span,
                (Body::ExecutionRemoved {}, Vec::new()),
                Durability::Power,
            )
            .await
            .map_err(unrecorded)?;
        Ok(())
    }

    /// Puts every unfinished execution back into the scheduler, oldest first.
    pub(crate) async fn resume_unfinished(&self) -> Result<(), Diagnosis> {
        use ExecutionStatus::{Pending, Running, Waiting};
        let mut query = ExecutionQuery {
            statuses: vec![Pending, Running, Waiting],
            limit: PAGE,
            ..ExecutionQuery::default()
        };
        let mut unfinished = Vec::new();
        loop {
            let page = self.services.ports.journal.executions(&query).await.map_err(unrecorded)?;
            unfinished.extend(page.items.into_iter().map(|record| record.id));
            match page.next_cursor {
                Some(cursor) => query.cursor = Some(cursor),
                None => break,
            }
        }
        if !unfinished.is_empty() {
            tracing::info!(count = unfinished.len(), "resuming unfinished executions");
        }
        for id in unfinished.into_iter().rev() {
            self.schedule(id);
        }
        Ok(())
    }

    pub(super) fn schedule(&self, id: ExecutionId) {
        let kernel = self.clone();
        self.scheduler.run(id, move |signals| async move {
            kernel.drive_while_possible(id, signals).await;
        });
    }

    /// Drives a run to its end. A journal that is full or behind is waited for: recovery is the normal path.
    async fn drive_while_possible(&self, id: ExecutionId, signals: Signals) {
        let mut pause = RETRY_PAUSE;
        let mut same_daemon = false;
        loop {
            let error = match self.drive(id, (signals.clone(), same_daemon)).await {
                Ok(()) => return,
                Err(error) => error,
            };
            let passing = matches!(
                error,
                RecordError::Unredactable(_)
                    | RecordError::Journal(
                        JournalError::Overloaded | JournalError::DiskFull(_) | JournalError::Conflict { .. }
                    )
            );
            if !passing {
                tracing::error!(execution = %id, %error, "the record cannot be written; the execution resumes at the next start");
                return;
            }
            tracing::warn!(execution = %id, %error, "the record cannot be written now; trying again");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = signals.park.cancelled() => return,
            }
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
            same_daemon = true;
        }
    }

    async fn drive(
        &self,
        id: ExecutionId,
        (signals, same_daemon): (Signals, bool),
    ) -> Result<(), RecordError> {
        let mut ledger = Ledger::open(self.scribe(), id).await?;
        ledger.scribe.redaction = self.services.redactions.of(&ledger.tenant).await?;
        match self.prepare(&ledger).await? {
            Ok((blueprint, authority)) => {
                let services = Arc::clone(&self.services);
                let external = ledger.state.external;
                let driver = Driver::new(services, ledger, blueprint, authority, (signals, same_daemon));
                if external { driver.keep_door().await } else { driver.run().await }
            }
            Err(problem) => {
                // What ran under a former daemon is settled first, as if the execution went on.
                recover(&mut ledger, self.services.ports.sandbox.as_ref(), same_daemon).await?;
                end_unprepared(&mut ledger, problem).await
            }
        }
    }

    /// The pinned document as this node can run it now; what it cannot is said in words.
    async fn prepare(&self, ledger: &Ledger) -> Result<Result<(Blueprint, Authority), String>, RecordError> {
        let Body::ExecutionCreated { agent, document, .. } = &ledger.created.body else {
            return Err(RecordError::Missing(ledger.execution));
        };
        let document = ledger.scribe.text(StreamId::Agent(*agent), document).await?;
        let ancestors = match self.ancestors(ledger).await? {
            Ok(ancestors) => ancestors,
            Err(problem) => return Ok(Err(problem)),
        };
        let manifest = match agents::parse(&document) {
            Ok(manifest) => manifest,
            Err(refusal) => return Ok(Err(refusal.to_string())),
        };
        match self.served_for(&ledger.tenant, &manifest).await {
            Ok(served) => Ok(self.compile(ledger, *agent, (manifest, ancestors), served.as_ref())),
            Err(problem) => Ok(Err(problem.to_string())),
        }
    }

    /// The agents on whose behalf an execution runs: its parent, then the parent's parent.
    async fn ancestors(&self, ledger: &Ledger) -> Result<Result<Vec<Member>, String>, RecordError> {
        let mut ancestors = Vec::new();
        let mut next = parent_of(&ledger.created);
        while let Some(id) = next {
            if ancestors.len() >= ANCESTORS_MAX {
                return Ok(Err(format!("its chain of parents is longer than {ANCESTORS_MAX}")));
            }
            let parent = Ledger::open(self.scribe(), id).await?;
            let Body::ExecutionCreated { agent, document, .. } = &parent.created.body else {
                return Err(RecordError::Missing(id));
            };
            let document = parent.scribe.text(StreamId::Agent(*agent), document).await?;
            let manifest = match agents::parse(&document) {
                Ok(manifest) => Arc::new(manifest),
                Err(refusal) => return Ok(Err(format!("the manifest of its parent `{id}`: {refusal}"))),
            };
            next = parent_of(&parent.created);
            ancestors.push(Member { execution: id.to_string(), tenant: parent.tenant, manifest });
        }
        Ok(Ok(ancestors))
    }

    pub(super) fn compile(
        &self,
        ledger: &Ledger,
        agent: AgentId,
        (manifest, mut ancestors): (AgentManifest, Vec<Member>),
        served: Option<&Arc<dyn ServerTools>>,
    ) -> Result<(Blueprint, Authority), String> {
        self.refuse_unenforced(&manifest, served).map_err(|problem| problem.to_string())?;
        let found = self.found(served);
        let manifest = resolved(manifest, &found);
        for member in &mut ancestors {
            member.manifest = Arc::new(resolved(AgentManifest::clone(&member.manifest), &found));
        }
        let interpreters = &self.services.ports.sandbox.capabilities().interpreters;
        let interpreter = interpreters
            .iter()
            .find(|(language, ..)| language == "python")
            .map(|(.., path)| path.clone())
            .ok_or("capability_missing: no python3 in /usr/bin")?;
        let blueprint = Blueprint::of(agent, &manifest, &found, &interpreter);
        let execution = ledger.execution.to_string();
        let caller = Member { execution, tenant: ledger.tenant.clone(), manifest: Arc::new(manifest) };
        let chain = std::iter::once(caller).chain(ancestors).collect();
        let authority = Authority::compile(chain, &self.rules, &blueprint.tools)?;
        Ok((blueprint, authority))
    }

    pub(super) fn refuse_unenforced(
        &self,
        manifest: &AgentManifest,
        served: Option<&Arc<dyn ServerTools>>,
    ) -> Result<(), Diagnosis> {
        let gaps = self.unenforced(manifest, served);
        if gaps.is_empty() {
            return Ok(());
        }
        let what =
            gaps.iter().map(|gap| format!("{}: {}", gap.path, gap.what)).collect::<Vec<_>>().join("; ");
        let remedy = gaps.iter().map(|gap| gap.remedy.clone()).collect::<Vec<_>>().join("; ");
        Err(Diagnosis::capability_missing(what, remedy))
    }

    async fn own_execution(&self, tenant: &Tenant, id: ExecutionId) -> Result<ExecutionRecord, Diagnosis> {
        let record = self.services.ports.journal.execution(id).await.map_err(unrecorded)?;
        record
            .filter(|record| record.tenant == *tenant && !record.removed)
            .ok_or_else(|| Diagnosis::not_found("execution", id))
    }
}

fn parent_of(created: &Event) -> Option<ExecutionId> {
    match &created.body {
        Body::ExecutionCreated { parent, .. } => *parent,
        _ => None,
    }
}

/// Ends an execution that this node cannot run: as somebody asked, or as failed.
async fn end_unprepared(ledger: &mut Ledger, problem: String) -> Result<(), RecordError> {
    if ledger.state.phase.is_final() {
        return Ok(());
    }
    let mut blobs = Vec::new();
    let input = if ledger.state.cancel.is_some() {
        Input::Cancelled
    } else {
        let detail = ledger.scribe.blob(problem, &mut blobs);
        Input::Fail { reason: FailureReason::CapabilityMissing, detail }
    };
    ledger.record(input, blobs, Durability::Power).await
}

fn check_input(manifest: &AgentManifest, input: &Value) -> Result<(), Diagnosis> {
    let bytes = input.to_string().len();
    if bytes > aegis_core::limits::INPUT_BYTES_MAX {
        let message =
            format!("the input has {bytes} bytes, at most {} are taken", aegis_core::limits::INPUT_BYTES_MAX);
        return Err(Diagnosis::new(ErrorCode::InvalidInput, message));
    }
    let Some(schema) = &manifest.spec.input_schema else { return Ok(()) };
    let wrong = |message: String| {
        Diagnosis::new(
            ErrorCode::InvalidInput,
            format!("the input does not satisfy spec.input_schema: {message}"),
        )
    };
    let schema = Schema::compile(&Value::Object(schema.clone())).map_err(wrong)?;
    schema.violation(input).map_or(Ok(()), |violation| Err(wrong(violation)))
}

fn check_overrides(overrides: Option<&Value>) -> Result<(), Diagnosis> {
    let Some(overrides) = overrides else { return Ok(()) };
    let Value::Object(values) = overrides else {
        return Err(Diagnosis::new(ErrorCode::InvalidInput, "context_overrides is not an object")
            .hint("give names and values, such as {\"tone\": \"dry\"}"));
    };
    match values.keys().find(|name| TEMPLATE_NAMES.contains(&name.as_str())) {
        Some(name) => Err(Diagnosis::new(
            ErrorCode::InvalidInput,
            format!("context_overrides may not set `{name}`: it is a name of the template already"),
        )),
        None => Ok(()),
    }
}
