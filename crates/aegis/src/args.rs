//! The command line (contract, section 1).

mod evidence;
mod key;
mod policy;
mod secret;
mod server;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use evidence::{Audit, Filter, Journal, Trace, Verified};
pub(crate) use key::Key;
pub(crate) use policy::Policy;
pub(crate) use secret::Secret;
pub(crate) use server::{Add, Mcp, Server, Tool};

use crate::later::Later;

/// Run fleets of AI agents under policy, with a record
#[derive(Debug, Parser)]
#[command(name = "aegis", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags every command takes, before or after it.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// Path of aegis-config.yaml
    #[arg(long, global = true, env = "AEGIS_CONFIG_PATH", value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    /// Host of the daemon [default: 127.0.0.1]
    #[arg(long, global = true, env = "AEGIS_HOST", value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Port of the daemon [default: 8088]
    #[arg(long, global = true, env = "AEGIS_PORT", value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Log verbosity
    #[arg(long, global = true, env = "AEGIS_LOG_LEVEL", value_name = "LEVEL")]
    pub(crate) log_level: Option<Level>,
    /// Form of the output
    #[arg(long, global = true, value_name = "FORM")]
    pub(crate) output: Option<Format>,
    /// Tenant to act for [default: default]
    #[arg(long, global = true, env = "AEGIS_TENANT", value_name = "NAME")]
    pub(crate) tenant: Option<String>,
    /// Data folder [default: ~/.aegis]
    #[arg(long, global = true, env = "AEGIS_HOME", value_name = "DIR", hide = true)]
    pub(crate) home: Option<PathBuf>,
    /// Credential; the data folder's own token if unset
    #[arg(
        long,
        global = true,
        env = "AEGIS_TOKEN",
        value_name = "TOKEN",
        hide = true,
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// Columns
    Table,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run and look after the daemon
    #[command(subcommand)]
    Daemon(Daemon),
    /// Start the daemon in the background if needed, and wait until it is ready
    Up,
    /// Stop the daemon of the data folder
    Down,
    /// Show how the daemon does
    Status,
    /// Deploy and look after agents
    #[command(subcommand)]
    Agent(Agent),
    /// Run agents and look at their runs
    #[command(subcommand)]
    Task(Task),
    /// Look at volumes and their files
    #[command(subcommand)]
    Volume(Volume),
    /// Keep secrets
    #[command(subcommand)]
    Secret(Secret),
    /// Ask what policy says, and check it
    #[command(subcommand)]
    Policy(Policy),
    /// Look after API keys
    #[command(subcommand)]
    Key(Key),
    /// List and call tools
    #[command(subcommand)]
    Tool(Tool),
    /// Serve this node to programs that speak MCP
    #[command(subcommand)]
    Mcp(Mcp),
    /// Look after tool servers
    #[command(subcommand)]
    Server(Server),
    /// Ask the record, and check it
    #[command(subcommand)]
    Audit(Audit),
    /// Look after the journal's files
    #[command(subcommand)]
    Journal(Journal),
    /// Look at traces
    #[command(subcommand)]
    Trace(Trace),
    /// Look at the node's configuration
    #[command(subcommand)]
    Config(Config),
    /// Explain a kind of document, or a field of it: `agent.spec.security.network`
    Explain {
        /// KIND[.path]
        path: String,
    },
    /// Print the JSON Schema of a kind of document
    Schema {
        /// The kind: agent, nodeconfig
        kind: String,
    },
    /// Print completions for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print this reference as markdown
    #[command(name = "__reference", hide = true)]
    Reference,
    #[command(flatten)]
    Later(Later),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Daemon {
    /// Run the daemon in the foreground
    Start {
        /// Go on although the journal is behind a head kept outside it
        #[arg(long)]
        accept_restored: bool,
        /// Detach from the terminal's session; `aegis up` uses it
        #[arg(long, hide = true)]
        own_session: bool,
    },
    /// Stop the daemon of the data folder
    Stop,
    /// Show how the daemon does
    Status,
    /// Install a systemd service
    Install {
        /// Print the unit, and install nothing
        #[arg(long)]
        print: bool,
    },
    /// Remove the systemd service
    Uninstall,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Deploy a manifest
    Deploy {
        /// The manifest, YAML or JSON; `-` for standard input
        file: PathBuf,
        /// Only validate
        #[arg(long)]
        validate_only: bool,
        /// Replace other content under the same version
        #[arg(long)]
        force: bool,
    },
    /// List agents
    List {
        /// Most to show
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show an agent's manifest as deployed
    Show {
        /// Id, name or name@version
        agent: String,
    },
    /// List an agent's versions
    Versions {
        /// Id or name
        agent: String,
    },
    /// Refuse new executions of an agent
    Pause {
        /// Id or name
        agent: String,
    },
    /// Take executions of an agent again
    Resume {
        /// Id or name
        agent: String,
    },
    /// Remove an agent's registration; its history stays
    Remove {
        /// Id or name
        agent: String,
    },
    /// Show what an agent's executions did
    Logs {
        /// Id or name
        agent: String,
        /// Go on until interrupted
        #[arg(long)]
        follow: bool,
        /// Only what went wrong
        #[arg(long)]
        errors: bool,
        /// Also answers, results of tools, reasons and sizes
        #[arg(long)]
        verbose: bool,
    },
    /// Write a manifest from a description
    Generate {
        /// What the agent is to do
        #[arg(long)]
        input: String,
        /// Show progress
        #[arg(long)]
        follow: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Start an execution
    Execute {
        /// Id, name, name@version, or a manifest file, which is deployed first
        agent: String,
        /// The input: JSON, or @FILE with JSON
        #[arg(long, value_name = "JSON or @FILE")]
        input: Option<String>,
        /// More names for the prompt template: @FILE with a JSON object
        #[arg(long, value_name = "@FILE")]
        context: Option<String>,
        /// Wait until it is over
        #[arg(long)]
        wait: bool,
        /// Show what it does until it is over
        #[arg(long)]
        follow: bool,
        /// Asking again with the same key starts nothing anew
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// List executions, newest first
    List {
        /// Only of this agent: id or name
        #[arg(long, value_name = "AGENT")]
        agent_id: Option<String>,
        /// Only in these states, with commas between
        #[arg(long)]
        status: Option<String>,
        /// Most to show
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Show an execution
    Status {
        /// Its id
        execution: String,
    },
    /// Show what an execution did
    Logs {
        /// Its id
        execution: String,
        /// Go on until it is over
        #[arg(long)]
        follow: bool,
        /// Only what went wrong
        #[arg(long)]
        errors_only: bool,
        /// Also answers, results of tools, reasons and sizes
        #[arg(long)]
        verbose: bool,
    },
    /// Stop an execution
    Cancel {
        /// Its id
        execution: String,
        /// Kill what it runs at once
        #[arg(long)]
        force: bool,
    },
    /// Take an ended execution from the lists; the evidence stays
    Remove {
        /// Its id
        execution: String,
    },
    /// Run an execution again from its record
    Replay {
        /// Its id
        execution: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Volume {
    /// List volumes, newest first
    List {
        /// Removed ones too
        #[arg(long)]
        removed: bool,
        /// Most to show
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show a volume
    Show {
        /// Its id
        volume: String,
    },
    /// List a volume's files
    Files {
        /// Its id
        volume: String,
    },
    /// Print a file of a volume
    Get {
        /// The volume's id
        volume: String,
        /// The file, relative to the volume's root
        path: String,
        /// Write it there instead
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Remove a volume and its files
    Remove {
        /// Its id
        volume: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Show the configuration that holds, secrets masked
    Show,
    /// Check a configuration file
    Validate {
        /// The file [default: the one that would be used]
        file: Option<PathBuf>,
    },
    /// Print a configuration to start from
    Generate,
}

#[cfg(test)]
mod tests;
