//! The protocol's checks, in the protocol's order; the first that fails is the answer.
//!
//! | stage | checks | refused as |
//! |---|---|---|
//! | [`parse`] | shape, then protocol | 1000 |
//! | [`authenticate`] | token: signature, expiry, audience, the place it is used in | 1003, 1002, 1003, 1003 |
//! | [`verify`] | session active, envelope signature, timestamp ±30 s | 1005, 1001, 1004 |
//! | [`admit`] | nonce and request id unseen | 1004 |
//!
//! Policy follows and is the caller's, as are the two look-ups: the session by [`Authenticated::session_id`], and the nonce,
//! recorded in one step with the answer whether it was there.

use aegis_core::{Sha256, Timestamp};
use serde_json::Value;

use super::envelope::{Envelope, NONCE_KEPT_SECONDS, RequestId, Signer};
use super::error::{SmcpCode, SmcpError};
use super::token::{Claims, KeyRing};
use crate::signature::PUBLIC_KEY_BYTES;

/// How far an envelope's time may be from now, either way, in seconds.
pub const TIMESTAMP_SECONDS_MAX: i64 = 30;

/// What the caller knows of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id, as the token has it.
    pub id: String,
    /// The key its envelopes are signed with.
    pub public_key: [u8; PUBLIC_KEY_BYTES],
    /// Whose key that is.
    pub signer: Signer,
    /// False once the execution is over, cancelled, or its session was replaced.
    pub active: bool,
}

/// What the caller's store answers when it records a nonce and a request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// Neither was there before; both are recorded now.
    New,
    /// The nonce was there.
    NonceSeen,
    /// Another request of the session had this id.
    RequestIdSeen,
}

/// An envelope whose token this node issued for this place, and which has not expired.
#[derive(Debug, Clone, PartialEq)]
pub struct Authenticated {
    envelope: Envelope,
    claims: Claims,
}

impl Authenticated {
    /// The session to look up.
    pub fn session_id(&self) -> &str {
        &self.claims.id
    }
    /// What the token says.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }
    /// The envelope. Nothing but its token is checked yet.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

/// An envelope that an active session's key signed just now. It may still be a repetition.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    envelope: Envelope,
    claims: Claims,
    nonce: Sha256,
}

impl Verified {
    /// SHA-256 of the signed bytes.
    pub fn nonce(&self) -> Sha256 {
        self.nonce
    }
    /// Until when the nonce must be kept, restarts included. From the later of now and the envelope's own time, so that an
    /// envelope made by a clock ahead of ours is covered too.
    pub fn nonce_kept_until(&self, now: Timestamp) -> Timestamp {
        now.max(self.envelope.timestamp()).plus_millis(NONCE_KEPT_SECONDS * 1000)
    }
    /// The session.
    pub fn session_id(&self) -> &str {
        &self.claims.id
    }
    /// What the token says.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }
    /// The request's id. [`RequestId::key`] is unique in the session.
    pub fn request_id(&self) -> &RequestId {
        self.envelope.request_id()
    }
    /// The request.
    pub fn payload(&self) -> &Value {
        self.envelope.payload()
    }
}

/// An envelope that passed every check. What it asks for is for policy to decide.
#[derive(Debug, Clone, PartialEq)]
pub struct Admitted {
    /// The envelope, to be recorded with the call.
    pub envelope: Envelope,
    /// What its token says.
    pub claims: Claims,
    /// SHA-256 of the signed bytes.
    pub nonce: Sha256,
}

impl Admitted {
    /// The tool and its arguments, if the request is `tools/call`. Absent arguments are an empty object.
    pub fn tool_call(&self) -> Option<(&str, Value)> {
        let params = self.envelope.params();
        let name = params.get("name")?.as_str()?;
        let arguments = params.get("arguments").cloned().unwrap_or_else(|| Value::Object(Default::default()));
        (self.envelope.method() == "tools/call" && arguments.is_object()).then_some((name, arguments))
    }
}

