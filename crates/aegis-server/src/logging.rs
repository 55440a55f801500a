//! The daemon's own log, on standard error.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write};
use std::sync::{Arc, PoisonError, RwLock};

use aegis_core::Tenant;

use aegis_manifest::node::{LogFormat, Logging};
use aegis_security::redact::Redactor;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

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
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // Only a second call fails, and then the first one's log goes on.
    drop(subscriber(logging, level, colours, || Redacting).try_init());
}

/// What writes the log.
fn subscriber<W>(
    logging: &Logging,
    level: Option<&str>,
    colours: bool,
    writer: W,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = level.unwrap_or(logging.level.name());
    // Libraries below speak of requests and connections; only their trouble is ours.
    let filter = EnvFilter::new(format!("warn,aegis={level},{}", own_crates(level)));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colours);
    match logging.format {
        LogFormat::Text => Box::new(builder.finish()),
        LogFormat::Json => Box::new(builder.json().finish()),
    }
}

fn own_crates(level: &str) -> String {
    let crates = ["server", "kernel", "store", "models", "tools", "volume", "sandbox", "security"];
    crates.map(|name| format!("aegis_{name}={level}")).join(",")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use aegis_manifest::node::LogLevel;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is written of one event at each level, and of a library's warning.
    fn written(level: LogLevel, format: LogFormat, stated: Option<&str>) -> Vec<String> {
        let kept = Kept::default();
        let into = kept.clone();
        let log = subscriber(&Logging { level, format }, stated, false, move || into.clone());
        tracing::subscriber::with_default(log, || {
            tracing::error!("failed");
            tracing::warn!("odd");
            tracing::info!("happens");
            tracing::debug!("detail");
            tracing::info!(target: "hyper", "a request");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn level_and_format_are_the_configurations() {
        for (level, lines) in
            [(LogLevel::Error, 1), (LogLevel::Warn, 2), (LogLevel::Info, 3), (LogLevel::Debug, 4)]
        {
            assert_eq!(written(level, LogFormat::Text, None).len(), lines, "{level:?}");
        }
        assert_eq!(
            written(LogLevel::Debug, LogFormat::Text, Some("error")).len(),
            1,
            "the command line wins"
        );
        let [line] = &written(LogLevel::Error, LogFormat::Json, None)[..] else { panic!() };
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((&event["level"], &event["fields"]["message"]), (&"ERROR".into(), &"failed".into()));
        let [line] = &written(LogLevel::Error, LogFormat::Text, None)[..] else { panic!() };
        assert!(line.contains("ERROR") && line.ends_with("failed"), "{line}");
    }
}
