use aegis_core::Sha256;
use aegis_security::commitment::sha256;
use aegis_security::smcp::{KernelCall, KernelSigner, RequestId, SmcpCode};
use proptest::prelude::*;

use super::*;

fn text(envelope: &Envelope) -> Vec<u8> {
    envelope.to_json().to_string().into_bytes()
}

fn code(result: Result<Admitted, SmcpError>) -> u16 {
    result.unwrap_err().code.number()
}

#[test]
fn a_client_of_either_protocol_is_admitted() {
    for protocol in [Protocol::Smcp, Protocol::Seal] {
        let envelope = Envelope::sign(protocol, &token(), call(), now(), &client_key()).unwrap();
        let admitted = check(&text(&envelope), Some(&session()), Recorded::New).unwrap();
        assert_eq!(admitted.nonce, sha256(&envelope.signed_bytes().unwrap()));
        assert_eq!(admitted.envelope, envelope);
        assert_eq!(admitted.envelope.request_id(), &RequestId::Number(7));
        assert_eq!(admitted.claims.workload, WORKLOAD);
        let (tool, arguments) = admitted.tool_call().unwrap();
        assert_eq!((tool, &arguments["path"]), ("fs.write", &json!("a.txt")));
    }
}

#[test]
fn the_window_is_thirty_seconds_either_way() {
    for (made, code) in [
        ("2026-11-21T13:59:30Z", None),
        ("2026-11-21T13:59:29Z", Some(SmcpCode::ReplayDetected)),
        ("2026-11-21T14:00:30Z", None),
        ("2026-11-21T14:00:31Z", Some(SmcpCode::ReplayDetected)),
    ] {
        let envelope = signed(&token(), at(made));
        let result = check(&text(&envelope), Some(&session()), Recorded::New);
        assert_eq!(result.map_err(|error| error.code).err(), code, "{made}");
    }
    // Nothing is rounded in favour of the sender.
    let old = signed(&token(), at("2026-11-21T13:59:30Z"));
    let late = at("2026-11-21T14:00:00.000001Z");
    assert_eq!(code(check_at(&text(&old), Some(&session()), Recorded::New, late)), 1004);
}

#[test]
fn a_nonce_is_kept_longer_than_its_envelope_can_pass() {
    for made in ["2026-11-21T13:59:30Z", "2026-11-21T14:00:30Z"] {
        let envelope = checks::parse(&text(&signed(&token(), at(made)))).unwrap();
        let authenticated = checks::authenticate(envelope, &keys(), None, now()).unwrap();
        let verified = checks::verify(authenticated, Some(&session()), now()).unwrap();
        assert!(verified.nonce_kept_until(now()) > at(made).plus_millis(30_000));
        assert!(verified.nonce_kept_until(now()) >= now().plus_millis(120_000));
    }
}

#[test]
fn a_retimed_envelope_is_refused() {
    let mut json = signed(&token(), now()).to_json();
    for time in ["2026-11-21T13:59:59Z", "2026-11-21T14:00:01Z", "2026-11-21T14:00:30Z"] {
        json["timestamp"] = time.into();
        assert_eq!(code(check(json.to_string().as_bytes(), Some(&session()), Recorded::New)), 1001, "{time}");
    }
}

#[test]
fn a_token_of_another_session_or_workload_is_refused() {
    let other = Grant { session: "other".to_owned(), ..grant() };
    let (theirs, _) = keys().issue(&other, now()).unwrap();
    let stolen = text(&signed(&theirs, now()));
    // Their session is found, and its key is not the thief's; or it is not found.
    let owner = Session {
        id: "other".to_owned(),
        public_key: SigningKey::from_seed(&[0x33; 32]).public_key(),
        ..session()
    };
    assert_eq!(code(check(&stolen, Some(&owner), Recorded::New)), 1001);
    assert_eq!(code(check(&stolen, Some(&session()), Recorded::New)), 1005);
    // A caller that looks up the wrong session gets no further.
    let authenticated = checks::authenticate(checks::parse(&stolen).unwrap(), &keys(), None, now()).unwrap();
    let refused = checks::verify(authenticated, Some(&session()), now()).unwrap_err();
    assert_eq!(refused.code, SmcpCode::UnknownSession);

    let elsewhere = Grant { workload: "another/1".to_owned(), ..grant() };
    let (carried, _) = keys().issue(&elsewhere, now()).unwrap();
    assert_eq!(code(check(&text(&signed(&carried, now())), Some(&session()), Recorded::New)), 1003);
}

#[test]
fn an_ended_session_and_a_repetition_are_refused() {
    let envelope = text(&signed(&token(), now()));
    let ended = Session { active: false, ..session() };
    assert_eq!(code(check(&envelope, Some(&ended), Recorded::New)), 1005);
    assert_eq!(code(check(&envelope, None, Recorded::New)), 1005);
    assert_eq!(code(check(&envelope, Some(&session()), Recorded::NonceSeen)), 1004);
    let again = check(&envelope, Some(&session()), Recorded::RequestIdSeen).unwrap_err();
    assert_eq!(again.code, SmcpCode::ReplayDetected);
    assert_eq!(again.to_json()["error"]["request_id"], 7);
}

