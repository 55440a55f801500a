//! One batch: read positions and records, stage, write, commit, answer.

use aegis_core::{Body, Durability, Sha256};
use aegis_kernel::port::{Append, Appended, JournalError};
use sqlx::{Row as _, SqliteConnection};
use tokio::time::Instant;

use super::head::SYNCHRONOUS_FULL;
use super::script::{Script, insert_blobs, insert_events, load_wanted, store_changed};
use super::stage::{BlobRow, Staged, copy_number};
use super::{
    Answer, BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, CHECKPOINT_DELAY, Command, Idempotent, MARKER_DELAY,
    POSITIONS_MAX, RECORDS_MAX, Stop, Writer, head, store_error,
};
use crate::folder::BALLAST_BYTES;
use crate::projection::Projections;
use crate::seal::seal_blob;

/// Events of a batch whose statements are kept prepared, at most.
const EVENTS_COMMON: usize = 4;
/// And its blobs.
const BLOBS_COMMON: usize = 8;
/// A batch that takes longer is told of.
const SLOW_BATCH: std::time::Duration = std::time::Duration::from_secs(1);
/// How long an idempotency key is remembered, in microseconds.
const IDEMPOTENCY_MICROS: i64 = 24 * 3600 * 1_000_000;
/// How long a look at the free disk counts.
const DISK_CHECK_EVERY: std::time::Duration = std::time::Duration::from_millis(500);
const SET_FULL: &str = "PRAGMA synchronous = FULL; PRAGMA synchronous";
const BEGIN_FULL: &str = "PRAGMA synchronous = FULL; BEGIN IMMEDIATE;";
const BEGIN_NORMAL: &str = "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE;";
/// SQLite's result code for a full disk.
const SQLITE_FULL: &str = "13";

/// Digest of a request, and its answer.
type Remembered = (Sha256, String);

/// Commands that share a transaction.
#[derive(Default)]
pub(super) struct Batch {
    appends: Vec<(Append, Answer<Appended>)>,
    idempotent: Vec<(Idempotent, Answer<Option<Remembered>>)>,
    bytes: usize,
}

/// What is answered once the transaction is committed.
#[derive(Default)]
struct Answers {
    appended: Vec<(Answer<Appended>, Result<Appended, JournalError>)>,
    idempotent: Vec<(Answer<Option<Remembered>>, Option<Remembered>)>,
}

impl Answers {
    fn send(self) {
        for (answer, result) in self.appended {
            let _ = answer.send(result);
        }
        for (answer, result) in self.idempotent {
            let _ = answer.send(Ok(result));
        }
    }
    fn fail(self, error: &JournalError) {
        for (answer, result) in self.appended {
            let _ = answer.send(result.and(Err(error.clone())));
        }
        for (answer, _) in self.idempotent {
            let _ = answer.send(Err(error.clone()));
        }
    }
}

impl Batch {
    /// Takes a command in; gives it back if it must be served alone.
    pub(super) fn take(&mut self, command: Command) -> Result<(), Box<Command>> {
        match command {
            Command::Append { append, answer } => {
                self.bytes += append.blobs.iter().map(|blob| blob.bytes.len()).sum::<usize>();
                self.appends.push((append, answer));
                Ok(())
            }
            Command::Idempotent { entry, answer } => {
                self.idempotent.push((entry, answer));
                Ok(())
            }
            other => Err(Box::new(other)),
        }
    }
    pub(super) fn is_full(&self) -> bool {
        self.appends.len() + self.idempotent.len() >= BATCH_COMMANDS_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}

impl Writer {
    pub(super) async fn commit(&mut self, batch: Batch) -> Result<(), Stop> {
        if batch.appends.is_empty() && batch.idempotent.is_empty() {
            return Ok(());
        }
        let mut answers = Answers::default();
        let power = self.always_power
            || batch.appends.iter().any(|(append, _)| append.durability == Durability::Power);
        let staged = match self.stage(batch.appends, &mut answers).await {
            Ok(staged) => staged,
            Err(error) => {
                self.forget();
                answers.fail(&error);
                return Ok(());
            }
        };
        if staged.events.is_empty() && batch.idempotent.is_empty() {
            // Every append was refused: there is nothing to wait for.
            self.keep_within_limits(0);
            answers.send();
            return Ok(());
        }
        if let Err(error) = self.write(&staged, batch.idempotent, power, &mut answers).await {
            return self.roll_back(error, answers).await;
        }
        self.committed(staged, power);
        answers.send();
        Ok(())
    }

