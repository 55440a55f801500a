//! A model server that answers by a script, counts what it saw, and can misbehave in every known way.
//!
//! It listens on a loopback port of the process that starts it and speaks OpenAI's chat completions and
//! Anthropic's messages, streamed and whole, so that a daemon in another process can be tested against it.
//! With a log file each request is written down before it is answered: counting survives whatever dies.

#[expect(clippy::indexing_slicing, reason = "a JSON value answers null where there is nothing")]
mod anthropic;
#[expect(clippy::indexing_slicing, reason = "a JSON value answers null where there is nothing")]
mod openai;
mod script;
mod seen;
mod server;

pub use script::{Gate, Reply, Rule, Script, ScriptedCall, Turn, UsageReport};
pub use seen::{Dialect, Seen, SeenMessage};
pub use server::{LogLine, RecordedRequest, ScriptedModel, ServerOptions, read_log};
