//! The built-in tools that work on an execution's files, on the web and on Git repositories, and clients of tool servers.
//!
//! They hold no authority: the monitor has checked a call before it comes here, and the file core checks every
//! operation again. What a tool itself finds wrong, such as a missing file, is a result the model can learn from.

mod files;
mod git;
pub mod mcp;
mod tls;
mod web;

pub use files::FileTools;
pub use git::{GitParts, GitRemotes, GitTools};
pub use web::WebTools;
