//! A person's sign-in: begun here, granted in the person's browser, ended with the answer that comes back to it.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aegis_manifest::node::OauthGrant;
use reqwest::Url;
use rmcp::transport::auth::{
    AuthorizationCallback, AuthorizationManager, AuthorizationMetadata, OAuthClientConfig,
};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::time::Instant;

use super::http::is_loopback;
use super::{Authorizer, Discovered, SignInError, failed};
use crate::mcp::settings::OauthSettings;

/// How long a person has to sign in.
const PENDING_FOR: Duration = Duration::from_secs(600);
/// Where the answer comes back to.
const CALLBACK_PATH: &str = "/callback";
/// What the node calls itself where it registers.
const CLIENT_NAME: &str = "AEGIS";
/// The scope that asks for a refresh token, where an authorization server knows it.
const OFFLINE_ACCESS: &str = "offline_access";
/// Longest answer of a browser that is read, in bytes.
const CALLBACK_BYTES_MAX: usize = 8192;

/// A sign-in that waits for its person.
pub(super) struct Pending {
    manager: AuthorizationManager,
    client_secret: Option<String>,
    redirect: String,
    until: Instant,
}

impl Authorizer {
    /// Begins a sign-in; answers with the address that a person opens. The one before it is void.
    pub(in crate::mcp) async fn begin(&self, redirect: &str) -> Result<String, SignInError> {
        if self.settings.grant == OauthGrant::ClientCredentials {
            return Err(SignInError::ByItself);
        }
        check_redirect(redirect)?;
        let challenge = self.challenge.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut found = self.discovered(challenge.as_deref()).await?;
        let scopes = self.scopes(&found).await?;
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let client = self.client(&mut found, redirect, &scopes).await?;
        let mut manager = found.manager;
        let client_secret = client.client_secret.clone();
        manager.configure_client(client).map_err(|error| failed(&error))?;
        let url = manager.get_authorization_url(&scopes).await.map_err(|error| failed(&error))?;
        let pending = Pending {
            manager,
            // The one of the configuration stays there.
            client_secret: client_secret.filter(|_| self.settings.client_id.is_none()),
            redirect: redirect.to_owned(),
            until: Instant::now() + PENDING_FOR,
        };
        self.state.lock().await.pending = Some(pending);
        Ok(url)
    }

    /// Ends a sign-in with the address that the browser came back to.
    pub(in crate::mcp) async fn finish(&self, callback: &str) -> Result<(), SignInError> {
        let mut state = self.state.lock().await;
        let Some(pending) = state.pending.as_ref().filter(|pending| Instant::now() < pending.until) else {
            return Err(SignInError::NoneUnderWay);
        };
        let url = Url::parse(callback).ok().filter(|_| callback.len() <= CALLBACK_BYTES_MAX);
        let url = url.filter(|url| without_query(url) == pending.redirect);
        let url = url.ok_or_else(|| SignInError::Redirect("the answer's address".to_owned()))?;
        if let Some((_, error)) = url.query_pairs().find(|(name, _)| name == "error") {
            return Err(SignInError::Failed(format!("it answered `{error}`")));
        }
        let answer = AuthorizationCallback::from_redirect_url(callback).map_err(|error| failed(&error))?;
        let exchanged = pending.manager.exchange_code_for_token_with_issuer(
            &answer.code,
            &answer.csrf_token,
            answer.issuer.as_deref(),
        );
        exchanged.await.map_err(|error| failed(&error))?;
        if let Some(done) = state.pending.take() {
            let kept = self.kept.put_client_secret(done.client_secret.as_deref()).await;
            kept.map_err(SignInError::Failed)?;
            state.manager = Some(done.manager);
        }
        state.held = None;
        self.too_little.store(false, Ordering::Release);
        self.set_trouble(None);
        Ok(())
    }

    /// What to ask for: what the configuration says, else what the server does; and what was granted before, if that
    /// was too little.
    async fn scopes(&self, found: &Discovered) -> Result<Vec<String>, SignInError> {
        let wanted = found.manager.select_initial_scopes(&[]).await;
        let mut scopes = self.settings.scopes.clone();
        let offered = found.metadata.scopes_supported.iter().flatten().any(|scope| scope == OFFLINE_ACCESS);
        if !scopes.is_empty() && offered {
            scopes.push(OFFLINE_ACCESS.to_owned());
        }
        let too_little = self.too_little.load(Ordering::Acquire);
        if too_little {
            let granted = self.kept.grant().await.map_err(SignInError::Failed)?;
            scopes.extend(granted.into_iter().flat_map(|grant| grant.scopes));
        }
        if too_little || scopes.is_empty() {
            scopes.extend(wanted);
        }
        let mut seen = BTreeSet::new();
        scopes.retain(|scope| seen.insert(scope.clone()));
        Ok(scopes)
    }

    /// The client: the one the configuration names, else the document that describes it, else one that registers now.
    async fn client(
        &self,
        found: &mut Discovered,
        redirect: &str,
        scopes: &[&str],
    ) -> Result<OAuthClientConfig, SignInError> {
        let OauthSettings { client_id, client_metadata_url, .. } = &self.settings;
        if let Some(id) = client_id {
            let mut client = OAuthClientConfig::new(id, redirect);
            if let Some(secret) = self.configured_secret().await? {
                client = client.with_client_secret(secret.expose_secret());
            }
            return Ok(client);
        }
        if let Some(document) = client_metadata_url.as_ref().filter(|_| takes_documents(&found.metadata)) {
            return Ok(OAuthClientConfig::new(document, redirect));
        }
        found.manager.register_client(CLIENT_NAME, redirect, scopes).await.map_err(|error| failed(&error))
    }
}

/// Whether an authorization server takes a client's document in the place of a registration.
fn takes_documents(metadata: &AuthorizationMetadata) -> bool {
    let stated = metadata.additional_fields.get("client_id_metadata_document_supported");
    stated.and_then(Value::as_bool).unwrap_or(false)
}

fn check_redirect(redirect: &str) -> Result<(), SignInError> {
    let url = Url::parse(redirect).ok().filter(|url| {
        url.scheme() == "http"
            && is_loopback(url)
            && url.path() == CALLBACK_PATH
            && url.port().is_some()
            && url.username().is_empty()
            && url.password().is_none()
            && without_query(url) == redirect
    });
    url.map(|_| ()).ok_or_else(|| SignInError::Redirect(redirect.to_owned()))
}

/// An address without what a browser adds to it.
fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back_to_the_persons_own_machine_alone() {
        for good in ["http://127.0.0.1:7/callback", "http://[::1]:7/callback", "http://localhost:7/callback"]
        {
            assert!(check_redirect(good).is_ok(), "{good}");
        }
        for bad in [
            "https://evil.example/callback",
            "http://evil.example:7/callback",
            "http://127.0.0.1.evil.example:7/callback",
            "http://127.0.0.1/callback",
            "http://127.0.0.1:7/",
            "http://127.0.0.1:7/callback?x=y",
            "http://user@127.0.0.1:7/callback",
            "javascript:alert(1)",
        ] {
            assert!(check_redirect(bad).is_err(), "{bad}");
        }
    }
}