/// Shape → protocol.
///
/// # Errors
///
/// [`SmcpCode::InvalidEnvelope`].
pub fn parse(text: &[u8]) -> Result<Envelope, SmcpError> {
    Envelope::parse(text)
}

/// Token signature → expiry → audience. `workload` is the one that the connection belongs to; `None` where a connection
/// tells nothing of who speaks.
///
/// # Errors
///
/// [`SmcpCode::InvalidToken`] or [`SmcpCode::ExpiredToken`].
pub fn authenticate(
    envelope: Envelope,
    keys: &KeyRing,
    workload: Option<&str>,
    now: Timestamp,
) -> Result<Authenticated, SmcpError> {
    let claims = keys.verify(&envelope.security_token, now).map_err(|error| envelope.refuse(error))?;
    if workload.is_some_and(|here| here != claims.workload) {
        let error = SmcpError::new(SmcpCode::InvalidToken, "the token is of another workload");
        return Err(envelope.refuse(error));
    }
    Ok(Authenticated { envelope, claims })
}

/// Session active → envelope signature → timestamp. `session` is what was found under [`Authenticated::session_id`].
///
/// # Errors
///
/// [`SmcpCode::UnknownSession`], [`SmcpCode::InvalidSignature`], or [`SmcpCode::ReplayDetected`] for an envelope of
/// another time.
pub fn verify(
    authenticated: Authenticated,
    session: Option<&Session>,
    now: Timestamp,
) -> Result<Verified, SmcpError> {
    let Authenticated { envelope, claims } = authenticated;
    let session = session.filter(|session| session.active && session.id == claims.id);
    let unknown = || SmcpError::new(SmcpCode::UnknownSession, "the session is over or was never opened");
    let nonce = session
        .ok_or_else(unknown)
        .and_then(|session| {
            let nonce = envelope.verify(&session.public_key)?;
            signed_by(&envelope, session.signer)?;
            Ok(nonce)
        })
        .and_then(|nonce| in_time(&envelope, now).map(|()| nonce))
        .map_err(|error| envelope.refuse(error))?;
    Ok(Verified { envelope, claims, nonce })
}

/// Nonce unseen in the window, request id unseen in the session.
///
/// # Errors
///
/// [`SmcpCode::ReplayDetected`].
pub fn admit(verified: Verified, recorded: Recorded) -> Result<Admitted, SmcpError> {
    let Verified { envelope, claims, nonce } = verified;
    let message = match recorded {
        Recorded::New => return Ok(Admitted { envelope, claims, nonce }),
        Recorded::NonceSeen => "the envelope was seen before",
        Recorded::RequestIdSeen => "the session has used this request id before",
    };
    Err(envelope.refuse(SmcpError::new(SmcpCode::ReplayDetected, message)))
}

/// A client's envelope may not pass for the daemon's in the record, nor the other way round.
fn signed_by(envelope: &Envelope, signer: Signer) -> Result<(), SmcpError> {
    if envelope.signer() == signer {
        return Ok(());
    }
    Err(SmcpError::new(SmcpCode::InvalidSignature, "`params._meta` names another signer than the session's"))
}

fn in_time(envelope: &Envelope, now: Timestamp) -> Result<(), SmcpError> {
    let away = now.micros().saturating_sub(envelope.timestamp().micros());
    if away.unsigned_abs() <= TIMESTAMP_SECONDS_MAX.unsigned_abs() * 1_000_000 {
        return Ok(());
    }
    let message = format!(
        "the envelope was made {} s {} now, at most {TIMESTAMP_SECONDS_MAX} s are allowed; set the clock or sign it anew",
        away.unsigned_abs() / 1_000_000,
        if away > 0 { "before" } else { "after" },
    );
    Err(SmcpError::new(SmcpCode::ReplayDetected, message))
}
