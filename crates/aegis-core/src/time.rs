//! Points in time, as the journal stores them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Microseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Wraps microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }
    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }
    /// Milliseconds from `earlier` to `self`; zero if the clock went backwards.
    pub const fn millis_since(self, earlier: Self) -> u64 {
        let micros = self.0.saturating_sub(earlier.0);
        if micros > 0 { micros.unsigned_abs() / 1000 } else { 0 }
    }
    /// This time plus `millis`.
    pub const fn plus_millis(self, millis: u64) -> Self {
        let micros = millis.saturating_mul(1000);
        let micros = if micros > i64::MAX as u64 { i64::MAX } else { micros.cast_signed() };
        Self(self.0.saturating_add(micros))
    }
    /// This time less `millis`.
    pub const fn minus_millis(self, millis: u64) -> Self {
        let micros = millis.saturating_mul(1000);
        let micros = if micros > i64::MAX as u64 { i64::MAX } else { micros.cast_signed() };
        Self(self.0.saturating_sub(micros))
    }
    /// RFC 3339 with whole seconds, as the follow lines show it: `2026-02-23T10:00:01Z`.
    pub fn seconds(self) -> String {
        self.format(0)
    }
    fn format(self, digits: u8) -> String {
        let Ok(time) = jiff::Timestamp::from_microsecond(self.0) else { return self.0.to_string() };
        jiff::fmt::temporal::DateTimePrinter::new().precision(Some(digits)).timestamp_to_string(&time)
    }
    /// Parses RFC 3339; `None` if it is not.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|time| Self(time.as_microsecond()))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339, UTC, with microseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format(6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_the_seed_shows_it() {
        let time = Timestamp::parse("2026-02-23T10:00:01.999999Z").unwrap();
        assert_eq!(time.seconds(), "2026-02-23T10:00:01Z");
        assert_eq!(time.to_string(), "2026-02-23T10:00:01.999999Z");
    }

    #[test]
    fn elapsed_never_goes_below_zero() {
        let (early, late) = (Timestamp::from_micros(1_000), Timestamp::from_micros(6_000));
        assert_eq!(late.millis_since(early), 5);
        assert_eq!(early.millis_since(late), 0);
    }
}
