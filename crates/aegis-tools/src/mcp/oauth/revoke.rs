//! Signing out: tokens are destroyed here, and the authorization server is asked to take them no more (RFC 7009).

use std::time::Duration;

use ::http::header::{AUTHORIZATION, CONTENT_TYPE};
use aegis_manifest::node::OauthGrant;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use rmcp::transport::auth::AuthorizationMetadata;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::http::{Places, SignInHttp};
use super::kept::Grant;
use super::{Authorizer, Discovered, SignInError};

/// How long revoking may take, all of it.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(15);

/// What came of the wish that an authorization server takes tokens no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// It takes them no more.
    Revoked,
    /// There were none.
    Nothing,
    /// It may still take them until they end, for this reason.
    Failed(String),
}

/// What was kept, until it is revoked.
struct Taken {
    grant: Grant,
    /// Kind and token, the one that outlives the other first.
    tokens: Vec<(&'static str, SecretString)>,
    client_secret: Option<SecretString>,
}

impl Authorizer {
    /// Destroys what was granted, then asks the authorization server that issued it to revoke it.
    ///
    /// # Errors
    /// If the store failed: then it may still be kept.
    pub(in crate::mcp) async fn sign_out(&self) -> Result<Revocation, SignInError> {
        let taken = {
            let mut state = self.state.lock().await;
            let taken = self.taken().await;
            state.held = None;
            state.manager = None;
            state.pending = None;
            // Whatever the far side does, and whether what was kept could be read: nothing is left here.
            self.kept.forget().await.map_err(SignInError::Failed)?;
            taken
        };
        let taken = match taken {
            Ok(Some(taken)) => taken,
            Ok(None) => return Ok(Revocation::Nothing),
            // It is gone here, which is to be told; the far side cannot be told which tokens.
            Err(error) => return Ok(Revocation::Failed(format!("what was kept cannot be read: {error}"))),
        };
        let revoked = tokio::time::timeout(REVOKE_TIMEOUT, self.revoke(&taken)).await;
        Ok(match revoked {
            Ok(Ok(())) => Revocation::Revoked,
            Ok(Err(reason)) => Revocation::Failed(reason),
            Err(_) => Revocation::Failed("the authorization server does not answer".to_owned()),
        })
    }

    async fn taken(&self) -> Result<Option<Taken>, SignInError> {
        let Some(grant) = self.kept.grant().await.map_err(SignInError::Failed)? else { return Ok(None) };
        let tokens = self.kept.tokens().await.map_err(SignInError::Failed)?;
        let client_secret = self.secret_of(&grant).await?;
        Ok(Some(Taken { grant, tokens, client_secret }))
    }

    async fn revoke(&self, taken: &Taken) -> Result<(), String> {
        let found = self.discovered(None).await.map_err(|error| error.to_string())?;
        let Discovered { metadata, .. } = found;
        if taken.grant.issuer.is_some() && taken.grant.issuer != metadata.issuer {
            return Err("the server names another authorization server now".to_owned());
        }
        let endpoint = metadata.additional_fields.get("revocation_endpoint").and_then(Value::as_str);
        let endpoint = endpoint.ok_or("the authorization server revokes no tokens")?;
        let endpoint =
            Url::parse(endpoint).map_err(|_| "its revocation endpoint is no address".to_owned())?;
        let places = Places::of(&self.url, self.settings.private_addresses);
        let http = SignInHttp::new(places).map_err(|error| error.to_string())?;
        for (kind, token) in &taken.tokens {
            let status = http.post(request(&endpoint, &metadata, taken, kind, token)?).await?;
            if !status.is_success() {
                return Err(format!("the authorization server answered {status}"));
            }
        }
        Ok(())
    }

    /// The secret of the client that a grant was given to.
    pub(super) async fn secret_of(&self, grant: &Grant) -> Result<Option<SecretString>, SignInError> {
        if self.settings.client_id.as_deref() == Some(&grant.client_id)
            || self.settings.grant == OauthGrant::ClientCredentials
        {
            self.configured_secret().await
        } else {
            self.kept.client_secret().await.map_err(SignInError::Failed)
        }
    }
}

/// A request to revoke one token, by a client that says who it is as it did when it got it.
fn request(
    endpoint: &Url,
    metadata: &AuthorizationMetadata,
    taken: &Taken,
    kind: &str,
    token: &SecretString,
) -> Result<reqwest::Request, String> {
    let mut request = reqwest::Request::new(reqwest::Method::POST, endpoint.clone());
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, ::http::HeaderValue::from_static("application/x-www-form-urlencoded"));
    let client = taken.grant.client_id.as_str();
    let mut fields = vec![("token", token.expose_secret()), ("token_type_hint", kind)];
    match &taken.client_secret {
        None => fields.push(("client_id", client)),
        Some(secret) if in_header(metadata) => {
            let encoded = |text: &str| form(&[("", text)]).trim_start_matches('=').to_owned();
            let pair = format!("{}:{}", encoded(client), encoded(secret.expose_secret()));
            let value = format!("Basic {}", STANDARD.encode(pair));
            let mut value = ::http::HeaderValue::from_str(&value).map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Some(secret) => fields.extend([("client_id", client), ("client_secret", secret.expose_secret())]),
    }
    *request.body_mut() = Some(form(&fields).into());
    Ok(request)
}

/// Whether a client gives its secret in a header: what RFC 8414 says holds where nothing is said.
fn in_header(metadata: &AuthorizationMetadata) -> bool {
    let stated = metadata.additional_fields.get("revocation_endpoint_auth_methods_supported");
    let methods = stated.and_then(Value::as_array);
    methods.is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"))
}

/// Fields as a form's body has them.
fn form(fields: &[(&str, &str)]) -> String {
    // The one writer of forms at hand is that of an address's query.
    let Ok(mut url) = Url::parse("http://form/") else { return String::new() };
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}
