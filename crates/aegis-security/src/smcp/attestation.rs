//! What a workload says when it asks for a session, and what it gets.

use aegis_core::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::error::{SmcpCode, SmcpError};
use super::strict_json;
use super::token::Claims;
use crate::signature::{self, PUBLIC_KEY_BYTES};

/// Largest attestation, in bytes of JSON.
pub const ATTESTATION_BYTES_MAX: usize = 16 << 10;

const NAME_BYTES_MAX: usize = 256;

/// A request to `attest`. Who asks is known from the socket or the API key; all this says is a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// The public half of a key that the client made and keeps.
    pub public_key: [u8; PUBLIC_KEY_BYTES],
    /// The workload it thinks it is.
    pub workload: Option<String>,
    /// The security context it expects. It is compared, never followed.
    pub requested_scope: Option<String>,
    /// The agent it wants to act as, where an API key may act as several.
    pub agent: Option<String>,
}

impl Attestation {
    /// Reads `{public_key, workload_id?, requested_scope?, agent?}`.
    ///
    /// # Errors
    ///
    /// [`SmcpCode::InvalidEnvelope`] for another shape, [`SmcpCode::WorkloadVerificationFailed`] for a key under which
    /// signatures prove nothing.
    pub fn parse(text: &[u8]) -> Result<Self, SmcpError> {
        let value = strict_json::parse(text, ATTESTATION_BYTES_MAX)
            .map_err(|error| SmcpError::shape(format!("the attestation cannot be read: {error}")))?;
        let Value::Object(mut members) = value else {
            return Err(SmcpError::shape("the attestation is not a JSON object"));
        };
        let public_key = name(&mut members, "public_key")?
            .and_then(|text| STANDARD.decode(text).ok())
            .and_then(|bytes| <[u8; PUBLIC_KEY_BYTES]>::try_from(bytes).ok())
            .ok_or_else(|| SmcpError::shape("`public_key` is not base64 of 32 bytes"))?;
        let attestation = Self {
            public_key,
            workload: name(&mut members, "workload_id")?,
            requested_scope: name(&mut members, "requested_scope")?,
            agent: name(&mut members, "agent")?,
        };
        if let Some(unknown) = members.keys().next() {
            let unknown: String = unknown.chars().take(NAME_BYTES_MAX).collect();
            return Err(SmcpError::shape(format!("the attestation has an unknown member `{unknown}`")));
        }
        if !signature::is_usable_key(&attestation.public_key) {
            let message = "`public_key` is not a usable Ed25519 key; make a new one";
            return Err(SmcpError::new(SmcpCode::WorkloadVerificationFailed, message));
        }
        Ok(attestation)
    }

    /// Compares the claims with what is known of the caller.
    ///
    /// # Errors
    ///
    /// [`SmcpCode::UnknownWorkload`] or [`SmcpCode::ScopeNotFound`] if they differ.
    pub fn agrees_with(&self, workload: &str, scope: &str) -> Result<(), SmcpError> {
        let differs =
            |claim: &Option<String>, known: &str| claim.as_deref().is_some_and(|claim| claim != known);
        if differs(&self.workload, workload) {
            return Err(SmcpError::new(
                SmcpCode::UnknownWorkload,
                "`workload_id` is not the caller's; leave it out",
            ));
        }
        if differs(&self.requested_scope, scope) {
            return Err(SmcpError::new(
                SmcpCode::ScopeNotFound,
                "`requested_scope` is not the execution's security context; leave it out",
            ));
        }
        Ok(())
    }
}

/// The answer: `{status: "attested", security_token, expires_at, session_id}`.
pub fn attested(token: &str, claims: &Claims) -> Value {
    let expires = Timestamp::from_micros(claims.expires_at.saturating_mul(1_000_000));
    json!({
        "status": "attested",
        "security_token": token,
        "expires_at": expires.seconds(),
        "session_id": claims.id,
    })
}

fn name(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, SmcpError> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= NAME_BYTES_MAX => Ok(Some(text)),
        Some(_) => {
            Err(SmcpError::shape(format!("`{name}` is not a string of at most {NAME_BYTES_MAX} bytes")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::SigningKey;

    fn read(value: &Value) -> Result<Attestation, SmcpError> {
        Attestation::parse(value.to_string().as_bytes())
    }

    #[test]
    fn a_request_is_read_and_its_claims_compared() {
        let key = STANDARD.encode(SigningKey::from_seed(&[3; 32]).public_key());
        let plain = read(&json!({ "public_key": key })).unwrap();
        assert_eq!(plain.agrees_with("e/1", "default"), Ok(()));
        let claims =
            read(&json!({ "public_key": key, "workload_id": "e/1", "requested_scope": "ci" })).unwrap();
        assert_eq!(claims.agrees_with("e/1", "ci"), Ok(()));
        assert_eq!(claims.agrees_with("e/2", "ci").unwrap_err().code, SmcpCode::UnknownWorkload);
        assert_eq!(claims.agrees_with("e/1", "default").unwrap_err().code, SmcpCode::ScopeNotFound);
    }

    #[test]
    fn keys_that_prove_nothing_and_other_shapes_are_refused() {
        let mut identity = [0; PUBLIC_KEY_BYTES];
        identity[0] = 1;
        let weak = read(&json!({ "public_key": STANDARD.encode(identity) })).unwrap_err();
        assert_eq!(weak.code, SmcpCode::WorkloadVerificationFailed);
        let key = STANDARD.encode(SigningKey::from_seed(&[3; 32]).public_key());
        for wrong in [
            json!([]),
            json!({}),
            json!({ "public_key": "AAAA" }),
            json!({ "public_key": key.trim_end_matches('=') }),
            json!({ "public_key": key, "security_context": "root" }),
            json!({ "public_key": key, "workload_id": 1 }),
        ] {
            assert_eq!(read(&wrong).unwrap_err().code, SmcpCode::InvalidEnvelope, "{wrong}");
        }
    }
}
