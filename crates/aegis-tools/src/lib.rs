//! The built-in tools that work on an execution's files and on the web, and clients of tool servers.
//!
//! They hold no authority: the monitor has checked a call before it comes here, and the file core checks every
//! operation again. What a tool itself finds wrong, such as a missing file, is a result the model can learn from.

mod files;
pub mod mcp;
mod web;

pub use files::FileTools;
pub use web::WebTools;
