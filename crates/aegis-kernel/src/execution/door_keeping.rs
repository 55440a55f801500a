//! The driver's part in the door: opened with a generation, closed before its end is recorded; and the whole of a run
//! that a program outside speaks for.

use std::sync::Arc;
use std::time::Duration;

use aegis_core::execution::{FailureReason, Input};
use aegis_core::{ApiKeyId, Body, Durability, KernelSession, Name, Timestamp, ToolCall};
use aegis_security::smcp::checks::Session;
use aegis_security::smcp::{Envelope, Grant, KernelCall, KernelSigner, SmcpError, TOKEN_SECONDS_DEFAULT};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::driver::{Driver, Halt};
use super::{StopReason, settle_unknown};
use crate::door::{Opening, workload};
use crate::egress::{self, OpenOutlet, Outlet};
use crate::monitor::Authority;
use crate::port::{Door, Sandboxed, SessionError};
use crate::record::RecordError;
use crate::workers::Workers;

impl Driver {
    /// Lets programs inside the generation speak, if the manifest grants it.
    pub(super) async fn open_door(
        &mut self,
        generation: u32,
        sandboxed: &Arc<dyn Sandboxed>,
    ) -> Result<(), Halt> {
        let admits = self.services.doors.admits().filter(|_| self.blueprint.doors.api);
        if self.blueprint.doors.egress {
            self.outlet = Some(self.open_outlet(generation)?);
        }
        if admits.is_some() {
            let opening = self.opening(generation, None).await?;
            self.door = Some(self.services.doors.open(opening));
        }
        let outlet = self.outlet.as_ref().map(OpenOutlet::outlet);
        if admits.is_none() && outlet.is_none() {
            return Ok(());
        }
        let sandboxed = Arc::clone(sandboxed);
        let accepting = tokio::spawn(async move {
            while let Ok(connection) = sandboxed.door().await {
                match (connection.door, &admits, &outlet) {
                    (Door::Api, Some(admits), _) => admits.admit(connection),
                    (Door::Egress, _, Some(outlet)) => outlet.admit(connection),
                    (Door::Api, None, _) | (Door::Egress, _, None) => {}
                }
            }
        });
        if let Some(door) = &mut self.door {
            door.accepts(accepting.abort_handle());
        }
        if let Some(outlet) = &mut self.outlet {
            outlet.accepts(accepting.abort_handle());
        }
        Ok(())
    }

    /// A way out for programs inside, judged by an authority of its own.
    fn open_outlet(&self, generation: u32) -> Result<OpenOutlet, Halt> {
        let another = self.services.monitor.another(&self.authority, &self.blueprint.tools);
        let authority = another.map_err(|why| Halt::Execution(FailureReason::CapabilityMissing, why))?;
        let spent = self.ledger.state.egress_bytes;
        let opening = egress::Opening {
            execution: self.ledger.execution,
            generation,
            volume: self.services.monitor.egress_bytes_max().saturating_sub(spent),
            workers: self.workers(authority),
        };
        Ok(Outlet::open(&self.services, opening))
    }

    /// Takes no more calls and connections, waits for the ends of those under way, and ends the sessions.
    pub(super) async fn close_door(&mut self) {
        if let Some(outlet) = self.outlet.take() {
            outlet.close().await;
        }
        let Some(door) = self.door.take() else { return };
        door.close().await;
        if let Err(error) = self.services.ports.sessions.end_of(self.ledger.execution).await {
            tracing::warn!(execution = %self.ledger.execution, %error, "sessions are not marked as ended; none of them can speak");
        }
    }

    async fn opening(&mut self, generation: u32, key: Option<ApiKeyId>) -> Result<Opening, Halt> {
        let workspace = Arc::clone(&self.rooms().await?.workspace);
        let another = self.services.monitor.another(&self.authority, &self.blueprint.tools);
        let authority = another.map_err(|why| Halt::Execution(FailureReason::CapabilityMissing, why))?;
        let plan = self.ledger.state.plan;
        let now = self.ledger.scribe.clock.now();
        let since = self.ledger.state.started_at.unwrap_or(now);
        let mut until = since.plus_millis(plan.total_timeout_ms);
        if generation > 0 {
            until = until.min(now.plus_millis(plan.iteration_timeout_ms));
        }
        Ok(Opening {
            execution: self.ledger.execution,
            generation,
            agent: self.agent_name()?,
            scope: self.blueprint.scope.clone(),
            until,
            key,
            workers: self.workers(authority),
            tools: self.blueprint.tools.clone(),
            served: self.blueprint.served.clone(),
            workspace,
            way_out: self.outlet.as_ref().map(OpenOutlet::way_out),
            scribe: self.ledger.scribe.clone(),
        })
    }

    fn workers(&self, authority: Authority) -> Workers {
        let (tools, scribe) = (self.blueprint.tools.clone(), self.ledger.scribe.clone());
        Workers::new(self.ledger.execution, authority, tools, scribe)
    }

    fn agent_name(&self) -> Result<Name, Halt> {
        match &self.ledger.created.body {
            Body::ExecutionCreated { name, .. } => Ok(name.clone()),
            _ => Err(internal("the record does not begin with an execution")),
        }
    }

