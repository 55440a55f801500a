//! Streamable HTTP with credentials that are resolved for each request.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::http::{HeaderName, HeaderValue};
use aegis_core::{Name, Tenant};
use aegis_manifest::node::Reference;
use futures_util::stream::BoxStream;
use rmcp::model::ClientJsonRpcMessage;
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use secrecy::{ExposeSecret, SecretString};
use sse_stream::Sse;

use super::oauth::{Authorizer, SignInError};
use super::starter::Credentials;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that was idle this long is not used again: common servers close theirs after 5 seconds, and a request that
/// meets the close is lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// The HTTP client for servers: no redirects, which would carry credentials elsewhere, and no proxy of the environment.
/// It is made when the first server is called: it reads the certificate authorities of the machine.
#[derive(Debug, Default)]
pub struct HttpClient(OnceLock<Result<reqwest::Client, reqwest::Error>>);

impl HttpClient {
    /// The client; its connections are shared.
    pub(super) fn get(&self) -> Result<reqwest::Client, &reqwest::Error> {
        let made = self.0.get_or_init(|| {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .build()
        });
        match made {
            Ok(client) => Ok(client.clone()),
            Err(error) => Err(error),
        }
    }
}

/// The SDK's client, which adds the server's headers to each request.
#[derive(Clone)]
pub(super) struct CredentialedClient {
    pub(super) inner: reqwest::Client,
    pub(super) tenant: Tenant,
    pub(super) server: Name,
    pub(super) headers: Arc<[(HeaderName, Reference)]>,
    pub(super) credentials: Arc<dyn Credentials>,
    pub(super) authorizer: Option<Arc<Authorizer>>,
}

type Failure = StreamableHttpError<reqwest::Error>;
type Headers = HashMap<HeaderName, HeaderValue>;

impl CredentialedClient {
    async fn with_credentials(&self, mut headers: Headers) -> Result<Headers, Failure> {
        for (name, reference) in self.headers.iter() {
            let refused = |reason: String| Failure::Io(std::io::Error::other(format!("`{name}`: {reason}")));
            // `Reference` shows a literal only through its text form, which is what the resolver takes.
            let reference = reference.to_string();
            let resolved = self.credentials.resolve(&self.tenant, &self.server, &reference).await;
            let secret = resolved.map_err(refused)?;
            let mut value = HeaderValue::from_str(secret.expose_secret())
                .map_err(|_| refused("its value cannot stand in a header".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        Ok(headers)
    }

    /// Sends a request with the server's token, where it has one; once more with another if that is refused.
    async fn authorized<T, Sent>(
        &self,
        given: Option<String>,
        send: impl Fn(Option<String>) -> Sent,
    ) -> Result<T, Failure>
    where
        Sent: Future<Output = Result<T, Failure>>,
    {
        let Some(authorizer) = &self.authorizer else { return send(given).await };
        let text = |token: &SecretString| token.expose_secret().to_owned();
        let token = match authorizer.token().await {
            Ok(token) => Some(token),
            // Asked without one, the server says where to sign in, and for what.
            Err(SignInError::Needed(_)) => None,
            Err(error) => return Err(unauthorized(&error)),
        };
        let answer = send(token.as_ref().map(text)).await;
        let answer = if let Err(Failure::AuthRequired(refusal)) = &answer {
            authorizer.was_refused(&refusal.www_authenticate_header, None);
            let another = authorizer.another(token.as_ref()).await.map_err(|error| unauthorized(&error))?;
            send(Some(text(&another))).await
        } else {
            answer
        };
        match &answer {
            Ok(_) => authorizer.was_taken(),
            Err(Failure::AuthRequired(refusal)) => {
                authorizer.was_refused(&refusal.www_authenticate_header, None);
            }
            Err(Failure::InsufficientScope(refusal)) => {
                let scopes = refusal.required_scope.as_deref().unwrap_or_default();
                authorizer.was_refused(&refusal.www_authenticate_header, Some(scopes));
            }
            Err(_) => {}
        }
        answer
    }
}

fn unauthorized(error: &SignInError) -> Failure {
    Failure::Io(std::io::Error::other(error.to_string()))
}

impl StreamableHttpClient for CredentialedClient {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        auth: Option<String>,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse, Failure> {
        let headers = self.with_credentials(headers).await?;
        let send = |token| {
            let (message, headers) = (message.clone(), headers.clone());
            self.inner.post_message(Arc::clone(&uri), message, session.clone(), token, headers)
        };
        self.authorized(auth, send).await
    }
    async fn post_message_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        auth: Option<String>,
        headers: Headers,
        max: usize,
    ) -> Result<StreamableHttpPostResponse, Failure> {
        let headers = self.with_credentials(headers).await?;
        let send = |token| {
            let (uri, message, headers) = (Arc::clone(&uri), message.clone(), headers.clone());
            self.inner.post_message_with_max_sse_event_size(
                uri,
                message,
                session.clone(),
                token,
                headers,
                max,
            )
        };
        self.authorized(auth, send).await
    }
    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        auth: Option<String>,
        headers: Headers,
    ) -> Result<(), Failure> {
        let headers = self.with_credentials(headers).await?;
        let send =
            |token| self.inner.delete_session(Arc::clone(&uri), Arc::clone(&session), token, headers.clone());
        self.authorized(auth, send).await
    }
    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        auth: Option<String>,
        headers: Headers,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Failure> {
        let headers = self.with_credentials(headers).await?;
        let send = |token| {
            let (session, last_event) = (session.clone(), last_event.clone());
            self.inner.get_stream(Arc::clone(&uri), session, last_event, token, headers.clone())
        };
        self.authorized(auth, send).await
    }
    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        auth: Option<String>,
        headers: Headers,
        max: usize,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Failure> {
        let headers = self.with_credentials(headers).await?;
        let send = |token| {
            let (uri, session, last_event) = (Arc::clone(&uri), session.clone(), last_event.clone());
            let headers = headers.clone();
            self.inner.get_stream_with_max_sse_event_size(uri, session, last_event, token, headers, max)
        };
        self.authorized(auth, send).await
    }
}