    /// Reads what staging needs, then works out what to write.
    async fn stage(
        &mut self,
        appends: Vec<(Append, Answer<Appended>)>,
        answers: &mut Answers,
    ) -> Result<Staged, JournalError> {
        let disk_low = self.disk_is_low();
        self.read_positions(&appends).await.map_err(store_error)?;
        for (append, _) in &appends {
            for event in &append.events {
                self.state.projections.want(append.stream, &event.body);
            }
        }
        load_wanted(&mut self.connection, &mut self.state.projections).await.map_err(store_error)?;
        let mut staged = Staged::new(self.frontier.clone());
        for (append, answer) in appends {
            if disk_low && append.events.first().is_some_and(|event| begins_something(&event.body)) {
                let full = JournalError::DiskFull(self.disk_floor_bytes);
                answers.appended.push((answer, Err(full)));
                continue;
            }
            let result = self.stage_one(append, &mut staged).await?;
            answers.appended.push((answer, result));
        }
        Ok(staged)
    }

    /// The inner error is the append's own; the outer one ends the batch.
    async fn stage_one(
        &mut self,
        mut append: Append,
        staged: &mut Staged,
    ) -> Result<Result<Appended, JournalError>, JournalError> {
        let (stream, blobs) = (append.stream, std::mem::take(&mut append.blobs));
        let before = staged.events.len();
        let appended = match staged.take(append, &self.state.positions, self.ids.as_ref()) {
            Ok(appended) => appended,
            Err(refused) => return Ok(Err(refused)),
        };
        for row in staged.events.get(before..).unwrap_or_default() {
            self.state.projections.apply(&row.event);
        }
        let name = stream.to_string();
        for blob in blobs {
            let copy = copy_number(blob.copy);
            let key = self.stream_key(stream, copy, staged).await;
            let key = key.map_err(|error| self.refusal(&error))?;
            let sealed = seal_blob(&key, &name, blob.id, &blob.salt, &blob.bytes).map_err(store_error)?;
            staged.blobs.push(BlobRow { id: blob.id, stream: name.clone(), copy, sealed });
        }
        Ok(Ok(appended))
    }

    async fn read_positions(&mut self, appends: &[(Append, Answer<Appended>)]) -> Result<(), sqlx::Error> {
        let mut unknown: Vec<_> = appends
            .iter()
            .map(|(append, _)| append.stream)
            .filter(|stream| !self.state.positions.contains_key(stream))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        unknown.sort_unstable();
        unknown.dedup();
        let names: Vec<String> = unknown.iter().map(ToString::to_string).collect();
        let names = serde_json::to_string(&names).map_err(|error| sqlx::Error::Encode(error.into()))?;
        let rows = sqlx::query(
            "SELECT stream, max(stream_seq) FROM events \
             WHERE stream IN (SELECT value FROM json_each(?1)) GROUP BY stream",
        )
        .bind(names)
        .fetch_all(&mut self.connection)
        .await?;
        for stream in unknown {
            self.state.positions.insert(stream, 0);
        }
        for row in rows {
            let stream: String = row.try_get(0)?;
            let stream = stream.parse().map_err(|_| sqlx::Error::RowNotFound)?;
            self.state.positions.insert(stream, row.try_get::<i64, _>(1)?.cast_unsigned());
        }
        Ok(())
    }

