//! Security tokens: JWTs (RFC 7519) signed with Ed25519 (RFC 8037), and the keys they are signed with.
//!
//! Both sides are this node, so one form is taken and nothing else: the header has exactly `alg: EdDSA`, `kid` and
//! `typ: smcp+jwt` (explicit typing, RFC 8725 section 3.11), the claims are exactly those of [`Claims`]. There is no
//! algorithm to choose, so none can be confused.

use aegis_core::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{SmcpCode, SmcpError};
use super::strict_json;
use crate::canonical;
use crate::commitment::sha256;
use crate::signature::{self, PUBLIC_KEY_BYTES, SIGNATURE_BYTES, SigningKey};

/// How long a token is valid unless asked otherwise, in seconds.
pub const TOKEN_SECONDS_DEFAULT: u32 = 60 * 60;
/// How long a token is valid at most, in seconds.
pub const TOKEN_SECONDS_MAX: u32 = 24 * 60 * 60;

/// How far ahead of now a token may have been issued, in seconds: a node's clock may be set back.
const ISSUED_AHEAD_SECONDS_MAX: i64 = 30;
/// Largest claims, in bytes of JSON.
const CLAIMS_BYTES_MAX: usize = 2048;
/// Former keys that still verify.
const FORMER_KEYS_MAX: usize = 64;
const TYPE: &str = "smcp+jwt";
const ALGORITHM: &str = "EdDSA";

/// A token that cannot be issued, or a key that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The lifetime is nothing or beyond the maximum.
    #[error("a token is valid for 1 to {TOKEN_SECONDS_MAX} seconds, not {0}")]
    Lifetime(u32),
    /// The claims are longer than a token may be.
    #[error("the claims are longer than {CLAIMS_BYTES_MAX} bytes")]
    TooLong,
    /// More former keys than are kept.
    #[error("more than {FORMER_KEYS_MAX} former keys would be valid at once; let some expire")]
    TooManyKeys,
    /// The key stands in the ring already.
    #[error("the key `{0}` is in use already")]
    SameKey(String),
}

/// What a token says, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The node that issued it.
    #[serde(rename = "iss")]
    pub issuer: String,
    /// The node it is for.
    #[serde(rename = "aud")]
    pub audience: String,
    /// The agent that speaks.
    #[serde(rename = "sub")]
    pub subject: String,
    /// The name of the execution's security context. It grants nothing: the execution's own decides.
    #[serde(rename = "scp")]
    pub scope: String,
    /// The workload: execution and sandbox generation.
    #[serde(rename = "wid")]
    pub workload: String,
    /// When it was issued, in Unix seconds.
    #[serde(rename = "iat")]
    pub issued_at: i64,
    /// From when on it is no longer valid, in Unix seconds.
    #[serde(rename = "exp")]
    pub expires_at: i64,
    /// Its id, which is the session's.
    #[serde(rename = "jti")]
    pub id: String,
}

/// For whom a token is issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The agent that will speak.
    pub subject: String,
    /// The name of the execution's security context.
    pub scope: String,
    /// Execution and sandbox generation.
    pub workload: String,
    /// The session's id, new and never used again.
    pub session: String,
    /// How long it is valid, in seconds.
    pub seconds: u32,
}

/// A public key that tokens are checked with, until a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    /// The key.
    pub public_key: [u8; PUBLIC_KEY_BYTES],
    /// From when on nothing it signed is valid.
    pub not_after: Timestamp,
}

/// The key that signs tokens now, and former ones whose tokens are not over yet.
#[derive(Debug, Clone)]
pub struct KeyRing {
    issuer: String,
    audience: String,
    current: SigningKey,
    current_id: String,
    current_public: [u8; PUBLIC_KEY_BYTES],
    former: Vec<(String, VerifyingKey)>,
}

