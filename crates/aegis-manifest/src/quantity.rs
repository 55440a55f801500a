//! Quantities as documents write them: `512Mi`, `30s`, and text with a meaning of its own.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A quantity that does not have its form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a size.
    #[error("`{0}` is not a size: write a whole number with Ki, Mi, Gi or Ti, like `512Mi`")]
    Size(String),
    /// Not a duration.
    #[error(
        "`{0}` is not a duration: write a whole number with ms, s, m, h or d, like `30s`, `5m` or `1h30m`"
    )]
    Duration(String),
}

/// A number of bytes, written like `512Mi` or `1Gi`; a number without a unit is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    const UNITS: [(&'static str, u64); 8] = [
        ("Ti", 1 << 40),
        ("Gi", 1 << 30),
        ("Mi", 1 << 20),
        ("Ki", 1 << 10),
        ("T", 1_000_000_000_000),
        ("G", 1_000_000_000),
        ("M", 1_000_000),
        ("K", 1_000),
    ];
    /// From bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }
    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (number, unit) = Self::UNITS
            .iter()
            .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|number| (number, *unit)))
            .unwrap_or((text, 1));
        whole_number(number)
            .and_then(|number| number.checked_mul(unit))
            .map(Self)
            .ok_or_else(|| QuantityError::Size(text.to_owned()))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = Self::UNITS.iter().take(4).find(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit));
        match exact {
            Some((suffix, unit)) => write!(f, "{}{suffix}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A duration in whole milliseconds, written like `30s`, `5m`, `1h` or `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(u64);

impl Millis {
    const UNITS: [(&'static str, u64); 5] =
        [("ms", 1), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    /// From milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }
    /// From seconds; held at the largest value on overflow.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }
    /// In milliseconds.
    pub const fn millis(self) -> u64 {
        self.0
    }
    /// As the standard library's duration.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl FromStr for Millis {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let wrong = || QuantityError::Duration(text.to_owned());
        let mut total: u64 = 0;
        let mut rest = text;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = rest.split_at_checked(digits).ok_or_else(wrong)?;
            let (suffix, unit) =
                Self::UNITS.iter().find(|(suffix, _)| tail.starts_with(suffix)).ok_or_else(wrong)?;
            total = whole_number(number)
                .and_then(|number| number.checked_mul(*unit))
                .and_then(|part| total.checked_add(part))
                .ok_or_else(wrong)?;
            rest = tail.strip_prefix(suffix).unwrap_or_default();
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0s"),
            ms if ms.is_multiple_of(3_600_000) => write!(f, "{}h", ms / 3_600_000),
            ms if ms.is_multiple_of(60_000) => write!(f, "{}m", ms / 60_000),
            ms if ms.is_multiple_of(1_000) => write!(f, "{}s", ms / 1_000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

fn whole_number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Reads and writes a type by its text, and names the text's form in the schema (`format`).
macro_rules! text_form {
    ($type:ident, $format:literal, $description:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "description": $description })
            }
        }
    };
}
pub(crate) use text_form;

text_form!(ByteSize, "byte-size", "A size such as `512Mi` or `1Gi`.");
text_form!(Millis, "duration", "A duration such as `30s`, `5m` or `1h30m`.");

/// A fraction from 0 to 1, as a [`Score`](aegis_core::Score): for `#[serde(with = …)]`.
pub(crate) mod fraction {
    use aegis_core::Score;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(score: &Score, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(score.as_f64())
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Score, D::Error> {
        f64::deserialize(deserializer).map(Score::from_f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_and_print() {
        for (text, bytes) in [("512Mi", 512 << 20), ("1Gi", 1 << 30), ("7", 7), ("2K", 2_000)] {
            assert_eq!(text.parse::<ByteSize>().unwrap().bytes(), bytes);
        }
        for (text, millis) in [("30s", 30_000), ("1h30m", 5_400_000), ("5m", 300_000), ("250ms", 250)] {
            assert_eq!(text.parse::<Millis>().unwrap().millis(), millis);
        }
        for text in ["", "1", "s", "-1s", "1.5h", "1x", "99999999999999999999s"] {
            assert!(text.parse::<Millis>().is_err(), "{text}");
        }
        for text in ["", "Mi", "-1", "1.5Gi", "1GB", "99999999999Ti"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        assert_eq!(ByteSize::from_bytes(512 << 20).to_string(), "512Mi");
        assert_eq!(Millis::from_millis(300_000).to_string(), "5m");
    }
}