#[test]
fn the_daemon_signs_a_models_call_and_nobody_passes_for_it() {
    let arguments = json!({ "path": "a" });
    let mut signer = KernelSigner::new([9; 32].into(), &keys(), &grant(), now()).unwrap();
    let call =
        KernelCall { request_id: "action-1", model_call: "call_1", tool: "fs.read", arguments: &arguments };
    let envelope = signer.sign(&call, now()).unwrap();
    let admitted = check(&text(&envelope), Some(&signer.session()), Recorded::New).unwrap();
    assert_eq!(admitted.envelope.signer(), Signer::Kernel);
    assert_eq!(admitted.envelope.model_call(), Some("call_1"));
    assert_eq!(admitted.tool_call(), Some(("fs.read", arguments.clone())));

    // The same request signed by a client's key, in the client's own session.
    let forged =
        Envelope::sign(Protocol::Smcp, &token(), envelope.payload().clone(), now(), &client_key()).unwrap();
    assert_eq!(code(check(&text(&forged), Some(&session()), Recorded::New)), 1001);

    let later = now().plus_millis(1_800_000);
    assert_eq!(signer.renew(&keys(), now().plus_millis(1_799_000)), Ok(false));
    assert_eq!(signer.renew(&keys(), later), Ok(true));
    let renewed = signer.sign(&call, now().plus_millis(5_000_000)).unwrap();
    let time = now().plus_millis(5_000_000);
    assert!(check_at(&text(&renewed), Some(&signer.session()), Recorded::New, time).is_ok());
    assert_eq!(code(check_at(&text(&envelope), Some(&signer.session()), Recorded::New, time)), 1002);
}

/// Each is wrong in one way, in the order in which the protocol looks at them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Defect {
    Shape,
    Protocol,
    TokenSignature,
    Expiry,
    Audience,
    Session,
    Signature,
    Timestamp,
    Nonce,
}

impl Defect {
    const ALL: [Self; 9] = [
        Self::Shape,
        Self::Protocol,
        Self::TokenSignature,
        Self::Expiry,
        Self::Audience,
        Self::Session,
        Self::Signature,
        Self::Timestamp,
        Self::Nonce,
    ];
    fn refusal(self) -> (u16, &'static str) {
        match self {
            Self::Shape => (1000, "the envelope has no `timestamp`"),
            Self::Protocol => (1000, "`protocol` is neither"),
            Self::TokenSignature => (1003, "the token's signature does not verify"),
            Self::Expiry => (1002, "the token has expired"),
            Self::Audience => (1003, "the token is of another node"),
            Self::Session => (1005, "the session is over"),
            Self::Signature => (1001, "not signed by the session's key"),
            Self::Timestamp => (1004, "the envelope was made 31 s before now"),
            Self::Nonce => (1004, "the envelope was seen before"),
        }
    }
}

fn with_defects(defects: &[Defect]) -> Result<Admitted, SmcpError> {
    let has = |defect| defects.contains(&defect);
    let node = if has(Defect::Audience) { "node-b" } else { NODE };
    let issuer = KeyRing::new(node, SigningKey::from_seed(&NODE_SEED), []).unwrap();
    let issued = if has(Defect::Expiry) { at("2026-11-21T12:59:59Z") } else { now() };
    let (mut token, _) = issuer.issue(&grant(), issued).unwrap();
    if has(Defect::TokenSignature) {
        // The signature of another token of this node.
        let (other, _) = keys().issue(&Grant { seconds: 7, ..grant() }, now()).unwrap();
        let (message, _) = token.rsplit_once('.').unwrap();
        let (_, signature) = other.rsplit_once('.').unwrap();
        token = format!("{message}.{signature}");
    }
    let time = if has(Defect::Timestamp) { at("2026-11-21T13:59:29Z") } else { now() };
    let key = if has(Defect::Signature) { SigningKey::from_seed(&[0x44; 32]) } else { client_key() };
    let mut json = Envelope::sign(Protocol::Smcp, &token, call(), time, &key).unwrap().to_json();
    if has(Defect::Protocol) {
        json["protocol"] = "smcp/v2".into();
    }
    if has(Defect::Shape) {
        json.as_object_mut().unwrap().remove("timestamp");
    }
    let session = session();
    let found = (!has(Defect::Session)).then_some(&session);
    let recorded = if has(Defect::Nonce) { Recorded::NonceSeen } else { Recorded::New };
    check(json.to_string().as_bytes(), found, recorded)
}

