//! `aegis secret …`

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Store a value, read from standard input; former ones are gone
    Set {
        /// Its name, in parts divided by `/`
        name: String,
        /// Read the value from this file instead
        #[arg(long, value_name = "PATH")]
        from_file: Option<PathBuf>,
    },
    /// Put a new value in the place of one that is there; the former is redacted for another day
    Rotate {
        /// Its name
        name: String,
        /// Read the value from this file instead of standard input
        #[arg(long, value_name = "PATH")]
        from_file: Option<PathBuf>,
    },
    /// List names and versions; values are never shown
    List,
    /// Destroy all versions of a secret
    Delete {
        /// Its name
        name: String,
    },
}
