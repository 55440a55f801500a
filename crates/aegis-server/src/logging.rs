//! The daemon's own log, on standard error.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write};
use std::sync::{Arc, PoisonError, RwLock};

use aegis_core::Tenant;

use aegis_manifest::node::{LogFormat, Logging};
use aegis_security::redact::Redactor;
use tracing_subscriber::EnvFilter;

/// What the log leaves out, by tenant. One log, one process.
static LEFT_OUT: RwLock<BTreeMap<Tenant, Arc<Redactor>>> = RwLock::new(BTreeMap::new());

/// Leaves what `redactor` looks for out of the log from now on.
pub(crate) fn leave_out(tenant: &Tenant, redactor: Redactor) {
    LEFT_OUT.write().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone(), Arc::new(redactor));
}

/// A text as the log would hold it.
pub(crate) fn without_secrets(mut text: String) -> String {
    let redactors: Vec<Arc<Redactor>> =
        LEFT_OUT.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
    for redactor in redactors {
        text = redactor.redact(&text).into_owned();
    }
    text
}

/// Standard error, without secrets. Each event comes in one piece.
struct Redacting;

impl Write for Redacting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = without_secrets(String::from_utf8_lossy(bytes).into_owned());
        std::io::stderr().lock().write_all(text.as_bytes())?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().lock().flush()
    }
}

/// Begins to log. `level` of the command line wins over the configuration's.
pub fn init_logging(logging: &Logging, level: Option<&str>) {
    let level = level.unwrap_or(logging.level.name());
    // Libraries below speak of requests and connections; only their trouble is ours.
    let filter = EnvFilter::new(format!("warn,aegis={level},{}", own_crates(level)));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Redacting)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let begun = match logging.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    // Only a second call fails, and then the first one's log goes on.
    drop(begun);
}

fn own_crates(level: &str) -> String {
    let crates = ["server", "kernel", "store", "models", "tools", "volume", "sandbox", "security"];
    crates.map(|name| format!("aegis_{name}={level}")).join(",")
}
