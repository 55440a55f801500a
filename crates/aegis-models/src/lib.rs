//! Model aliases to providers: OpenAI-shaped, Anthropic-shaped, replay.
//!
//! [`Router`] is the kernel's `Model` port. A dialect is one file that writes requests and reads answers and touches
//! nothing else; retries, fallback, prices and limits are the same for all of them. Invariants: what a provider
//! sends is bounded before it is kept, no content of a conversation is logged, and no failure holds a credential.

mod backoff;
mod dialect;
mod draft;
mod fault;
mod http;
mod names;
mod process;
mod recording;
mod router;
mod schema_tools;
mod settings;
mod sse;
mod table;

pub use process::{ProcessError, ProcessSettings, ProcessState, ProviderProcess};
pub use recording::{Recording, RecordingError, request_key};
pub use router::Router;
pub use settings::{
    ModelSettings, Patience, Price, ProviderKind, ProviderSettings, SelectionSettings, Settings,
    SettingsError, ToolCalling,
};
