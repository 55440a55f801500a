use aegis_security::signature;
use aegis_security::smcp::{SmcpCode, TOKEN_SECONDS_MAX, TokenError, VerifyingKey};

use super::*;

fn refused(token: &str) -> SmcpCode {
    keys().verify(token, now()).unwrap_err().code
}

fn header() -> Value {
    json!({ "alg": "EdDSA", "kid": keys().key_id(), "typ": "smcp+jwt" })
}

fn claims() -> Value {
    serde_json::to_value(keys().issue(&grant(), now()).unwrap().1).unwrap()
}

#[test]
fn an_issued_token_holds_what_was_granted() {
    let (token, claims) = keys().issue(&grant(), now()).unwrap();
    assert_eq!(keys().verify(&token, now()), Ok(claims.clone()));
    assert_eq!(claims.expires_at - claims.issued_at, 3600);
    assert_eq!(
        serde_json::to_value(&claims).unwrap(),
        json!({
            "iss": NODE, "aud": NODE, "sub": grant().subject, "scp": "default", "wid": WORKLOAD,
            "iat": 1_795_269_600, "exp": 1_795_273_200, "jti": SESSION,
        })
    );
    for seconds in [0, TOKEN_SECONDS_MAX + 1] {
        assert_eq!(keys().issue(&Grant { seconds, ..grant() }, now()), Err(TokenError::Lifetime(seconds)));
    }
    let long = Grant { scope: "x".repeat(4096), ..grant() };
    assert_eq!(keys().issue(&long, now()), Err(TokenError::TooLong));
}

#[test]
fn a_token_ends_in_the_second_it_names() {
    let token = token();
    assert!(keys().verify(&token, at("2026-11-21T14:59:59.999999Z")).is_ok());
    let late = keys().verify(&token, at("2026-11-21T15:00:00Z")).unwrap_err();
    assert_eq!(late.code, SmcpCode::ExpiredToken);
}

/// The classic confusions: another algorithm, none, the public key as a secret, keys that come with the token.
#[test]
fn other_headers_are_refused() {
    assert!(keys().verify(&raw_token(&header(), &claims(), &NODE_SEED), now()).is_ok());
    let kid = keys().key_id().to_owned();
    for header in [
        json!({ "alg": "none", "kid": kid, "typ": "smcp+jwt" }),
        json!({ "alg": "HS256", "kid": kid, "typ": "smcp+jwt" }),
        json!({ "alg": "eddsa", "kid": kid, "typ": "smcp+jwt" }),
        json!({ "alg": "Ed25519", "kid": kid, "typ": "smcp+jwt" }),
        json!({ "alg": "EdDSA", "kid": kid, "typ": "JWT" }),
        json!({ "alg": "EdDSA", "kid": kid }),
        json!({ "alg": "EdDSA", "typ": "smcp+jwt" }),
        json!({ "alg": "EdDSA", "kid": "../../etc/passwd", "typ": "smcp+jwt" }),
        json!({ "alg": "EdDSA", "kid": kid, "typ": "smcp+jwt", "crit": ["exp"] }),
        json!({ "alg": "EdDSA", "kid": kid, "typ": "smcp+jwt", "b64": false }),
        json!({ "alg": "EdDSA", "kid": kid, "typ": "smcp+jwt", "jwk": { "kty": "OKP" } }),
    ] {
        assert_eq!(refused(&raw_token(&header, &claims(), &NODE_SEED)), SmcpCode::InvalidToken, "{header}");
    }
    let message = raw_token(&json!({ "alg": "none", "typ": "JWT" }), &claims(), &NODE_SEED);
    let unsigned = format!("{}.", message.rsplit_once('.').unwrap().0);
    assert_eq!(refused(&unsigned), SmcpCode::InvalidToken);
}

#[test]
fn other_claims_are_refused_even_when_signed() {
    let changed = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        refused(&raw_token(&header(), &claims, &NODE_SEED))
    };
    for (name, value) in [
        ("aud", json!("node-b")),
        ("aud", json!([NODE])),
        ("iss", json!("node-b")),
        ("iat", json!(1_795_269_600 + 31)),
        ("exp", json!(1_795_269_600 + 86_401)),
        ("exp", json!("1795273200")),
        ("exp", json!(1_795_273_200.5)),
        ("nbf", json!(0)),
        ("jti", Value::Null),
    ] {
        assert_eq!(changed(name, value.clone()), SmcpCode::InvalidToken, "{name} {value}");
    }
    assert_eq!(changed("exp", json!(0)), SmcpCode::ExpiredToken);
    let mut skewed = claims();
    skewed["iat"] = json!(1_795_269_600 + 30);
    assert!(keys().verify(&raw_token(&header(), &skewed, &NODE_SEED), now()).is_ok());
}

