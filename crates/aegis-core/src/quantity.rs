//! Quantities with their units. Integers only: the journal holds no floating point.

use std::fmt;
use std::iter::Sum;

use serde::{Deserialize, Serialize};

/// A score or confidence from 0 to 1, held in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Score(u32);

impl Score {
    /// 0.0
    pub const ZERO: Self = Self(0);
    /// 1.0
    pub const ONE: Self = Self(1_000_000);

    /// From millionths; more than one is one.
    pub const fn from_millionths(millionths: u32) -> Self {
        if millionths > Self::ONE.0 { Self::ONE } else { Self(millionths) }
    }
    /// From a fraction; outside 0–1 is clamped, not-a-number is 0.
    pub fn from_f64(value: f64) -> Self {
        if value.is_nan() {
            return Self::ZERO;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0..=1e6 first"
        )]
        let millionths = (value.clamp(0.0, 1.0) * 1e6).round() as u32;
        Self(millionths)
    }
    /// As a fraction.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1e6
    }
    /// In millionths.
    pub const fn millionths(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Score {
    /// Two decimals, but `0.0` and `1.0`. What is not quite one never shows as `1.00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ZERO => f.write_str("0.0"),
            Self::ONE => f.write_str("1.0"),
            Self(millionths) => {
                let hundredths = ((millionths + 5_000) / 10_000).clamp(1, 99);
                write!(f, "0.{hundredths:02}")
            }
        }
    }
}

/// Money in millionths of a US dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(u64);

impl MicroUsd {
    /// From millionths of a dollar.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }
    /// Millionths of a dollar.
    pub const fn micros(self) -> u64 {
        self.0
    }
    /// In dollars, for display and JSON.
    #[expect(clippy::cast_precision_loss, reason = "exact below nine billion dollars")]
    pub fn as_usd(self) -> f64 {
        self.0 as f64 / 1e6
    }
    /// The sum, held at the largest value on overflow.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for MicroUsd {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Self::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_print_as_the_contract_says() {
        for (value, shown) in
            [(0.0, "0.0"), (1.0, "1.0"), (0.6, "0.60"), (0.999_999, "0.99"), (0.001, "0.01"), (0.555, "0.56")]
        {
            assert_eq!(Score::from_f64(value).to_string(), shown);
        }
        assert_eq!(Score::from_f64(f64::NAN), Score::ZERO);
        assert_eq!(Score::from_f64(7.0), Score::ONE);
    }
}
