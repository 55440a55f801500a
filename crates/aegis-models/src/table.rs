//! Aliases and what stands behind them: settings made ready for use.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use reqwest::{Client, Url};
use secrecy::SecretString;

use crate::dialect::Dialect;
use crate::http::{Target, client};
use crate::recording::Recordings;
use crate::settings::{
    ModelSettings, Patience, Price, ProviderKind, ProviderSettings, SelectionSettings, Settings,
    SettingsError, ToolCalling,
};

/// The alias of manifests that name no model.
const DEFAULT_ALIAS: &str = "default";

/// What answers for a provider.
#[derive(Debug)]
pub(crate) enum Source {
    Remote { dialect: Dialect, target: Box<Target>, usage_refused: AtomicBool },
    Replay(Recordings),
}

/// A provider ready to be asked.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) source: Source,
    pub(crate) api_key: Option<SecretString>,
    pub(crate) record_to: Option<PathBuf>,
    models: Vec<ModelSettings>,
}

/// A provider and one of its models.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) provider: Arc<Provider>,
    pub(crate) model: ModelSettings,
}

/// One generation of settings. Calls in flight keep the one they began with.
#[derive(Debug)]
pub(crate) struct Table {
    routes: BTreeMap<String, Route>,
    fallback: Option<Arc<Provider>>,
    pub(crate) selection: SelectionSettings,
}

impl Table {
    pub(crate) fn build(settings: Settings) -> Result<Self, SettingsError> {
        let mut clients = Clients { patience: settings.patience, plain: None, tls: None };
        let mut providers: Vec<Arc<Provider>> = Vec::new();
        for provider in settings.providers.into_iter().filter(|provider| provider.enabled) {
            if providers.iter().any(|other| other.name == provider.name) {
                return Err(SettingsError::Duplicate { what: "the provider", name: provider.name });
            }
            providers.push(Arc::new(Provider::build(provider, &mut clients)?));
        }
        let selection = settings.selection;
        let named = |field: &str, name: &str| {
            let found = providers.iter().find(|provider| provider.name == name).cloned();
            let unknown =
                || SettingsError::UnknownProvider { field: field.to_owned(), name: name.to_owned() };
            found.ok_or_else(unknown)
        };
        let mut routes = BTreeMap::new();
        for (alias, target) in settings.aliases {
            let Some((provider, model)) = target.split_once('/') else {
                return Err(SettingsError::AliasForm { alias, target });
            };
            let provider = named(&format!("the alias `{alias}`"), provider)?;
            let model = provider.model_called(&alias, model);
            routes.insert(alias, Route { provider, model });
        }
        for provider in &providers {
            for model in &provider.models {
                let route = || Route { provider: Arc::clone(provider), model: model.clone() };
                routes.entry(model.alias.clone()).or_insert_with(route);
            }
        }
        let default = match &selection.default_provider {
            Some(name) => Some(named("`llm_selection.default_provider`", name)?),
            None => providers.first().cloned(),
        };
        if let Some((provider, model)) = default.and_then(|one| one.models.first().cloned().map(|m| (one, m)))
        {
            routes.entry(DEFAULT_ALIAS.to_owned()).or_insert(Route { provider, model });
        }
        let fallback = (selection.fallback_provider.as_deref())
            .map(|name| named("`llm_selection.fallback_provider`", name))
            .transpose()?;
        Ok(Self { routes, fallback, selection })
    }

    pub(crate) fn route(&self, alias: &str) -> Option<&Route> {
        self.routes.get(alias)
    }
    pub(crate) fn aliases(&self) -> Vec<String> {
        self.routes.keys().cloned().collect()
    }
    /// Who is asked when `route` fails, if that is anyone else.
    pub(crate) fn fallback(&self, alias: &str, route: &Route) -> Option<Route> {
        let provider = self.fallback.as_ref().filter(|other| other.name != route.provider.name)?;
        let same = provider.models.iter().find(|model| model.alias == alias);
        let model = same.or(provider.models.first())?.clone();
        Some(Route { provider: Arc::clone(provider), model })
    }
}

/// The clients of one generation: one for plain HTTP on this machine or near it, one for TLS.
struct Clients {
    patience: Patience,
    plain: Option<Client>,
    tls: Option<Client>,
}

impl Clients {
    fn take(&mut self, tls: bool) -> Result<Client, SettingsError> {
        let slot = if tls { &mut self.tls } else { &mut self.plain };
        if let Some(client) = slot {
            return Ok(client.clone());
        }
        let made = client(self.patience, tls).map_err(SettingsError::Client)?;
        Ok(slot.insert(made).clone())
    }
}

