//! The grammar of `aegis audit`, `journal` and `trace`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Which events of the record.
#[derive(Debug, Default, Args)]
pub(crate) struct Filter {
    /// Only of these kinds, with commas between; `execution.*` for all that begin so
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// Only of this entity: `execution/ID`, `agent/ID`, `volume/ID`, `fleet`
    #[arg(long)]
    pub(crate) stream: Option<String>,
    /// Only of this trace
    #[arg(long, value_name = "ID")]
    pub(crate) trace_id: Option<String>,
    /// Only at or after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Newest first
    #[arg(long)]
    pub(crate) newest_first: bool,
    /// With the envelopes of signed calls, whole; for JSON and YAML
    #[arg(long)]
    pub(crate) envelopes: bool,
    /// Most to show
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: usize,
    /// Where the last page ended
    #[arg(long)]
    pub(crate) cursor: Option<String>,
}

/// Which record is checked, and against what.
#[derive(Debug, Default, Args)]
pub(crate) struct Verified {
    /// Data folder or backup to check [default: this node's]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// A copy of the checkpoint file that was kept elsewhere
    #[arg(long, value_name = "COPY")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// The log's public key, base64 or a file with it, as `aegis audit checkpoint` shows it
    #[arg(long, value_name = "KEY")]
    pub(crate) public_key: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List events of the record
    Query(Filter),
    /// Print a proof that an event is in the record
    Prove {
        /// Its place in the log
        seq: u64,
    },
    /// Check the whole record offline, or an exported file
    Verify {
        #[command(flatten)]
        what: Verified,
        /// Check this exported file instead of a data folder
        #[arg(long, value_name = "FILE", requires = "public_key", conflicts_with_all = ["data", "checkpoint"])]
        export: Option<PathBuf>,
    },
    /// Write events with all that is needed to check them elsewhere
    Export {
        /// File to write
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// Data folder to read [default: this node's]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Print the signed head of the record, and the key that verifies it
    Checkpoint,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Journal {
    /// Make the projections anew from the events
    Rebuild {
        /// Data folder [default: this node's]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Check the journal's files
    Verify(Verified),
    /// Copy the journal, without its keys; a daemon may run meanwhile
    Backup {
        /// Folder to write to
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Copy the keys of the evidence there too, and the node key that opens them beside it as FILE.node-key
        #[arg(long, value_name = "FILE")]
        keys: Option<PathBuf>,
        /// Data folder [default: this node's]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Move the bytes of old events out of the database, into a file of `archive/`
    Archive {
        /// Archive events before this place in the log
        #[arg(long, value_name = "SEQ")]
        before: u64,
        /// Data folder [default: this node's]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Trace {
    /// List the traces of executions, newest first
    List {
        /// Most to show
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// Where the last page ended
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Show what took time, and under what
    Show {
        /// A trace's or an execution's id
        id: String,
    },
}
