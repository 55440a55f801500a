//! One connection through the monitor, from the question to its end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_core::{ActionId, Denial};
use async_trait::async_trait;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::Outlet;
use crate::door::over;
use crate::monitor::{Action, Opened, Performed, Settled, Target};
use crate::port::{EgressEnd, EgressGrant, EgressLimits, EgressOutcome, EgressPolicy, EgressRequest};
use crate::record::RecordError;

/// How long a refusal holds its place: whoever tries a great many hosts is on record, but not at any speed.
const REFUSAL_PAUSE: Duration = Duration::from_millis(50);
/// How long the proxy may take to say that it has cut a connection.
const CUT_PATIENCE: Duration = Duration::from_secs(5);

#[async_trait]
impl EgressPolicy for Arc<Outlet> {
    async fn decide(&self, request: &EgressRequest) -> Result<EgressGrant, Denial> {
        let place = self.deciding.acquire().await;
        if place.is_err() || self.closed.is_cancelled() {
            return Err(over());
        }
        let (give, granted) = oneshot::channel();
        let (outlet, request) = (Arc::clone(self), request.clone());
        // It goes on when the program goes away: what was begun is recorded to its end.
        let carried = self.connections.spawn(async move { outlet.carry(&request, give).await });
        if let Ok(grant) = granted.await {
            return Ok(grant);
        }
        let denial = carried.await.ok().flatten().unwrap_or_else(over);
        tokio::time::sleep(REFUSAL_PAUSE).await;
        Err(denial)
    }
}

impl Outlet {
    /// The denial, if that is what comes of it.
    async fn carry(&self, request: &EgressRequest, give: oneshot::Sender<EgressGrant>) -> Option<Denial> {
        match self.pass(request, give).await {
            Ok(Settled::Denied(denial)) => Some(denial),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(execution = %self.execution, %error, "a connection is not on record, and was not made");
                None
            }
        }
    }

    async fn pass(
        &self,
        request: &EgressRequest,
        give: oneshot::Sender<EgressGrant>,
    ) -> Result<Settled, RecordError> {
        let monitor = &self.services.monitor;
        // Before the connection is judged: no change of labels or rules falls between that and its review.
        let changes = monitor.changes();
        let Some((mut ledger, mut authority)) = self.workers.take(monitor).await? else {
            return Ok(Settled::Denied(over()));
        };
        let opened = Mutex::new(None);
        let target = Target::Connect { request, opened: &opened };
        let action = Action { target, generation: self.generation };
        let (opened, asked) = (&opened, &action);
        let perform = move |_: ActionId| async move {
            let opened = opened.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(opened) = opened else { return Performed::Interrupted };
            self.connect(opened, asked, give, changes).await
        };
        let settled = match monitor.pass(&mut ledger, &mut authority, &action, perform).await {
            // What ended the execution, or asked for its end, came in between.
            Err(RecordError::Refused(_)) => return Ok(Settled::Denied(over())),
            settled => settled?,
        };
        self.workers.give_back((ledger, authority));
        Ok(settled)
    }

    /// Gives the proxy its grant and waits for the end, which a change of labels or rules may bring about.
    async fn connect(
        &self,
        opened: Opened,
        action: &Action<'_>,
        give: oneshot::Sender<EgressGrant>,
        changes: watch::Receiver<()>,
    ) -> Performed {
        let cut = self.closed.child_token();
        let (ended, outcome) = oneshot::channel();
        let grant = EgressGrant {
            layers: opened.layers,
            raw: opened.raw,
            cut: cut.clone(),
            limits: EgressLimits::default(),
            volume: Arc::clone(&self.volume),
            ended,
        };
        // The proxy is gone: so is the receiver of its word.
        let _ = give.send(grant);
        let mut outcome = outcome;
        let denial = tokio::select! {
            outcome = &mut outcome => return outcome.map_or(Performed::Interrupted, Performed::Connection),
            denial = self.review(action, &cut, changes) => denial,
        };
        match tokio::time::timeout(CUT_PATIENCE, outcome).await {
            Ok(Ok(outcome)) => {
                Performed::Connection(EgressOutcome { end: EgressEnd::Denied(denial), ..outcome })
            }
            _ => Performed::Interrupted,
        }
    }

    /// Judges an open connection again whenever labels or rules change; cuts it and answers once it is refused.
    async fn review(
        &self,
        action: &Action<'_>,
        cut: &CancellationToken,
        mut changes: watch::Receiver<()>,
    ) -> Denial {
        loop {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let Ok(Some((mut ledger, mut authority))) = self.workers.take(&self.services.monitor).await
            else {
                cut.cancel();
                return over();
            };
            let stands = self.services.monitor.stands(&mut ledger, &mut authority, action).await;
            self.workers.give_back((ledger, authority));
            if let Err(denial) = stands {
                cut.cancel();
                return denial;
            }
        }
    }
}
