//! The door's database: API keys, sessions, nonces and the pins of tool servers, in `door.db` beside the journal.
//!
//! None of it is a projection of the log: the hash of a key and the nonces of a minute are no evidence. It is in no
//! backup: after a restore keys are made anew, and every session is void. Two connections write: one whose commits
//! survive loss of power, and one for nonces and times of use, whose commits survive `kill -9`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use aegis_core::Sha256;
use aegis_kernel::port::{Clock, Ids};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::api_key::{ApiKey, live_keys};
use crate::error::OpenError;
use crate::folder::{Folder, private_file};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/door");

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What the door's database refuses.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// Input that cannot be stored.
    #[error("{0}")]
    Invalid(String),
    /// The sandbox generation has its session already.
    #[error("generation {0} has attested already; it may do so once")]
    AttestedAlready(u32),
    /// So many nonces in so short a time that no more are taken.
    #[error("too many calls within the replay window; try again in a minute")]
    Overloaded,
    /// What a person accepts is not what is held.
    #[error("`{0}` holds no change of that hash; look at it again with `aegis server show`")]
    NotHeld(String),
    /// The database below failed.
    #[error("the door's database failed")]
    Database(#[from] sqlx::Error),
    /// A row that does not read back.
    #[error("the door's database is damaged: {0}")]
    Damaged(&'static str),
}

/// The door's database, opened by the one daemon that holds the folder's lock.
pub struct Door {
    /// Commits survive loss of power.
    pub(crate) power: SqlitePool,
    /// Commits survive `kill -9`.
    pub(crate) process: SqlitePool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    /// The keys that open, by hash.
    pub(crate) keys: RwLock<HashMap<Sha256, ApiKey>>,
    pub(crate) nonces: AtomicU64,
    pub(crate) swept_at: AtomicI64,
}

impl Door {
    /// Opens `door.db` in a data folder, mode 0600, or makes it.
    ///
    /// # Errors
    /// If it cannot be opened or is damaged.
    pub async fn open(folder: &Path, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Result<Self, OpenError> {
        Folder::prepare(folder)?;
        let path = folder.join("door.db");
        private_file(&path).map_err(OpenError::io("open", &path))?;
        let options = |synchronous| {
            SqliteConnectOptions::new()
                .filename(&path)
                .journal_mode(SqliteJournalMode::Wal)
                .busy_timeout(BUSY_TIMEOUT)
                .synchronous(synchronous)
                .pragma("secure_delete", "ON")
        };
        let pool = || SqlitePoolOptions::new().max_connections(1);
        let process = pool().connect_with(options(SqliteSynchronous::Normal)).await?;
        // A schema that loss of power takes is made again at the next start: its tables were empty.
        MIGRATIONS.run(&process).await?;
        let power = pool().connect_with(options(SqliteSynchronous::Full)).await?;
        let keys = live_keys(&power).await.map_err(|error| match error {
            DoorError::Database(error) => OpenError::Database(error),
            other => OpenError::File { path: path.clone(), reason: other.to_string() },
        })?;
        let nonces: i64 = sqlx::query_scalar("SELECT count(*) FROM smcp_nonce").fetch_one(&process).await?;
        Ok(Self {
            power,
            process,
            clock,
            ids,
            keys: RwLock::new(keys),
            nonces: AtomicU64::new(nonces.cast_unsigned()),
            swept_at: AtomicI64::new(i64::MIN),
        })
    }

    /// Lets the database go.
    pub async fn close(&self) {
        self.process.close().await;
        self.power.close().await;
    }
}

/// A stored 32-byte column.
pub(crate) fn bytes32(bytes: &[u8]) -> Result<[u8; 32], DoorError> {
    bytes.try_into().map_err(|_| DoorError::Damaged("a column of 32 bytes has another length"))
}
