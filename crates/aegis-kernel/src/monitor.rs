//! The reference monitor: one door for everything an agent does.
//!
//! [`Monitor::pass`] is the whole pipeline, in order. Every stage up to the intent can only refuse; nothing is
//! performed before its intent is recorded, and nothing performed goes unrecorded. There is no second path.

mod action;
mod authority;
mod bounds;
mod connections;
mod envelope;
#[cfg(test)]
mod label_tests;
mod labels;
#[cfg(test)]
mod layer_tests;
mod limiter;
mod network;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod stage_tests;
mod stages;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::{Arc, PoisonError};

use aegis_core::{ActionId, Denial, SignedCall};
use aegis_manifest::NodeConfig;
use aegis_security::label::Labels;
use tokio::sync::watch;

pub(crate) use action::{Action, Opened, Performed, Proof, Settled, Target};
pub(crate) use authority::{Authority, Circumstances, Member, Permit};
pub(crate) use limiter::Limiter;
pub(crate) use network::NodeNetwork;

use crate::door::{TokenKeys, over};
use crate::policy::Rules;
use crate::port::{JournalError, ToolFacts};
use crate::record::{Ledger, RecordError};

/// How often an intent is tried again when something else was recorded first.
const INTENT_ATTEMPTS_MAX: u32 = 64;

/// Whether the node's rules on connections and labels can be understood.
///
/// # Errors
/// The first entry that cannot, by its field.
pub(crate) fn check_rules(config: &NodeConfig) -> Result<(), String> {
    NodeNetwork::of(config)?;
    labels::Labelling::of(config).map(drop).map_err(|error| format!("spec.governance: {error}"))
}

/// The monitor. One per node; what belongs to an execution comes in with its [`Authority`].
pub(crate) struct Monitor {
    limiter: Limiter,
    rules: Arc<Rules>,
    tokens: Arc<TokenKeys>,
    /// Told whenever labels grow or rules change.
    changes: watch::Sender<()>,
}

impl Monitor {
    pub(crate) fn new(limiter: Limiter, rules: Arc<Rules>, tokens: Arc<TokenKeys>) -> Self {
        Self { limiter, rules, tokens, changes: watch::Sender::new(()) }
    }

    /// The authority of an execution for another who speaks for it: the door judges beside the driver.
    pub(crate) fn another(
        &self,
        authority: &Authority,
        tools: &[Arc<ToolFacts>],
    ) -> Result<Authority, String> {
        authority.again(&self.rules, tools)
    }

    /// Tells of changes after which what is open has to be judged again.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Bytes that may pass through the connections of one execution.
    pub(crate) fn egress_bytes_max(&self) -> u64 {
        let (_, settings) = self.rules.current();
        let network =
            settings.config.spec.governance.as_ref().and_then(|governance| governance.network.clone());
        network.unwrap_or_default().bytes_per_execution.bytes()
    }

    /// Says that the rules have changed.
    pub(crate) fn changed(&self) {
        self.changes.send_replace(());
    }

    /// Whether what is open would still be permitted.
    ///
    /// # Errors
    /// The denial.
    pub(crate) async fn stands(
        &self,
        ledger: &mut Ledger,
        authority: &mut Authority,
        action: &Action<'_>,
    ) -> Result<(), Denial> {
        // What changed may be what others have recorded; what is not known permits nothing.
        if let Err(error) = ledger.catch_up().await {
            tracing::warn!(%error, execution = %ledger.execution, "what is open cannot be judged, and ends");
            return Err(over());
        }
        authority.refresh(&self.rules);
        stages::authenticate(ledger, action, &self.tokens)?;
        self.decide(ledger, authority, action).map(drop)
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
        // A secret that was set since is in no intent and no denial either.
        ledger.scribe.redaction.refresh().await?;
        let mut attempts = 0;
        let (permit, reserved, id) = 'pass: loop {
            authority.refresh(&self.rules);
            let asked = match self.ask(ledger, authority, action) {
                // Others act at the same doors. What is on record by now may say otherwise.
                Err(_) if ledger.catch_up().await? => self.ask(ledger, authority, action),
                asked => asked,
            };
            let (mut signed, mut permit) = match asked {
                Ok(permitted) => permitted,
                Err(denial) => return stages::record_denial(ledger, action, denial).await,
            };
            let reserved = match self.limiter.reserve(&permit, ledger.scribe.clock.monotonic()) {
                Ok(reserved) => reserved,
                Err(denial) => return stages::record_denial(ledger, action, denial).await,
            };
            // No intent under rules that are over: a reload waits for the append, or the pass begins anew.
            let Some(_held) = self.rules.hold(authority.epoch()).await else { continue };
            loop {
                let intended = stages::record_intent(ledger, action, &permit, signed.clone()).await?;
                if let Some(id) = intended {
                    break 'pass (permit, reserved, id);
                }
                // Something came in between: the answer is another if labels grew, or somebody cancelled.
                match self.ask(ledger, authority, action) {
                    Ok(again) => (signed, permit) = again,
                    Err(denial) => return stages::record_denial(ledger, action, denial).await,
                }
                attempts += 1;
                if attempts > INTENT_ATTEMPTS_MAX {
                    return Err(JournalError::Overloaded.into());
                }
            }
        };
        let brought = authority.labels(action).result;
        if matches!(action.target, Target::Connect { .. }) {
            // What comes in is the program's at once.
            self.grow(ledger, &brought, id).await?;
        }
        let started = ledger.scribe.clock.monotonic();
        let performed = perform(id).await;
        // A secret may have been set, and echoed, meanwhile.
        ledger.scribe.redaction.refresh().await?;
        let duration = ledger.scribe.clock.monotonic().saturating_sub(started);
        drop(reserved);
        let redactor = ledger.scribe.redaction.redactor();
        // Before the answer is anyone's: who dies in between holds too many labels, never too few.
        self.grow(ledger, &brought, id).await?;
        let redacted = stages::redact(&redactor, stages::cap_response(performed, &permit));
        stages::record_outcome(ledger, id, redacted, duration).await
    }

    async fn grow(&self, ledger: &mut Ledger, brought: &Labels, id: ActionId) -> Result<(), RecordError> {
        if stages::grow(ledger, brought, id).await? {
            self.changed();
        }
        Ok(())
    }

    /// Everything that has a say before the limits.
    fn ask(
        &self,
        ledger: &Ledger,
        authority: &Authority,
        action: &Action<'_>,
    ) -> Result<(Option<SignedCall>, Permit), Denial> {
        let signed = stages::authenticate(ledger, action, &self.tokens)?;
        Ok((signed, self.decide(ledger, authority, action)?))
    }

    /// The deciding stages, in order; each can only take away.
    fn decide(&self, ledger: &Ledger, authority: &Authority, action: &Action<'_>) -> Result<Permit, Denial> {
        stages::freeze(ledger)?;
        stages::withhold(ledger, action)?;
        let matched = authority.constraints(action)?;
        let brought = authority.labels(action).action;
        authority.judge_labels(&labels::read(&ledger.state.labels), &brought)?;
        let permit = authority.authorise(matched, &stages::circumstances(ledger, &brought))?;
        stages::judge(&permit)?;
        stages::breaker(action)?;
        envelope::reachable(action)?;
        if let (Target::Connect { opened, .. }, Some(egress)) = (action.target, &permit.egress) {
            *opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(egress.clone());
        }
        Ok(permit)
    }
}
