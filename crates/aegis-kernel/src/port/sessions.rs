//! Sessions of SMCP, and what was said in them: what must outlive the daemon so that nothing signed is taken twice.

use aegis_core::{ApiKeyId, ExecutionId, Sha256, Tenant, Timestamp};
use async_trait::async_trait;
use uuid::Uuid;

/// A session: a key that speaks for one sandbox generation, or for one external run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmcpSession {
    /// Its id; the token's `jti`.
    pub id: Uuid,
    /// Whose it is.
    pub tenant: Tenant,
    /// The execution it speaks for.
    pub execution: ExecutionId,
    /// The sandbox generation; 0 outside one.
    pub generation: u32,
    /// The client's raw Ed25519 key.
    pub public_key: [u8; 32],
    /// The security context it speaks in.
    pub scope: Option<String>,
    /// The API key that opened it, outside a sandbox.
    pub api_key: Option<ApiKeyId>,
    /// When it began.
    pub opened_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// When it was ended before.
    pub ended_at: Option<Timestamp>,
}

impl SmcpSession {
    /// Whether it may still speak.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.ended_at.is_none() && now < self.expires_at
    }
}

/// Whether an envelope was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// It was; it is not from now on.
    New,
    /// Its nonce was taken before.
    NonceSeen,
    /// Its session took another request of that id.
    RequestSeen,
}

/// Sessions that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The sandbox generation has, or had, its session.
    #[error("generation {0} has attested already; it may do so once")]
    AttestedAlready(u32),
    /// So many calls in so short a time that no more are taken.
    #[error("too many calls within the replay window; try again in a minute")]
    Overloaded,
    /// The store below failed.
    #[error("{0}")]
    Store(String),
}

/// Keeps sessions and what was said in them, across restarts.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// Opens a session: one per execution and generation, ever. Durable when it returns.
    async fn open(&self, session: &SmcpSession) -> Result<(), SessionError>;
    /// A session, ended ones included.
    async fn find(&self, id: Uuid) -> Result<Option<SmcpSession>, SessionError>;
    /// Ends all sessions of an execution; durable when it returns.
    async fn end_of(&self, execution: ExecutionId) -> Result<(), SessionError>;
    /// Takes an envelope's nonce and its request's id within the session, both or none, in one step that survives
    /// `kill -9`. Of any number of callers with one nonce, exactly one is told [`Claimed::New`].
    async fn claim(&self, session: Uuid, nonce: &Sha256, request: &str) -> Result<Claimed, SessionError>;
}
