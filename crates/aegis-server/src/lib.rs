//! The composition root: configuration to adapters to kernel to HTTP.
//!
//! Handlers decide nothing; what may happen is the kernel's to say. Everything that listens on TCP is below `routes`,
//! behind one door in `guard`.

mod answer;
mod app;
mod compose;
mod config;
mod evidence;
mod fleet;
mod folder;
mod follow;
mod git;
mod guard;
mod idempotency;
mod inside;
mod listen;
mod logging;
mod mcp;
mod models;
pub mod offline;
mod platform;
mod policies;
pub mod policy;
mod private_file;
mod providers;
mod routes;
mod run_folder;
mod secrets;
mod serve;
mod servers;
mod signing_keys;
mod stream;
mod system;
mod texts;
mod token;
mod view;

pub use config::{LoadedConfig, load_config};
pub use folder::{PID_FILE, running_address, running_pid};
pub use logging::init_logging;
pub use serve::{Options, serve};
pub use token::TOKEN_FILE;

#[cfg(test)]
mod composed_tests;
#[cfg(test)]
mod http_tests;

use aegis_core::Sha256;

/// The daemon's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// SHA-256 over parts, each preceded by its length, so that no two lists of parts are one text.
fn digest(parts: &[&[u8]]) -> Sha256 {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    for part in parts {
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part);
    }
    Sha256::from_bytes(hasher.finalize().into())
}
