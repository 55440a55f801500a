//! A stream of server-sent events that survives a lost connection: it asks again from the last id it saw.

use std::pin::Pin;
use std::time::Duration;

use aegis_core::{Diagnosis, ErrorCode};
use futures_util::{Stream, StreamExt as _};
use reqwest::Method;
use sse_stream::{Sse, SseStream};

use super::{CallError, Client};
use crate::ExecutionEvent;

/// Longest silence before a connection is given up; the daemon sends a comment every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Pause before asking again; grows linearly with the attempts.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);
/// Attempts in a row without any event before the stream fails: about half a minute.
const ATTEMPTS_MAX: u32 = 15;

pub(super) type Connection = Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send>>;

/// One event with the daemon's exact words.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamItem {
    /// The event's name.
    pub name: String,
    /// The `data`, one JSON object.
    pub data: String,
    /// The data, if it is of a kind this version knows.
    pub event: Option<ExecutionEvent>,
}

/// Events in order, each once. Reconnects with `Last-Event-ID`.
pub struct EventStream {
    client: Client,
    path: String,
    follow: bool,
    verbose: bool,
    ends_with_run: bool,
    connection: Option<Connection>,
    last_id: Option<String>,
    /// Events received after `last_id`. One journal entry may give several events, the last of which has the id, so
    /// as many come again after a reconnect.
    after_id: usize,
    to_skip: usize,
    attempts: u32,
    over: bool,
}

impl EventStream {
    pub(super) fn new(client: Client, path: String, follow: bool, ends_with_run: bool) -> Self {
        Self {
            client,
            path,
            follow,
            verbose: false,
            ends_with_run,
            connection: None,
            last_id: None,
            after_id: 0,
            to_skip: 0,
            attempts: 0,
            over: false,
        }
    }

    /// The same with results of tools, sizes of prompts and answers of models. For a stream that was not read yet.
    #[must_use]
    pub fn verbose(mut self, verbose: bool) -> Self {
        self.verbose = verbose;
        self
    }

    /// The next event; `None` once the run is over, or everything recorded was told when not following.
    ///
    /// # Errors
    /// The daemon's refusal, or `unreachable` after repeated attempts.
    pub async fn next(&mut self) -> Result<Option<StreamItem>, CallError> {
        while !self.over {
            if self.connection.is_none() {
                self.connect().await?;
            }
            let Some(connection) = &mut self.connection else { continue };
            match tokio::time::timeout(SILENCE_MAX, connection.next()).await {
                Ok(Some(Ok(sse))) => {
                    if let Some(item) = self.take(sse) {
                        return Ok(Some(item));
                    }
                }
                Ok(None) if !self.follow => self.over = true,
                _ => self.lost().await?,
            }
        }
        Ok(None)
    }

    async fn connect(&mut self) -> Result<(), CallError> {
        let query = [("follow", self.follow.to_string()), ("verbose", self.verbose.to_string())];
        let mut request = self.client.request(Method::GET, &self.path, &query);
        if let Some(id) = &self.last_id {
            request = request.header("last-event-id", id);
        }
        match self.client.send(request).await {
            Ok(answer) => {
                self.connection = Some(Box::pin(SseStream::from_bytes_stream(answer.bytes_stream())));
                self.to_skip = self.after_id;
                Ok(())
            }
            Err(error) if self.may_try_again(&error) => self.lost().await,
            Err(error) => Err(error),
        }
    }

    /// A first connection that fails is told at once; a broken stream is worth waiting for a daemon that restarts.
    fn may_try_again(&self, error: &CallError) -> bool {
        let transient = matches!(error.diagnosis.code, ErrorCode::Unreachable | ErrorCode::Overloaded);
        transient && (self.last_id.is_some() || self.after_id > 0)
    }

    async fn lost(&mut self) -> Result<(), CallError> {
        self.connection = None;
        self.attempts += 1;
        if self.attempts > ATTEMPTS_MAX {
            return Err(Diagnosis::new(
                ErrorCode::Unreachable,
                format!("the event stream from {} broke and did not come back", self.client.endpoint.url()),
            )
            .hint(
                "the run goes on in the daemon; see `aegis status`, then follow again with `aegis task logs`",
            )
            .into());
        }
        tokio::time::sleep(RECONNECT_PAUSE * self.attempts).await;
        Ok(())
    }

    fn take(&mut self, sse: Sse) -> Option<StreamItem> {
        self.attempts = 0;
        let data = sse.data?;
        if self.to_skip > 0 {
            self.to_skip -= 1;
            return None;
        }
        if let Some(id) = sse.id.filter(|id| !id.is_empty()) {
            self.last_id = Some(id);
            self.after_id = 0;
        } else {
            self.after_id += 1;
        }
        let event: Option<ExecutionEvent> = serde_json::from_str(&data).ok();
        self.over = self.ends_with_run && event.as_ref().is_some_and(ExecutionEvent::is_final);
        Some(StreamItem { name: sse.event.unwrap_or_default(), data, event })
    }
}
