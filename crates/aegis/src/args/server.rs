//! `aegis server …`, `aegis tool …` and `aegis mcp …`

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Server {
    /// Add a server to those of the node's configuration: a program, an address, or a section from a file
    #[command(
        override_usage = "aegis server add NAME [OPTIONS] -- COMMAND [ARGUMENT]...\n       aegis server add NAME --url URL [OPTIONS]\n       aegis server add -f FILE"
    )]
    Add(Add),
    /// Remove a server that was added, and end it
    Remove {
        /// Its name
        server: String,
    },
    /// List tool servers
    List,
    /// Show a server: its tools, and what changed since it was accepted
    Show {
        /// Its name
        server: String,
    },
    /// Accept what a held server shows now; its tools answer again
    Accept {
        /// Its name
        server: String,
        /// The hash that `aegis server show` shows
        digest: String,
    },
    /// Sign in at a server that asks for it: open the address this prints in a browser on this machine
    Login {
        /// Its name
        server: String,
        /// The port of this machine that the browser comes back to; any free one without it
        #[arg(long)]
        callback_port: Option<u16>,
    },
    /// Destroy the tokens of a server, and have them revoked where that can be had
    Logout {
        /// Its name
        server: String,
    },
    /// Show the last lines of a server's standard error
    Logs {
        /// Its name
        server: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Its name
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub(crate) name: Option<String>,
    /// Take the section from this file (- for standard input), as `spec.mcp_servers` has it
    #[arg(short, long, conflicts_with_all = ["url", "env", "header", "folder", "program"])]
    pub(crate) file: Option<PathBuf>,
    /// The address, for a server on streamable HTTP
    #[arg(long, conflicts_with = "program")]
    pub(crate) url: Option<String>,
    /// A variable of the program's environment: NAME=secret:PATH, or NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// A header of each request to the address: NAME=secret:PATH, or NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE", requires = "url")]
    pub(crate) header: Vec<String>,
    /// A folder of the node's machine that the program sees, read-only
    #[arg(long)]
    pub(crate) folder: Vec<String>,
    /// The program and its arguments
    #[arg(last = true, required_unless_present_any = ["file", "url"])]
    pub(crate) program: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Tool {
    /// List the tools that agents may name
    List,
    /// Call a tool, acting as an agent
    Call {
        /// Its name, as `aegis tool list` shows it
        tool: String,
        /// The agent to act as: its authority holds
        #[arg(long)]
        agent: String,
        /// The arguments, a JSON object, or @FILE that holds one
        #[arg(long, default_value = "{}")]
        arguments: String,
        /// Asking again with the same key calls nothing anew
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
        /// Answer what the tool's server asks with the defaults it gives, and ask nobody. Without this, and without a
        /// terminal, questions are declined
        #[arg(long)]
        accept_defaults: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Mcp {
    /// Serve this node as an MCP server on standard input and output
    Serve {
        /// The agent whose tools are served, beside those that look after the node
        #[arg(long)]
        agent: Option<String>,
    },
}
