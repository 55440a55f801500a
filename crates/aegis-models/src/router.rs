//! The `Model` port: from an alias to an answer, through retries and the fallback.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aegis_core::{ModelAnswer, ModelFailure, ModelFailureKind, ModelRequest, Usage};
use aegis_kernel::port::{Clock, Model, ModelFacts};
use async_trait::async_trait;
use secrecy::ExposeSecret;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::backoff;
use crate::draft::{Draft, cost};
use crate::fault::Fault;
use crate::names::Names;
use crate::recording::{RecordedAnswer, Recording};
use crate::schema_tools;
use crate::settings::{Price, Settings, SettingsError, ToolCalling};
use crate::table::{Provider, Route, Source, Table};

/// Longest time any call is given, whatever its request says.
const CALL_MAX: Duration = Duration::from_secs(24 * 3600);

/// Asks the models behind the node's aliases.
pub struct Router {
    table: RwLock<Arc<Table>>,
    clock: Arc<dyn Clock>,
}

impl Router {
    /// A router of these settings.
    ///
    /// # Errors
    /// Settings that contradict themselves, or name recordings that cannot be read.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, SettingsError> {
        Ok(Self { table: RwLock::new(Arc::new(Table::build(settings)?)), clock })
    }
    /// Takes new settings, whole or not at all. Calls in flight end by the settings they began with.
    ///
    /// # Errors
    /// As for [`Router::new`]; the old settings then stay.
    pub fn replace(&self, settings: Settings) -> Result<(), SettingsError> {
        let table = Arc::new(Table::build(settings)?);
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(())
    }
    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Model for Router {
    async fn ask(
        &self,
        request: &ModelRequest,
        cancel: &CancellationToken,
    ) -> Result<ModelAnswer, ModelFailure> {
        let table = self.table();
        let Some(route) = table.route(&request.alias) else { return Err(unknown_alias(&table, request)) };
        let limit = Duration::from_millis(request.timeout_ms).min(CALL_MAX);
        let mut call = Call {
            request,
            cancel,
            table: &table,
            clock: &*self.clock,
            limit,
            deadline: Instant::now() + limit,
            attempts: 0,
        };
        let first = match call.provider(route).await {
            Ok(answer) => return Ok(answer),
            Err(failed) => failed,
        };
        let told = first.told(&route.provider.name);
        let fallback = table.fallback(&request.alias, route).filter(|_| first.fault.is_retryable());
        let Some(fallback) = fallback else {
            return Err(call.failure(&first.fault, format!("the model provider {told}")));
        };
        tracing::warn!(provider = %route.provider.name, fallback = %fallback.provider.name, kind = ?first.fault.kind(), "model call falls back");
        match call.provider(&fallback).await {
            Ok(answer) => Ok(answer),
            Err(second) => {
                let then = second.told(&fallback.provider.name);
                let text = format!("the model provider {told}, and then the fallback {then}");
                Err(call.failure(&second.fault, text))
            }
        }
    }
    fn facts(&self, alias: &str) -> Option<ModelFacts> {
        let table = self.table();
        let route = table.route(alias)?;
        Some(ModelFacts {
            provider: route.provider.name.clone(),
            model: route.model.model.clone(),
            context_window: route.model.context_window,
            personal_data: route.model.personal_data
                && table.fallback(alias, route).is_none_or(|other| other.model.personal_data),
        })
    }
    fn aliases(&self) -> Vec<String> {
        self.table().aliases()
    }
}

fn unknown_alias(table: &Table, request: &ModelRequest) -> ModelFailure {
    let aliases = table.aliases();
    let known =
        if aliases.is_empty() { "no model at all".to_owned() } else { format!("`{}`", aliases.join("`, `")) };
    let message = format!(
        "no model has the alias `{}`; this node has {known}: add it to `llm_providers` in the node configuration",
        crate::fault::words(&request.alias, None)
    );
    ModelFailure { kind: ModelFailureKind::UnknownAlias, message, attempts: 0 }
}

/// How a provider failed in the end.
struct Failed {
    fault: Fault,
    attempts: u32,
}

impl Failed {
    fn told(&self, provider: &str) -> String {
        let attempts =
            if self.attempts > 1 { format!(" ({} attempts)", self.attempts) } else { String::new() };
        format!("`{provider}` {}{attempts}", self.fault.happened())
    }
}

/// One call of [`Model::ask`].
struct Call<'a> {
    request: &'a ModelRequest,
    cancel: &'a CancellationToken,
    table: &'a Table,
    clock: &'a dyn Clock,
    limit: Duration,
    deadline: Instant,
    attempts: u32,
}

