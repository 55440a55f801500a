//! The node's secrets: which store keeps them, and what of the configuration refers to them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use aegis_core::{Body, Diagnosis, ErrorCode, SecretUser, Tenant};
use aegis_kernel::port::{Clock, Ids, SecretError, SecretStore, Secrets};
use aegis_manifest::NodeConfig;
use aegis_manifest::node::{Reference, SecretsBackend, SecretsSection};
use aegis_security::redact::Redactor;
use aegis_store::{
    EmbeddedOptions, EmbeddedSecrets, NodeSecrets, OpenBao, OpenBaoLogin, OpenBaoOptions,
    SECRETS_KEY_VARIABLE,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;

use crate::app::App;
use crate::compose::store_failed;
use crate::logging::leave_out;
use crate::{git, models};

/// Where an `AppRole` is mounted, if the configuration does not say.
const APPROLE_MOUNT: &str = "approle";

/// Opens the store that `spec.secrets` names; the one of the data folder without it.
///
/// # Errors
/// If the store cannot be opened or reached, or refuses this node.
pub(crate) async fn open(
    home: &Path,
    node: &NodeConfig,
    clock: &Arc<dyn Clock>,
    ids: &Arc<dyn Ids>,
) -> Result<Arc<NodeSecrets>, Diagnosis> {
    let section = node.spec.secrets.clone().unwrap_or_default();
    let store: Arc<dyn SecretStore> = match section.backend {
        SecretsBackend::Local => {
            let options = EmbeddedOptions {
                folder: home.to_owned(),
                key: std::env::var(SECRETS_KEY_VARIABLE).ok().map(SecretString::from),
                clock: clock.clone(),
                ids: ids.clone(),
            };
            Arc::new(EmbeddedSecrets::open(options).await.map_err(store_failed)?)
        }
        SecretsBackend::Openbao => {
            let options = openbao(&section).await?;
            Arc::new(OpenBao::connect(options).await.map_err(refused)?)
        }
    };
    Ok(Arc::new(NodeSecrets::new(Some(store))))
}

async fn openbao(section: &SecretsSection) -> Result<OpenBaoOptions, Diagnosis> {
    let wrong = |what: &str| {
        Diagnosis::new(ErrorCode::InvalidInput, format!("`spec.secrets`: {what}"))
            .hint("give `address`, and `token` or `approle` with `role_id` and `secret_id`")
    };
    let address = section.address.clone().ok_or_else(|| wrong("`openbao` needs an address"))?;
    // A store's own credential cannot lie in it.
    let outside = NodeSecrets::new(None);
    let given = async |reference: &Reference| {
        let resolved = outside.resolve(&Tenant::default_tenant(), &reference.to_string()).await;
        resolved.map(|resolved| resolved.value).map_err(|error| wrong(&error.to_string()))
    };
    let login = match (&section.token, &section.approle) {
        (Some(token), None) => OpenBaoLogin::Token(given(token).await?),
        (None, Some(role)) => OpenBaoLogin::AppRole {
            mount: role.mount.clone().unwrap_or_else(|| APPROLE_MOUNT.to_owned()),
            role_id: role.role_id.clone(),
            secret_id: given(&role.secret_id).await?,
        },
        _ => return Err(wrong("`openbao` needs either a token or an approle")),
    };
    let mut options = OpenBaoOptions::new(address, login);
    if let Some(mount) = &section.mount {
        options.mount.clone_from(mount);
    }
    if let Some(prefix) = &section.prefix {
        options.prefix.clone_from(prefix);
    }
    options.namespace.clone_from(&section.namespace);
    Ok(options)
}

/// The value behind a reference of the configuration, and what goes on record of its use: nothing for text that was
/// written without a prefix.
///
/// # Errors
/// What the store says.
pub(crate) async fn hand_out(
    secrets: &dyn Secrets,
    reference: &Reference,
    by: SecretUser,
) -> Result<(SecretString, Option<Body>), SecretError> {
    let resolved = secrets.resolve(&Tenant::default_tenant(), &reference.to_string()).await?;
    let used =
        Body::SecretUsed { reference: resolved.reference, version: resolved.version, by, action: None };
    let used = (!matches!(reference, Reference::Literal(_))).then_some(used);
    Ok((resolved.value, used))
}

/// Keeps the secrets of `tenant` out of the daemon's log.
pub(crate) async fn leave_out_of_log(secrets: &dyn Secrets, tenant: &Tenant) {
    if let Err(error) = left_out(secrets, tenant).await {
        tracing::warn!(%error, "what the log must leave out is not known");
    }
}

async fn left_out(secrets: &dyn Secrets, tenant: &Tenant) -> Result<(), String> {
    let known = secrets.known(tenant).await.map_err(|error| error.to_string())?;
    let pairs = known.iter().map(|secret| (secret.name.as_str(), secret.value.expose_secret()));
    leave_out(tenant, Redactor::new(pairs).map_err(|error| error.to_string())?);
    Ok(())
}

/// Keeps what is handed out, whenever and to whichever tenant's use, out of the daemon's log.
pub(crate) struct OutOfLog {
    secrets: Arc<dyn Secrets>,
    /// What was known of each tenant when its secrets were last left out.
    revisions: Mutex<BTreeMap<Tenant, u64>>,
}

impl OutOfLog {
    pub(crate) fn new(secrets: Arc<dyn Secrets>) -> Self {
        Self { secrets, revisions: Mutex::default() }
    }

    /// Leaves out what is known by now; before a value goes to whoever may say it again.
    ///
    /// # Errors
    /// If it cannot be known, or not be looked for: then nothing may be handed out.
    pub(crate) async fn keep(&self, tenant: &Tenant) -> Result<(), String> {
        let mut revisions = self.revisions.lock().await;
        // Read before what is known, so that a change in between is seen by the next.
        let revision = self.secrets.revision();
        if revisions.get(tenant) != Some(&revision) {
            left_out(self.secrets.as_ref(), tenant).await?;
            revisions.insert(tenant.clone(), revision);
        }
        Ok(())
    }
}

/// Takes credentials of models anew after a secret was changed; the ones under way end with what they have.
pub(crate) async fn refresh_models(app: &App) {
    let _taking = app.taking.lock().await;
    let (node, base) = app.configured(|configured| (configured.node.clone(), configured.base.clone()));
    let gathered = match models::settings(&node, app.secrets.as_ref(), &base).await {
        Ok(gathered) => gathered,
        Err(error) => {
            tracing::error!(%error, "the providers keep the credentials they had");
            return;
        }
    };
    if let Err(error) = app.router.replace(gathered.settings) {
        tracing::error!(%error, "the providers keep the credentials they had");
        return;
    }
    let mut missing = gathered.missing;
    missing.extend(git::missing(&node, &app.git, app.secrets.as_ref()).await);
    app.configured.write().unwrap_or_else(PoisonError::into_inner).missing = missing;
    record_uses(app, gathered.used).await;
}

/// Records that secrets were handed out for the node itself.
pub(crate) async fn record_uses(app: &App, used: Vec<Body>) {
    if used.is_empty() {
        return;
    }
    if let Err(error) = app.kernel.journal().append(app.fleet_events(used.into_iter())).await {
        tracing::warn!(%error, "the use of a secret cannot be recorded");
    }
}

/// What went wrong with a secret, as users meet it.
pub(crate) fn refused(error: SecretError) -> Diagnosis {
    let code = match &error {
        SecretError::Missing(_) => ErrorCode::NotFound,
        SecretError::NoStore(_) => ErrorCode::CapabilityMissing,
        SecretError::Name(_) | SecretError::Reference(_) | SecretError::Value { .. } => {
            ErrorCode::InvalidInput
        }
        SecretError::Refused(_) => ErrorCode::PermissionDenied,
        SecretError::Unreachable(_) => ErrorCode::Overloaded,
        SecretError::Store(_) => ErrorCode::Internal,
    };
    Diagnosis::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn of(section: serde_json::Value) -> OpenBaoOptions {
        openbao(&serde_json::from_value(section).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn each_field_of_the_section_is_how_the_server_is_asked() {
        let full = serde_json::json!({
            "backend": "openbao", "address": "https://bao.example:8200", "mount": "kv", "prefix": "node-one",
            "namespace": "team", "approle": {"role_id": "r", "secret_id": "literal:s", "mount": "roles"},
        });
        let options = of(full.clone()).await;
        assert_eq!(options.address, "https://bao.example:8200");
        assert_eq!((options.mount.as_str(), options.prefix.as_str()), ("kv", "node-one"));
        assert_eq!(options.namespace.as_deref(), Some("team"));
        let OpenBaoLogin::AppRole { mount, role_id, secret_id } = options.login else { panic!() };
        assert_eq!((mount.as_str(), role_id.as_str(), secret_id.expose_secret()), ("roles", "r", "s"));
        let plain = of(serde_json::json!({"backend": "openbao", "address": "a", "token": "literal:t"})).await;
        assert_eq!(
            (plain.mount.as_str(), plain.prefix.as_str(), &plain.namespace),
            ("secret", "aegis", &None)
        );
        let OpenBaoLogin::Token(token) = plain.login else { panic!() };
        assert_eq!(token.expose_secret(), "t");
        for missing in ["address", "approle"] {
            let mut less = full.clone();
            less.as_object_mut().unwrap().remove(missing);
            assert!(openbao(&serde_json::from_value(less).unwrap()).await.is_err(), "{missing}");
        }
    }
}
