//! The daemon's own envelopes: a model's tool call in the inner loop, signed with a key of its execution.

use aegis_core::Timestamp;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::checks::Session;
use super::envelope::{Envelope, Protocol, Signer, kernel_meta};
use super::error::SmcpError;
use super::token::{Claims, Grant, KeyRing, TokenError};
use crate::signature::{SEED_BYTES, SigningKey};

/// A tool call that a model made.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelCall<'a> {
    /// The JSON-RPC id, new in the session; the action's id is one.
    pub request_id: &'a str,
    /// The id the model gave the call.
    pub model_call: &'a str,
    /// The tool.
    pub tool: &'a str,
    /// Its arguments.
    pub arguments: &'a Value,
}

/// Signs for one execution. It holds its token, so that an envelope costs one signature.
#[derive(Debug)]
pub struct KernelSigner {
    key: SigningKey,
    token: String,
    claims: Claims,
}

impl KernelSigner {
    /// Makes the key of an execution from 32 random bytes, which are overwritten, and issues its first token.
    ///
    /// # Errors
    ///
    /// Fails if the token cannot be issued.
    pub fn new(
        seed: Zeroizing<[u8; SEED_BYTES]>,
        keys: &KeyRing,
        grant: &Grant,
        now: Timestamp,
    ) -> Result<Self, TokenError> {
        let (token, claims) = keys.issue(grant, now)?;
        Ok(Self { key: SigningKey::from_seed(&seed), token, claims })
    }

    /// The session to check its envelopes against.
    pub fn session(&self) -> Session {
        Session {
            id: self.claims.id.clone(),
            public_key: self.key.public_key(),
            signer: Signer::Kernel,
            active: true,
        }
    }
    /// What its token says.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Takes a new token when half of the present one's time is over, for the same session. Answers whether it did.
    ///
    /// # Errors
    ///
    /// Fails if the token cannot be issued; the present one stays.
    pub fn renew(&mut self, keys: &KeyRing, now: Timestamp) -> Result<bool, TokenError> {
        let lifetime = self.claims.expires_at.saturating_sub(self.claims.issued_at);
        let half = self.claims.issued_at.saturating_add(lifetime / 2);
        if now.micros().div_euclid(1_000_000) < half {
            return Ok(false);
        }
        let grant = Grant {
            subject: self.claims.subject.clone(),
            scope: self.claims.scope.clone(),
            workload: self.claims.workload.clone(),
            session: self.claims.id.clone(),
            seconds: u32::try_from(lifetime).unwrap_or_default(),
        };
        (self.token, self.claims) = keys.issue(&grant, now)?;
        Ok(true)
    }

    /// The envelope of a model's tool call.
    ///
    /// # Errors
    ///
    /// Fails with [`super::SmcpCode::InvalidEnvelope`] if the arguments cannot be signed: they hold a number beyond
    /// ±(2^53 − 1), or are nested too deeply.
    pub fn sign(&self, call: &KernelCall<'_>, now: Timestamp) -> Result<Envelope, SmcpError> {
        let payload = json!({
            "jsonrpc": "2.0",
            "id": call.request_id,
            "method": "tools/call",
            "params": {
                "name": call.tool,
                "arguments": call.arguments,
                "_meta": kernel_meta(call.model_call),
            },
        });
        Envelope::sign(Protocol::Smcp, &self.token, payload, now, &self.key)
    }
}
