//! The runs in which callers of `/mcp` act as agents, one for each caller and agent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aegis_core::{Diagnosis, ErrorCode, Tenant};
use aegis_kernel::{Acting, Caller, Kernel};

/// Callers and agents remembered at the same time.
const REMEMBERED_MAX: usize = 256;

type Place<T = Acting> = Arc<tokio::sync::Mutex<Option<Arc<T>>>>;

/// All runs.
#[derive(Default)]
pub(super) struct Actors(Mutex<HashMap<(Tenant, String, String), Place>>);

impl Actors {
    /// The run in which this caller acts as this agent as it is deployed now; a new one if there is none.
    pub(super) async fn of(
        &self,
        kernel: &Kernel,
        caller: &Caller,
        agent: &str,
    ) -> Result<Arc<Acting>, Diagnosis> {
        let place = self.place(caller, agent)?;
        let mut place = place.lock().await;
        if let Some(acting) = place.take() {
            if kernel.acts_still(&acting).await {
                *place = Some(Arc::clone(&acting));
                return Ok(acting);
            }
            kernel.act_no_more(&acting);
        }
        let acting = Arc::new(kernel.act(caller, agent).await?);
        *place = Some(Arc::clone(&acting));
        Ok(acting)
    }

    fn place(&self, caller: &Caller, agent: &str) -> Result<Place, Diagnosis> {
        let actor =
            serde_json::to_string(&caller.actor).map_err(|error| Diagnosis::internal(error.to_string()))?;
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= REMEMBERED_MAX {
            places.retain(|_, place| is_needed(place, Acting::is_over));
        }
        if places.len() >= REMEMBERED_MAX {
            return Err(Diagnosis::new(ErrorCode::Overloaded, "too many callers act as agents at once")
                .hint("end some of their runs with `aegis task cancel`, or wait until they are over"));
        }
        Ok(Arc::clone(places.entry((caller.tenant.clone(), actor, agent.to_owned())).or_default()))
    }
}

/// Whether somebody is at the place, or its run goes on.
fn is_needed<T>(place: &Place<T>, is_over: impl Fn(&T) -> bool) -> bool {
    let used = Arc::strong_count(place) > 1;
    used || place.try_lock().map_or(true, |run| run.as_ref().is_some_and(|run| !is_over(run)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_kept_while_its_run_goes_on_or_somebody_is_there() {
        let place = |run: Option<bool>| Place::new(tokio::sync::Mutex::new(run.map(Arc::new)));
        let needed = |place: &Place<bool>| is_needed(place, |over| *over);
        assert!(needed(&place(Some(false))), "its run goes on");
        assert!(!needed(&place(Some(true))), "its run is over");
        assert!(!needed(&place(None)), "its run never began");
        let entered = place(None);
        let _caller = Arc::clone(&entered);
        assert!(needed(&entered), "a caller is about to begin a run in it");
    }
}
