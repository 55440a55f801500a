//! The nine `fs.*` tools, as one host.

mod arguments;
mod edit;
mod facts;
mod manage;
mod output;
pub(crate) mod place;
mod read;
mod search;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use aegis_core::{ToolCall, ToolResult};
use aegis_kernel::port::{ToolContext, ToolError, ToolFacts, ToolHost, Workspace};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use arguments::Arguments;
use place::{Failure, Stop};

/// Longest time a tool looks through files before it answers with what it found.
const SEARCH_TIME_MAX: Duration = Duration::from_secs(20);

/// `fs.read`, `fs.write`, `fs.list`, `fs.create_dir`, `fs.delete`, `fs.edit`, `fs.multi_edit`, `fs.grep`, `fs.glob`.
pub struct FileTools {
    facts: Vec<ToolFacts>,
}

impl FileTools {
    /// The tools.
    pub fn new() -> Self {
        Self { facts: facts::all() }
    }
}

impl Default for FileTools {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl ToolHost for FileTools {
    fn tools(&self) -> &[ToolFacts] {
        &self.facts
    }

    async fn call(
        &self,
        context: &ToolContext,
        call: &ToolCall,
        cancel: &CancellationToken,
    ) -> Result<ToolResult, ToolError> {
        let arguments = Arguments::parse(&call.name, &call.arguments).map_err(ToolError::Arguments)?;
        if cancel.is_cancelled() {
            return Err(ToolError::Cancelled);
        }
        let stop = Stop { cancelled: cancel.clone(), out_of_time: CancellationToken::new() };
        let out_of_time = stop.out_of_time.clone();
        let changes_files = arguments.changes_files();
        let workspace = Arc::clone(&context.workspace);
        let mut work =
            tokio::task::spawn_blocking(move || told_to_model(perform(&workspace, &arguments, &stop)));
        let joined = tokio::select! {
            joined = &mut work => joined,
            // A change is waited for, so that what is recorded is what happened; the rest looks at `cancelled` itself,
            // and is not waited for, because the file system below may hang.
            () = cancel.cancelled(), if !changes_files => return Err(ToolError::Cancelled),
            () = tokio::time::sleep(SEARCH_TIME_MAX) => {
                out_of_time.cancel();
                tokio::select! {
                    joined = &mut work => joined,
                    () = cancel.cancelled(), if !changes_files => return Err(ToolError::Cancelled),
                }
            }
        };
        joined.map_err(|error| ToolError::Internal(format!("`{}` broke: {error}", call.name)))?
    }
}

fn told_to_model(result: Result<ToolResult, Failure>) -> Result<ToolResult, ToolError> {
    match result {
        Ok(result) => Ok(result),
        Err(Failure::Told(message)) => Ok(ToolResult::error(message)),
        Err(Failure::Tool(error)) => Err(error),
    }
}

fn perform(workspace: &Workspace, arguments: &Arguments, stop: &Stop) -> Result<ToolResult, Failure> {
    match arguments {
        Arguments::Read(arguments) => read::read(workspace, arguments, stop),
        Arguments::Write(arguments) => manage::write(workspace, arguments),
        Arguments::List(arguments) => manage::list(workspace, arguments, stop),
        Arguments::CreateDir(arguments) => manage::create_dir(workspace, arguments),
        Arguments::Delete(arguments) => manage::delete(workspace, arguments),
        Arguments::Edit(arguments) => edit::edit(workspace, arguments, stop),
        Arguments::MultiEdit(arguments) => edit::multi_edit(workspace, arguments, stop),
        Arguments::Grep(arguments) => search::grep(workspace, arguments, stop),
        Arguments::Glob(arguments) => search::glob(workspace, arguments, stop),
    }
}
