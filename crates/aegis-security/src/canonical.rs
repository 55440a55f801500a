//! Canonical JSON (RFC 8785) and the strict reading of JSON that comes from outside.

use std::fmt;

use aegis_core::limits::JSON_DEPTH_MAX;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Largest magnitude of an integer that every JSON implementation reads alike (RFC 7493, section 2.2): 2^53 − 1.
pub const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// JSON that cannot be signed or trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// An integer whose canonical form would stand for its neighbours too.
    #[error("the integer `{0}` is beyond ±(2^53 − 1); send it as a string")]
    UnsafeInteger(String),
    /// Not JSON, or JSON that is read differently by different programs.
    #[error("{0}")]
    Malformed(String),
}

/// The canonical bytes of `value`.
///
/// # Errors
///
/// Integers beyond ±(2^53 − 1) are refused: RFC 8785 writes numbers as doubles, so two of them could look the same.
pub fn to_bytes(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut bytes = Vec::with_capacity(512);
    write(value, &mut bytes)?;
    Ok(bytes)
}

/// Every event of the journal passes here, so only doubles, which hold all the difficulty, are left to the crate.
fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    match value {
        Value::Number(number) if is_unsafe_integer(number) => {
            return Err(CanonicalError::UnsafeInteger(number.to_string()));
        }
        Value::Number(number) if number.is_f64() => {
            serde_json_canonicalizer::to_writer(number, out).map_err(malformed)?;
        }
        // Strings are escaped here as the RFC asks: the short forms, lower-case `\u00xx`, and nothing else.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            serde_json::to_writer(out, value).map_err(malformed)?;
        }
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
            out.push(b'{');
            for (at, (key, member)) in members.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                serde_json::to_writer(&mut *out, key).map_err(malformed)?;
                out.push(b':');
                write(member, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn malformed(error: serde_json::Error) -> CanonicalError {
    CanonicalError::Malformed(error.to_string())
}

fn is_unsafe_integer(number: &Number) -> bool {
    match (number.as_u64(), number.as_i64()) {
        (Some(unsigned), _) => unsigned > SAFE_INTEGER_MAX,
        (None, Some(signed)) => signed.unsigned_abs() > SAFE_INTEGER_MAX,
        (None, None) => false,
    }
}

/// Reads one JSON value from outside. The caller bounds the number of bytes.
///
/// # Errors
///
/// Refused are duplicate keys, numbers beyond ±(2^53 − 1) however written, nesting deeper than
/// [`JSON_DEPTH_MAX`], lone surrogates, and anything after the value.
pub fn parse_strict(bytes: &[u8]) -> Result<Value, CanonicalError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut deserializer).map_err(malformed)?;
    deserializer.end().map_err(malformed)?;
    Ok(value)
}

/// Reads a value that lies inside `depth` arrays and objects.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn inside<E: Error>(self) -> Result<Self, E> {
        if self.depth >= JSON_DEPTH_MAX {
            return Err(E::custom(format_args!("JSON is nested deeper than {JSON_DEPTH_MAX}")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        if value > SAFE_INTEGER_MAX { Err(unsafe_number(value)) } else { Ok(value.into()) }
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() > SAFE_INTEGER_MAX { Err(unsafe_number(value)) } else { Ok(value.into()) }
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        // Every double of this size is an integer, and a longer integer literal arrives here rounded.
        #[expect(clippy::cast_precision_loss, reason = "2^53 − 1 is exact as a double")]
        if value.abs() > SAFE_INTEGER_MAX as f64 {
            return Err(unsafe_number(value));
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inside)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!("duplicate key `{key}`")));
            }
            let value = members.next_value_seed(inside)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

