//! Envelopes of signed calls: each is by the key of the session it names, as that session was opened on record.

use std::collections::HashMap;

use aegis_core::{BlobId, Sha256};
use aegis_security::smcp::Envelope;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::report::{Damage, VerifyReport};

/// The keys of sessions, as they are met in the record.
#[derive(Default)]
pub(super) struct Envelopes(HashMap<String, [u8; 32]>);

/// What an intent says of its envelope.
pub(super) struct Signed {
    pub(super) text: BlobId,
    session: String,
    nonce: Option<Sha256>,
    redacted: bool,
}

impl Envelopes {
    /// Learns the session that an event opens; gives the envelope that it holds.
    pub(super) fn of(&mut self, leaf: &Value) -> Option<Signed> {
        let body = leaf.get("body")?;
        let session = match leaf.get("kind")?.as_str()? {
            "session.opened" => body,
            "generation.started" => body.get("signer")?,
            "action.intended" => return signed(body.pointer("/intent/envelope")?),
            _ => return None,
        };
        let key = STANDARD.decode(session.get("public_key")?.as_str()?).ok()?;
        self.0.insert(session.get("session")?.as_str()?.to_owned(), key.try_into().ok()?);
        None
    }

    /// Checks an envelope whose text was opened, or counts that it was not.
    pub(super) fn check(&self, signed: &Signed, seq: u64, text: Option<&[u8]>, report: &mut VerifyReport) {
        let Some(text) = text.filter(|_| !signed.redacted) else {
            report.envelopes_unchecked += 1;
            return;
        };
        let reason = match self.0.get(&signed.session) {
            None => "no event opened its session".to_owned(),
            Some(key) => match Envelope::check_recorded(text, key) {
                Ok(nonce) if Some(nonce) == signed.nonce => {
                    report.envelopes += 1;
                    return;
                }
                Ok(_) => "it is not the one that was counted".to_owned(),
                Err(error) => error.message,
            },
        };
        report.found(Damage::Envelope { seq, reason });
    }
}

fn signed(envelope: &Value) -> Option<Signed> {
    // Where personal data is left out of the evidence, the exact copy is what was signed, while it is there.
    let text = envelope.pointer("/text/working/id").or_else(|| envelope.pointer("/text/id"))?;
    Some(Signed {
        text: text.as_str()?.parse().ok()?,
        session: envelope.get("session")?.as_str()?.to_owned(),
        nonce: envelope.get("nonce")?.as_str()?.parse().ok(),
        redacted: envelope.get("redacted").and_then(Value::as_bool).unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use aegis_core::Timestamp;
    use aegis_security::commitment::sha256;
    use aegis_security::signature::SigningKey;
    use aegis_security::smcp::Protocol;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn damage(session: &str, key: u8, nonce: Option<Sha256>, redacted: bool) -> (Vec<Damage>, u64, u64) {
        let signer = SigningKey::from_seed(&[1; 32]);
        let payload =
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "fs.read"}});
        let envelope =
            Envelope::sign(Protocol::Smcp, "token", payload, Timestamp::from_micros(0), &signer).unwrap();
        let nonce = nonce.unwrap_or_else(|| sha256(&envelope.signed_bytes().unwrap()));
        let mut envelopes = Envelopes::default();
        let public_key = STANDARD.encode(SigningKey::from_seed(&[key; 32]).public_key());
        for opened in [
            json!({"kind": "session.opened", "body": {"session": "client", "public_key": public_key}}),
            json!({"kind": "generation.started", "body": {"signer": {"session": "kernel", "public_key": public_key}}}),
        ] {
            assert!(envelopes.of(&opened).is_none());
        }
        let text = BlobId::from_uuid(Uuid::nil());
        let held = json!({"session": session, "nonce": nonce, "redacted": redacted, "text": {"id": text}});
        let intent =
            json!({"kind": "action.intended", "body": {"intent": {"kind": "tool", "envelope": held}}});
        let signed = envelopes.of(&intent).unwrap();
        let mut report = VerifyReport::default();
        envelopes.check(&signed, 7, Some(envelope.to_json().to_string().as_bytes()), &mut report);
        envelopes.check(&signed, 8, None, &mut report);
        (report.damage, report.envelopes, report.envelopes_unchecked)
    }

    #[test]
    fn the_exact_copy_is_the_one_that_was_signed() {
        let [evidence, exact] = [1, 2].map(|id| BlobId::from_uuid(Uuid::from_u128(id)));
        let envelope = |text: Value| json!({"session": "kernel", "nonce": sha256(b""), "text": text});
        assert_eq!(signed(&envelope(json!({"id": evidence}))).unwrap().text, evidence);
        let both = json!({"id": evidence, "working": {"id": exact}});
        assert_eq!(signed(&envelope(both)).unwrap().text, exact);
    }

    #[test]
    fn an_envelope_is_held_against_the_session_it_names() {
        for session in ["client", "kernel"] {
            assert_eq!(damage(session, 1, None, false), (Vec::new(), 1, 1));
            assert_eq!(damage(session, 1, None, true), (Vec::new(), 0, 2));
        }
        let wrong = [
            ("other", 1, None, "no event opened its session"),
            ("client", 2, None, "the envelope was not signed by the session's key"),
            ("client", 1, Some(sha256(b"another")), "it is not the one that was counted"),
        ];
        for (session, key, nonce, reason) in wrong {
            let (found, checked, _) = damage(session, key, nonce, false);
            let expected = Damage::Envelope { seq: 7, reason: reason.to_owned() };
            assert_eq!((found, checked), (vec![expected], 0));
        }
    }
}
