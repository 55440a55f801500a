//! Signing in at servers behind an address (OAuth 2.1, by the SDK): tokens are kept in the node's store of secrets and
//! renewed, and a server's word about where to sign in opens no place of its own.

mod http;
mod kept;
mod login;
mod revoke;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_core::{Body, Name, SignIn, SignOut, Tenant};
use aegis_manifest::node::OauthGrant;
use reqwest::Url;
use rmcp::transport::auth::{
    AuthError, AuthorizationManager, AuthorizationMetadata, ClientCredentialsConfig, OAuthClientConfig,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use self::http::{Places, SignInHttp};
use self::kept::Kept;
use self::login::Pending;
use super::servers::McpParts;
use super::settings::OauthSettings;
use super::starter::Credentials;

pub(super) use self::http::is_loopback;
pub use self::kept::Tokens;
pub use self::revoke::Revocation;

/// A token is renewed this long before it ends.
const RENEW_BEFORE: Duration = Duration::from_secs(30);
/// How long a token is used before the store is asked again, where its end is not known.
const HELD_FOR: Duration = Duration::from_secs(30);
/// Longest challenge that is remembered, in bytes.
const CHALLENGE_BYTES_MAX: usize = 4096;
/// Stands where the SDK wants a redirect and none is taken.
const NO_REDIRECT: &str = "http://127.0.0.1/callback";

/// Why there is no token, or no sign-in. The text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SignInError {
    #[error("nobody has signed in, or what was granted has ended: run `aegis server login {0}`")]
    Needed(Name),
    #[error("it wants more than was granted{scopes}: {remedy}")]
    MoreScopes { scopes: String, remedy: String },
    #[error("it refuses the token it was given: {0}")]
    Refused(String),
    #[error("its authorization server: {0}")]
    Failed(String),
    #[error("no sign-in is under way, or it took too long: begin again")]
    NoneUnderWay,
    #[error("`{0}` is not a redirect of a sign-in: use http://127.0.0.1:PORT/callback")]
    Redirect(String),
    #[error("it signs in by itself, by its client's secret")]
    ByItself,
    #[error("its section of the configuration has no `oauth`")]
    NotConfigured,
}

fn failed(error: &AuthError) -> SignInError {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    SignInError::Failed(text)
}

/// How to sign in, as the server and its authorization server say.
struct Discovered {
    manager: AuthorizationManager,
    metadata: AuthorizationMetadata,
}

/// A token that was handed out.
struct Held {
    token: SecretString,
    until: Instant,
}

#[derive(Default)]
struct State {
    manager: Option<AuthorizationManager>,
    held: Option<Held>,
    pending: Option<Pending>,
}

/// Gives the tokens for one tenant's requests to one server.
pub(super) struct Authorizer {
    tenant: Tenant,
    server: Name,
    url: Url,
    settings: OauthSettings,
    kept: Kept,
    credentials: Arc<dyn Credentials>,
    tell: Box<dyn Fn(Body) + Send + Sync>,
    /// One request at a time asks for a token: the others wait for what it gets.
    state: tokio::sync::Mutex<State>,
    trouble: Mutex<Option<SignInError>>,
    /// Whether the last refusal was for want of scopes; until the next sign-in.
    too_little: AtomicBool,
    /// The server's last refusal in its own words, which names where to sign in and for what.
    challenge: Mutex<Option<String>>,
}

impl Authorizer {
    /// Nothing if `url` is none; the settings have checked it.
    pub(super) fn new(
        tenant: &Tenant,
        server: &Name,
        url: &str,
        settings: &OauthSettings,
        parts: &Arc<McpParts>,
    ) -> Option<Self> {
        let (events, of) = (Arc::clone(&parts.events), tenant.clone());
        Some(Self {
            kept: Kept::new(Arc::clone(&parts.tokens), tenant.clone(), server.clone(), url),
            tenant: tenant.clone(),
            server: server.clone(),
            url: Url::parse(url).ok()?,
            settings: settings.clone(),
            credentials: Arc::clone(&parts.credentials),
            tell: Box::new(move |body| events(&of, body)),
            state: tokio::sync::Mutex::default(),
            trouble: Mutex::default(),
            too_little: AtomicBool::new(false),
            challenge: Mutex::default(),
        })
    }