    /// Makes every commit that follows wait for the disk, and reads the setting back: one that did not take would lose
    /// acknowledged events.
    pub(super) async fn sync_fully(&mut self) -> Result<(), sqlx::Error> {
        let is: i64 = sqlx::query_scalar(SET_FULL).fetch_one(&mut self.connection).await?;
        if is == SYNCHRONOUS_FULL {
            Ok(())
        } else {
            Err(sqlx::Error::Protocol(format!("synchronous is {is}, not {SYNCHRONOUS_FULL}")))
        }
    }

    /// Writes everything in one transaction, most often in one turn of the connection's thread: turns are what a lone
    /// append waits for, beside its sync.
    async fn write(
        &mut self,
        staged: &Staged,
        idempotent: Vec<(Idempotent, Answer<Option<Remembered>>)>,
        power: bool,
        answers: &mut Answers,
    ) -> Result<(), sqlx::Error> {
        let begin = if power { BEGIN_FULL } else { BEGIN_NORMAL };
        let mut script = if idempotent.is_empty() {
            Script::new(begin)
        } else {
            sqlx::query(begin).execute(&mut self.connection).await?;
            Script::new("")
        };
        for (entry, answer) in idempotent {
            let known = remember(&mut self.connection, entry).await?;
            answers.idempotent.push((answer, known));
        }
        insert_events(&mut script, &staged.events);
        insert_blobs(&mut script, &staged.blobs);
        for (stream, copy, key) in &staged.new_keys {
            script.push("INSERT INTO stream_keys (stream, copy, key) VALUES (");
            script
                .push_bind(stream.to_string())
                .push(",")
                .push_bind(*copy)
                .push(",")
                .push_bind(*key)
                .push(");");
        }
        store_changed(&mut script, &mut self.state.projections);
        head::advance(&mut script, &staged.frontier, power);
        script.push("COMMIT");
        // Only what comes often in the same shape is worth a place among the prepared statements.
        let common = staged.events.len() <= EVENTS_COMMON && staged.blobs.len() <= BLOBS_COMMON;
        let begun = Instant::now();
        let written = script.build().persistent(common).execute(&mut self.connection).await;
        if begun.elapsed() > SLOW_BATCH {
            let (events, took) = (staged.events.len(), begun.elapsed().as_millis());
            tracing::warn!(
                events,
                milliseconds = took,
                "the journal was slow to write: the disk may be busy"
            );
        }
        written.map(drop)
    }

    /// Undoes a transaction that could not be written. A full disk refuses the batch; anything else below ends the
    /// journal, because what was staged in good order must be storable.
    async fn roll_back(&mut self, error: sqlx::Error, answers: Answers) -> Result<(), Stop> {
        self.forget();
        let undone = self.undo().await;
        if is_full(&error) && undone.is_ok() {
            self.release_ballast();
            answers.fail(&JournalError::DiskFull(self.disk_floor_bytes));
            return Ok(());
        }
        answers.fail(&store_error(&error));
        let constraint = error.as_database_error().is_some_and(|error| error.is_unique_violation());
        if constraint && undone.is_ok() { Ok(()) } else { Err(self.fail("write", &error)) }
    }

    /// Ends the transaction. SQLite ends it by itself on some errors, and then says that there is none.
    async fn undo(&mut self) -> Result<(), sqlx::Error> {
        if sqlx::query("ROLLBACK").execute(&mut self.connection).await.is_err() {
            // This one begins only if none is open.
            sqlx::query("BEGIN").execute(&mut self.connection).await?;
            sqlx::query("ROLLBACK").execute(&mut self.connection).await?;
        }
        Ok(())
    }

