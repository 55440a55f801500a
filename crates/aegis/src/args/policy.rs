//! `aegis policy …`

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Check a policy in Cedar, security contexts, a node's configuration or a soul
    Check {
        /// The file: YAML or JSON by its ending, else Cedar
        file: PathBuf,
    },
    /// Show what each layer says of a call, why, and what would permit it
    Explain {
        /// The agent that would call: id, name or name@version
        agent: String,
        /// The tool
        tool: String,
        /// Its arguments, a JSON object
        arguments: Option<String>,
        /// A label on the execution, such as `untrusted`; may be given several times
        #[arg(long)]
        label: Vec<String>,
        /// The risk, from 0 to 1
        #[arg(long)]
        risk: Option<f64>,
    },
    /// Compare what policy says with a table of expectations; exit code 6 if a row differs
    Test {
        /// The table: a list of `{agent, tool, arguments, expect}`
        file: PathBuf,
    },
    /// Show what a change of policy widens and narrows
    Diff {
        /// The old file
        old: PathBuf,
        /// The new file
        new: PathBuf,
        /// A table to be asked under both, by the daemon
        #[arg(long, value_name = "FILE")]
        table: Option<PathBuf>,
    },
}