    /// Why the server gives nothing, if it is for want of a token.
    pub(super) fn trouble(&self) -> Option<SignInError> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    fn set_trouble(&self, trouble: Option<SignInError>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
    /// Notes that the server took the token.
    pub(super) fn was_taken(&self) {
        self.set_trouble(None);
    }
    /// Notes that the server refused a request, and in which words.
    pub(super) fn was_refused(&self, challenge: &str, more_scopes: Option<&str>) {
        if challenge.len() <= CHALLENGE_BYTES_MAX {
            *self.challenge.lock().unwrap_or_else(PoisonError::into_inner) = Some(challenge.to_owned());
        }
        let remedy = match self.settings.grant {
            OauthGrant::AuthorizationCode => format!("run `aegis server login {}`", self.server),
            OauthGrant::ClientCredentials => "see the `oauth` of its section in the configuration".to_owned(),
        };
        let trouble = if let Some(scopes) = more_scopes {
            self.too_little.store(true, Ordering::Release);
            let scopes = if scopes.is_empty() { String::new() } else { format!(" (`{scopes}`)") };
            SignInError::MoreScopes { scopes, remedy }
        } else {
            SignInError::Refused(remedy)
        };
        self.set_trouble(Some(trouble));
    }

    /// A token for a request.
    pub(super) async fn token(&self) -> Result<SecretString, SignInError> {
        let mut state = self.state.lock().await;
        if let Some(held) = state.held.as_ref().filter(|held| Instant::now() < held.until) {
            return Ok(held.token.clone());
        }
        self.fetch(&mut state, false).await
    }

    /// Another token than the one that was `refused`, if one was.
    pub(super) async fn another(&self, refused: Option<&SecretString>) -> Result<SecretString, SignInError> {
        let mut state = self.state.lock().await;
        if let Some(held) = &state.held
            && refused.is_none_or(|refused| held.token.expose_secret() != refused.expose_secret())
        {
            return Ok(held.token.clone());
        }
        self.fetch(&mut state, refused.is_some()).await
    }

    async fn fetch(&self, state: &mut State, renew: bool) -> Result<SecretString, SignInError> {
        state.held = None;
        let fetched = self.fetched(state, renew).await;
        if let Err(error) = &fetched {
            self.set_trouble(Some(error.clone()));
        }
        let (token, until) = fetched?;
        state.held = Some(Held { token: token.clone(), until });
        Ok(token)
    }

    async fn fetched(&self, state: &mut State, renew: bool) -> Result<(SecretString, Instant), SignInError> {
        let before = self.kept.saves();
        let by = match self.settings.grant {
            OauthGrant::AuthorizationCode => self.renewed(state, renew).await?,
            OauthGrant::ClientCredentials => self.exchanged(state, renew).await?,
        };
        let taken_in = self.kept.saves() != before;
        if taken_in {
            (self.tell)(Body::ServerSignedIn { server: self.server.clone(), by });
        }
        // Handed out like every credential: with a line in the record.
        let reference = self.kept.access_token();
        let token = self.credentials.resolve(&self.tenant, &self.server, &reference).await;
        let token = token.map_err(SignInError::Failed)?;
        let grant = self.kept.grant().await.map_err(SignInError::Failed)?;
        let life = grant.and_then(|grant| grant.expires_in).filter(|_| taken_in);
        let held_for = life.map_or(HELD_FOR, |life| Duration::from_secs(life).saturating_sub(RENEW_BEFORE));
        Ok((token, Instant::now() + held_for))
    }

    /// Sees to it that the store holds a token that was granted by a person and has not ended.
    async fn renewed(&self, state: &mut State, renew: bool) -> Result<SignIn, SignInError> {
        if state.manager.is_none() {
            state.manager = Some(self.of_grant().await?);
        }
        let Some(manager) = &state.manager else { return Err(SignInError::Needed(self.server.clone())) };
        let had = self.kept.grant().await.map_err(SignInError::Failed)?.is_some();
        let answer = if renew {
            manager.refresh_token().await.map(|_| ())
        } else {
            manager.get_access_token().await.map(|_| ())
        };
        match answer {
            Ok(()) => Ok(SignIn::Refresh),
            Err(AuthError::AuthorizationRequired | AuthError::TokenRefreshRejected(_)) => {
                let has = self.kept.grant().await.map_err(SignInError::Failed)?.is_some();
                if had && !has {
                    self.tell_signed_out(SignOut::Refused);
                }
                state.manager = None;
                Err(SignInError::Needed(self.server.clone()))
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// What the SDK needs for the grant that is kept.
    async fn of_grant(&self) -> Result<AuthorizationManager, SignInError> {
        let needed = || SignInError::Needed(self.server.clone());
        let grant = self.kept.grant().await.map_err(SignInError::Failed)?.ok_or_else(needed)?;
        if grant.resource.as_ref().is_some_and(|resource| resource != self.url.as_str()) {
            // What was granted for one address is never shown to another.
            self.kept.forget().await.map_err(SignInError::Failed)?;
            self.tell_signed_out(SignOut::AddressChanged);
            return Err(needed());
        }
        let Discovered { mut manager, metadata } = self.discovered(None).await?;
        if grant.issuer.is_some() && grant.issuer != metadata.issuer {
            // Tokens of one authorization server are never shown to another.
            self.kept.forget().await.map_err(SignInError::Failed)?;
            self.tell_signed_out(SignOut::IssuerChanged);
            return Err(needed());
        }
        let secret = self.secret_of(&grant).await?;
        let mut client = OAuthClientConfig::new(grant.client_id, NO_REDIRECT);
        if let Some(secret) = secret {
            client = client.with_client_secret(secret.expose_secret());
        }
        manager.configure_client(client).map_err(|error| failed(&error))?;
        Ok(manager)
    }

    /// Sees to it that the store holds a token for the client itself.
    async fn exchanged(&self, state: &mut State, renew: bool) -> Result<SignIn, SignInError> {
        if let Some(manager) = state.manager.as_ref().filter(|_| !renew) {
            match manager.get_access_token().await {
                Ok(_) => return Ok(SignIn::ClientCredentials),
                Err(AuthError::AuthorizationRequired) => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        let Discovered { mut manager, .. } = self.discovered(None).await?;
        let secret = self.configured_secret().await?;
        let config = ClientCredentialsConfig::ClientSecret {
            client_id: self.settings.client_id.clone().unwrap_or_default(),
            client_secret: secret.map(|secret| secret.expose_secret().to_owned()).unwrap_or_default(),
            scopes: self.settings.scopes.clone(),
            resource: Some(self.url.to_string()),
        };
        manager.validate_client_credentials_metadata(&config).map_err(|error| failed(&error))?;
        manager.configure_client_credentials(&config).map_err(|error| failed(&error))?;
        manager.exchange_client_credentials(&config).await.map_err(|error| failed(&error))?;
        state.manager = Some(manager);
        Ok(SignIn::ClientCredentials)
    }

    fn tell_signed_out(&self, by: SignOut) {
        (self.tell)(Body::ServerSignedOut { server: self.server.clone(), by, revoked: false });
    }

    async fn configured_secret(&self) -> Result<Option<SecretString>, SignInError> {
        let Some(reference) = &self.settings.client_secret else { return Ok(None) };
        let resolved = self.credentials.resolve(&self.tenant, &self.server, &reference.to_string()).await;
        resolved.map(Some).map_err(SignInError::Failed)
    }

    /// Asks the server, and who it names, how to sign in.
    async fn discovered(&self, challenge: Option<&str>) -> Result<Discovered, SignInError> {
        let places = Places::of(&self.url, self.settings.private_addresses);
        let unreachable = |error: String| SignInError::Failed(error);
        places.check(&self.url).map_err(|error| unreachable(error.to_string()))?;
        let http = SignInHttp::new(places).map_err(|error| unreachable(error.to_string()))?;
        let manager = AuthorizationManager::new_with_oauth_http_client(self.url.clone(), Arc::new(http));
        let mut manager = manager.await.map_err(|error| failed(&error))?;
        manager.set_credential_store(self.kept.clone());
        let resolved = manager.resolve_metadata_from_challenge(challenge).await;
        let resolved = resolved.map_err(|error| failed(&error))?;
        if !resolved.source.is_discovered() {
            return Err(SignInError::Failed(
                "neither the server nor its origin says how to sign in".to_owned(),
            ));
        }
        let metadata = resolved.metadata;
        for endpoint in [&metadata.authorization_endpoint, &metadata.token_endpoint] {
            let url = Url::parse(endpoint);
            let url = url.map_err(|_| unreachable(format!("`{endpoint}` is not an address")))?;
            places.check(&url).map_err(|error| unreachable(error.to_string()))?;
        }
        manager.set_metadata(metadata.clone());
        Ok(Discovered { manager, metadata })
    }
}
