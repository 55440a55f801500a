//! Servers as a node has them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aegis_core::{Body, ExecutionId, Name, Tenant, Timestamp, ToolCall};
use aegis_kernel::port::{ToolContext, Workspace};
use aegis_testkit::TestClock;
use aegis_tools::mcp::{
    Credentials, HttpClient, McpParts, McpServers, McpTools, PinStore, ServerSettings, Starter, Tokens,
};
use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

pub(super) const WAIT: Duration = Duration::from_secs(20);

/// A store of secrets, by tenant and name.
#[derive(Default)]
pub(super) struct Memory(pub(super) Mutex<BTreeMap<(Tenant, String), String>>);

#[async_trait]
impl Tokens for Memory {
    async fn read(&self, tenant: &Tenant, name: &str) -> Result<Option<SecretString>, String> {
        let kept = self.0.lock().unwrap();
        Ok(kept.get(&(tenant.clone(), name.to_owned())).map(|value| value.clone().into()))
    }
    async fn write(&self, tenant: &Tenant, name: &str, value: SecretString) -> Result<(), String> {
        let value = value.expose_secret().to_owned();
        self.0.lock().unwrap().insert((tenant.clone(), name.to_owned()), value);
        Ok(())
    }
    async fn delete(&self, tenant: &Tenant, name: &str) -> Result<(), String> {
        self.0.lock().unwrap().remove(&(tenant.clone(), name.to_owned()));
        Ok(())
    }
}

/// Gives each reference a value of its own per tenant; tokens are in the store.
struct Known(Arc<Memory>);

#[async_trait]
impl Credentials for Known {
    async fn resolve(&self, tenant: &Tenant, _: &Name, reference: &str) -> Result<SecretString, String> {
        if let Some(name) = reference.strip_prefix("secret:").filter(|name| name.starts_with("oauth/")) {
            return self.0.read(tenant, name).await?.ok_or_else(|| "not there".to_owned());
        }
        let text = reference.strip_prefix("literal:").map(str::to_owned);
        Ok(text.unwrap_or_else(|| format!("{tenant}/{reference}")).into())
    }
}

pub(super) struct Bench {
    pub(super) servers: Arc<McpServers>,
    pub(super) events: Arc<Mutex<Vec<Body>>>,
    pub(super) memory: Arc<Memory>,
}

/// Limits small enough to run into.
pub(super) fn settings(config: Value) -> ServerSettings {
    let mut settings = ServerSettings::new(&serde_json::from_value(config).unwrap()).unwrap();
    settings.limits.restart_after = Duration::from_millis(50);
    settings.limits.restart_after_max = Duration::from_millis(400);
    settings
}

pub(super) fn bench(settings: Vec<ServerSettings>, starter: Arc<dyn Starter>, pins: &PinStore) -> Bench {
    bench_with(settings, starter, pins, Arc::default())
}

pub(super) fn bench_with(
    settings: Vec<ServerSettings>,
    starter: Arc<dyn Starter>,
    pins: &PinStore,
    memory: Arc<Memory>,
) -> Bench {
    let events: Arc<Mutex<Vec<Body>>> = Arc::default();
    let record = Arc::clone(&events);
    let parts = McpParts {
        starter,
        credentials: Arc::new(Known(Arc::clone(&memory))),
        tokens: Arc::clone(&memory) as _,
        pins: pins.clone(),
        events: Arc::new(move |_: &Tenant, body: Body| record.lock().unwrap().push(body)),
        on_change: Arc::new(|_: &Tenant, _: &Name, _| {}),
        http: HttpClient::default(),
        clock: Arc::new(TestClock::at(Timestamp::from_micros(1))),
    };
    Bench { servers: McpServers::new(settings, BTreeSet::new(), parts).unwrap(), events, memory }
}

impl Bench {
    pub(super) async fn tools(&self) -> McpTools {
        self.servers.tools(&tenant(), WAIT).await.unwrap()
    }
    pub(super) fn saw(&self, kind: &str) -> usize {
        self.events.lock().unwrap().iter().filter(|body| body.kind() == kind).count()
    }
}

pub(super) fn tenant() -> Tenant {
    Tenant::default_tenant()
}

pub(super) fn call(name: &str, arguments: Value) -> ToolCall {
    ToolCall { id: "1".to_owned(), name: name.to_owned(), arguments }
}

pub(super) fn context() -> ToolContext {
    let execution = ExecutionId::from_uuid(uuid::Uuid::nil());
    ToolContext {
        execution,
        workspace: Arc::new(Workspace::new(Vec::new())),
        listener: None,
        way_out: None,
        tenant: Tenant::default_tenant(),
        record: None,
    }
}

pub(super) fn nothing() -> Value {
    json!({})
}
