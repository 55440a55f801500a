//! The programs that model providers run as: started, kept as the configuration says, stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aegis_core::{Diagnosis, ErrorCode};
use aegis_manifest::NodeConfig;
use aegis_models::{ProcessSettings, ProcessState, ProviderProcess};

use crate::models;

/// The programs under watch, by provider.
pub(crate) struct Providers {
    home: PathBuf,
    jitter_seed: u64,
    running: Mutex<BTreeMap<String, Running>>,
}

struct Running {
    settings: ProcessSettings,
    process: ProviderProcess,
}

impl Providers {
    /// None yet. `jitter_seed` spreads restarts.
    pub(crate) fn new(home: &Path, jitter_seed: u64) -> Self {
        Self { home: home.to_owned(), jitter_seed, running: Mutex::default() }
    }

    /// Stops what `node` does not name any more or names otherwise, and starts what is missing. What stays the same
    /// goes on undisturbed: a loaded model is not loaded again.
    ///
    /// # Errors
    /// If the files of a program cannot be kept; the others are as configured.
    pub(crate) async fn apply(&self, node: &NodeConfig) -> Result<(), Diagnosis> {
        let wanted = models::processes(node, &self.home, self.jitter_seed);
        let gone: Vec<Running> = {
            let mut running = self.running();
            let names: Vec<String> = running
                .iter()
                .filter(|(_, known)| !wanted.contains(&known.settings))
                .map(|(name, _)| name.clone())
                .collect();
            names.iter().filter_map(|name| running.remove(name)).collect()
        };
        for old in gone {
            tracing::info!(provider = %old.settings.provider, "the provider's program is stopped");
            old.process.stop().await;
        }
        let mut running = self.running();
        let mut failed = None;
        for settings in wanted {
            if running.contains_key(&settings.provider) {
                continue;
            }
            match ProviderProcess::start(settings.clone()) {
                Ok(process) => {
                    running.insert(settings.provider.clone(), Running { settings, process });
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), |error| Err(Diagnosis::new(ErrorCode::InvalidInput, error.to_string())))
    }

    /// How each program is now.
    pub(crate) fn states(&self) -> BTreeMap<String, ProcessState> {
        self.running().iter().map(|(name, known)| (name.clone(), known.process.state())).collect()
    }

    /// Stops all.
    pub(crate) async fn stop(&self) {
        let all = std::mem::take(&mut *self.running());
        for (_, known) in all {
            known.process.stop().await;
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(providers: &str) -> NodeConfig {
        let text = format!(
            "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: {{name: n}}\nspec:\n  llm_providers: {providers}\n"
        );
        aegis_manifest::parse_node_config(&text, "test", &|_| None).unwrap().document
    }

    fn sleeper(name: &str, seconds: u32) -> String {
        format!(
            "{{name: {name}, type: openai-compatible, endpoint: \"http://127.0.0.1:9/v1\", \
             process: {{command: sleep, args: [\"{seconds}\"], ready_url: \"http://127.0.0.1:9/health\"}}, \
             models: [{{alias: {name}, model: m}}]}}"
        )
    }

    /// Whose pid file says what, once all have written one.
    async fn pids(home: &Path, names: &[&str]) -> Vec<String> {
        let read = |name: &&str| {
            std::fs::read_dir(home.join("providers").join(name)).ok().and_then(|entries| {
                let pid = entries
                    .flatten()
                    .find(|entry| entry.path().extension().is_some_and(|end| end == "pid"))?;
                std::fs::read_to_string(pid.path()).ok().filter(|text| !text.is_empty())
            })
        };
        for _ in 0..500 {
            let found: Vec<String> = names.iter().filter_map(read).collect();
            if found.len() == names.len() {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("the programs did not start");
    }

    #[tokio::test]
    async fn a_changed_configuration_touches_only_what_changed() {
        let home = tempfile::tempdir().unwrap();
        let providers = Providers::new(home.path(), 1);
        let both = node(&format!("[{}, {}]", sleeper("kept", 600), sleeper("changed", 600)));
        providers.apply(&both).await.unwrap();
        assert_eq!(providers.states().len(), 2);
        assert_eq!(providers.states()["kept"], ProcessState::Starting);
        let before = pids(home.path(), &["kept", "changed"]).await;
        let other = node(&format!("[{}, {}]", sleeper("kept", 600), sleeper("changed", 601)));
        providers.apply(&other).await.unwrap();
        let after = pids(home.path(), &["kept", "changed"]).await;
        assert_eq!(before[0], after[0]);
        assert_ne!(before[1], after[1]);
        providers.apply(&node("[]")).await.unwrap();
        assert!(providers.states().is_empty());
        providers.apply(&both).await.unwrap();
        providers.stop().await;
        assert!(providers.states().is_empty());
    }
}