impl Call<'_> {
    fn failure(&self, fault: &Fault, told: String) -> ModelFailure {
        let remedy = fault.remedy();
        let message = if remedy.is_empty() { told } else { format!("{told}; {remedy}") };
        ModelFailure { kind: fault.kind(), message, attempts: self.attempts }
    }

    /// Waits for `work` within the time of the call and while it is wanted. Dropping the work ends the connection.
    async fn bounded<T>(&self, work: impl Future<Output = T>) -> Result<T, Fault> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Fault::Cancelled),
            () = tokio::time::sleep_until(self.deadline) => Err(Fault::Deadline(self.limit)),
            done = work => Ok(done),
        }
    }

    /// Asks one provider until it answers, fails for good, or the retries are used up.
    async fn provider(&mut self, route: &Route) -> Result<ModelAnswer, Failed> {
        let selection = &self.table.selection;
        let mut made = 0u32;
        loop {
            made += 1;
            self.attempts += 1;
            let fault = match self.bounded(self.attempt(route)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(fault)) | Err(fault) => fault,
            };
            let failed = |fault| Failed { fault, attempts: made };
            if !fault.is_retryable() || made > selection.max_retries {
                return Err(failed(fault));
            }
            let own = backoff(selection.retry_delay_ms, made - 1, self.request.jitter_seed);
            let wait = fault.retry_after().unwrap_or(own);
            if Instant::now() + wait >= self.deadline {
                return Err(failed(fault));
            }
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(provider = %route.provider.name, attempt = made, kind = ?fault.kind(), wait_ms, "model call is retried");
            self.bounded(tokio::time::sleep(wait)).await.map_err(failed)?;
        }
    }

    async fn attempt(&self, route: &Route) -> Result<ModelAnswer, Fault> {
        let provider = &*route.provider;
        let answer = match &provider.source {
            Source::Replay(recordings) => self.replayed(route, recordings.find(self.request)?),
            Source::Remote { .. } => self.asked(route).await?,
        };
        self.record(provider, &answer).await;
        Ok(answer)
    }

    async fn asked(&self, route: &Route) -> Result<ModelAnswer, Fault> {
        let by_schema = route.model.tool_calling == ToolCalling::Schema && !self.request.tools.is_empty();
        let constrained = by_schema.then(|| schema_tools::constrain(self.request));
        let request = constrained.as_ref().unwrap_or(self.request);
        let names = Names::of(&request.tools);
        let mut draft = self.exchange(route, request, &names).await?;
        if by_schema {
            draft = schema_tools::interpret(draft, &self.request.tools);
        }
        let names = if by_schema { Names::of(&self.request.tools) } else { names };
        Ok(self.answer(route, &draft, &names))
    }

    /// Asks over the wire. A server that refuses to count usage in a stream is asked again without.
    async fn exchange(&self, route: &Route, request: &ModelRequest, names: &Names) -> Result<Draft, Fault> {
        let Source::Remote { dialect, target, usage_refused } = &route.provider.source else {
            return Err(Fault::NotRecorded("replays".to_owned()));
        };
        let secret = route.provider.api_key.as_ref().map(ExposeSecret::expose_secret);
        let ask_usage = !usage_refused.load(Ordering::Relaxed);
        let body = dialect.body(request, &route.model.model, names, ask_usage);
        match target.ask(&body, dialect.reader(), secret, self.clock.now()).await {
            Err(Fault::Status { status: 400 | 422, detail, .. })
                if ask_usage && detail.contains("stream_options") =>
            {
                usage_refused.store(true, Ordering::Relaxed);
                let body = dialect.body(request, &route.model.model, names, false);
                target.ask(&body, dialect.reader(), secret, self.clock.now()).await
            }
            other => other,
        }
    }

    fn answer(&self, route: &Route, draft: &Draft, names: &Names) -> ModelAnswer {
        ModelAnswer {
            content: draft.content.clone(),
            tool_calls: draft.tool_calls(names, self.request.messages.len()),
            finish: draft.finish(),
            usage: draft.usage(self.request, route.model.price),
            provider: route.provider.name.clone(),
            model: draft.model.clone().unwrap_or_else(|| route.model.model.clone()),
            fingerprint: draft.fingerprint.clone(),
            request_id: draft.request_id.clone(),
            attempts: self.attempts,
        }
    }

    fn replayed(&self, route: &Route, recorded: &RecordedAnswer) -> ModelAnswer {
        ModelAnswer {
            content: recorded.content.clone(),
            tool_calls: recorded.tool_calls.clone(),
            finish: recorded.finish,
            usage: replayed_usage(self.request, recorded, route.model.price),
            provider: route.provider.name.clone(),
            model: recorded.model.clone(),
            fingerprint: recorded.fingerprint.clone(),
            request_id: None,
            attempts: self.attempts,
        }
    }

    /// Writes an answer down where the configuration wants recordings. A recording that fails fails no call.
    async fn record(&self, provider: &Provider, answer: &ModelAnswer) {
        let Some(folder) = &provider.record_to else { return };
        if let Err(error) = Recording::of(self.request, answer).write(folder).await {
            tracing::warn!(provider = %provider.name, %error, "the answer could not be recorded");
        }
    }
}

fn replayed_usage(request: &ModelRequest, recorded: &RecordedAnswer, price: Price) -> Usage {
    let mut said = Draft::default();
    said.content.clone_from(&recorded.content);
    let estimate = said.usage(request, price);
    let input_tokens = recorded.input_tokens.unwrap_or(estimate.input_tokens);
    let output_tokens = recorded.output_tokens.unwrap_or(estimate.output_tokens);
    let estimated = recorded.input_tokens.is_none() || recorded.output_tokens.is_none();
    Usage { input_tokens, output_tokens, cost: cost(input_tokens, output_tokens, price), estimated }
}