    /// A key of this generation's own, in memory alone, to sign what the model calls in it.
    pub(super) fn kernel_signer(&self, generation: u32) -> Result<KernelSigner, Halt> {
        let ids = &self.ledger.scribe.ids;
        let mut seed = Zeroizing::new([0u8; 32]);
        ids.fill(seed.as_mut());
        let grant = Grant {
            subject: self.agent_name()?.to_string(),
            scope: self.blueprint.scope.clone(),
            workload: workload(self.ledger.execution, generation),
            session: ids.uuid().to_string(),
            seconds: TOKEN_SECONDS_DEFAULT,
        };
        let now = self.ledger.scribe.clock.now();
        let tokens = &self.services.ports.tokens;
        tokens.with(|keys| KernelSigner::new(seed, keys, &grant, now)).map_err(|e| internal(&e.to_string()))
    }

    /// The daemon's own envelope of a model's call, and the session to check it against.
    pub(super) fn sign(&mut self, call: &ToolCall) -> Result<(Result<Envelope, SmcpError>, Session), Halt> {
        let scribe = &self.ledger.scribe;
        let now = scribe.clock.now();
        let request_id = scribe.ids.uuid().to_string();
        let Some(generation) = &mut self.generation else { return Err(internal("no sandbox runs")) };
        let signer = &mut generation.signer;
        let renewed = self.services.ports.tokens.with(|keys| signer.renew(keys, now));
        renewed.map_err(|error| internal(&error.to_string()))?;
        let call = KernelCall {
            request_id: &request_id,
            model_call: &call.id,
            tool: &call.name,
            arguments: &call.arguments,
        };
        Ok((signer.sign(&call, now), signer.session()))
    }

    /// Keeps the door of a run that a program outside speaks for, until its session is over.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub(crate) async fn keep_door(mut self) -> Result<(), RecordError> {
        let kept = self.keep_outside().await;
        self.close_door().await;
        let closed = match self.rooms.take() {
            Some(rooms) => rooms.close().await,
            None => Ok(()),
        };
        let ended = match kept {
            Ok(Kept::Parked) => Ok(()),
            Ok(Kept::Over) => self.complete_outside().await,
            Ok(Kept::Cancelled) => self.cancel_outside().await,
            Err(Halt::Record(error)) => Err(error),
            Err(Halt::Stopped(StopReason::Park)) => Ok(()),
            Err(Halt::Stopped(_)) => self.cancel_outside().await,
            Err(Halt::Iteration(reason, detail) | Halt::Execution(reason, detail)) => {
                self.fail_outside(reason, detail).await
            }
        };
        ended.and(closed)
    }

    async fn keep_outside(&mut self) -> Result<Kept, Halt> {
        if self.ledger.state.phase.is_final() {
            return Ok(Kept::Parked);
        }
        settle_unknown(&mut self.ledger).await?;
        if self.ledger.state.cancel.is_some() {
            return Ok(Kept::Cancelled);
        }
        let id = self.ledger.execution.uuid();
        let found = self.services.ports.sessions.find(id).await;
        let session = found.map_err(|error: SessionError| internal(&error.to_string()))?;
        // Never opened: the daemon ended in between.
        let Some(session) = session else { return Ok(Kept::Over) };
        let left = remaining(self.ledger.scribe.clock.now(), session.expires_at);
        if session.ended_at.is_some() || left.is_zero() {
            return Ok(Kept::Over);
        }
        let key = match session.api_key {
            Some(key) => Some(key),
            None => match self.services.doors.is_expected(self.ledger.execution) {
                Some(key) => key,
                // The daemon that signed for its caller is gone, and the key with it.
                None => return Ok(Kept::Over),
            },
        };
        let opening = self.opening(0, key).await?;
        let door = self.door.insert(self.services.doors.open(opening));
        self.stopper.set_total_deadline(tokio::time::Instant::now() + left);
        let reason = tokio::select! {
            reason = self.stopper.interrupted() => reason,
            () = door.finished() => return Ok(Kept::Over),
        };
        Ok(match reason {
            StopReason::Park => Kept::Parked,
            StopReason::Cancel => Kept::Cancelled,
            StopReason::IterationTimeout | StopReason::ExecutionTimeout => Kept::Over,
        })
    }

    async fn complete_outside(&mut self) -> Result<(), RecordError> {
        self.ledger.catch_up().await?;
        let mut blobs = Vec::new();
        let answer = self.ledger.scribe.blob(String::new(), &mut blobs);
        let body = Body::ExecutionCompleted { answer, total_iterations: 0 };
        self.ledger.fact(body, blobs, Durability::Power).await
    }

    async fn cancel_outside(&mut self) -> Result<(), RecordError> {
        self.ledger.catch_up().await?;
        self.ledger.record(Input::Cancelled, Vec::new(), Durability::Power).await
    }

    async fn fail_outside(&mut self, reason: FailureReason, detail: String) -> Result<(), RecordError> {
        self.ledger.catch_up().await?;
        let mut blobs = Vec::new();
        let detail = self.ledger.scribe.blob(detail, &mut blobs);
        self.ledger.record(Input::Fail { reason, detail }, blobs, Durability::Power).await
    }
}

/// Why a door from outside is not kept open any more.
enum Kept {
    /// Its session ended or expired.
    Over,
    /// Somebody asked for it.
    Cancelled,
    /// The daemon stops, or nothing was left to keep.
    Parked,
}

/// What is recorded of the daemon's own session.
pub(super) fn kernel_session(signer: &KernelSigner) -> KernelSession {
    let Session { id, public_key, .. } = signer.session();
    KernelSession { session: id, public_key: STANDARD.encode(public_key) }
}

fn remaining(now: Timestamp, until: Timestamp) -> Duration {
    Duration::from_millis(until.millis_since(now))
}

fn internal(why: &str) -> Halt {
    Halt::Execution(FailureReason::Internal, why.to_owned())
}
