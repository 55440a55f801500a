//! The runs in which callers of `/mcp` act as agents, one for each caller and agent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aegis_core::{Diagnosis, ErrorCode, Tenant};
use aegis_kernel::{Acting, Caller, Kernel};

/// Callers and agents remembered at the same time.
const REMEMBERED_MAX: usize = 256;

type Place = Arc<tokio::sync::Mutex<Option<Arc<Acting>>>>;

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
            // Those whom nobody uses, and whose run is not begun or over.
            places.retain(|_, place| place.try_lock().map_or(true, |place| place.is_some()));
        }
        if places.len() >= REMEMBERED_MAX {
            return Err(Diagnosis::new(ErrorCode::Overloaded, "too many callers act as agents at once"));
        }
        Ok(Arc::clone(places.entry((caller.tenant.clone(), actor, agent.to_owned())).or_default()))
    }
}
