//! The reference monitor: one door for everything an agent does.
//!
//! [`Monitor::pass`] is the whole pipeline, in order. Every stage up to the intent can only refuse; nothing is
//! performed before its intent is recorded, and nothing performed goes unrecorded. There is no second path.

mod action;
mod authority;
mod bounds;
mod envelope;
#[cfg(test)]
mod label_tests;
mod labels;
#[cfg(test)]
mod layer_tests;
mod limiter;
#[cfg(test)]
mod speed;
mod stages;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;

use aegis_core::{ActionId, Denial};

pub(crate) use action::{Action, Performed, Proof, Settled, Target};
pub(crate) use authority::{Authority, Circumstances, Member, Permit};
pub(crate) use limiter::Limiter;

use crate::door::TokenKeys;
use crate::policy::Rules;
use crate::port::ToolFacts;
use crate::record::{Ledger, RecordError};

/// The monitor. One per node; what belongs to an execution comes in with its [`Authority`].
pub(crate) struct Monitor {
    limiter: Limiter,
    rules: Arc<Rules>,
    tokens: Arc<TokenKeys>,
}

impl Monitor {
    pub(crate) fn new(limiter: Limiter, rules: Arc<Rules>, tokens: Arc<TokenKeys>) -> Self {
        Self { limiter, rules, tokens }
    }

    /// The authority of an execution for another who speaks for it: the door judges beside the driver.
    pub(crate) fn another(
        &self,
        authority: &Authority,
        tools: &[Arc<ToolFacts>],
    ) -> Result<Authority, String> {
        authority.again(&self.rules, tools)
    }

    /// Passes one action through every stage. `perform` is called at most once, after the intent is durable.
    ///
    /// # Errors
    /// If the record cannot be written: then either nothing was performed, or the open intent says so.
    pub(crate) async fn pass<F, Fut>(
        &self,
        ledger: &mut Ledger,
        authority: &mut Authority,
        action: &Action<'_>,
        perform: F,
    ) -> Result<Settled, RecordError>
    where
        F: FnOnce(ActionId) -> Fut,
        Fut: Future<Output = Performed>,
    {
        let (permit, reserved, id) = loop {
            authority.refresh(&self.rules);
            let signed = match stages::authenticate(ledger, action, &self.tokens) {
                Ok(signed) => signed,
                Err(denial) => return stages::record_denial(ledger, action, denial).await,
            };
            let permit = match self.decide(ledger, authority, action) {
                Ok(permit) => permit,
                Err(denial) => return stages::record_denial(ledger, action, denial).await,
            };
            let reserved = match self.limiter.reserve(&permit, ledger.scribe.clock.monotonic()) {
                Ok(reserved) => reserved,
                Err(denial) => return stages::record_denial(ledger, action, denial).await,
            };
            // No intent under rules that are over: a reload waits for the append, or the pass begins anew.
            let Some(_held) = self.rules.hold(authority.epoch()).await else { continue };
            let id = stages::record_intent(ledger, action, &permit, signed).await?;
            break (permit, reserved, id);
        };
        let started = ledger.scribe.clock.monotonic();
        let performed = perform(id).await;
        // A secret may have been set, and echoed, meanwhile.
        ledger.scribe.redaction.refresh().await?;
        let duration = ledger.scribe.clock.monotonic().saturating_sub(started);
        drop(reserved);
        let redactor = ledger.scribe.redaction.redactor();
        // Before the answer is anyone's: who dies in between holds too many labels, never too few.
        stages::grow(ledger, &authority.labels(action).result, id).await?;
        let redacted = stages::redact(&redactor, stages::cap_response(performed, &permit));
        stages::record_outcome(ledger, id, redacted, duration).await
    }

    /// The deciding stages, in order; each can only take away.
    fn decide(&self, ledger: &Ledger, authority: &Authority, action: &Action<'_>) -> Result<Permit, Denial> {
        stages::freeze(ledger)?;
        let matched = authority.constraints(action)?;
        let brought = authority.labels(action).action;
        authority.judge_labels(&labels::read(&ledger.state.labels), &brought)?;
        let permit = authority.authorise(matched, &stages::circumstances(ledger, &brought))?;
        stages::judge(&permit)?;
        stages::breaker(action)?;
        Ok(permit)
    }
}
