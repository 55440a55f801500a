//! What the rules find, what they leave, and that their tokens stay.

use proptest::prelude::*;

use super::*;

fn key() -> PiiKey {
    PiiKey::new([7; 32])
}

fn redact(text: &str) -> String {
    PiiRules::default().redact(text, &key()).into_owned()
}

/// The text with each token cut to its rule's name.
fn shape(text: &str) -> String {
    let mut text = redact(text);
    for rule in PERSONAL_DATA_RULES {
        while let Some(at) = text.find(&format!("[{rule}:")) {
            let end = at + text[at..].find(']').unwrap();
            text.replace_range(at..=end, &format!("<{rule}>"));
        }
    }
    text
}

#[test]
fn every_rule_compiles_and_has_its_name() {
    let names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(names, PERSONAL_DATA_RULES);
    assert!(RULES.iter().all(|rule| rule.pattern.is_some()));
}

#[test]
fn personal_data_is_found_where_it_stands() {
    for (text, expected) in [
        ("mail Ada.Lovelace+x@mail.example.org, now", "mail <email>, now"),
        ("call +49 (0)30 901820 or 0033 1 42 68 53 00.", "call <phone> or <phone>."),
        ("pay DE89 3704 0044 0532 0130 00 SOON", "pay <iban> SOON"),
        ("FR1420041010050500013M02606;", "<iban>;"),
        ("on 2026-11-21 4111 1111 1111 1111 was charged", "on 2026-11-21 <credit_card> was charged"),
        ("378282246310005", "<credit_card>"),
        ("from 192.168.7.9 to 2001:db8::7 via fe80::1", "from <ipv4> to <ipv6> via <ipv6>"),
        ("[::ffff:10.0.0.1]:80", "[<ipv6>]:80"),
        ("DNI 12345678Z, NIE X1234567L", "DNI <es_dni>, NIE <es_dni>"),
        ("CF RSSMRA85T10A562S", "CF <it_codice_fiscale>"),
        ("NIR 2 55 08 14 168 025 38", "NIR <fr_nir>"),
        ("IdNr 86 095 742 719", "IdNr <de_steuer_id>"),
        ("CPF 111.444.777-35", "CPF <br_cpf>"),
        ("PESEL 44051401359", "PESEL <pl_pesel>"),
    ] {
        assert_eq!(shape(text), expected, "{text}");
    }
}

#[test]
fn other_numbers_are_left() {
    for text in [
        "at 10:23:45 on 2026-11-21T10:23:45Z",
        "version 1.2.3, build 300.1.2.3 and a::b",
        "seq 1771840800000000 of 4111111111111112",
        "DE89370400440532013001 and XX89370400440532013000",
        "user@host, @name, a@b",
        "fn std::fmt::Display for T",
        "12345678A 123-456",
        "face:b00c",
        "http://127.0.0.1:8088/, 0.0.0.0:80, [::1]:80 and [::]:80",
    ] {
        assert_eq!(redact(text), text);
    }
}

#[test]
fn tokens_link_equal_values_under_one_key_alone() {
    let tokens = redact("Ada@x.example ada@X.example bob@x.example");
    let tokens: Vec<&str> = tokens.split(' ').collect();
    assert_eq!(tokens[0], tokens[1]);
    assert_ne!(tokens[0], tokens[2]);
    assert_eq!(tokens[0].len(), "[email:]".len() + TOKEN_DIGITS);
    let other = PiiRules::default().redact("ada@x.example", &PiiKey::new([8; 32])).into_owned();
    assert_ne!(tokens[0], other);
    assert_eq!(redact("+49 30 901820"), redact("0049-30-901820"));
}

#[test]
fn rules_are_switched_off_by_name() {
    let rules = PiiRules::without(["ipv4", "phone"]).unwrap();
    assert_eq!(rules.redact("10.0.0.1 +4930901820", &key()), "10.0.0.1 +4930901820");
    assert!(rules.redact("a@b.example", &key()).starts_with("[email:"));
    assert_eq!(PiiRules::without(["ip"]), Err(UnknownRule { name: "ip".to_owned() }));
}

