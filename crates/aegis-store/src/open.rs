//! Opening a data folder: lock, keys, schema, and the comparison with the last head kept outside the database.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aegis_core::{Sha256, StreamId};
use aegis_kernel::port::{Clock, Ids};
use aegis_security::checkpoint::Checkpoint;
use aegis_security::merkle::Frontier;
use aegis_security::note::NoteKey;
use aegis_security::signature::SigningKey;
use futures_util::TryStreamExt;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};

use crate::checkpoint_file::CheckpointFile;
use crate::error::OpenError;
use crate::folder::{Folder, private_file};
use crate::keys::KeyRing;
use crate::tree::TileBuffer;
use crate::writer::{OnFatal, StoredHead};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

/// Readers at the same time.
const READERS_MAX: u32 = 4;
/// The write-ahead log is not much longer than this in the course of things: 4000 pages, then it begins anew.
const LOG_BYTES_COMMON: u64 = 32 << 20;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How a store is opened.
pub struct OpenOptions {
    /// The data folder; made if it is not there, mode 0700.
    pub folder: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Ids and randomness, keys included.
    pub ids: Arc<dyn Ids>,
    /// Treats every append as [`aegis_core::Durability::Power`].
    pub always_power: bool,
    /// Below this much free disk, in bytes, new actions are refused.
    pub disk_floor_bytes: u64,
    /// Goes on under a new epoch when the journal is behind, or differs from, the last signed head.
    pub accept_restored: bool,
    /// Called once when a commit or sync failed: what the disk holds is unknown, the process must end.
    pub on_fatal: OnFatal,
}

impl OpenOptions {
    /// Disk kept free by default, in bytes.
    pub const DISK_FLOOR_BYTES: u64 = 256 << 20;

    /// Opens `folder` with defaults; a fatal error is only logged.
    pub fn new(folder: impl Into<PathBuf>, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self {
            folder: folder.into(),
            clock,
            ids,
            always_power: false,
            disk_floor_bytes: Self::DISK_FLOOR_BYTES,
            accept_restored: false,
            on_fatal: Arc::new(|_| ()),
        }
    }
}

/// An opened folder, before anybody writes.
pub(crate) struct Opened {
    pub(crate) connection: SqliteConnection,
    pub(crate) readers: SqlitePool,
    pub(crate) keys: KeyRing,
    pub(crate) signer: SigningKey,
    pub(crate) file: CheckpointFile,
    pub(crate) tiles: TileBuffer,
    pub(crate) head: StoredHead,
    /// Set if a `log.opened` event must be written.
    pub(crate) opening: Option<Opening>,
}

/// What the `log.opened` event says beside the head.
pub(crate) struct Opening {
    pub(crate) former_root: Option<Sha256>,
}

pub(crate) fn reader_options(folder: &Folder) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(folder.journal())
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("query_only", "ON")
        .pragma("mmap_size", "268435456")
}

pub(crate) async fn open(options: &OpenOptions, folder: &Folder) -> Result<Opened, OpenError> {
    let ids = options.ids.as_ref();
    let signer =
        SigningKey::from_seed(&*crate::folder::key_file(&folder.log_key(), |bytes| ids.fill(bytes))?);
    // Two files, each with a thread of its own: what one waits for its disk, the other uses.
    let (keys, mut connection) = tokio::try_join!(KeyRing::open(folder, ids), open_writer(folder))?;
    let file = CheckpointFile::open(&folder.checkpoints())?;
    let signed = file.last().map(|note| read_note(note, &signer, folder)).transpose()?;
    let (head, opening) = match StoredHead::read(&mut connection).await? {
        Some(head) => settle_epoch(&mut connection, head, signed, options).await?,
        None => first_head(signed, options)?,
    };
    if opening.is_some() {
        head.write(&mut connection).await?;
        sqlx::query("PRAGMA user_version = 0").execute(&mut connection).await?;
    }
    finish_destructions(&mut connection, &keys).await?;
    let tiles = load_tiles(&mut connection, &head.frontier).await?;
    if let Err(error) = folder.keep_ballast() {
        tracing::warn!(%error, "no disk could be set aside");
    }
    let readers =
        SqlitePoolOptions::new().max_connections(READERS_MAX).connect_with(reader_options(folder)).await?;
    Ok(Opened { connection, readers, keys, signer, file, tiles, head, opening })
}

