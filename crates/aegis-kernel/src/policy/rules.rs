//! Which rules hold now. They are an epoch: what was decided under one is recorded under the same, or decided anew.

use std::sync::{PoisonError, RwLock};

use tokio::sync::RwLockReadGuard;

use crate::kernel::KernelSettings;

/// The node's settings and their epoch. The node has one writer: holding the epoch while an intent is appended is the
/// comparison in the same transaction.
pub(crate) struct Rules {
    current: RwLock<(u64, KernelSettings)>,
    appends: tokio::sync::RwLock<()>,
}

/// Proof that no reload happens while it is held.
pub(crate) struct Held<'a>(
    #[expect(dead_code, reason = "held for what its drop does")] RwLockReadGuard<'a, ()>,
);

impl Rules {
    pub(crate) fn new(settings: KernelSettings) -> Self {
        Self { current: RwLock::new((1, settings)), appends: tokio::sync::RwLock::new(()) }
    }
    /// The settings that hold, with their epoch.
    pub(crate) fn current(&self) -> (u64, KernelSettings) {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// The epoch that holds.
    pub(crate) fn epoch(&self) -> u64 {
        self.current.read().unwrap_or_else(PoisonError::into_inner).0
    }
    /// Puts new settings in force, and gives their epoch: a new one if policy changed. When this returns, no intent
    /// that was decided under the former one is recorded any more.
    pub(crate) async fn replace(&self, settings: KernelSettings) -> u64 {
        let _no_append = self.appends.write().await;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let (epoch, former) = &mut *current;
        if !former.same_policy(&settings) {
            *epoch += 1;
        }
        *former = settings;
        *epoch
    }
    /// Holds `epoch` for an append; `None` if it is over.
    pub(crate) async fn hold(&self, epoch: u64) -> Option<Held<'_>> {
        let held = self.appends.read().await;
        (self.epoch() == epoch).then_some(Held(held))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn settings(spec: &str) -> KernelSettings {
        let text =
            format!("apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: {{name: a}}\nspec:\n{spec}");
        let config = aegis_manifest::parse_node_config(&text, "c.yaml", &|_| None).unwrap().document;
        KernelSettings { config: Arc::new(config), policies: Arc::new([]), bootstrap: "".into() }
    }

    #[tokio::test]
    async fn whatever_agents_are_judged_by_begins_an_epoch_and_nothing_else_does() {
        let before = "  network: {port: 8088}\n";
        for (after, epoch) in [
            ("  network: {port: 8099}\n", 1),
            ("  governance: {network: {denylist: [evil.example]}}\n", 2),
            ("  governance: {tool_labels: [{tool_pattern: 'fs.*', sensitive: true}]}\n", 2),
            ("  governance: {label_rules: {untrusted-sensitive-egress: false}}\n", 2),
            ("  security_contexts: [{name: a, capabilities: []}]\n", 2),
        ] {
            let rules = Rules::new(settings(before));
            assert_eq!(rules.replace(settings(after)).await, epoch, "{after}");
            assert_eq!(rules.hold(1).await.is_some(), epoch == 1, "{after}");
        }
    }
}
