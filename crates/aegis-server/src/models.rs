//! The configuration's providers as the model router takes them, with references resolved.

use std::path::{Path, PathBuf};

use aegis_core::{Body, Diagnosis, ErrorCode, SecretUser};
use aegis_kernel::port::{SecretError, Secrets};
use aegis_manifest::NodeConfig;
use aegis_manifest::node::{ModelEntry, Provider, ProviderType, Reference, ToolCalling, Trust};
use aegis_models::{
    ModelSettings, Price, ProcessSettings, ProviderKind, ProviderSettings, SelectionSettings, Settings,
    SettingsError,
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::secrets::hand_out;

/// What the router is built from, and what came of the references.
pub(crate) struct Gathered {
    pub(crate) settings: Settings,
    /// Uses of secrets, to be recorded.
    pub(crate) used: Vec<Body>,
    /// Stored secrets that are referred to and not there, each with its remedy.
    pub(crate) missing: Vec<String>,
}

/// What the router is built from. `base` is the folder that relative recordings are looked for in.
///
/// # Errors
/// If a reference gives nothing.
pub(crate) async fn settings(
    node: &NodeConfig,
    secrets: &dyn Secrets,
    base: &Path,
) -> Result<Gathered, Diagnosis> {
    let spec = &node.spec;
    let (mut used, mut missing) = (Vec::new(), Vec::new());
    let mut providers = Vec::with_capacity(spec.llm_providers.len());
    for provider in &spec.llm_providers {
        providers.push(one_provider(provider, secrets, base, (&mut used, &mut missing)).await?);
    }
    let settings = Settings {
        providers,
        aliases: spec.llm.aliases.clone(),
        selection: SelectionSettings {
            default_provider: spec.llm_selection.default_provider.clone(),
            fallback_provider: spec.llm_selection.fallback_provider.clone(),
            max_retries: spec.llm_selection.max_retries,
            retry_delay_ms: spec.llm_selection.retry_delay_ms,
        },
        ..Settings::default()
    };
    Ok(Gathered { settings, used, missing })
}

async fn one_provider(
    provider: &Provider,
    secrets: &dyn Secrets,
    base: &Path,
    told: (&mut Vec<Body>, &mut Vec<String>),
) -> Result<ProviderSettings, Diagnosis> {
    // What is switched off needs no credential.
    let (endpoint, api_key) = if provider.enabled {
        let endpoint = resolved(provider, provider.endpoint.as_ref(), secrets).await;
        let endpoint = endpoint.map_err(|error| unresolved(provider, "endpoint", &error))?;
        let api_key = match resolved(provider, provider.api_key.as_ref(), secrets).await {
            // The store is filled through a daemon that runs: calls fail by the provider's refusal until then.
            Err(error @ SecretError::Missing(_)) if is_stored(provider.api_key.as_ref()) => {
                told.1.push(format!("provider `{}`: {error}", provider.name));
                None
            }
            other => other.map_err(|error| unresolved(provider, "api_key", &error))?,
        };
        told.0.extend([&endpoint, &api_key].into_iter().flatten().filter_map(|(_, used)| used.clone()));
        (endpoint.map(|(endpoint, _)| endpoint.expose_secret().to_owned()), api_key.map(|(key, _)| key))
    } else {
        (None, None)
    };
    Ok(ProviderSettings {
        name: provider.name.clone(),
        kind: match provider.kind {
            ProviderType::Openai => ProviderKind::OpenAi,
            ProviderType::Anthropic => ProviderKind::Anthropic,
            ProviderType::Ollama => ProviderKind::Ollama,
            ProviderType::OpenaiCompatible => ProviderKind::OpenAiCompatible,
            ProviderType::Replay => ProviderKind::Replay,
        },
        endpoint,
        recordings: provider.recordings.as_ref().map(|path| base.join(path)),
        api_key,
        enabled: provider.enabled,
        models: provider.models.iter().map(model).collect(),
        record_to: std::env::var_os("AEGIS_RECORD_MODELS_TO")
            .map(PathBuf::from)
            .filter(|_| provider.kind != ProviderType::Replay),
    })
}

fn model(entry: &ModelEntry) -> ModelSettings {
    ModelSettings {
        alias: entry.alias.clone(),
        model: entry.model.clone(),
        tool_calling: match entry.tool_calling {
            ToolCalling::Native => aegis_models::ToolCalling::Native,
            ToolCalling::Schema => aegis_models::ToolCalling::Schema,
        },
        context_window: entry.context_window.map(u64::from),
        personal_data: entry.is_trusted_with(Trust::PersonalData),
        price: Price::from_usd_per_1k(
            entry.input_price().unwrap_or_default(),
            entry.output_price().unwrap_or_default(),
        ),
    }
}

async fn resolved(
    provider: &Provider,
    reference: Option<&Reference>,
    secrets: &dyn Secrets,
) -> Result<Option<(SecretString, Option<Body>)>, SecretError> {
    let Some(reference) = reference else { return Ok(None) };
    let by = SecretUser::Provider { provider: provider.name.clone() };
    hand_out(secrets, reference, by).await.map(Some)
}

fn is_stored(reference: Option<&Reference>) -> bool {
    matches!(reference, Some(Reference::Secret(_)))
}

fn unresolved(provider: &Provider, field: &str, error: &SecretError) -> Diagnosis {
    let what = format!("provider `{}`: `{field}`: {error}", provider.name);
    Diagnosis::new(ErrorCode::InvalidInput, what).hint(
        "set the variable in the daemon's environment, or the secret, or `enabled: false` for the provider",
    )
}

/// The programs that providers run as, to be started and watched.
pub(crate) fn processes(node: &NodeConfig, home: &Path, jitter_seed: u64) -> Vec<ProcessSettings> {
    let enabled = node.spec.llm_providers.iter().filter(|provider| provider.enabled);
    enabled
        .filter_map(|provider| {
            let process = provider.process.as_ref()?;
            Some(ProcessSettings {
                provider: provider.name.clone(),
                command: process.command.clone(),
                args: process.args.clone(),
                ready_url: process.ready_url.clone(),
                folder: home.join("providers").join(&provider.name),
                jitter_seed,
            })
        })
        .collect()
}

/// A configuration of models that does not hold together.
pub(crate) fn refused(error: &SettingsError) -> Diagnosis {
    Diagnosis::new(ErrorCode::InvalidInput, error.to_string())
        .hint("check `spec.llm_providers` and `spec.llm`")
}