async fn open_writer(folder: &Folder) -> Result<SqliteConnection, OpenError> {
    let path = folder.journal();
    private_file(&path).map_err(OpenError::io("open", &path))?;
    let mut connection = SqliteConnectOptions::new()
        .filename(&path)
        .journal_mode(SqliteJournalMode::Wal)
        // A schema that a loss of power undoes is made again; each batch says anew how safe it must be.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("secure_delete", "ON")
        .pragma("wal_autocheckpoint", "4000")
        // A batch is one long statement; the writer says itself what was slow.
        .disable_statement_logging()
        .connect()
        .await?;
    MIGRATIONS.run(&mut connection).await?;
    shorten_log(&mut connection, folder).await?;
    Ok(connection)
}

/// Empties a write-ahead log that a change of the schema made long: it is only ever overwritten from its beginning, and
/// what it holds of texts that are destroyed later would stay behind.
async fn shorten_log(connection: &mut SqliteConnection, folder: &Folder) -> Result<(), OpenError> {
    let log = folder.journal().with_extension("db-wal");
    if std::fs::metadata(&log).is_ok_and(|log| log.len() > LOG_BYTES_COMMON) {
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(connection).await?;
    }
    Ok(())
}

fn read_note(note: &str, signer: &SigningKey, folder: &Folder) -> Result<Checkpoint, OpenError> {
    let unusable = |reason: String| OpenError::File { path: folder.checkpoints(), reason };
    let origin = note.lines().next().unwrap_or_default();
    let key = NoteKey::new(origin, signer.public_key()).map_err(|error| unusable(error.to_string()))?;
    Checkpoint::open(note, &key).map_err(|error| unusable(format!("its last note: {error}")))
}

/// Compares the journal with the last head outside it; begins a new epoch if they differ and that is accepted.
async fn settle_epoch(
    connection: &mut SqliteConnection,
    mut head: StoredHead,
    signed: Option<Checkpoint>,
    options: &OpenOptions,
) -> Result<(StoredHead, Option<Opening>), OpenError> {
    let size = head.frontier.size();
    let rows: i64 = sqlx::query_scalar("SELECT coalesce(max(seq) + 1, 0) FROM events")
        .fetch_one(&mut *connection)
        .await?;
    if rows != size.cast_signed() {
        return Err(OpenError::Damaged(format!("the head is over {size} events, but {rows} are stored")));
    }
    let difference = match &signed {
        None => None,
        Some(signed) if signed.size > size => Some(OpenError::Behind { journal: size, signed: signed.size }),
        Some(signed) => {
            let root = frontier_at(connection, signed.size).await?.root();
            let same = signed.origin == head.origin && signed.root == root;
            (!same).then_some(OpenError::Differs { size: signed.size })
        }
    };
    let copy = is_copy(connection).await?.then_some(OpenError::Restored { journal: size });
    let difference = difference.or(copy);
    let Some(difference) = difference else {
        // A log whose opening event was never committed is opened again.
        let opening = (size == 0).then_some(Opening { former_root: None });
        return Ok((head, opening));
    };
    if !options.accept_restored {
        return Err(difference);
    }
    let epoch = head.epoch.max(signed.as_ref().map_or(0, |signed| origin_epoch(&signed.origin))) + 1;
    head.origin = origin(&head.origin, epoch);
    head.epoch = epoch;
    let former_root = Some(head.frontier.root());
    Ok((head, Some(Opening { former_root })))
}

/// Marks the database of a backup: what happened after it is not known there, so a daemon must not simply go on.
pub(crate) async fn mark_as_copy(path: &Path) -> Result<(), sqlx::Error> {
    let mut copy = SqliteConnectOptions::new().filename(path).connect().await?;
    sqlx::query("PRAGMA user_version = 1").execute(&mut copy).await?;
    copy.close().await
}

async fn is_copy(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(connection).await?;
    Ok(version != 0)
}

