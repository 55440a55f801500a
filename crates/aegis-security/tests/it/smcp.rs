//! SMCP from both sides: what a client and the daemon sign, and what an attacker sends.

mod messages;
mod order;
mod python;
mod token;
mod vectors;

use aegis_core::Timestamp;
use aegis_security::signature::SigningKey;
use aegis_security::smcp::checks::{self, Admitted, Recorded, Session};
use aegis_security::smcp::{Envelope, Grant, KeyRing, Protocol, Signer, SmcpError, TOKEN_SECONDS_DEFAULT};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const NODE: &str = "node-a";
const WORKLOAD: &str = "0192f0c1-0000-7000-8000-000000000001/1";
const SESSION: &str = "0192f0c1-0000-7000-8000-00000000000a";
const NODE_SEED: [u8; 32] = [0x11; 32];
const CLIENT_SEED: [u8; 32] = [0x22; 32];

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn now() -> Timestamp {
    at("2026-11-21T14:00:00Z")
}

fn keys() -> KeyRing {
    KeyRing::new(NODE, SigningKey::from_seed(&NODE_SEED), []).unwrap()
}

fn client_key() -> SigningKey {
    SigningKey::from_seed(&CLIENT_SEED)
}

fn grant() -> Grant {
    Grant {
        subject: "0192f0c1-0000-7000-8000-000000000002".to_owned(),
        scope: "default".to_owned(),
        workload: WORKLOAD.to_owned(),
        session: SESSION.to_owned(),
        seconds: TOKEN_SECONDS_DEFAULT,
    }
}

fn session() -> Session {
    Session {
        id: SESSION.to_owned(),
        public_key: client_key().public_key(),
        signer: Signer::Client,
        active: true,
    }
}

fn token() -> String {
    keys().issue(&grant(), now()).unwrap().0
}

fn call() -> Value {
    json!({
        "jsonrpc": "2.0", "id": 7, "method": "tools/call",
        "params": { "name": "fs.write", "arguments": { "path": "a.txt", "content": "é\n", "ratio": 0.5 } },
    })
}

fn signed(token: &str, time: Timestamp) -> Envelope {
    Envelope::sign(Protocol::Smcp, token, call(), time, &client_key()).unwrap()
}

/// A header and claims signed with `seed`, whatever they say.
fn raw_token(header: &Value, claims: &Value, seed: &[u8; 32]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = SigningKey::from_seed(seed).sign(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// All checks in their order, as the daemon makes them on a sandbox's socket.
fn check(text: &[u8], session: Option<&Session>, recorded: Recorded) -> Result<Admitted, SmcpError> {
    check_at(text, session, recorded, now())
}

fn check_at(
    text: &[u8],
    session: Option<&Session>,
    recorded: Recorded,
    now: Timestamp,
) -> Result<Admitted, SmcpError> {
    let envelope = checks::parse(text)?;
    let authenticated = checks::authenticate(envelope, &keys(), Some(WORKLOAD), now)?;
    let found = session.filter(|session| session.id == authenticated.session_id());
    let verified = checks::verify(authenticated, found, now)?;
    checks::admit(verified, recorded)
}