impl Provider {
    fn build(settings: ProviderSettings, clients: &mut Clients) -> Result<Self, SettingsError> {
        for (position, model) in settings.models.iter().enumerate() {
            if settings.models.iter().take(position).any(|other| other.alias == model.alias) {
                return Err(SettingsError::Duplicate { what: "the alias", name: model.alias.clone() });
            }
        }
        let source = match Dialect::of(settings.kind) {
            Some(dialect) => remote(&settings, dialect, clients)?,
            None => replay(&settings)?,
        };
        Ok(Self {
            name: settings.name,
            source,
            api_key: settings.api_key,
            record_to: settings.record_to,
            models: settings.models,
        })
    }

    /// The model a shorthand names: by its name, else by its alias, else one the settings do not know.
    fn model_called(&self, alias: &str, name: &str) -> ModelSettings {
        let known = self.models.iter().find(|model| model.model == name);
        let known = known.or_else(|| self.models.iter().find(|model| model.alias == name));
        let alias = alias.to_owned();
        match known {
            Some(model) => ModelSettings { alias, ..model.clone() },
            None => ModelSettings {
                alias,
                model: name.to_owned(),
                tool_calling: ToolCalling::Native,
                context_window: None,
                personal_data: true,
                price: Price::default(),
            },
        }
    }
}

fn replay(settings: &ProviderSettings) -> Result<Source, SettingsError> {
    let Some(path) = &settings.recordings else {
        let problem = "is not used by replay; name a file or folder in `recordings`".to_owned();
        return Err(SettingsError::Endpoint { provider: settings.name.clone(), problem });
    };
    let provider = settings.name.clone();
    let recordings = Recordings::read(path);
    recordings.map(Source::Replay).map_err(|source| SettingsError::Recordings { provider, source })
}

fn remote(
    settings: &ProviderSettings,
    dialect: Dialect,
    clients: &mut Clients,
) -> Result<Source, SettingsError> {
    let problem = |problem: &str| SettingsError::Endpoint {
        provider: settings.name.clone(),
        problem: problem.to_owned(),
    };
    let endpoint = match (&settings.endpoint, settings.kind) {
        (Some(endpoint), _) => endpoint.as_str(),
        (None, ProviderKind::OpenAi) => "https://api.openai.com",
        (None, ProviderKind::Anthropic) => "https://api.anthropic.com",
        (None, ProviderKind::Ollama) => "http://127.0.0.1:11434",
        (None, _) => return Err(problem("is missing; set it, such as `http://127.0.0.1:8000`")),
    };
    let url = url(endpoint, dialect).map_err(problem)?;
    let headers = dialect.headers(settings.api_key.as_ref());
    let headers = headers.ok_or_else(|| SettingsError::Credential { provider: settings.name.clone() })?;
    let client = clients.take(url.scheme() == "https")?;
    let target = Box::new(Target { client, url, headers, patience: clients.patience });
    Ok(Source::Remote { dialect, target, usage_refused: AtomicBool::new(false) })
}

/// The address of a dialect below an endpoint. Without a path the endpoint is the root of a server, and `/v1` follows.
fn url(endpoint: &str, dialect: Dialect) -> Result<Url, &'static str> {
    let mut url =
        Url::parse(endpoint).map_err(|_| "is not an address; write it as `https://host[:port][/path]`")?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("must begin with `http://` or `https://`");
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err("must hold no user name, password, query or fragment; a credential belongs in `api_key`");
    }
    let base = url.path().trim_end_matches('/').to_owned();
    let versioned = match dialect {
        Dialect::OpenAi { .. } => !base.is_empty(),
        Dialect::Anthropic => base.ends_with("/v1"),
    };
    url.set_path(&format!("{base}{}/{}", if versioned { "" } else { "/v1" }, dialect.path()));
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_take_the_usual_forms() {
        let open = Dialect::OpenAi { vendor: false };
        for (endpoint, dialect, expected) in [
            ("http://h:1", open, "http://h:1/v1/chat/completions"),
            ("http://h:1/", open, "http://h:1/v1/chat/completions"),
            ("http://h:1/v1", open, "http://h:1/v1/chat/completions"),
            ("https://h/v1beta/openai/", open, "https://h/v1beta/openai/chat/completions"),
            ("https://h", Dialect::Anthropic, "https://h/v1/messages"),
            ("https://h/anthropic", Dialect::Anthropic, "https://h/anthropic/v1/messages"),
            ("http://[::1]:8/v1/", Dialect::Anthropic, "http://[::1]:8/v1/messages"),
        ] {
            assert_eq!(url(endpoint, dialect).unwrap().as_str(), expected);
        }
        for wrong in ["h:1", "ftp://h", "http://u:p@h", "http://h/?key=1", ""] {
            assert!(url(wrong, open).is_err(), "{wrong}");
        }
    }
}
