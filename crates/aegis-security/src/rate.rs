//! How often and how many at once: the limits of a capability that was selected. Time is passed in.

use std::collections::VecDeque;
use std::time::Duration;

use crate::constraint::RateLimit;

/// Most calls of a rate limit; each call of the window is remembered.
pub const CALLS_MAX: u32 = 10_000;

/// A call that must wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// Too many calls in the window.
    #[error("more than {} calls per {} s; try again in {} s", .limit.calls, .limit.per_seconds, .retry_after.as_secs_f64().ceil())]
    Rate {
        /// The limit.
        limit: RateLimit,
        /// How long until the next call is admitted.
        retry_after: Duration,
    },
    /// Too many calls at once.
    #[error("{0} calls are running already, and no more are permitted at once")]
    Concurrency(u32),
}

/// What was used of one capability. In no window of `per_seconds`, wherever it begins, are there more than `calls`.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    rate_limit: Option<RateLimit>,
    max_concurrent: Option<u32>,
    /// When the calls of the last window were admitted, oldest first.
    admitted: VecDeque<Duration>,
    running: u32,
}

impl Admission {
    /// Nothing used yet.
    pub fn new(rate_limit: Option<RateLimit>, max_concurrent: Option<u32>) -> Self {
        Self { rate_limit, max_concurrent, admitted: VecDeque::new(), running: 0 }
    }
    /// Admits a call at `now`, a monotonic time, or says what it exceeds. A call that is refused uses nothing. Each
    /// admitted call is later followed by one [`Self::finish`].
    ///
    /// # Errors
    ///
    /// Fails if a limit is reached.
    pub fn admit(&mut self, now: Duration) -> Result<(), Exceeded> {
        if let Some(max) = self.max_concurrent
            && self.running >= max
        {
            return Err(Exceeded::Concurrency(self.running));
        }
        if let Some(limit) = self.rate_limit {
            let window = Duration::from_secs(limit.per_seconds.into());
            while self.admitted.front().is_some_and(|oldest| now.saturating_sub(*oldest) >= window) {
                self.admitted.pop_front();
            }
            let full = self.admitted.len() >= limit.calls as usize;
            if full {
                let oldest = self.admitted.front().copied().unwrap_or(now);
                let retry_after = (oldest + window).saturating_sub(now);
                return Err(Exceeded::Rate { limit, retry_after });
            }
            self.admitted.push_back(now);
        }
        self.running = self.running.saturating_add(1);
        Ok(())
    }
    /// Says that an admitted call is over.
    pub fn finish(&mut self) {
        self.running = self.running.saturating_sub(1);
    }
    /// How many admitted calls are not over.
    pub fn running(&self) -> u32 {
        self.running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: RateLimit = RateLimit { calls: 3, per_seconds: 10 };

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn no_window_holds_more_calls_than_permitted() {
        let mut admission = Admission::new(Some(LIMIT), None);
        for now in [0.0, 9.0, 9.5] {
            assert_eq!(admission.admit(seconds(now)), Ok(()));
        }
        let refused = |retry_after| Err(Exceeded::Rate { limit: LIMIT, retry_after: seconds(retry_after) });
        assert_eq!(admission.admit(seconds(9.75)), refused(0.25));
        assert_eq!(admission.admit(seconds(10.0)), Ok(()));
        // A bucket that refills at the window's start would admit three more here.
        assert_eq!(admission.admit(seconds(10.5)), refused(8.5));
        assert_eq!(admission.admit(seconds(19.0)), Ok(()));
    }

    #[test]
    fn time_that_stands_still_or_goes_back_admits_nothing_more() {
        let mut admission = Admission::new(Some(LIMIT), None);
        (0..3).for_each(|_| admission.admit(seconds(100.0)).unwrap());
        for now in [100.0, 50.0, 0.0] {
            assert!(admission.admit(seconds(now)).is_err());
        }
    }

    #[test]
    fn calls_at_once_are_counted_until_they_finish() {
        let mut admission = Admission::new(None, Some(2));
        assert_eq!(admission.admit(seconds(0.0)), Ok(()));
        assert_eq!(admission.admit(seconds(0.0)), Ok(()));
        assert_eq!(admission.admit(seconds(9.0)), Err(Exceeded::Concurrency(2)));
        admission.finish();
        assert_eq!(admission.admit(seconds(9.0)), Ok(()));
        assert_eq!(admission.running(), 2);
        assert_eq!(Admission::new(None, Some(0)).admit(seconds(0.0)), Err(Exceeded::Concurrency(0)));
    }

    #[test]
    fn a_refused_call_uses_nothing() {
        let mut admission = Admission::new(Some(RateLimit { calls: 1, per_seconds: 1 }), Some(1));
        admission.admit(seconds(0.0)).unwrap();
        assert!(matches!(admission.admit(seconds(5.0)), Err(Exceeded::Concurrency(1))));
        admission.finish();
        assert_eq!(admission.admit(seconds(5.0)), Ok(()));
    }
}
