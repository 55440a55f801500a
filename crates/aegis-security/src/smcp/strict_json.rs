//! JSON text that is signed: each text that is accepted has one meaning, for every program that reads it.
//!
//! Beyond what [`canonical::parse_strict`] refuses (duplicate keys, integers beyond ±(2^53 − 1), depth, lone
//! surrogates), two rules hold. A number with a fraction or an exponent is accepted only if its RFC 8785 form has exactly the
//! same decimal value: `0.1`, `1.50` and `2e3` are, `0.10000000000000000001` and `1e-400` are not, for a reader with
//! other numbers than doubles would see another value under the same signature. And what is handed on is what the
//! signed bytes say: `1.0` and `-0` become the integers `1` and `0`, as RFC 8785 writes them.

use serde_json::{Number, Value};

use crate::canonical::{self, CanonicalError};

/// Most values (arrays, objects and what is in them) of one text. A value takes up to a hundred times the memory of
/// its text; this bounds it at some 40 MiB, whatever the text.
pub const VALUES_MAX: usize = 65_536;

/// Most characters of a number that an error quotes.
const QUOTED_MAX: usize = 40;

/// Text that is refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrictJsonError {
    /// More bytes than the caller takes.
    #[error("{found} bytes of JSON, at most {max}")]
    TooLong {
        /// How many there are.
        found: usize,
        /// How many there may be.
        max: usize,
    },
    /// More values than [`VALUES_MAX`].
    #[error("more than {VALUES_MAX} values in one JSON text")]
    TooManyValues,
    /// A number that would change when it is written in its canonical form.
    #[error(
        "the number `{literal}` at line {line} column {column} has another value as a double; send it as a string"
    )]
    InexactNumber {
        /// How it begins.
        literal: String,
        /// Its line, from 1.
        line: usize,
        /// Its column in bytes, from 1.
        column: usize,
    },
    /// What [`canonical::parse_strict`] refuses.
    #[error(transparent)]
    Malformed(#[from] CanonicalError),
}

/// Reads one JSON value of at most `bytes_max` bytes. Then `parse(canonical::to_bytes(&value))` is the same value again.
///
/// # Errors
///
/// Fails for text that is not JSON, that two programs may read differently, or that is beyond a limit.
pub fn parse(text: &[u8], bytes_max: usize) -> Result<Value, StrictJsonError> {
    if text.len() > bytes_max {
        return Err(StrictJsonError::TooLong { found: text.len(), max: bytes_max });
    }
    // Before any memory is taken for values.
    scan(text)?;
    let mut value = canonical::parse_strict(text)?;
    settle(&mut value);
    Ok(value)
}

/// Looks at the text as a row of tokens. Whether they stand in the right order is for the parser to say.
fn scan(text: &[u8]) -> Result<(), StrictJsonError> {
    let (mut at, mut values) = (0, 1_usize);
    while let Some(byte) = text.get(at) {
        at = match byte {
            b'"' => end_of_string(text, at + 1),
            b'-' | b'0'..=b'9' => number(text, at)?,
            b',' | b'[' | b'{' => {
                values += 1;
                at + 1
            }
            _ => at + 1,
        };
        if values > VALUES_MAX {
            return Err(StrictJsonError::TooManyValues);
        }
    }
    Ok(())
}

/// The place after the closing quote, or the end of a text that has none.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    loop {
        at = match text.get(at) {
            Some(b'\\') => at + 2,
            Some(b'"') => return at + 1,
            Some(_) => at + 1,
            None => return at,
        };
    }
}

/// Checks the number that begins at `start`; answers with the place after it.
fn number(text: &[u8], start: usize) -> Result<usize, StrictJsonError> {
    let rest = text.get(start..).unwrap_or_default();
    let part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    let length = rest.iter().take_while(|byte| part(byte)).count();
    let literal = rest.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    // Integers are exact or refused by the parser, which also says what is no number at all.
    if literal.contains(['.', 'e', 'E'])
        && literal.parse::<f64>().is_ok_and(|double| !is_exact(literal, double))
    {
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        return Err(StrictJsonError::InexactNumber {
            literal: literal.chars().take(QUOTED_MAX).collect(),
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: start - line_start + 1,
        });
    }
    Ok(start + length)
}

/// Whether the RFC 8785 form of `double` has exactly the decimal value of `literal`.
fn is_exact(literal: &str, double: f64) -> bool {
    let written =
        Number::from_f64(double).and_then(|number| canonical::to_bytes(&Value::Number(number)).ok());
    let written = written.and_then(|bytes| String::from_utf8(bytes).ok());
    let (there, here) = (written.as_deref().and_then(decimal), decimal(literal));
    here.is_some() && here == there
}

