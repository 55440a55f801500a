//! What a node says of its models, with references to secrets already resolved.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// The protocol a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    /// OpenAI itself.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Ollama, through its OpenAI-shaped endpoint.
    Ollama,
    /// Anything else OpenAI-shaped: vLLM, LM Studio, llama.cpp.
    OpenAiCompatible,
    /// Recorded answers from a folder.
    Replay,
}

/// How a model is told of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ToolCalling {
    /// In the protocol's own field for tools.
    #[default]
    Native,
    /// As an answer constrained by a JSON Schema, for models that cannot call tools.
    Schema,
}

/// What tokens cost, in billionths of a US dollar per thousand tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Price {
    /// A thousand tokens of the request.
    pub input_nano_usd_per_1k: u64,
    /// A thousand tokens of the answer.
    pub output_nano_usd_per_1k: u64,
}

impl Price {
    /// From dollars per thousand tokens, as configurations state them. Negative or not a number is free.
    pub fn from_usd_per_1k(input: f64, output: f64) -> Self {
        Self { input_nano_usd_per_1k: nano_usd(input), output_nano_usd_per_1k: nano_usd(output) }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and is clamped"
)]
fn nano_usd(usd: f64) -> u64 {
    (usd * 1e9).round().max(0.0) as u64
}

/// One model of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSettings {
    /// The name manifests use.
    pub alias: String,
    /// The name the provider uses.
    pub model: String,
    /// How it is told of tools.
    pub tool_calling: ToolCalling,
    /// Most tokens of request and answer together, if stated.
    pub context_window: Option<u64>,
    /// Whether it is trusted with personal data.
    pub personal_data: bool,
    /// What it costs.
    pub price: Price,
}

/// One provider.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// Its name in the configuration.
    pub name: String,
    /// The protocol it speaks.
    pub kind: ProviderKind,
    /// Where it is; the vendor's own address if `None`. With a path, the path is where the protocol's own paths
    /// start (`https://host/v1`); without one, `/v1` is added.
    pub endpoint: Option<String>,
    /// The file or folder of recordings that replay answers from.
    pub recordings: Option<PathBuf>,
    /// Its credential.
    pub api_key: Option<SecretString>,
    /// False leaves it out, with its aliases.
    pub enabled: bool,
    /// Its models; the first is the one taken where only the provider is named.
    pub models: Vec<ModelSettings>,
    /// A folder into which each answer is recorded for replay.
    pub record_to: Option<PathBuf>,
}

/// Which provider is taken when, and how stubbornly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectionSettings {
    /// Provider whose first model answers to `default` where no model has that alias; the first if `None`.
    pub default_provider: Option<String>,
    /// Provider asked when another one still fails after the last retry. It answers by its model of the same alias,
    /// or by its first.
    pub fallback_provider: Option<String>,
    /// Attempts after the first one, for each provider.
    pub max_retries: u32,
    /// Longest wait before the first retry, in milliseconds; doubles with each.
    pub retry_delay_ms: u64,
}

impl Default for SelectionSettings {
    fn default() -> Self {
        Self { default_provider: None, fallback_provider: None, max_retries: 3, retry_delay_ms: 1000 }
    }
}

/// How long to wait for what. The whole call is bounded by the request besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the first byte of an answer: a small machine may read a long prompt for minutes.
    pub first_byte: Duration,
    /// Between two pieces of a streamed answer.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(180),
            idle: Duration::from_secs(60),
        }
    }
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The providers; where two offer an alias, the earlier one answers.
    pub providers: Vec<ProviderSettings>,
    /// Aliases by shorthand, `provider/model`. They win over the models' own.
    pub aliases: BTreeMap<String, String>,
    /// Selection.
    pub selection: SelectionSettings,
    /// Timeouts.
    pub patience: Patience,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Two providers of one name, or two models of one alias in a provider.
    #[error("{what} `{name}` is configured twice; give each its own name")]
    Duplicate {
        /// `the provider` or `the alias`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A name that is not the name of an enabled provider.
    #[error("{field} names the provider `{name}`, which is not configured or not enabled")]
    UnknownProvider {
        /// The field of the configuration.
        field: String,
        /// The name.
        name: String,
    },
    /// An alias that is not `provider/model`.
    #[error("the alias `{alias}` stands for `{target}`; write it as `provider/model`")]
    AliasForm {
        /// The alias.
        alias: String,
        /// What it stands for.
        target: String,
    },
    /// An endpoint that is missing, or is not an address.
    #[error("the endpoint of provider `{provider}` {problem}")]
    Endpoint {
        /// The provider.
        provider: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// A credential that cannot stand in a header.
    #[error(
        "the api_key of provider `{provider}` holds characters that cannot be sent; check for line breaks"
    )]
    Credential {
        /// The provider.
        provider: String,
    },
    /// The HTTP client could not be made.
    #[error("the HTTP client could not be made: {0}")]
    Client(String),
    /// Recordings that cannot be read.
    #[error("the recordings of provider `{provider}` cannot be used: {source}")]
    Recordings {
        /// The provider.
        provider: String,
        /// Why.
        #[source]
        source: crate::recording::RecordingError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_keep_fractions_of_a_micro_dollar() {
        let price = Price::from_usd_per_1k(0.000_037_5, 0.015);
        assert_eq!(price, Price { input_nano_usd_per_1k: 37_500, output_nano_usd_per_1k: 15_000_000 });
        assert_eq!(Price::from_usd_per_1k(-1.0, f64::NAN), Price::default());
    }
}
