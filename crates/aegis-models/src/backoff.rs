//! How long to wait before the next attempt.

use std::time::Duration;

use aegis_core::Timestamp;

/// Longest wait before a retry that we choose ourselves.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Longest `Retry-After` that is waited out; more is waited this long.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(120);

/// Exponential backoff with full jitter: anywhere from nothing to the bound, so that callers spread out.
/// `retry` counts from 0. The same seed waits the same.
pub(crate) fn backoff(base_ms: u64, retry: u32, seed: u64) -> Duration {
    let doubled = base_ms.saturating_mul(1u64.checked_shl(retry).unwrap_or(u64::MAX));
    let bound = Duration::from_millis(doubled).min(BACKOFF_MAX);
    let bound_ms = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(mix(seed.wrapping_add(u64::from(retry))) % bound_ms.saturating_add(1))
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood 2014).
const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Reads `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date. `None` if it is neither.
pub(crate) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = if let Ok(seconds) = value.parse::<u64>() {
        Duration::from_secs(seconds)
    } else {
        let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
        Duration::from_millis(Timestamp::from_micros(date.as_microsecond()).millis_since(now))
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms_and_capped() {
        let now = Timestamp::parse("2026-11-21T10:00:00Z").unwrap();
        let table = [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Sat, 21 Nov 2026 10:00:30 GMT", Some(30)),
            ("Sat, 21 Nov 2026 09:00:00 GMT", Some(0)),
            ("86400", Some(120)),
            ("soon", None),
            ("-1", None),
        ];
        for (value, seconds) in table {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }

    proptest! {
        #[test]
        fn waits_stay_below_their_bound(base in 0u64..100_000, retry in 0u32..200, seed: u64) {
            let wait = backoff(base, retry, seed);
            let bound = u128::from(base) << retry.min(40);
            prop_assert!(wait.as_millis() <= bound.min(BACKOFF_MAX.as_millis()));
            prop_assert_eq!(wait, backoff(base, retry, seed));
        }
    }
}
