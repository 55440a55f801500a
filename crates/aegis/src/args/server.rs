//! `aegis server …` and `aegis tool …`

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
    /// Call a tool (not in this version)
    Call(Words),
}