#[test]
fn only_the_rings_own_keys_sign() {
    assert_eq!(refused(&raw_token(&header(), &claims(), &[0x55; 32])), SmcpCode::InvalidToken);
    let other = KeyRing::new(NODE, SigningKey::from_seed(&[0x55; 32]), []).unwrap();
    assert_eq!(refused(&other.issue(&grant(), now()).unwrap().0), SmcpCode::InvalidToken);
    for token in ["", ".", "..", "a.b", "a.b.c.d", "\u{e9}.\u{e9}.\u{e9}"] {
        assert_eq!(refused(token), SmcpCode::InvalidToken, "{token}");
    }
    // Padding and other alphabets are other texts for the same bytes.
    assert_eq!(refused(&format!("{}==", token())), SmcpCode::InvalidToken);
}

#[test]
fn any_flipped_bit_of_a_token_is_refused() {
    let token = token().into_bytes();
    for at in 0..token.len() {
        for bit in 0..7 {
            let mut flipped = token.clone();
            flipped[at] ^= 1 << bit;
            assert!(keys().verify(std::str::from_utf8(&flipped).unwrap(), now()).is_err(), "{at} {bit}");
        }
    }
}

#[test]
fn keys_are_rotated_with_overlap() {
    let mut ring = keys();
    let old = token();
    let first = ring.key_id().to_owned();
    let former = ring.rotate(SigningKey::from_seed(&[0x66; 32]), now()).unwrap();
    assert_ne!(ring.key_id(), first);
    let (new, _) = ring.issue(&grant(), now()).unwrap();
    assert!(ring.verify(&old, now()).is_ok());
    assert!(ring.verify(&new, now()).is_ok());
    assert!(keys().verify(&new, now()).is_err());

    // The ring is the same after a restart with what was stored.
    let stored = KeyRing::new(NODE, SigningKey::from_seed(&[0x66; 32]), [former.clone()]).unwrap();
    assert!(stored.verify(&old, now()).is_ok());

    // A token of the longest life, issued at the last moment, is good to its end; then the key is.
    let day = Grant { seconds: TOKEN_SECONDS_MAX, ..grant() };
    let (last, _) = keys().issue(&day, now()).unwrap();
    assert!(ring.verify(&last, at("2026-11-22T13:59:59Z")).is_ok());
    assert_eq!(former.not_after, at("2026-11-22T14:00:00Z"));
    let over = now().plus_millis(u64::from(TOKEN_SECONDS_MAX) * 1000);
    assert_eq!(ring.verify(&last, over).unwrap_err().code, SmcpCode::InvalidToken);

    // A key comes back neither while it is known nor as its own former.
    for seed in [NODE_SEED, [0x66; 32]] {
        assert!(matches!(ring.rotate(SigningKey::from_seed(&seed), now()), Err(TokenError::SameKey(_))));
    }
    let twice = VerifyingKey { public_key: SigningKey::from_seed(&NODE_SEED).public_key(), not_after: over };
    assert!(KeyRing::new(NODE, SigningKey::from_seed(&NODE_SEED), [twice]).is_err());
}

#[test]
fn rotations_are_bounded_by_what_is_still_valid() {
    let mut ring = keys();
    for number in 0..64_u8 {
        ring.rotate(SigningKey::from_seed(&[0x80 + number; 32]), now()).unwrap();
    }
    let next = || SigningKey::from_seed(&[0x01; 32]);
    assert_eq!(ring.rotate(next(), now()), Err(TokenError::TooManyKeys));
    assert!(ring.rotate(next(), at("2026-11-22T14:00:00Z")).is_ok());
}

/// RFC 8037, appendix A: the thumbprint (A.3) and the signature (A.4) of its example key.
#[test]
fn the_rfc_vectors_hold() {
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let seed: [u8; 32] = decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").try_into().unwrap();
    let key = SigningKey::from_seed(&seed);
    assert_eq!(key.public_key().to_vec(), decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"));
    let input = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(key.sign(input.as_bytes()).to_vec(), decode(signature));
    let bytes = decode(signature).try_into().unwrap();
    assert_eq!(signature::verify(&key.public_key(), input.as_bytes(), &bytes), Ok(()));
    let ring = KeyRing::new(NODE, key, []).unwrap();
    assert_eq!(ring.key_id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    // That signature is good, and still no token of ours.
    assert_eq!(ring.verify(&format!("{input}.{signature}"), now()).unwrap_err().code, SmcpCode::InvalidToken);
}
