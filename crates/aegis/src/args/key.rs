//! The grammar of `aegis key`.

use clap::{Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make an API key; it is shown this once
    Create {
        /// What it is called
        name: String,
        /// What it may do
        #[arg(long)]
        role: Role,
        /// The agent it may act as; for the role `agent`
        #[arg(long)]
        agent: Option<String>,
    },
    /// List API keys
    List,
    /// Revoke an API key; its sessions end
    Revoke {
        /// Its id
        key: String,
    },
    /// Change the key that signs security tokens; those of the former one stay valid until they expire
    Rotate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Look at everything
    Viewer,
    /// Everything that does not need a person
    Operator,
    /// Act as one agent, by SMCP and MCP
    Agent,
}

impl Role {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Agent => "agent",
        }
    }
}
