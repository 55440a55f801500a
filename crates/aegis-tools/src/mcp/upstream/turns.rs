//! Requests of callers, each in its turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rmcp::model::{CallToolRequestParams, ClientRequest, ServerResult};
use serde_json::{Map, Value};
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use super::super::connection::{Connection, Terms, Wanted};
use super::super::error::McpError;
use super::super::result::McpResult;
use super::super::servers::CallOptions;
use super::{Phase, Upstream};

impl Upstream {
    /// Calls a tool, by the server's name for it.
    pub(in crate::mcp) async fn call(
        &self,
        tool: &str,
        arguments: Option<Map<String, Value>>,
        options: &CallOptions,
    ) -> Result<McpResult, McpError> {
        let mut call = CallToolRequestParams::new(tool.to_owned());
        call.arguments = arguments;
        let ServerResult::CallToolResult(answer) = self.ask(Wanted::Call(call), options).await? else {
            return Err(self.malformed("it answered `tools/call` with something else"));
        };
        let result = McpResult::new(answer);
        let max = self.settings.limits.response_bytes_max;
        if result.size() > max {
            return Err(McpError::TooLarge { server: self.settings.name.to_string(), max });
        }
        Ok(result)
    }

    /// A request that the server may ask something for before it answers. The answer is of any kind and size.
    pub(in crate::mcp) async fn ask(
        &self,
        wanted: Wanted,
        options: &CallOptions,
    ) -> Result<ServerResult, McpError> {
        let (connection, _turn, deadline) = self.turn(options).await?;
        let terms = self.terms(options, deadline);
        let answer = connection.call(wanted, options.listener.clone(), terms).await;
        self.look_after(answer)
    }

    /// Any other request.
    pub(in crate::mcp) async fn request(
        &self,
        request: ClientRequest,
        options: &CallOptions,
    ) -> Result<ServerResult, McpError> {
        let (connection, _turn, deadline) = self.turn(options).await?;
        let answer = connection.request_beside(request, self.terms(options, deadline)).await;
        self.look_after(answer)
    }

    /// A server that could not be reached is looked at now: one behind an address has no process whose end would tell.
    fn look_after<T>(&self, answer: Result<T, McpError>) -> Result<T, McpError> {
        if matches!(answer, Err(McpError::Down { .. } | McpError::TimedOut { .. })) {
            self.look.notify_one();
        }
        match answer {
            // What it refuses for want of a token it has not done.
            Err(McpError::Down { server, reason, sent }) => Err(match self.trouble() {
                Some(reason) => McpError::Down { server, reason, sent: false },
                None => McpError::Down { server, reason, sent },
            }),
            other => other,
        }
    }

    fn terms<'a>(&self, options: &'a CallOptions, deadline: Instant) -> Terms<'a> {
        Terms {
            time: deadline.saturating_duration_since(Instant::now()),
            cancel: &options.cancel,
            progress: options.progress.clone(),
        }
    }

    /// Waits for a turn: the server runs, is not held, and has room.
    async fn turn(
        &self,
        options: &CallOptions,
    ) -> Result<(Arc<Connection>, SemaphorePermit<'_>, Instant), McpError> {
        let server = || self.settings.name.to_string();
        let limits = self.settings.limits;
        let time = options.time.unwrap_or(limits.request_timeout).min(limits.request_timeout);
        let deadline = Instant::now() + time;
        let permit = match self.running.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                let waiting = self.waiting.fetch_add(1, Ordering::AcqRel);
                let _leave = Leave(&self.waiting);
                if waiting >= limits.queue_max {
                    return Err(McpError::Busy { server: server(), waiting });
                }
                tokio::select! {
                    permit = self.running.acquire() => permit.map_err(|_| self.down("it is stopped"))?,
                    () = options.cancel.cancelled() => return Err(McpError::Cancelled),
                    () = tokio::time::sleep_until(deadline) => {
                        return Err(McpError::TimedOut { server: server(), after: time, sent: false });
                    }
                }
            }
        };
        let connection = self.connection(options, deadline).await?;
        // Read after the wait: what was held meanwhile is not called.
        if self.is_held() {
            return Err(McpError::Held { server: server() });
        }
        Ok((connection, permit, deadline))
    }

    async fn connection(
        &self,
        options: &CallOptions,
        deadline: Instant,
    ) -> Result<Arc<Connection>, McpError> {
        loop {
            self.need();
            let unsettled = matches!(&*self.phase.borrow(), Phase::Starting | Phase::Idle);
            if !unsettled || Instant::now() >= deadline {
                break;
            }
            tokio::select! {
                () = self.settled() => {}
                () = options.cancel.cancelled() => return Err(McpError::Cancelled),
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
        match &*self.phase.borrow() {
            Phase::Live(connection) => Ok(Arc::clone(connection)),
            Phase::Starting | Phase::Idle => Err(self.down("it still starts")),
            Phase::Stopped => Err(self.down("it is stopped")),
            Phase::Down { reason, again_in } => {
                let seconds = again_in.as_secs_f32();
                Err(self.down(format!("{reason}; it is started again {seconds} s after that")))
            }
        }
    }
}

struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
