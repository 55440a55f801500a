//! Models: providers, aliases, and how one is chosen.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NodeSpec, Reference};

/// Where models come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Its name within the configuration.
    pub name: String,
    /// The protocol it speaks.
    #[serde(rename = "type")]
    pub kind: ProviderType,
    /// Its base address; the provider's public one without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Reference>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Reference>,
    /// Whether it is used.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// A program that the daemon starts and watches, and that serves the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProviderProcess>,
    /// A file or folder of recorded answers. With `type: replay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recordings: Option<String>,
    /// The models it has.
    #[serde(default)]
    pub models: Vec<ModelEntry>,
}

const fn yes() -> bool {
    true
}

/// The protocol of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderType {
    /// OpenAI.
    Openai,
    /// Anthropic.
    Anthropic,
    /// Ollama.
    Ollama,
    /// Anything that speaks OpenAI's chat completions.
    OpenaiCompatible,
    /// Recorded answers.
    Replay,
}

/// A program that the daemon starts and watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderProcess {
    /// The program.
    pub command: String,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The address that answers 200 when it is ready.
    pub ready_url: String,
}

/// One model under one alias.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// The name manifests use.
    pub alias: String,
    /// The name the provider uses.
    pub model: String,
    /// How it is offered tools.
    #[serde(default)]
    pub tool_calling: ToolCalling,
    /// What it can do, like `vision`; for people and selection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// The tokens it can take in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub context_window: Option<u32>,
    /// What it may be sent; everything, if it is left out. Whatever is not listed is replaced in requests by tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_with: Option<Vec<Trust>>,
    /// US dollars for 1,000 input tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub cost_per_1k_input_tokens: Option<f64>,
    /// US dollars for 1,000 output tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub cost_per_1k_output_tokens: Option<f64>,
    /// US dollars for 1,000 tokens of either kind, where the two above are not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub cost_per_1k_tokens: Option<f64>,
}

/// What a model may be sent, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// What the rules for personal data find.
    PersonalData,
}

impl ModelEntry {
    /// Whether it may be sent this.
    pub fn is_trusted_with(&self, what: Trust) -> bool {
        self.trusted_with.as_ref().is_none_or(|trusted| trusted.contains(&what))
    }
    /// US dollars for 1,000 input tokens; `None` if no price is stated.
    pub fn input_price(&self) -> Option<f64> {
        self.cost_per_1k_input_tokens.or(self.cost_per_1k_tokens)
    }
    /// US dollars for 1,000 output tokens; `None` if no price is stated.
    pub fn output_price(&self) -> Option<f64> {
        self.cost_per_1k_output_tokens.or(self.cost_per_1k_tokens)
    }
}

/// How a model is offered tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ToolCalling {
    /// By the provider's own tool calls.
    #[default]
    Native,
    /// As an answer constrained by a schema, for models that cannot call tools.
    Schema,
}

/// How a provider is chosen, and how often a call is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LlmSelection {
    /// How a provider is chosen.
    pub strategy: SelectionStrategy,
    /// The provider of aliases that several have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_provider: Option<String>,
    /// The provider that is tried when the chosen one fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_provider: Option<String>,
    /// How often a call that may be repeated is repeated.
    #[schemars(range(max = 20))]
    pub max_retries: u32,
    /// The wait before the first repetition, in milliseconds; it doubles each time.
    #[schemars(range(max = 600_000))]
    pub retry_delay_ms: u64,
}

impl Default for LlmSelection {
    fn default() -> Self {
        Self {
            strategy: SelectionStrategy::default(),
            default_provider: None,
            fallback_provider: None,
            max_retries: 3,
            retry_delay_ms: 500,
        }
    }
}

/// How a provider is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SelectionStrategy {
    /// By the alias, the default provider first.
    #[default]
    Static,
    /// Own machines first.
    PreferLocal,
    /// Providers on the network first.
    PreferCloud,
    /// The cheapest first.
    CostOptimized,
    /// The quickest first.
    LatencyOptimized,
}

/// Shorthands for models.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LlmSection {
    /// Alias to `provider/model`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, String>,
}

/// What an alias stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct AliasTarget {
    /// The provider's name.
    pub provider: String,
    /// The model, its `alias` being the alias asked for.
    pub entry: ModelEntry,
}

impl NodeSpec {
    /// What each alias stands for, in order of preference: `llm.aliases` first, then the default provider, then the
    /// others as they are written, the fallback provider last. Providers that are not enabled are left out.
    pub fn aliases(&self) -> BTreeMap<String, Vec<AliasTarget>> {
        let mut aliases: BTreeMap<String, Vec<AliasTarget>> = BTreeMap::new();
        for (alias, target) in &self.llm.aliases {
            if let Some(target) = self.shorthand(alias, target) {
                aliases.entry(alias.clone()).or_default().push(target);
            }
        }
        let rank = |provider: &&Provider| {
            let named = |wanted: &Option<String>| wanted.as_ref() == Some(&provider.name);
            if named(&self.llm_selection.default_provider) {
                0
            } else if named(&self.llm_selection.fallback_provider) {
                2
            } else {
                1
            }
        };
        let mut providers: Vec<&Provider> = self.llm_providers.iter().filter(|p| p.enabled).collect();
        providers.sort_by_key(rank);
        for provider in providers {
            for entry in &provider.models {
                let target = AliasTarget { provider: provider.name.clone(), entry: entry.clone() };
                let targets = aliases.entry(entry.alias.clone()).or_default();
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
        aliases
    }

    /// `provider/model`, the model's facts taken from the provider's list where it stands there.
    fn shorthand(&self, alias: &str, target: &str) -> Option<AliasTarget> {
        let (name, model) = target.split_once('/')?;
        let provider =
            self.llm_providers.iter().find(|provider| provider.enabled && provider.name == name)?;
        let known = provider.models.iter().find(|entry| entry.model == model || entry.alias == model);
        let entry = known.cloned().unwrap_or_else(|| ModelEntry {
            alias: alias.to_owned(),
            model: model.to_owned(),
            tool_calling: ToolCalling::Native,
            capabilities: Vec::new(),
            context_window: None,
            trusted_with: None,
            cost_per_1k_input_tokens: None,
            cost_per_1k_output_tokens: None,
            cost_per_1k_tokens: None,
        });
        Some(AliasTarget {
            provider: name.to_owned(),
            entry: ModelEntry { alias: alias.to_owned(), ..entry },
        })
    }
}
