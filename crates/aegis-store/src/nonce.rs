//! Nonces that survive a restart: a signed call is taken once.
//!
//! A nonce is committed before its call is judged, in a way that survives `kill -9`. Loss of power may lose the nonces
//! of the last moments; a machine that is up again later than the timestamps' tolerance refuses those calls by their
//! timestamps alone. One that is up sooner cannot be excluded: state it where that matters.

use std::sync::atomic::Ordering;
use std::time::Duration;

use aegis_core::{Sha256, Timestamp};
use aegis_kernel::port::Claimed;
use aegis_security::commitment::sha256;
use uuid::Uuid;

use crate::door::{Door, DoorError};

/// How long a nonce is kept: twice the tolerance of timestamps (30 s) either way.
pub const NONCE_WINDOW: Duration = Duration::from_secs(120);
/// Most nonces kept; more calls are refused until some are old enough.
pub const NONCES_MAX: u64 = 2_000_000;
/// Old ones are swept at most this often, in microseconds.
const SWEEP_EVERY_MICROS: i64 = 10_000_000;

impl Door {
    /// Takes a nonce. False if it was taken before: the call is a replay. Of any number of callers with one nonce,
    /// exactly one gets true.
    ///
    /// # Errors
    /// If too many are kept, or the database fails: then the call must be refused.
    pub async fn claim_nonce(&self, nonce: &Sha256) -> Result<bool, DoorError> {
        let now = self.clock.now();
        self.make_room().await?;
        let inserted =
            sqlx::query("INSERT INTO smcp_nonce (nonce, seen_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
                .bind(nonce.as_bytes().as_slice())
                .bind(now.micros())
                .execute(&self.process)
                .await?;
        let fresh = inserted.rows_affected() == 1;
        self.nonces.fetch_add(u64::from(fresh), Ordering::Relaxed);
        Ok(fresh)
    }

    /// Takes a call: its nonce, and its request's id within its session, both or none.
    ///
    /// # Errors
    /// If too many nonces are kept, or the database fails: then the call must be refused.
    pub async fn claim_call(
        &self,
        session: Uuid,
        nonce: &Sha256,
        request: &str,
    ) -> Result<Claimed, DoorError> {
        self.make_room().await?;
        let mut transaction = self.process.begin().await?;
        let fresh =
            sqlx::query("INSERT INTO smcp_nonce (nonce, seen_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
                .bind(nonce.as_bytes().as_slice())
                .bind(self.clock.now().micros())
                .execute(&mut *transaction)
                .await?;
        if fresh.rows_affected() == 0 {
            return Ok(Claimed::NonceSeen);
        }
        let fresh =
            sqlx::query("INSERT INTO smcp_request (session, request) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
                .bind(session.to_string())
                .bind(sha256(request.as_bytes()).as_bytes().as_slice())
                .execute(&mut *transaction)
                .await?;
        if fresh.rows_affected() == 0 {
            return Ok(Claimed::RequestSeen);
        }
        transaction.commit().await?;
        self.nonces.fetch_add(1, Ordering::Relaxed);
        Ok(Claimed::New)
    }

    async fn make_room(&self) -> Result<(), DoorError> {
        let now = self.clock.now();
        if now.micros().saturating_sub(self.swept_at.load(Ordering::Relaxed)) >= SWEEP_EVERY_MICROS {
            self.sweep_nonces(now).await?;
        }
        if self.nonces.load(Ordering::Relaxed) >= NONCES_MAX {
            return Err(DoorError::Overloaded);
        }
        Ok(())
    }

    /// Forgets what is older than [`NONCE_WINDOW`]; answers with how many.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn sweep_nonces(&self, now: Timestamp) -> Result<u64, DoorError> {
        self.swept_at.store(now.micros(), Ordering::Relaxed);
        let window = i64::try_from(NONCE_WINDOW.as_micros()).unwrap_or(i64::MAX);
        let swept = sqlx::query("DELETE FROM smcp_nonce WHERE seen_at < ?1")
            .bind(now.micros().saturating_sub(window))
            .execute(&self.process)
            .await?
            .rows_affected();
        let left = self.nonces.load(Ordering::Relaxed).saturating_sub(swept);
        self.nonces.store(left, Ordering::Relaxed);
        Ok(swept)
    }
}
