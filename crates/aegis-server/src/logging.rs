//! The daemon's own log, on standard error.

use std::io::IsTerminal as _;

use aegis_manifest::node::{LogFormat, Logging};
use tracing_subscriber::EnvFilter;

/// Begins to log. `level` of the command line wins over the configuration's.
pub fn init_logging(logging: &Logging, level: Option<&str>) {
    let level = level.unwrap_or(logging.level.name());
    // Libraries below speak of requests and connections; only their trouble is ours.
    let filter = EnvFilter::new(format!("warn,aegis={level},{}", own_crates(level)));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
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
