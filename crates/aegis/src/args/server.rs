//! `aegis server …`, `aegis tool …` and `aegis mcp …`

use clap::Subcommand;

use crate::later::Words;

#[derive(Debug, Subcommand)]
pub(crate) enum Server {
    /// Add a server (not in this version: the node's configuration names them)
    Add(Words),
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
    /// Destroy the tokens of a server
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