proptest! {
    #[test]
    fn twice_is_once(parts in proptest::collection::vec(
        prop_oneof![
            "[0-9+ :.@a-fA-F/()-]{0,24}",
            Just("4111 1111 1111 1111".to_owned()),
            Just("a@b.example".to_owned()),
            Just("2001:db8::1".to_owned()),
            Just("DE89370400440532013000".to_owned()),
            Just("+49 30 901820".to_owned()),
            "\\PC{0,8}",
        ],
        0..12,
    )) {
        let once = redact(&parts.concat());
        prop_assert_eq!(redact(&once), once.as_str());
    }
}

/// Time grows with the text, whatever it is made of.
#[test]
fn hostile_text_takes_no_more_than_linear_time() {
    for unit in ["1", "1 ", "a@", "4111-", "1.", ":", "+1", "AB12", "a.", "a@a."] {
        let text = unit.repeat(200_000 / unit.len());
        let begun = std::time::Instant::now();
        drop(redact(&text));
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{unit}");
    }
}

#[test]
fn personal_data_is_found_however_it_is_written() {
    for (text, expected) in [
        ("to=ada%40mail.example.org&x=1", "to=<email>&x=1"),
        (r"\u0061da\u0040mail.example.org", "<email>"),
        ("ada&#64;mail.example.org and ada&#x40;mail.example.org", "<email> and <email>"),
        ("ada\u{200b}@mail\u{ad}.example.org", "<email>"),
        ("ａｄａ＠mail.example.org", "<email>"),
        ("call \u{ff0b}４９ ３０ ９０１８２０!", "call <phone>!"),
        ("+49\u{a0}30\u{2011}901820", "<phone>"),
        ("card ٤١١١١١١١١١١١١١١١.", "card <credit_card>."),
        (r"a\nada@mail.example.org", r"a\n<email>"),
        ("DE89\u{2009}3704\u{2009}0044\u{2009}0532\u{2009}0130\u{2009}00", "<iban>"),
        ("ada@mail.example.org eve%40mail.example.org", "<email> <email>"),
    ] {
        assert_eq!(shape(text), expected, "{text}");
    }
    assert_eq!(redact("ada%40x.example"), redact("ada@x.example"));
    for text in ["100%25 of äöü – €", r"C:\new\table", "&amp; &#9731; \u{1f600}\u{fe0f}"] {
        assert_eq!(redact(text), text);
    }
}

#[test]
fn json_stays_json_and_is_looked_into() {
    let rules = PiiRules::default();
    let read = |text: &str| {
        let redacted = rules.redact_document(text, &key()).into_owned();
        serde_json::from_str::<serde_json::Value>(&redacted).unwrap_or_else(|_| panic!("{redacted}"))
    };
    let token = |text: &str| redact(text);
    let value = read(r#"{"ada@x.example": [4111111111111111, "line\nada@x.example", null], "n": 1.5}"#);
    assert_eq!(value[token("ada@x.example")][0], token("4111111111111111"));
    assert_eq!(value[token("ada@x.example")][1], format!("line\n{}", token("ada@x.example")));
    assert_eq!(value["n"], 1.5);
    let within = read(r#"{"output": "{\"to\": \"ada\\u0040x.example\", \"n\": 7}"}"#);
    assert_eq!(within["output"], format!(r#"{{"to":"{}","n":7}}"#, token("ada@x.example")));
    // The same key twice: what a reader takes is not said, so nothing of it stays.
    let twice = rules.redact_document(r#"{"a": "ada@x.example", "a": 1}"#, &key()).into_owned();
    assert!(!twice.contains("ada@"), "{twice}");
    let untouched = r#" { "a" : [1, 2.0, "x"] } "#;
    assert!(matches!(rules.redact_document(untouched, &key()), Cow::Borrowed(_)));
}

#[test]
fn keys_for_several_are_derived() {
    let (one, other) = (key().derive("a"), key().derive("b"));
    let under = |key: &PiiKey| PiiRules::default().redact("ada@x.example", key).into_owned();
    assert_ne!(under(&one), under(&other));
    assert_eq!(under(&one), under(&key().derive("a")));
}