impl KeyRing {
    /// The ring of the node `node`, which is issuer and audience of its tokens, with the former keys as they were stored.
    ///
    /// # Errors
    ///
    /// Fails if there are too many keys, or one twice.
    pub fn new(
        node: impl Into<String>,
        current: SigningKey,
        former: impl IntoIterator<Item = VerifyingKey>,
    ) -> Result<Self, TokenError> {
        let node = node.into();
        let current_public = current.public_key();
        let current_id = key_id(&current_public);
        let mut ring = Self {
            issuer: node.clone(),
            audience: node,
            current,
            current_id,
            current_public,
            former: Vec::new(),
        };
        for key in former {
            ring.keep(key)?;
        }
        Ok(ring)
    }

    /// The same under other names, where they are given: tokens that name the former ones are of another node.
    #[must_use]
    pub fn known_as(mut self, issuer: Option<String>, audience: Option<String>) -> Self {
        self.issuer = issuer.unwrap_or(self.issuer);
        self.audience = audience.unwrap_or(self.audience);
        self
    }

    /// Signs with `next` from now on. Tokens of the key before stay valid until they expire, at most
    /// [`TOKEN_SECONDS_MAX`]; keys whose tokens have all expired are dropped. Answers with the former key, to be stored.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if `next` is in the ring or there are too many keys.
    pub fn rotate(&mut self, next: SigningKey, now: Timestamp) -> Result<VerifyingKey, TokenError> {
        let public_key = next.public_key();
        let id = key_id(&public_key);
        if id == self.current_id || self.former.iter().any(|(former, _)| *former == id) {
            return Err(TokenError::SameKey(id));
        }
        let valid = |key: &VerifyingKey| now < key.not_after;
        if self.former.iter().filter(|(_, key)| valid(key)).count() >= FORMER_KEYS_MAX {
            return Err(TokenError::TooManyKeys);
        }
        self.former.retain(|(_, key)| valid(key));
        let not_after = now.plus_millis(u64::from(TOKEN_SECONDS_MAX) * 1000);
        let former = VerifyingKey { public_key: self.current_public, not_after };
        self.former.push((std::mem::replace(&mut self.current_id, id), former.clone()));
        self.current = next;
        self.current_public = public_key;
        Ok(former)
    }

    fn keep(&mut self, key: VerifyingKey) -> Result<(), TokenError> {
        let id = key_id(&key.public_key);
        if id == self.current_id || self.former.iter().any(|(former, _)| *former == id) {
            return Err(TokenError::SameKey(id));
        }
        if self.former.len() >= FORMER_KEYS_MAX {
            return Err(TokenError::TooManyKeys);
        }
        self.former.push((id, key));
        Ok(())
    }

    /// The id of the key that signs now: its RFC 7638 thumbprint.
    pub fn key_id(&self) -> &str {
        &self.current_id
    }

