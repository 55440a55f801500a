//! Numbers that a seed replays.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A generator of the SplitMix64 family (Steele, Lea, Flood 2014): tiny, and the same everywhere.
pub(crate) struct Seeded(u64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A time below `most`.
    pub(crate) fn time(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.next() % micros)
    }
}

/// The seed of `AEGIS_CRASH_SEED`, or any.
pub(crate) fn seed() -> u64 {
    // Each `RandomState` has keys of its own.
    number("AEGIS_CRASH_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) % 1_000_000)
}

/// A number in the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("`{name}` is `{text}`, not a number")))
}
