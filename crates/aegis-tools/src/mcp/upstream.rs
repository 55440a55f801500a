//! One server of one tenant: started, watched, held, started again.

mod holding;
mod turns;

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_core::{Body, ServerEnd, Sha256, Tenant};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Failure, Opening};
use super::error::McpError;
use super::handler::{AskedLog, ListChanged};
use super::log::LogRing;
use super::oauth::{Authorizer, SignInError};
use super::pin::{PinDocument, PinRecord};
use super::servers::McpParts;
use super::settings::{Reach, ServerSettings};

/// A server that ran this long starts its pauses anew.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// A server that says its tools changed, again and again, is looked at no more often than this.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// How often in a row a server at work may fail to answer a look.
const LOOKS_MISSED_MAX: u32 = 2;
/// A server nobody has called for this long is ended; the next call starts it again.
const IDLE_AFTER: Duration = Duration::from_secs(600);

/// What a server does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerState {
    /// It starts.
    Starting,
    /// It answers, in this revision of the protocol.
    Ready {
        /// The revision.
        protocol: String,
    },
    /// It is down, and is started again after a pause.
    Down {
        /// Why.
        reason: String,
        /// The pause.
        again_in: Duration,
    },
    /// Nobody has called it for a while: it was ended, and the next call starts it.
    Idle,
    /// It was told to stop.
    Stopped,
}

#[derive(Clone)]
enum Phase {
    Starting,
    Idle,
    Live(Arc<Connection>),
    Down { reason: String, again_in: Duration },
    Stopped,
}

/// A server of a tenant.
pub(super) struct Upstream {
    pub(super) tenant: Tenant,
    pub(super) settings: ServerSettings,
    pub(super) logs: Arc<LogRing>,
    parts: Arc<McpParts>,
    phase: watch::Sender<Phase>,
    record: Mutex<PinRecord>,
    /// Only one of those who judge, hold and accept works at a time.
    judging: tokio::sync::Mutex<bool>,
    running: Semaphore,
    waiting: AtomicUsize,
    restarts: AtomicU32,
    again: Notify,
    look: Arc<Notify>,
    /// When it was last needed.
    needed: Mutex<Instant>,
    asked: AskedLog,
    /// Signs in, where the server's section says how.
    authorizer: Option<Arc<Authorizer>>,
    on_change: Arc<dyn Fn(ListChanged) + Send + Sync>,
    stop: CancellationToken,
}

