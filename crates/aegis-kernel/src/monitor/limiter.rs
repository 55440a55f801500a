//! Rate and concurrency limits: applied to the capability that constraints selected, never selecting one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_core::{Denial, DenialCode, Tenant};
use aegis_security::constraint::RateLimit;
use aegis_security::rate::{Admission, Exceeded};

use super::Permit;

/// Counters kept at once; those longest out of use go first. More than there can be running executions.
const COUNTERS_MAX: usize = 4_096;

/// What a capability limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Limits {
    /// Calls within a window.
    pub(crate) rate: Option<(u32, Duration)>,
    /// Calls under way at once.
    pub(crate) concurrent: Option<u32>,
}

/// Limits are a capability's: all runs of a tenant share them. Limits that a reload changed are counted afresh.
type Key = (Tenant, String, Limits);

struct Counter {
    admission: Admission,
    last_used: Duration,
}

/// The counters of the node.
#[derive(Default, Clone)]
pub(crate) struct Limiter {
    counters: Arc<Mutex<HashMap<Key, Counter>>>,
}

/// A call that was let through; dropping it ends it.
pub(crate) struct Reserved {
    counters: Arc<Mutex<HashMap<Key, Counter>>>,
    keys: Vec<Key>,
}

impl Limiter {
    /// Lets a call through, or says which limit it meets. `now` is monotonic time. All layers' limits hold; a call that
    /// one layer refuses still counts in the windows of those asked before.
    pub(crate) fn reserve(&self, permit: &Permit, now: Duration) -> Result<Reserved, Denial> {
        // What was reserved is given back after the lock, should a later layer refuse.
        let mut reserved = Reserved { counters: Arc::clone(&self.counters), keys: Vec::new() };
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        for (rule, limits) in &permit.limits {
            let key = (permit.tenant.clone(), rule.clone(), *limits);
            let fresh = || Counter { admission: admission(*limits), last_used: now };
            let counter = counters.entry(key.clone()).or_insert_with(fresh);
            counter.last_used = now;
            if let Err(exceeded) = counter.admission.admit(now) {
                drop(counters);
                return Err(refused(rule, &exceeded));
            }
            reserved.keys.push(key);
        }
        evict(&mut counters);
        drop(counters);
        Ok(reserved)
    }
}

fn admission(limits: Limits) -> Admission {
    let rate = limits.rate.map(|(calls, window)| RateLimit {
        calls,
        per_seconds: u32::try_from(window.as_secs()).unwrap_or(u32::MAX),
    });
    Admission::new(rate, limits.concurrent)
}

fn refused(rule: &str, exceeded: &Exceeded) -> Denial {
    Denial {
        code: DenialCode::RateLimitExceeded,
        rule: rule.to_owned(),
        message: format!("{exceeded}."),
        remedy: "wait, or raise the limit in the security context".to_owned(),
    }
}

fn evict(counters: &mut HashMap<Key, Counter>) {
    while counters.len() > COUNTERS_MAX {
        let idle = counters.iter().filter(|(_, counter)| counter.admission.running() == 0);
        let Some(oldest) = idle.min_by_key(|(_, counter)| counter.last_used).map(|(key, _)| key.clone())
        else {
            return;
        };
        counters.remove(&oldest);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            if let Some(counter) = counters.get_mut(key) {
                counter.admission.finish();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permit(rule: usize) -> Permit {
        let limits = Limits { rate: None, concurrent: Some(1) };
        Permit {
            tenant: Tenant::default_tenant(),
            rule: rule.to_string(),
            limits: vec![(rule.to_string(), limits)],
            max_response_bytes: None,
            questions: Vec::new(),
            egress: None,
        }
    }

    #[test]
    fn counters_are_bounded_and_those_under_way_are_kept() {
        let limiter = Limiter::default();
        let at = |rule: usize| Duration::from_secs(rule as u64);
        let kept = || limiter.counters.lock().unwrap().len();
        let under_way = limiter.reserve(&permit(0), at(0)).ok().unwrap();
        for rule in 1..COUNTERS_MAX {
            drop(limiter.reserve(&permit(rule), at(rule)));
        }
        assert_eq!(kept(), COUNTERS_MAX, "as many as there may be");
        for rule in COUNTERS_MAX..COUNTERS_MAX + 3 {
            drop(limiter.reserve(&permit(rule), at(rule)));
            assert_eq!(kept(), COUNTERS_MAX);
        }
        let is_kept = |rule: usize| {
            let limits = permit(rule).limits;
            let key = (Tenant::default_tenant(), rule.to_string(), limits[0].1);
            limiter.counters.lock().unwrap().contains_key(&key)
        };
        assert!(!is_kept(1) && !is_kept(3) && is_kept(4), "those longest out of use went");
        assert!(is_kept(0), "one under way is counted until it ends");
        assert_eq!(limiter.reserve(&permit(0), at(9_000)).err().unwrap().code, DenialCode::RateLimitExceeded);
        drop(under_way);
        assert!(limiter.reserve(&permit(0), at(9_000)).is_ok());
    }
}
