//! What each command does.

mod agent;
mod daemon;
mod describe;
mod evidence;
mod installed;
mod key;
mod logs;
mod mcp;
mod policy;
mod secret;
mod server;
mod task;
mod up;
mod volume;

use std::time::Duration;

use aegis_core::{Diagnosis, ErrorCode};
use clap::CommandFactory as _;

use crate::args::{Arguments, Command, Trace};
use crate::failure::Failure;
use crate::later::refuse;
use crate::{output, reference};

/// Does what was asked.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { global, command } = arguments;
    match command {
        Command::Daemon(command) => daemon::run(&global, command).await,
        Command::Up => up::up(&global).await,
        Command::Down => daemon::stop(&global).await,
        Command::Status => daemon::status(&global).await,
        Command::Agent(command) => agent::run(&global, command).await,
        Command::Task(command) => task::run(&global, command).await,
        Command::Volume(command) => volume::run(&global, command).await,
        Command::Secret(command) => secret::run(&global, command).await,
        Command::Policy(command) => policy::run(&global, command).await,
        Command::Key(command) => key::run(&global, command).await,
        Command::Server(command) => server::servers(&global, command).await,
        Command::Mcp(command) => mcp::run(&global, command).await,
        Command::Tool(command) => server::tools(&global, command).await,
        Command::Audit(command) => evidence::audit(&global, command).await,
        Command::Journal(command) => evidence::journal(&global, command).await,
        Command::Trace(Trace::List { limit, cursor }) => {
            evidence::traces(&global, cursor.as_deref(), limit).await
        }
        Command::Trace(Trace::Show { id }) => evidence::trace(&global, &id).await,
        Command::Config(command) => describe::config(&global, command).await,
        Command::Explain { path } => describe::explain(&path),
        Command::Schema { kind } => describe::schema(&kind),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "aegis", &mut script);
            output::bytes(&script)
        }
        Command::Reference => {
            let mut command = Arguments::command();
            command.build();
            output::text(&reference::markdown(&command))
        }
        Command::Later(later) => Err(refuse(&later)),
    }
}

/// Asks again until `ask` has an answer, or `timeout` is over.
pub(crate) async fn until<T>(timeout: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    const PAUSE: Duration = Duration::from_millis(50);
    tokio::time::timeout(timeout, async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await
    .ok()
}

/// An error of reading or writing a file of the user's, with its path.
pub(crate) fn file_error(path: &std::path::Path, error: &std::io::Error) -> Failure {
    let code = match error.kind() {
        std::io::ErrorKind::PermissionDenied => ErrorCode::PermissionDenied,
        _ => ErrorCode::InvalidInput,
    };
    Diagnosis::new(code, format!("`{}`: {error}", path.display())).hint("check the path").into()
}