impl Upstream {
    /// A server that is not started yet.
    pub(super) fn new(
        tenant: Tenant,
        settings: ServerSettings,
        parts: Arc<McpParts>,
        on_change: Arc<dyn Fn(ListChanged) + Send + Sync>,
    ) -> Arc<Self> {
        let authorizer = match &settings.reach {
            Reach::Address { url, oauth: Some(oauth), .. } => {
                Authorizer::new(&tenant, &settings.name, url, oauth, &parts).map(Arc::new)
            }
            _ => None,
        };
        Arc::new(Self {
            tenant,
            logs: Arc::new(LogRing::new(settings.limits.log_lines_max)),
            running: Semaphore::new(settings.limits.concurrent_max),
            settings,
            parts,
            phase: watch::Sender::new(Phase::Starting),
            record: Mutex::default(),
            judging: tokio::sync::Mutex::new(false),
            waiting: AtomicUsize::new(0),
            restarts: AtomicU32::new(0),
            again: Notify::new(),
            look: Arc::new(Notify::new()),
            needed: Mutex::new(Instant::now()),
            asked: AskedLog::default(),
            authorizer,
            on_change,
            stop: CancellationToken::new(),
        })
    }
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
    /// Starts it anew at once: who calls from now on waits for that.
    pub(super) fn restart(&self) {
        self.phase.send_if_modified(|phase| {
            let runs_on = !matches!(phase, Phase::Stopped);
            if runs_on {
                *phase = Phase::Starting;
            }
            runs_on
        });
        self.again.notify_one();
    }
    pub(super) fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Relaxed)
    }
    pub(super) fn record(&self) -> PinRecord {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Reads the tools that were accepted.
    pub(super) fn with_accepted<T>(&self, read: impl FnOnce(Option<&PinDocument>) -> T) -> T {
        read(self.record.lock().unwrap_or_else(PoisonError::into_inner).accepted.as_ref())
    }
    fn is_held(&self) -> bool {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.shown.is_some() || record.accepted.is_none()
    }
    pub(super) fn state(&self) -> ServerState {
        match &*self.phase.borrow() {
            Phase::Starting => ServerState::Starting,
            Phase::Live(connection) => ServerState::Ready { protocol: connection.protocol() },
            Phase::Down { reason, again_in } => {
                ServerState::Down { reason: reason.clone(), again_in: *again_in }
            }
            Phase::Idle => ServerState::Idle,
            Phase::Stopped => ServerState::Stopped,
        }
    }
    /// Notes that it is needed, and starts it if it was ended for want of calls.
    pub(super) fn need(&self) {
        *self.needed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        // Only one of those who find it idle wakes it: a second word would end what the first started.
        let woken = self.phase.send_if_modified(|phase| {
            let idle = matches!(phase, Phase::Idle);
            if idle {
                *phase = Phase::Starting;
            }
            idle
        });
        if woken {
            self.again.notify_one();
        }
    }
    /// Waits until it no longer starts: it answers, or is down.
    pub(super) async fn settled(&self) {
        let mut phase = self.phase.subscribe();
        let _ = phase.wait_for(|phase| !matches!(phase, Phase::Starting)).await;
    }

    /// Waits until it has ended for good, after it was told to stop.
    pub(super) async fn stopped(&self) {
        let mut phase = self.phase.subscribe();
        let _ = phase.wait_for(|phase| matches!(phase, Phase::Stopped)).await;
    }

    /// Keeps the server running until it is told to stop.
    pub(super) async fn run(self: Arc<Self>) {
        let mut failures = 0_u32;
        loop {
            self.phase.send_replace(Phase::Starting);
            let began = Instant::now();
            let failure = self.once().await;
            self.tell(Body::ServerStopped { server: self.settings.name.clone(), reason: failure.end });
            if self.stop.is_cancelled() {
                break;
            }
            if failure.end == ServerEnd::Idle {
                failures = 0;
                self.phase.send_replace(Phase::Idle);
                tokio::select! {
                    () = self.stop.cancelled() => break,
                    () = self.again.notified() => continue,
                }
            }
            if failure.end == ServerEnd::Told {
                failures = 0;
                continue;
            }
            if began.elapsed() >= WELL_AFTER {
                failures = 0;
            }
            let limits = self.settings.limits;
            let again_in =
                limits.restart_after.saturating_mul(1 << failures.min(16)).min(limits.restart_after_max);
            failures = failures.saturating_add(1);
            self.restarts.store(failures, Ordering::Relaxed);
            let reason = self.trouble().unwrap_or(failure.reason);
            self.phase.send_replace(Phase::Down { reason, again_in });
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = self.again.notified() => {}
                () = tokio::time::sleep(again_in) => {}
            }
        }
        self.phase.send_replace(Phase::Stopped);
    }

    /// One life of the server.
    async fn once(&self) -> Failure {
        let started = tokio::select! {
            () = self.stop.cancelled() => return Failure::new(ServerEnd::Told, "it was told to stop"),
            started = tokio::time::timeout(self.settings.limits.start_timeout, self.start()) => started,
        };
        let connection = match started {
            Ok(Ok(connection)) => Arc::new(connection),
            Ok(Err(failure)) => return failure,
            Err(_) => {
                let seconds = self.settings.limits.start_timeout.as_secs();
                return Failure::new(ServerEnd::NotStarted, format!("it did not start in {seconds} s"));
            }
        };
        self.tell(Body::ServerStarted {
            server: self.settings.name.clone(),
            protocol: connection.protocol(),
            restarts: self.restarts(),
        });
        self.phase.send_replace(Phase::Live(Arc::clone(&connection)));
        let failure = tokio::select! {
            () = self.stop.cancelled() => Failure::new(ServerEnd::Told, "it was told to stop"),
            () = self.again.notified() => Failure::new(ServerEnd::Told, "it was told to start again"),
            failure = connection.ended() => failure,
            failure = self.watch(&connection) => failure,
            () = connection.lists_change() => Failure::new(ServerEnd::Ended, "it is gone"),
            () = self.idle() => Failure::new(ServerEnd::Idle, "nobody called it for a while"),
            () = self.well() => Failure::new(ServerEnd::Ended, "it is gone"),
        };
        // Nobody is given the connection any more, and those who wait on it learn now that it is over.
        self.phase.send_replace(Phase::Starting);
        connection.end();
        failure
    }

    /// Returns once nobody has needed it for a while.
    async fn idle(&self) {
        loop {
            let needed = *self.needed.lock().unwrap_or_else(PoisonError::into_inner);
            let busy = self.running.available_permits() < self.settings.limits.concurrent_max;
            let until = needed + IDLE_AFTER;
            if !busy && Instant::now() >= until {
                return;
            }
            tokio::time::sleep_until(until.max(Instant::now() + LOOK_PAUSE)).await;
        }
    }

    /// Forgets former failures once it has run for a while. Never returns.
    async fn well(&self) {
        tokio::time::sleep(WELL_AFTER).await;
        self.restarts.store(0, Ordering::Relaxed);
        std::future::pending().await
    }

    async fn start(&self) -> Result<Connection, Failure> {
        self.remember().await.map_err(|error| Failure::new(ServerEnd::NotStarted, error.to_string()))?;
        let opening = Opening {
            tenant: &self.tenant,
            settings: &self.settings,
            parts: &self.parts,
            logs: &self.logs,
            tools_changed: &self.look,
            asked: &self.asked,
            authorizer: self.authorizer.as_ref(),
            on_change: Arc::clone(&self.on_change),
        };
        let connection = Connection::open(opening).await?;
        self.look_at(&connection).await?;
        Ok(connection)
    }

    /// Looks at the server now and then, and whenever it says that its tools changed.
    async fn watch(&self, connection: &Connection) -> Failure {
        let mut missed = 0;
        loop {
            tokio::select! {
                () = self.look.notified() => {}
                () = tokio::time::sleep(self.settings.limits.health_interval) => {}
            }
            let busy = self.running.available_permits() < self.settings.limits.concurrent_max;
            match self.look_at(connection).await {
                Ok(()) => missed = 0,
                // A server that does one thing at a time may well be at work.
                Err(failure)
                    if failure.end == ServerEnd::Unresponsive && busy && missed < LOOKS_MISSED_MAX =>
                {
                    missed += 1;
                }
                Err(failure) => return failure,
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    async fn look_at(&self, connection: &Connection) -> Result<(), Failure> {
        let time = self.settings.limits.request_timeout.min(self.settings.limits.start_timeout);
        let document = match connection.describe(time).await {
            Ok(document) => document,
            Err(error) => {
                let end = match &error {
                    McpError::TimedOut { .. } => ServerEnd::Unresponsive,
                    McpError::TooLarge { .. } => ServerEnd::MessageTooLarge,
                    McpError::Protocol { .. } | McpError::Malformed { .. } => ServerEnd::Protocol,
                    _ => ServerEnd::Ended,
                };
                // The stream knows better why it ended than whoever waited for it.
                let ended = tokio::time::timeout(Duration::from_millis(50), connection.ended()).await;
                return Err(ended.unwrap_or_else(|_| Failure::new(end, error.to_string())));
            }
        };
        let judged = self.judge(document).await;
        judged.map_err(|error| Failure::new(ServerEnd::Protocol, error.to_string()))
    }

    fn digest(&self, document: &PinDocument) -> Result<Sha256, McpError> {
        document.digest().map_err(|reason| self.malformed(reason))
    }
    /// Why it gives nothing, if that is for want of a token.
    fn trouble(&self) -> Option<String> {
        self.authorizer.as_ref()?.trouble().map(|trouble| trouble.to_string())
    }
    /// What signs in at it.
    pub(super) fn authorizer(&self) -> Result<&Authorizer, SignInError> {
        self.authorizer.as_deref().ok_or(SignInError::NotConfigured)
    }
    fn tell(&self, body: Body) {
        (self.parts.events)(&self.tenant, body);
    }
    fn down(&self, reason: impl Into<String>) -> McpError {
        McpError::Down { server: self.settings.name.to_string(), reason: reason.into(), sent: false }
    }
    fn pins(&self, reason: String) -> McpError {
        McpError::Pins { server: self.settings.name.to_string(), reason }
    }
    fn malformed(&self, reason: impl Into<String>) -> McpError {
        McpError::Malformed { server: self.settings.name.to_string(), reason: reason.into() }
    }
}
