//! What has passed through a connection, and copying under its limits.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aegis_kernel::port::{EgressEnd, EgressLimits};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

/// Bytes copied at once.
const CHUNK_BYTES: usize = 32 * 1024;

/// In which direction bytes pass.
#[derive(Debug, Clone, Copy)]
pub(super) enum Direction {
    /// Out of the sandbox.
    Sent,
    /// Into it.
    Received,
}

/// Counters of one connection; they hold also when it is cut in the midst.
#[derive(Debug)]
pub(super) struct Progress {
    started: Instant,
    limits: EgressLimits,
    /// What is left to the execution.
    volume: Arc<AtomicU64>,
    sent: AtomicU64,
    received: AtomicU64,
    /// Milliseconds from the start to the last byte.
    last_ms: AtomicU64,
    pub(super) address: OnceLock<IpAddr>,
}

impl Progress {
    pub(super) fn new(limits: EgressLimits, volume: Arc<AtomicU64>) -> Self {
        Self {
            started: Instant::now(),
            limits,
            volume,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            last_ms: AtomicU64::new(0),
            address: OnceLock::new(),
        }
    }

    pub(super) fn duration(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Counts bytes that are about to pass; fails if they are too many.
    fn count(&self, direction: Direction, bytes: usize) -> Result<(), EgressEnd> {
        let counter = match direction {
            Direction::Sent => &self.sent,
            Direction::Received => &self.received,
        };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if self.sent().saturating_add(self.received()).saturating_add(bytes) > self.limits.bytes {
            return Err(EgressEnd::Limit("bytes"));
        }
        let taken =
            self.volume.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        if taken.is_err() {
            return Err(EgressEnd::Limit("volume"));
        }
        counter.fetch_add(bytes, Ordering::Relaxed);
        self.last_ms.store(self.elapsed_ms(), Ordering::Relaxed);
        Ok(())
    }

    /// Writes bytes and counts them.
    pub(super) async fn pass(
        &self,
        direction: Direction,
        bytes: &[u8],
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), EgressEnd> {
        self.count(direction, bytes.len())?;
        to.write_all(bytes).await.map_err(broken)
    }

    /// Copies until the end of `from`, or `bytes_max`, and returns how many bytes that were.
    pub(super) async fn copy(
        &self,
        direction: Direction,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        bytes_max: u64,
    ) -> Result<u64, EgressEnd> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut copied = 0;
        while copied < bytes_max {
            let most = usize::try_from(bytes_max - copied).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let count = from.read(chunk.get_mut(..most).unwrap_or_default()).await.map_err(broken)?;
            if count == 0 {
                break;
            }
            self.pass(direction, chunk.get(..count).unwrap_or_default(), to).await?;
            copied += u64::try_from(count).unwrap_or(0);
        }
        Ok(copied)
    }

    /// Returns once no byte has passed for too long.
    pub(super) async fn idle(&self) -> EgressEnd {
        let idle_ms = u64::try_from(self.limits.idle.as_millis()).unwrap_or(u64::MAX).max(1);
        loop {
            let quiet = self.elapsed_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed));
            if quiet >= idle_ms {
                return EgressEnd::Limit("idle");
            }
            tokio::time::sleep(Duration::from_millis(idle_ms - quiet)).await;
        }
    }
}

/// A stream that failed.
pub(super) fn broken(error: std::io::Error) -> EgressEnd {
    EgressEnd::Failed(error.to_string())
}
