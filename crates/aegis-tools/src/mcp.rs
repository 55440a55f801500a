//! Clients of tool servers that speak the Model Context Protocol (revisions 2025-11-25 and 2026-07-28), on the
//! official SDK.
//!
//! Nothing here holds authority: the monitor has checked a call before it comes here. What a server says of itself is
//! pinned by hash; when it says something else, its tools refuse until a person accepts the change. What a server asks
//! of its own accord is put to whoever made the call it belongs to, if the configuration grants it, and refused
//! otherwise. How a process is started, where secrets come from, where pins are kept and where events go is passed in.

mod asking;
mod bounded;
mod connection;
mod error;
mod governed;
mod handler;
mod host;
mod http;
mod log;
mod names;
mod oauth;
mod offers;
mod pin;
mod result;
mod servers;
mod settings;
mod starter;
mod upstream;

pub use error::McpError;
pub use handler::{ListChanged, Progress, ProgressSink};
pub use host::McpTools;
pub use http::HttpClient;
pub use log::LogLine;
pub use oauth::{Revocation, Tokens};
pub use offers::{
    COMPLETION, PROMPT_GET, PROMPT_LIST, RESOURCE_LIST, RESOURCE_READ, RESOURCE_TEMPLATES, is_offered,
};
pub use pin::{
    FieldChange, ItemChange, ItemsDiff, Offer, PinDiff, PinDocument, PinRecord, PinStore, PinnedItem,
    PinnedTool, ToolChange,
};
pub use result::{Attachment, McpResult};
pub use servers::{
    CallOptions, McpParts, McpServers, ServerEvents, ServerKey, ServerListChanges, ServerView,
};
pub use settings::{OauthSettings, Reach, ServerLimits, ServerSettings, SettingsError, shown_folder};
pub use starter::{Credentials, PlainStarter, ServerProcess, StartError, StartSpec, Started, Starter};
pub use upstream::ServerState;
