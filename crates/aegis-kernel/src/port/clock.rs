//! Time and randomness, passed in so that tests and simulations choose them.

use std::time::Duration;

use aegis_core::Timestamp;
use uuid::Uuid;

/// The time.
pub trait Clock: Send + Sync {
    /// Wall-clock time.
    fn now(&self) -> Timestamp;
    /// Time since some fixed point, unmoved by changes of the wall clock. Durations are measured with this.
    fn monotonic(&self) -> Duration;
}

/// Fresh ids and random bytes.
pub trait Ids: Send + Sync {
    /// A UUID that sorts by time (version 7), never given before.
    fn uuid(&self) -> Uuid;
    /// Fills `bytes` from a cryptographically secure source.
    fn fill(&self, bytes: &mut [u8]);
}
