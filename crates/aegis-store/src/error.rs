//! Why a store does not open, or does not do what was asked of it offline.

use std::path::PathBuf;

/// A store that does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon has the folder.
    #[error(
        "data folder `{0}` is in use by another daemon; stop that one (`aegis daemon stop`) or choose another folder"
    )]
    Locked(PathBuf),
    /// The journal ends before a head this node signed.
    #[error(
        "the journal holds {journal} events, but its checkpoint file holds a signed head over {signed}: the journal was \
         cut or restored from a backup; start with `--accept-restored` to go on under a new epoch"
    )]
    Behind {
        /// Events in the journal.
        journal: u64,
        /// Events under the last signed head.
        signed: u64,
    },
    /// The journal is a copy that a backup made, and nobody has said yet that it takes the place of the original.
    #[error(
        "the journal was restored from a backup of {journal} events; start with `--accept-restored` to go on under a new \
         epoch"
    )]
    Restored {
        /// Events in the journal.
        journal: u64,
    },
    /// The journal is not the one whose heads this node signed.
    #[error(
        "the journal differs from the signed head over {size} events in its checkpoint file: it was altered or \
         restored; run `aegis audit verify`, or start with `--accept-restored` to go on under a new epoch"
    )]
    Differs {
        /// Events under the signed head.
        size: u64,
    },
    /// The journal contradicts itself.
    #[error("the journal is damaged: {0}; run `aegis audit verify` to name the damage")]
    Damaged(String),
    /// A file of the folder has a wrong form.
    #[error("`{}` is not usable: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The database below failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// A schema change failed.
    #[error("the schema could not be brought up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl OpenError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
