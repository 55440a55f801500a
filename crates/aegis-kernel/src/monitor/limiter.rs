//! Rate and concurrency limits: applied to the capability that constraints selected, never selecting one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_core::{Denial, DenialCode, Tenant};

use super::Permit;

/// Counters kept at once; those longest out of use go first. More than there can be running executions.
const COUNTERS_MAX: usize = 4_096;

/// What a capability limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Limits {
    /// Calls within a window.
    pub(crate) rate: Option<(u32, Duration)>,
    /// Calls under way at once.
    pub(crate) concurrent: Option<u32>,
}

/// Limits are a capability's: all runs of a tenant share them.
type Key = (Tenant, String);

#[derive(Default)]
struct Counter {
    calls: std::collections::VecDeque<Duration>,
    under_way: u32,
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
    /// Lets a call through, or says which limit it meets. `now` is monotonic time. All layers' limits hold.
    pub(crate) fn reserve(&self, permit: &Permit, now: Duration) -> Result<Reserved, Denial> {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        for (rule, limits) in &permit.limits {
            let counter = counters.entry((permit.tenant.clone(), rule.clone())).or_default();
            counter.last_used = now;
            check(counter, *limits, rule, now)?;
        }
        let mut keys = Vec::new();
        for (rule, limits) in &permit.limits {
            let key = (permit.tenant.clone(), rule.clone());
            if let Some(counter) = counters.get_mut(&key) {
                counter.under_way += 1;
                if limits.rate.is_some() {
                    counter.calls.push_back(now);
                }
                keys.push(key);
            }
        }
        evict(&mut counters);
        Ok(Reserved { counters: Arc::clone(&self.counters), keys })
    }
}

fn check(counter: &mut Counter, limits: Limits, rule: &str, now: Duration) -> Result<(), Denial> {
    let refuse = |message: String| {
        Err(Denial {
            code: DenialCode::RateLimitExceeded,
            rule: rule.to_owned(),
            message,
            remedy: "wait, or raise the limit in the security context".to_owned(),
        })
    };
    if let Some(most) = limits.concurrent
        && counter.under_way >= most
    {
        return refuse(format!("{most} calls are under way already."));
    }
    if let Some((calls, window)) = limits.rate {
        while counter.calls.front().is_some_and(|at| now.saturating_sub(*at) >= window) {
            counter.calls.pop_front();
        }
        if counter.calls.len() >= calls as usize {
            return refuse(format!("{calls} calls per {} s are permitted.", window.as_secs()));
        }
    }
    Ok(())
}

fn evict(counters: &mut HashMap<Key, Counter>) {
    while counters.len() > COUNTERS_MAX {
        let idle = counters.iter().filter(|(_, counter)| counter.under_way == 0);
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
                counter.under_way = counter.under_way.saturating_sub(1);
            }
        }
    }
}
