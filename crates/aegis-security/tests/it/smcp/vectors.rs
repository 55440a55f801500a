//! `schemas/smcp/vectors.json`: what any implementation of the protocol must agree on. Written by
//! `UPDATE_GOLDEN=1 cargo test -p aegis-security vectors`, compared otherwise.

use std::fmt::Write;

use aegis_security::canonical;
use aegis_security::commitment::sha256;
use aegis_security::signature;
use aegis_security::smcp::strict_json;

use super::*;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/smcp/vectors.json");

/// RFC 8032, section 7.1: name, secret key, public key, message, signature. Its TEST 1024 is left out for its length.
const RFC_8032: [(&str, &str, &str, &str, &str); 4] = [
    (
        "TEST 1",
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "TEST 2",
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "TEST 3",
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "TEST SHA(abc)",
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
];

/// JSON texts that are taken, and their RFC 8785 form.
const TAKEN: [&str; 9] = [
    r#"{"b":1,"a":[null,true,false],"":{}}"#,
    r#"{"€":1,"\r":2,"דּ":3,"1":4,"😀":5,"\u0080":6,"ö":7}"#,
    r#"{"numbers":[0,-0,1.0,4.50,2e-3,0.000001,1e-7,-12.25E-1,9007199254740991,-9007199254740991]}"#,
    r#"{"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/\b\t\f\u007f\u2028"}"#,
    "[0.1,0.5,123456.789,5e-324,1.5e-10,4503599627370495.5]",
    "\"\\ud83d\\ude00\"",
    " [ ] ",
    "true",
    "\"\"",
];

/// JSON texts that are refused, and why.
const REFUSED: [(&str, &str); 13] = [
    ("duplicate key", r#"{"a":1,"a":2}"#),
    ("duplicate key in another spelling", r#"{"a":1,"\u0061":2}"#),
    ("unsafe integer", "9007199254740992"),
    ("unsafe integer as a float", "1e16"),
    ("unsafe negative integer", "-9007199254740992"),
    ("number that a double does not hold", "0.10000000000000000001"),
    ("number that becomes zero", "1e-400"),
    ("number beyond a double", "1e400"),
    ("lone surrogate", r#""\ud800""#),
    ("not a number", "NaN"),
    ("trailing comma", "[1,]"),
    ("two values", "{} {}"),
    ("nothing", ""),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn envelopes() -> Vec<Value> {
    let requests = [
        ("tool call", Protocol::Smcp, call(), "2026-11-21T14:00:00Z"),
        ("later name of the protocol", Protocol::Seal, call(), "2026-11-21T14:00:00Z"),
        (
            "no arguments, text id, 30 s ago",
            Protocol::Smcp,
            json!({ "jsonrpc": "2.0", "id": "a-1", "method": "tools/list" }),
            "2026-11-21T13:59:30Z",
        ),
        (
            "keys beyond ASCII",
            Protocol::Smcp,
            json!({
                "jsonrpc": "2.0", "id": 8, "method": "tools/call",
                "params": { "name": "x", "arguments": { "\u{fb33}": 1, "😀": "\u{1}\u{7f}", "é": [-0.125, 1e-7] } },
            }),
            "2026-11-21T14:00:30Z",
        ),
    ];
    let make = |(name, protocol, payload, time): (&str, Protocol, Value, &str)| {
        let envelope = Envelope::sign(protocol, &token(), payload, at(time), &client_key()).unwrap();
        let signed = envelope.signed_bytes().unwrap();
        json!({
            "name": name, "envelope": envelope.to_json(),
            "signed_bytes": String::from_utf8(signed.clone()).unwrap(), "nonce": sha256(&signed).to_string(),
        })
    };
    requests.into_iter().map(make).collect()
}

/// One change to a good envelope, and the answer. `session` is `active`, `ended` or `unknown`.
fn refused() -> Vec<Value> {
    let good = signed(&token(), now());
    let with = |name: &str, value: Value| {
        let mut json = good.to_json();
        json[name] = value;
        json.to_string()
    };
    let of = |token: &str| signed(token, now()).to_json().to_string();
    let issued = |time: &str| keys().issue(&grant(), at(time)).unwrap().0;
    let elsewhere = keys().issue(&Grant { workload: "another/1".to_owned(), ..grant() }, now()).unwrap().0;
    let node_b = KeyRing::new("node-b", SigningKey::from_seed(&NODE_SEED), []).unwrap();
    let claims = serde_json::to_value(keys().issue(&grant(), now()).unwrap().1).unwrap();
    let header = |alg: &str, typ: &str| json!({ "alg": alg, "kid": keys().key_id(), "typ": typ });
    let other_key = SigningKey::from_seed(&[0x44; 32]);
    let by_other = Envelope::sign(Protocol::Smcp, &token(), call(), now(), &other_key).unwrap();
    let text = good.to_json().to_string();
    let case = |name: &str, text: String, session: &str, seen: bool, code: u16| json!({ "name": name, "text": text, "session": session, "nonce_seen": seen, "code": code });
    let active = |name: &str, text: String, code: u16| case(name, text, "active", false, code);
    vec![
        active("not JSON", "{".to_owned(), 1000),
        active("duplicate key", text.replacen("\"id\":7", "\"id\":7,\"id\":7", 1), 1000),
        active("unsafe integer", text.replacen("\"id\":7", "\"id\":9007199254740993", 1), 1000),
        active("member that is not signed", with("security_context", "root".into()), 1000),
        active("other protocol", with("protocol", "smcp/v2".into()), 1000),
        active("signature too short", with("signature", "AAAA".into()), 1000),
        active("time with an offset", with("timestamp", "2026-11-21T15:00:00+01:00".into()), 1000),
        active("notification", text.replacen("\"id\":7,", "", 1), 1000),
        active("signed by another key", by_other.to_json().to_string(), 1001),
        active("another id", text.replacen("\"id\":7", "\"id\":6", 1), 1001),
        active("re-timed", with("timestamp", "2026-11-21T14:00:01Z".into()), 1001),
        active("expired token", of(&issued("2026-11-21T13:00:00Z")), 1002),
        active("not a token", of("token"), 1003),
        active("token of another node", of(&node_b.issue(&grant(), now()).unwrap().0), 1003),
        active("token of another workload", of(&elsewhere), 1003),
        active("token issued in the future", of(&issued("2026-11-21T14:00:31Z")), 1003),
        active("token signed by nobody", of(&raw_token(&header("none", "JWT"), &claims, &NODE_SEED)), 1003),
        active(
            "token of another algorithm",
            of(&raw_token(&header("HS256", "smcp+jwt"), &claims, &NODE_SEED)),
            1003,
        ),
        active("token of another type", of(&raw_token(&header("EdDSA", "JWT"), &claims, &NODE_SEED)), 1003),
        active(
            "token signed by another key",
            of(&raw_token(&header("EdDSA", "smcp+jwt"), &claims, &[0x55; 32])),
            1003,
        ),
        active("too old", signed(&token(), at("2026-11-21T13:59:29Z")).to_json().to_string(), 1004),
        active("too early", signed(&token(), at("2026-11-21T14:00:31Z")).to_json().to_string(), 1004),
        case("replayed", text.clone(), "active", true, 1004),
        case("ended session", text.clone(), "ended", false, 1005),
        case("unknown session", text, "unknown", false, 1005),
        case(
            "several defects: the first in order",
            with("timestamp", "2026-11-21T15:00:00Z".into()),
            "ended",
            true,
            1005,
        ),
    ]
}

fn vectors() -> Value {
    let rfc_8032 = RFC_8032.map(|(name, seed, public_key, message, signature)| {
        json!({ "name": name, "seed": seed, "public_key": public_key, "message": message, "signature": signature })
    });
    let taken = TAKEN.map(|text| {
        let value = strict_json::parse(text.as_bytes(), 4096).unwrap();
        json!({ "json": text, "canonical": String::from_utf8(canonical::to_bytes(&value).unwrap()).unwrap() })
    });
    let refused_json = REFUSED.map(|(name, text)| json!({ "name": name, "json": text }));
    json!({
        "about": "Test vectors of smcp/v1. Written by `UPDATE_GOLDEN=1 cargo test -p aegis-security vectors` from fixed seeds.",
        "ed25519": { "source": "RFC 8032, section 7.1; hexadecimal", "vectors": rfc_8032 },
        "json": { "taken": taken, "refused": refused_json },
        "node": {
            "name": NODE, "token_seed": hex(&NODE_SEED), "key_id": keys().key_id(),
            "token_public_key": hex(&SigningKey::from_seed(&NODE_SEED).public_key()),
        },
        "session": {
            "id": SESSION, "workload": WORKLOAD, "seed": hex(&CLIENT_SEED),
            "public_key": hex(&client_key().public_key()), "security_token": token(),
        },
        "now": "2026-11-21T14:00:00Z",
        "envelopes": envelopes(),
        "refused": refused(),
    })
}

#[test]
fn vectors_are_as_written() {
    let text = serde_json::to_string_pretty(&vectors()).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(PATH, &text).unwrap();
    }
    let written = std::fs::read_to_string(PATH).unwrap();
    assert!(written == text, "{PATH} is out of date: UPDATE_GOLDEN=1 cargo test -p aegis-security vectors");
}

#[test]
fn vectors_of_others_hold() {
    for (name, seed, public_key, message, signature) in RFC_8032 {
        let key = SigningKey::from_seed(&unhex(seed).try_into().unwrap());
        assert_eq!(hex(&key.public_key()), public_key, "{name}");
        assert_eq!(hex(&key.sign(&unhex(message))), signature, "{name}");
        let signature = unhex(signature).try_into().unwrap();
        assert_eq!(signature::verify(&key.public_key(), &unhex(message), &signature), Ok(()), "{name}");
    }
    for (name, text) in REFUSED {
        assert!(strict_json::parse(text.as_bytes(), 4096).is_err(), "{name}");
    }
}

#[test]
fn vectors_are_admitted_and_refused_as_they_say() {
    for vector in envelopes() {
        let text = vector["envelope"].to_string();
        let admitted = check(text.as_bytes(), Some(&session()), Recorded::New).unwrap();
        assert_eq!(admitted.nonce.to_string(), vector["nonce"].as_str().unwrap());
    }
    for vector in refused() {
        let session = Session { active: vector["session"] == "active", ..session() };
        let found = (vector["session"] != "unknown").then_some(&session);
        let seen = vector["nonce_seen"] == true;
        let recorded = if seen { Recorded::NonceSeen } else { Recorded::New };
        let error = check(vector["text"].as_str().unwrap().as_bytes(), found, recorded).unwrap_err();
        assert_eq!(
            error.code.number(),
            vector["code"].as_u64().unwrap() as u16,
            "{}: {error}",
            vector["name"]
        );
    }
}