#[test]
fn of_several_defects_the_first_in_the_protocols_order_is_the_answer() {
    for chosen in 0_u32..1 << Defect::ALL.len() {
        let defects: Vec<Defect> = Defect::ALL
            .into_iter()
            .enumerate()
            .filter(|(bit, _)| chosen & (1 << bit) != 0)
            .map(|(_, defect)| defect)
            .collect();
        let result = with_defects(&defects);
        let Some(first) = defects.first() else {
            assert!(result.is_ok());
            continue;
        };
        let (number, message) = first.refusal();
        let error = result.unwrap_err();
        assert_eq!(error.code.number(), number, "{defects:?}: {error}");
        assert!(error.message.contains(message), "{defects:?}: {error}");
    }
}

#[test]
fn shapes_of_their_own_are_refused() {
    let good = signed(&token(), now()).to_json();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut json = good.clone();
        change(&mut json);
        check(json.to_string().as_bytes(), Some(&session()), Recorded::New).unwrap_err()
    };
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(&str, Change<'_>); 12] = [
        ("a list", &|json| *json = json!([])),
        ("unsigned member", &|json| json["security_context"] = "root".into()),
        ("no payload", &|json| drop(json.as_object_mut().unwrap().remove("payload"))),
        ("payload text", &|json| json["payload"] = json["payload"].to_string().into()),
        ("token number", &|json| json["security_token"] = 1.into()),
        ("token long", &|json| json["security_token"] = "x".repeat(5000).into()),
        ("signature short", &|json| json["signature"] = "AAAA".into()),
        ("signature url", &|json| json["signature"] = "-_".repeat(44).into()),
        ("time local", &|json| json["timestamp"] = "2026-11-21T15:00:00+01:00".into()),
        ("time number", &|json| json["timestamp"] = 1_795_269_600.into()),
        ("no id", &|json| drop(json["payload"].as_object_mut().unwrap().remove("id"))),
        ("batch", &|json| json["payload"] = json!([json["payload"]])),
    ];
    for (name, change) in cases {
        assert_eq!(changed(change).code, SmcpCode::InvalidEnvelope, "{name}");
    }
    let text = good.to_string();
    for (name, crooked) in [
        ("duplicate", text.replacen("\"ratio\":", "\"path\":\"b.txt\",\"ratio\":", 1)),
        ("unsafe integer", text.replacen("0.5", "9007199254740993", 1)),
        ("inexact", text.replacen("0.5", "0.50000000000000000001", 1)),
        ("trailing", format!("{text}{{}}")),
        ("deep", text.replacen("0.5", &format!("{}{}", "[".repeat(64), "]".repeat(64)), 1)),
        ("large", format!("{text}{}", " ".repeat(4 << 20))),
    ] {
        assert_eq!(code(check(crooked.as_bytes(), Some(&session()), Recorded::New)), 1000, "{name}");
    }
    // The refusal answers the request where its id could be read, under the name the request used.
    let mut seal = good.clone();
    seal["protocol"] = "seal/v1".into();
    seal["signature"] = "AAAA".into();
    let answer = check(seal.to_string().as_bytes(), Some(&session()), Recorded::New).unwrap_err().to_json();
    assert_eq!((&answer["protocol"], &answer["error"]["request_id"]), (&json!("seal/v1"), &json!(7)));
}

/// What was signed, if the text passes all checks.
fn nonce(text: &[u8]) -> Option<Sha256> {
    check(text, Some(&session()), Recorded::New).ok().map(|admitted| admitted.nonce)
}

#[test]
fn no_flipped_bit_passes_as_another_request() {
    let good = text(&signed(&token(), now()));
    let signed_nonce = nonce(&good).unwrap();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut flipped = good.clone();
            flipped[at] ^= 1 << bit;
            // `smcp/v1` and the case of letters in `\u00e9` are not signed; nothing else that passes may differ.
            if let Some(other) = nonce(&flipped) {
                assert_eq!(other, signed_nonce, "{}", String::from_utf8_lossy(&flipped));
            }
        }
    }
}

#[test]
fn no_flipped_bit_of_what_is_signed_passes() {
    let good = text(&signed(&token(), now()));
    let plain = String::from_utf8(good.clone()).unwrap();
    for name in ["\"security_token\":\"", "\"signature\":\"", "\"timestamp\":\"", "\"payload\":"] {
        let start = plain.find(name).unwrap() + name.len();
        let end = match name {
            "\"payload\":" => start + call().to_string().len(),
            _ => start + plain[start..].find('"').unwrap(),
        };
        for at in start..end {
            for bit in 0..8 {
                let mut flipped = good.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(nonce(&flipped), None, "{name} {at} {bit}");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_checks_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        prop_assert_eq!(code(check(&bytes, Some(&session()), Recorded::New)), 1000);
    }

    #[test]
    fn no_edit_makes_the_checks_panic(
        at in any::<prop::sample::Index>(),
        length in 0_usize..40,
        put in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut text = text(&signed(&token(), now()));
        let at = at.index(text.len());
        let end = (at + length).min(text.len());
        let original = nonce(&text);
        text.splice(at..end, put);
        if let Some(other) = nonce(&text) {
            prop_assert_eq!(Some(other), original);
        }
    }
}