    fn committed(&mut self, staged: Staged, power: bool) {
        let now = Instant::now();
        for row in &staged.events {
            let tiles = &mut self.tiles;
            self.frontier.push_with(Sha256::from_bytes(row.hash), |node, hash| tiles.complete(node, &hash));
        }
        let wrote = !staged.events.is_empty();
        self.keep_within_limits(staged.positions.len());
        let state = &mut self.state;
        state.positions.extend(staged.positions);
        if wrote {
            state.checkpoint_due.get_or_insert(now + CHECKPOINT_DELAY);
            self.announced.committed.send_replace(self.frontier.size());
        }
        // Without an event the head stayed as it was, and SQLite syncs nothing for a page that did not change.
        if power && wrote {
            state.marker_due = None;
            self.announce_head();
        } else {
            state.marker_due.get_or_insert(now + MARKER_DELAY);
        }
    }

    /// Forgets what can be read again where there is much of it, before so many positions more are kept.
    fn keep_within_limits(&mut self, more: usize) {
        if self.state.positions.len() + more > POSITIONS_MAX {
            self.state.positions.clear();
        }
        self.state.projections.trim(RECORDS_MAX);
    }

    /// Drops everything that a batch that was not committed may have changed in memory.
    pub(super) fn forget(&mut self) {
        self.state.positions.clear();
        self.state.projections = Projections::default();
        self.state.stream_keys.clear();
        self.state.next_key = 0;
    }

    fn disk_is_low(&mut self) -> bool {
        let now = Instant::now();
        if self.state.disk_checked.is_none_or(|at| now >= at + DISK_CHECK_EVERY) {
            let free = self.folder.free_bytes().unwrap_or(u64::MAX);
            self.state.disk_checked = Some(now);
            self.state.disk_low = free < self.disk_floor_bytes;
            if self.state.disk_low && self.release_ballast() {
                tracing::warn!(free, "the disk is almost full: new actions are refused");
            }
            if self.state.ballast_gone && free >= self.disk_floor_bytes.saturating_add(BALLAST_BYTES) {
                // For the next time.
                self.state.ballast_gone = self.folder.keep_ballast().is_err();
            }
        }
        self.state.disk_low
    }

    /// An error of a write as the port tells it; a full disk is given the ballast.
    fn refusal(&mut self, error: &sqlx::Error) -> JournalError {
        if !is_full(error) {
            return store_error(error);
        }
        self.release_ballast();
        JournalError::DiskFull(self.disk_floor_bytes)
    }

    /// Gives the set-aside disk back. True if there was some.
    pub(super) fn release_ballast(&mut self) -> bool {
        let released = self.folder.release_ballast();
        self.state.ballast_gone |= released;
        released
    }
}

pub(super) fn is_full(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).as_deref() == Some(SQLITE_FULL)
}

/// Whether an append that begins so starts something new, which a full disk forbids.
const fn begins_something(body: &Body) -> bool {
    matches!(body, Body::ActionIntended { .. } | Body::ExecutionCreated { .. } | Body::AgentDeployed { .. })
}

/// Answers with what is known of a key, or remembers it.
async fn remember(
    connection: &mut SqliteConnection,
    entry: Idempotent,
) -> Result<Option<(Sha256, String)>, sqlx::Error> {
    let oldest = entry.now.micros().saturating_sub(IDEMPOTENCY_MICROS);
    sqlx::query("DELETE FROM idempotency WHERE at < ?1").bind(oldest).execute(&mut *connection).await?;
    let known = sqlx::query("SELECT request, answer FROM idempotency WHERE tenant = ?1 AND key = ?2")
        .bind(entry.tenant.as_str().to_owned())
        .bind(entry.key.clone())
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(row) = known {
        let request: Vec<u8> = row.try_get(0)?;
        let request = <[u8; 32]>::try_from(request).map_err(|_| sqlx::Error::RowNotFound)?;
        return Ok(Some((Sha256::from_bytes(request), row.try_get(1)?)));
    }
    sqlx::query("INSERT INTO idempotency (tenant, key, request, answer, at) VALUES (?1, ?2, ?3, ?4, ?5)")
        .bind(entry.tenant.as_str().to_owned())
        .bind(entry.key)
        .bind(entry.request.as_bytes().to_vec())
        .bind(entry.answer)
        .bind(entry.now.micros())
        .execute(connection)
        .await?;
    Ok(None)
}
