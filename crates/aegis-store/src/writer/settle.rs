//! What follows commits: the sync of process-durable events, signed heads, and work that is done alone.

use std::sync::Arc;

use aegis_core::StreamId;
use aegis_kernel::port::{Head, JournalError};
use aegis_security::checkpoint::Checkpoint;
use sqlx::Row as _;

use super::batch::is_full;
use super::script::store_rebuilt;
use super::stage::Staged;
use super::{State, Stop, WORKING, Writer, store_error};
use crate::projection::{Projections, Row};
use crate::seal::SealKey;
use crate::{archive, leaves};

/// Changes a row, so that the commit has something to sync.
const MARK: &str = "UPDATE journal_head SET marker = marker + 1 WHERE one = 1";

impl Writer {
    pub(super) fn announce_head(&self) {
        let head = Head { size: self.frontier.size(), root: self.frontier.root() };
        self.announced.head.send_if_modified(|last| {
            let changed = *last != head;
            *last = head;
            changed
        });
    }

    /// Makes all that is committed survive loss of power: a commit of one row under FULL syncs the log before it.
    pub(super) async fn sync(&mut self) -> Result<(), Stop> {
        if self.state.marker_due.is_none() {
            return Ok(());
        }
        let mut marked = self.mark().await;
        if self.may_try_again(&marked) {
            marked = self.mark().await;
        }
        marked.map_err(|error| self.fail("sync", &error))?;
        self.state.marker_due = None;
        self.announce_head();
        Ok(())
    }

    async fn mark(&mut self) -> Result<(), sqlx::Error> {
        self.sync_fully().await?;
        sqlx::query(MARK).execute(&mut self.connection).await.map(drop)
    }

    /// Whether a write failed because the disk is full, and the ballast made room. Pages that found no room were not
    /// synced, so nothing that was acknowledged is in doubt.
    fn may_try_again(&mut self, written: &Result<(), sqlx::Error>) -> bool {
        written.as_ref().is_err_and(is_full) && self.release_ballast()
    }

    /// Syncs, then signs the head if it is not, with the inner nodes below it.
    pub(super) async fn settle(&mut self) -> Result<(), Stop> {
        self.sync().await?;
        self.state.checkpoint_due = None;
        let size = self.frontier.size();
        let signed = self.signed_size().await.map_err(|error| self.fail("read its last head", &error))?;
        if signed == Some(size) || size == 0 {
            return Ok(());
        }
        let checkpoint = Checkpoint { origin: self.origin.clone(), size, root: self.frontier.root() };
        let note = checkpoint.sign(&self.signer).map_err(|error| self.fail("sign its head", &error))?;
        let mut written = self.write_checkpoint(size, &note).await;
        if self.may_try_again(&written) {
            let _ = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
            written = self.write_checkpoint(size, &note).await;
        }
        written.map_err(|error| self.fail("write its head", &error))?;
        self.tiles.written();
        let file = self.file.handle();
        let line = note.clone();
        // The sync blocks; the runtime may have one thread.
        let appended = tokio::task::spawn_blocking(move || file?.append(&line)).await;
        if let Err(error) = appended.map_err(std::io::Error::other).flatten() {
            return Err(self.fail("append its head to `checkpoints`", &error));
        }
        self.state.note = Some(note);
        Ok(())
    }

    async fn signed_size(&mut self) -> Result<Option<u64>, sqlx::Error> {
        let row = sqlx::query("SELECT size, note FROM checkpoints ORDER BY number DESC LIMIT 1")
            .fetch_optional(&mut self.connection)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let note: String = row.try_get(1)?;
        // A head under a former epoch's name counts as unsigned in this one.
        if !note.starts_with(&format!("{}\n", self.origin)) {
            return Ok(None);
        }
        self.state.note.get_or_insert(note);
        Ok(Some(row.try_get::<i64, _>(0)?.cast_unsigned()))
    }