/// Sign, digits without zeros at their ends, and the power of ten of the last digit: the same for the same value.
fn decimal(literal: &str) -> Option<(bool, String, i64)> {
    let (negative, magnitude) = literal.strip_prefix('-').map_or((false, literal), |rest| (true, rest));
    let (mantissa, exponent) = magnitude.split_once(['e', 'E']).unwrap_or((magnitude, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some((false, String::new(), 0));
    }
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let places = i64::try_from(fraction.len()).ok()?;
    let power = exponent.parse::<i64>().ok()?.checked_add(zeros)?.checked_sub(places)?;
    Some((negative, significant.to_owned(), power))
}

/// Makes integers of the doubles that RFC 8785 writes as integers. The depth is bounded by the parser.
fn settle(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(whole) = number.as_f64().filter(|double| double.fract() == 0.0) {
                // The parser refuses whatever is beyond ±(2^53 − 1), so no digit is lost.
                *value = Value::from(whole as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        Value::Object(members) => members.values_mut().for_each(settle),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const BYTES_MAX: usize = 1 << 20;

    fn read(text: &str) -> Result<Value, StrictJsonError> {
        parse(text.as_bytes(), BYTES_MAX)
    }

    #[test]
    fn numbers_are_accepted_when_their_canonical_form_has_their_value() {
        for (text, value) in [
            ("0.1", json!(0.1)),
            ("1.50", json!(1.5)),
            ("2e3", json!(2000)),
            ("1.0", json!(1)),
            ("-0", json!(0)),
            ("-0.0e5", json!(0)),
            ("0e999999999999999999999", json!(0)),
            ("5e-324", json!(5e-324)),
            ("-12.25E-1", json!(-1.225)),
            ("9007199254740991", json!(9_007_199_254_740_991_i64)),
        ] {
            assert_eq!(read(text), Ok(value), "{text}");
        }
        for text in [
            "0.10000000000000000001",
            "333333333.33333329",
            "1e-400",
            "4e-324",
            "0.1e99999999999999999999",
            "4503599627370497.25",
        ] {
            assert!(matches!(read(text), Err(StrictJsonError::InexactNumber { .. })), "{text}");
        }
        for text in
            ["9007199254740992", "9007199254740992.0", "1e16", "1e400", "1.", ".5", "01", "+1", "1e", "--1"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_refusal_says_where() {
        let text = "{\"s\": \"1e-400 \\\" 1e-400\",\n  \"n\": [1, 1e-400]}";
        let place = StrictJsonError::InexactNumber { literal: "1e-400".to_owned(), line: 2, column: 12 };
        assert_eq!(read(text), Err(place));
        let twice = read("{\n \"a\": 1,\n \"a\": 2}").unwrap_err().to_string();
        assert!(twice.starts_with("duplicate key `a` at line 3"), "{twice}");
        assert!(read("[9007199254740992]").unwrap_err().to_string().contains("line 1 column"));
    }

    #[test]
    fn limits_hold_exactly() {
        assert!(parse(b"[1]", 3).is_ok());
        assert_eq!(parse(b"[1]", 2), Err(StrictJsonError::TooLong { found: 3, max: 2 }));
        let array = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
        assert!(read(&array(VALUES_MAX)).is_ok());
        assert_eq!(read(&array(VALUES_MAX + 1)), Err(StrictJsonError::TooManyValues));
        assert!(read(&format!("\"{}\"", "[,{".repeat(VALUES_MAX))).is_ok());
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(64)).is_ok());
        assert!(read(&nested(65)).is_err());
    }

    /// Text that is nearly JSON.
    fn crooked() -> impl Strategy<Value = String> {
        let token = prop_oneof![
            Just("{".to_owned()),
            Just("}".to_owned()),
            Just("[".to_owned()),
            Just("]".to_owned()),
            Just(",".to_owned()),
            Just(":".to_owned()),
            Just("\"a\"".to_owned()),
            Just("\"\\ud800\"".to_owned()),
            Just("\"\\".to_owned()),
            Just("null".to_owned()),
            Just(" \n".to_owned()),
            "-?[0-9]{1,20}(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?",
        ];
        proptest::collection::vec(token, 0..48).prop_map(|tokens| tokens.concat())
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = parse(&bytes, BYTES_MAX);
        }

        #[test]
        fn no_tokens_make_it_panic_and_what_is_accepted_has_one_form(text in crooked()) {
            if let Ok(value) = read(&text) {
                let canonical = canonical::to_bytes(&value).unwrap();
                prop_assert_eq!(parse(&canonical, BYTES_MAX), Ok(value));
            }
        }

        #[test]
        fn every_double_in_range_is_accepted_in_its_canonical_form(double in -9e15..9e15_f64) {
            let canonical = canonical::to_bytes(&json!(double)).unwrap();
            let value = parse(&canonical, BYTES_MAX).unwrap();
            prop_assert_eq!(value.as_f64(), Some(double));
            prop_assert_eq!(canonical::to_bytes(&value).unwrap(), canonical);
        }
    }
}