    /// Issues a token.
    ///
    /// # Errors
    ///
    /// Fails if its lifetime or its length is beyond the limits.
    pub fn issue(&self, grant: &Grant, now: Timestamp) -> Result<(String, Claims), TokenError> {
        if !(1..=TOKEN_SECONDS_MAX).contains(&grant.seconds) {
            return Err(TokenError::Lifetime(grant.seconds));
        }
        let issued_at = unix_seconds(now);
        let claims = Claims {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            subject: grant.subject.clone(),
            scope: grant.scope.clone(),
            workload: grant.workload.clone(),
            issued_at,
            expires_at: issued_at.saturating_add(i64::from(grant.seconds)),
            id: grant.session.clone(),
        };
        let body = serde_json::to_vec(&claims).map_err(|_| TokenError::TooLong)?;
        if body.len() > CLAIMS_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let header = header(&self.current_id).to_string();
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(body));
        let signature = URL_SAFE_NO_PAD.encode(self.current.sign(message.as_bytes()));
        Ok((format!("{message}.{signature}"), claims))
    }

    /// Checks a token: form and signature, then expiry, then audience and the rest.
    ///
    /// # Errors
    ///
    /// [`SmcpCode::ExpiredToken`] if it was ours and is over, else [`SmcpCode::InvalidToken`].
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, SmcpError> {
        let claims = self.open(token, now)?;
        let seconds = unix_seconds(now);
        if seconds >= claims.expires_at {
            return Err(SmcpError::new(SmcpCode::ExpiredToken, "the token has expired; attest again"));
        }
        if claims.audience != self.audience || claims.issuer != self.issuer {
            return Err(invalid("the token is of another node"));
        }
        if claims.issued_at > seconds.saturating_add(ISSUED_AHEAD_SECONDS_MAX) {
            return Err(invalid("the token was issued in the future"));
        }
        let lifetime = claims.expires_at.saturating_sub(claims.issued_at);
        if !(1..=i64::from(TOKEN_SECONDS_MAX)).contains(&lifetime) {
            return Err(invalid("the token's lifetime is beyond the maximum"));
        }
        Ok(claims)
    }

    /// The claims of a token that a key of this ring signed.
    fn open(&self, token: &str, now: Timestamp) -> Result<Claims, SmcpError> {
        let (message, signature) = token.rsplit_once('.').ok_or_else(|| invalid("the token is not a JWT"))?;
        let (head, body) = message.split_once('.').ok_or_else(|| invalid("the token is not a JWT"))?;
        let head =
            part(head, CLAIMS_BYTES_MAX).ok_or_else(|| invalid("the token's header cannot be read"))?;
        let key_id = head.get("kid").and_then(Value::as_str).unwrap_or_default();
        if head != header(key_id) {
            return Err(invalid("the token's header is not that of an EdDSA `smcp+jwt`"));
        }
        let public_key = self.public_key(key_id, now).ok_or_else(|| invalid("the token's key is unknown"))?;
        let signature: Option<[u8; SIGNATURE_BYTES]> =
            URL_SAFE_NO_PAD.decode(signature).ok().and_then(|bytes| bytes.try_into().ok());
        let signature = signature.ok_or_else(|| invalid("the token's signature cannot be read"))?;
        signature::verify(public_key, message.as_bytes(), &signature)
            .map_err(|_| invalid("the token's signature does not verify"))?;
        let claims =
            part(body, CLAIMS_BYTES_MAX).ok_or_else(|| invalid("the token's claims cannot be read"))?;
        serde_json::from_value(claims)
            .map_err(|_| invalid("the token's claims are not those of this protocol"))
    }

    fn public_key(&self, id: &str, now: Timestamp) -> Option<&[u8; PUBLIC_KEY_BYTES]> {
        if id == self.current_id {
            return Some(&self.current_public);
        }
        let (_, key) = self.former.iter().find(|(former, key)| former == id && now < key.not_after)?;
        Some(&key.public_key)
    }
}

fn header(key_id: &str) -> Value {
    json!({ "alg": ALGORITHM, "kid": key_id, "typ": TYPE })
}

fn invalid(message: &str) -> SmcpError {
    SmcpError::new(SmcpCode::InvalidToken, message)
}

fn unix_seconds(time: Timestamp) -> i64 {
    time.micros().div_euclid(1_000_000)
}

/// A part of a token: strict JSON in base64url without padding.
fn part(text: &str, bytes_max: usize) -> Option<Value> {
    strict_json::parse(&URL_SAFE_NO_PAD.decode(text).ok()?, bytes_max).ok()
}

/// The RFC 7638 thumbprint of an Ed25519 key (RFC 8037, section 2).
fn key_id(public_key: &[u8; PUBLIC_KEY_BYTES]) -> String {
    let key = json!({ "crv": "Ed25519", "kty": "OKP", "x": URL_SAFE_NO_PAD.encode(public_key) });
    let bytes = canonical::to_bytes(&key).unwrap_or_default();
    URL_SAFE_NO_PAD.encode(sha256(&bytes).as_bytes())
}