    async fn write_checkpoint(&mut self, size: u64, note: &str) -> Result<(), sqlx::Error> {
        self.sync_fully().await?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut self.connection).await?;
        self.tiles.write(&mut self.connection).await?;
        sqlx::query("INSERT INTO checkpoints (size, frontier, note) VALUES (?1, ?2, ?3)")
            .bind(size.cast_signed())
            .bind(self.frontier.to_bytes())
            .bind(note.to_owned())
            .execute(&mut self.connection)
            .await?;
        sqlx::query("COMMIT").execute(&mut self.connection).await?;
        Ok(())
    }

    /// The key that seals a stream's blobs of one copy; a new one if it has none.
    pub(super) async fn stream_key(
        &mut self,
        stream: StreamId,
        copy: i64,
        staged: &mut Staged,
    ) -> Result<Arc<SealKey>, sqlx::Error> {
        let id = match self.state.stream_keys.get(&(stream, copy)) {
            Some(id) => *id,
            None => match self.recorded_key(stream, copy).await? {
                Some(id) => id,
                None => {
                    let id = self.next_key().await?;
                    staged.new_keys.push((stream, copy, id));
                    id
                }
            },
        };
        if self.state.stream_keys.len() >= super::POSITIONS_MAX {
            self.state.stream_keys.clear();
        }
        self.state.stream_keys.insert((stream, copy), id);
        let destroyed = || sqlx::Error::Protocol(format!("the key of stream `{stream}` was destroyed"));
        self.keys.get(id).await?.ok_or_else(destroyed)
    }

    async fn recorded_key(&mut self, stream: StreamId, copy: i64) -> Result<Option<i64>, sqlx::Error> {
        sqlx::query_scalar("SELECT key FROM stream_keys WHERE stream = ?1 AND copy = ?2")
            .bind(stream.to_string())
            .bind(copy)
            .fetch_optional(&mut self.connection)
            .await
    }

    async fn next_key(&mut self) -> Result<i64, sqlx::Error> {
        if self.state.next_key == 0 {
            let last: i64 = sqlx::query_scalar("SELECT coalesce(max(key), 0) FROM stream_keys")
                .fetch_one(&mut self.connection)
                .await?;
            self.state.next_key = last + 1;
        }
        let id = self.state.next_key;
        if id > self.state.last_key {
            self.keys.stock(id, self.ids.as_ref()).await?;
            self.state.last_key = self.keys.last().await?;
        }
        self.state.next_key += 1;
        Ok(id)
    }

    /// Records the tombstone and overwrites the sealed rows, then destroys the key; a crash in between is made good
    /// when the store opens.
    pub(super) async fn destroy_working(&mut self, stream: StreamId) -> Result<(), JournalError> {
        let Some(key) = self.recorded_key(stream, WORKING).await.map_err(store_error)? else {
            return Ok(());
        };
        let buried = self.bury(stream).await;
        if let Err(error) = buried {
            let _ = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
            return Err(store_error(error));
        }
        self.state.stream_keys.remove(&(stream, WORKING));
        self.keys.destroy(key).await.map_err(store_error)
    }

    async fn bury(&mut self, stream: StreamId) -> Result<(), sqlx::Error> {
        let now = self.clock.now().micros();
        let name = stream.to_string();
        self.sync_fully().await?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut self.connection).await?;
        sqlx::query(
            "UPDATE stream_keys SET destroyed_at = ?3 WHERE stream = ?1 AND copy = ?2 AND destroyed_at IS NULL",
        )
        .bind(name.clone())
        .bind(WORKING)
        .bind(now)
        .execute(&mut self.connection)
        .await?;
        // The row stays, empty: it says which copy the destroyed blob was.
        for sql in [
            "UPDATE blobs SET sealed = zeroblob(length(sealed)) WHERE stream = ?1 AND copy = ?2",
            "UPDATE blobs SET sealed = x'' WHERE stream = ?1 AND copy = ?2",
        ] {
            sqlx::query(sql).bind(name.clone()).bind(WORKING).execute(&mut self.connection).await?;
        }
        // What was buried before changes nothing, and a transaction that changes nothing is not synced.
        sqlx::query(MARK).execute(&mut self.connection).await?;
        sqlx::query("COMMIT").execute(&mut self.connection).await?;
        // FULL synced all commits before this one too.
        self.state.marker_due = None;
        self.announce_head();
        Ok(())
    }

    /// Makes the projections anew from the leaves alone.
    pub(super) async fn rebuild(&mut self) -> Result<(), JournalError> {
        self.state.projections = Projections::default();
        let rebuilt = self.replace_projections().await;
        if rebuilt.is_err() {
            let _ = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
        }
        self.state.projections = Projections::default();
        rebuilt
    }

    async fn replace_projections(&mut self) -> Result<(), JournalError> {
        let connection = &mut self.connection;
        let mut projections = leaves::fold(connection, &self.folder).await.map_err(store_error)?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(store_error)?;
        for clear in [
            crate::projection::AgentRow::CLEAR,
            crate::projection::VersionRow::CLEAR,
            crate::projection::ExecutionRow::CLEAR,
            crate::projection::IterationRow::CLEAR,
            crate::projection::VolumeRow::CLEAR,
            crate::projection::CostRow::CLEAR,
        ] {
            sqlx::query(clear).execute(&mut *connection).await.map_err(store_error)?;
        }
        store_rebuilt(connection, &mut projections).await.map_err(store_error)?;
        sqlx::query("COMMIT").execute(&mut *connection).await.map(drop).map_err(store_error)
    }

    pub(super) async fn archive(&mut self, before: u64) -> Result<Option<String>, JournalError> {
        self.settle().await.map_err(|Stop| JournalError::Store("the journal has stopped".to_owned()))?;
        archive::archive(&mut self.connection, &self.folder, before).await.map_err(store_error)
    }
}

impl State {
    pub(crate) fn fresh() -> Self {
        Self::default()
    }
}
