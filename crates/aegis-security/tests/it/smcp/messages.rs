//! `schemas/smcp/messages.schema.json` says the same of messages as the code does.

use aegis_security::smcp::attestation::{Attestation, attested};
use aegis_security::smcp::{RequestId, SmcpCode, success};
use base64::engine::general_purpose::STANDARD;

use super::*;

const SCHEMA: &str = include_str!("../../../../../schemas/smcp/messages.schema.json");

fn is_valid(kind: &str, message: &Value) -> bool {
    let mut schema: Value = serde_json::from_str(SCHEMA).unwrap();
    assert!(schema["$defs"].get(kind).is_some(), "{kind}");
    schema["$ref"] = format!("#/$defs/{kind}").into();
    jsonschema::is_valid(&schema, message)
}

#[test]
fn messages_have_the_shapes_of_the_schema() {
    let (token, claims) = keys().issue(&grant(), now()).unwrap();
    assert!(is_valid("attest_answer", &attested(&token, &claims)));
    assert!(is_valid("envelope", &signed(&token, now()).to_json()));
    for id in [RequestId::Number(-1), RequestId::Text("a".to_owned())] {
        assert!(is_valid("success", &success(Protocol::Seal, &id, json!({ "content": [] }))));
        for code in SmcpCode::ALL {
            let refused = SmcpError::new(code, "no");
            assert!(is_valid("error", &refused.to_json()));
            assert!(is_valid("error", &refused.answering(Protocol::Seal, &id).to_json()));
        }
    }
}

#[test]
fn what_the_schema_refuses_the_code_refuses_too() {
    let good = signed(&token(), now()).to_json();
    for (path, value) in [
        ("/protocol", json!("smcp/v2")),
        ("/signature", json!("AAAA")),
        ("/timestamp", json!("2026-11-21")),
        ("/payload/id", json!(1.5)),
        ("/payload/method", json!("")),
        ("/payload/params", json!([])),
        ("/payload/jsonrpc", json!("1.0")),
    ] {
        let mut changed = good.clone();
        *changed.pointer_mut(path).unwrap() = value;
        assert!(!is_valid("envelope", &changed), "{path}");
        assert!(checks::parse(changed.to_string().as_bytes()).is_err(), "{path}");
    }
    let key = STANDARD.encode(client_key().public_key());
    for (request, taken) in [
        (json!({ "public_key": key }), true),
        (json!({ "public_key": key, "agent": null, "workload_id": "w", "requested_scope": "s" }), true),
        (json!({ "public_key": "AAAA" }), false),
        (json!({ "public_key": key, "extra": 1 }), false),
        (json!({ "agent": "a" }), false),
    ] {
        assert_eq!(is_valid("attest_request", &request), taken, "{request}");
        assert_eq!(Attestation::parse(request.to_string().as_bytes()).is_ok(), taken, "{request}");
    }
}
