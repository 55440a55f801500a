//! The machine's clock and randomness.

use std::time::{Duration, Instant, SystemTime};

use aegis_core::Timestamp;
use aegis_kernel::port::{Clock, Ids};
use uuid::Uuid;

/// The machine's clock.
pub(crate) struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that is passed in")]
    fn now(&self) -> Timestamp {
        let micros = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
        };
        Timestamp::from_micros(micros)
    }
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Ids and randomness from the kernel's source.
pub(crate) struct SystemIds;

impl Ids for SystemIds {
    #[expect(clippy::disallowed_methods, reason = "a version 7 UUID holds the time it was made")]
    fn uuid(&self) -> Uuid {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut random = [0u8; 10];
        self.fill(&mut random);
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    fn fill(&self, bytes: &mut [u8]) {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    // Keys and tokens without randomness would be worse than no daemon.
                    tracing::error!(%error, "the kernel gives no randomness");
                    std::process::abort();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_carry_the_time() {
        let (first, second) = (SystemIds.uuid(), SystemIds.uuid());
        assert_ne!(first, second);
        assert_eq!(first.get_version_num(), 7);
    }
}