/// The head of a log that begins, unless one is expected here.
fn first_head(
    signed: Option<Checkpoint>,
    options: &OpenOptions,
) -> Result<(StoredHead, Option<Opening>), OpenError> {
    let frontier = Frontier::new();
    let Some(signed) = signed else {
        let mut name = [0u8; 16];
        options.ids.fill(&mut name);
        let origin = origin(&format!("aegis-log/{}/0", aegis_core::TraceId::from_bytes(name)), 1);
        return Ok((StoredHead { frontier, origin, epoch: 1 }, Some(Opening { former_root: None })));
    };
    if !options.accept_restored {
        return Err(OpenError::Behind { journal: 0, signed: signed.size });
    }
    let epoch = origin_epoch(&signed.origin) + 1;
    let head = StoredHead { origin: origin(&signed.origin, epoch), epoch, frontier };
    Ok((head, Some(Opening { former_root: Some(Frontier::new().root()) })))
}

/// A log's origin line is `aegis-log/ID/EPOCH`: heads of two epochs are heads of two logs.
fn origin(former: &str, epoch: u32) -> String {
    let stem = former.rsplit_once('/').map_or(former, |(stem, _)| stem);
    format!("{stem}/{epoch}")
}

fn origin_epoch(origin: &str) -> u32 {
    origin.rsplit_once('/').and_then(|(_, epoch)| epoch.parse().ok()).unwrap_or(0)
}

/// The frontier of the first `size` events, from the nearest stored head and the hashes after it.
pub(crate) async fn frontier_at(connection: &mut SqliteConnection, size: u64) -> Result<Frontier, OpenError> {
    let stored: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT frontier FROM checkpoints WHERE size <= ?1 ORDER BY size DESC LIMIT 1")
            .bind(size.cast_signed())
            .fetch_optional(&mut *connection)
            .await?;
    let mut frontier = match stored {
        Some(bytes) => Frontier::from_bytes(&bytes).map_err(|error| OpenError::Damaged(error.to_string()))?,
        None => Frontier::new(),
    };
    let mut rows = sqlx::query("SELECT hash FROM events WHERE seq >= ?1 AND seq < ?2 ORDER BY seq")
        .bind(frontier.size().cast_signed())
        .bind(size.cast_signed())
        .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        frontier.push(stored_hash(&row)?);
    }
    Ok(frontier)
}

fn stored_hash(row: &sqlx::sqlite::SqliteRow) -> Result<Sha256, OpenError> {
    let hash: &[u8] = row.try_get("hash")?;
    <[u8; 32]>::try_from(hash)
        .map(Sha256::from_bytes)
        .map_err(|_| OpenError::Damaged("an event's hash has the wrong length".to_owned()))
}

/// The writer's tiles: those of the last stored head, grown by the events after it.
async fn load_tiles(connection: &mut SqliteConnection, head: &Frontier) -> Result<TileBuffer, OpenError> {
    let last: Option<i64> =
        sqlx::query_scalar("SELECT max(size) FROM checkpoints").fetch_one(&mut *connection).await?;
    let size = last.unwrap_or(0).cast_unsigned().min(head.size());
    let mut frontier = frontier_at(connection, size).await?;
    let mut tiles = TileBuffer::load(connection, size).await?;
    let mut rows = sqlx::query("SELECT hash FROM events WHERE seq >= ?1 ORDER BY seq")
        .bind(size.cast_signed())
        .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        frontier.push_with(stored_hash(&row)?, |node, hash| tiles.complete(node, &hash));
    }
    if frontier != *head {
        return Err(OpenError::Damaged(
            "the events after the last signed head do not lead to the head".to_owned(),
        ));
    }
    Ok(tiles)
}

/// Destroys keys whose tombstone was written before a crash.
async fn finish_destructions(connection: &mut SqliteConnection, keys: &KeyRing) -> Result<(), OpenError> {
    let buried: Vec<i64> = sqlx::query_scalar("SELECT key FROM stream_keys WHERE destroyed_at IS NOT NULL")
        .fetch_all(connection)
        .await?;
    for key in keys.existing(&buried).await? {
        keys.destroy(key).await?;
    }
    Ok(())
}

/// Where the events of the log itself lie.
pub(crate) const LOG_STREAM: StreamId = StreamId::Fleet;