fn unsafe_number<E: Error>(number: impl fmt::Display) -> E {
    E::custom(CanonicalError::UnsafeInteger(number.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 8785, section 3.2.2 (input) and 3.2.3 (sorted output).
    #[test]
    fn the_rfc_example_has_its_canonical_form() {
        let input = r#"{
          "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
          "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
          "literals": [null, true, false]
        }"#;
        let expected = concat!(
            r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"#,
            r#""string":"€$\u000f\nA'B\"\\\\\"/"}"#
        );
        let value: Value = serde_json::from_str(input).unwrap();
        assert_eq!(String::from_utf8(to_bytes(&value).unwrap()).unwrap(), expected);
    }

    /// RFC 8785, section 3.2.3: keys are sorted by UTF-16 code units, so the emoji comes before U+FB33.
    #[test]
    fn keys_are_sorted_by_utf16_code_units() {
        let value: Value = serde_json::from_str(
            r#"{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}"#,
        )
        .unwrap();
        let canonical = String::from_utf8(to_bytes(&value).unwrap()).unwrap();
        let order: Vec<u32> = canonical.chars().filter_map(|c| c.to_digit(10)).collect();
        // The key "1" contributes its own digit before its value.
        assert_eq!(order, [2, 1, 4, 6, 7, 1, 5, 3]);
    }

    /// RFC 8785, appendix B: doubles by their bits and what they are written as.
    #[test]
    fn doubles_are_written_as_the_rfc_says() {
        for (bits, written) in [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            let value = Value::Number(Number::from_f64(f64::from_bits(bits)).unwrap());
            assert_eq!(String::from_utf8(to_bytes(&value).unwrap()).unwrap(), written);
        }
    }

    #[test]
    fn integers_that_could_stand_for_others_are_refused() {
        for safe in ["9007199254740991", "-9007199254740991"] {
            let value = parse_strict(safe.as_bytes()).unwrap();
            assert_eq!(to_bytes(&value).unwrap(), safe.as_bytes());
        }
        for beyond in ["9007199254740992", "-9007199254740992", "18446744073709551615", "1e16", "1e300"] {
            assert!(parse_strict(beyond.as_bytes()).is_err(), "{beyond}");
            assert!(parse_strict(format!("{{\"a\":[{beyond}]}}").as_bytes()).is_err(), "{beyond}");
        }
        assert!(parse_strict(b"123456789012345678901234567890").is_err());
        let nested = serde_json::json!({"a": [{"b": u64::MAX}]});
        assert_eq!(to_bytes(&nested), Err(CanonicalError::UnsafeInteger(u64::MAX.to_string())));
        assert!(to_bytes(&serde_json::json!([i64::MIN])).is_err());
    }

    #[test]
    fn duplicate_keys_are_refused_at_every_depth_and_in_every_spelling() {
        for twice in
            [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":1}"#, r#"[{"x":{"k":0,"k":0}}]"#, r#"{"":1,"":1}"#]
        {
            assert!(parse_strict(twice.as_bytes()).is_err(), "{twice}");
        }
        assert!(parse_strict(br#"{"a":{"a":1},"b":{"a":1}}"#).is_ok());
    }

    #[test]
    fn depth_is_bounded_exactly() {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let nested = |depth: usize| format!("{}0{}", open.repeat(depth), close.repeat(depth));
            assert!(parse_strict(nested(JSON_DEPTH_MAX).as_bytes()).is_ok());
            assert!(parse_strict(nested(JSON_DEPTH_MAX + 1).as_bytes()).is_err());
        }
        assert!(parse_strict("[".repeat(1 << 20).as_bytes()).is_err());
    }

    #[test]
    fn what_is_not_one_json_value_is_refused() {
        for wrong in ["", "{} {}", "nul", "[1,]", "{\"a\":NaN}", "1e400", r#""\ud800""#, "\u{feff}1", "'a'"] {
            assert!(parse_strict(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(parse_strict(b"\"\xff\"").is_err());
        assert_eq!(
            parse_strict(b" [null, true, -1.5, \"x\"] ").unwrap(),
            serde_json::json!([null, true, -1.5, "x"])
        );
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-(1i64 << 53) + 1..1 << 53).prop_map(Value::from),
            any::<f64>().prop_filter_map("finite", |float| Number::from_f64(float).map(Value::Number)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_form_is_that_of_an_implementation_of_others(value in any_value()) {
            let bytes = to_bytes(&value).unwrap();
            prop_assert_eq!(&bytes, &serde_json_canonicalizer::to_vec(&value).unwrap());
            // What may come from outside has one form only.
            if let Ok(again) = parse_strict(&bytes) {
                prop_assert_eq!(to_bytes(&again).unwrap(), bytes);
            }
        }
    }
}
