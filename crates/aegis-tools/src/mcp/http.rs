//! Streamable HTTP with credentials that are resolved for each request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderName, HeaderValue};
use aegis_core::{Name, Tenant};
use aegis_manifest::node::Reference;
use futures_util::stream::BoxStream;
use rmcp::model::ClientJsonRpcMessage;
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use secrecy::ExposeSecret;
use sse_stream::Sse;

use super::starter::Credentials;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The HTTP client for servers: no redirects, which would carry credentials elsewhere, and no proxy of the environment.
///
/// # Errors
/// If TLS cannot be set up.
pub fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
}

/// The SDK's client, which adds the server's headers to each request.
#[derive(Clone)]
pub(super) struct CredentialedClient {
    pub(super) inner: reqwest::Client,
    pub(super) tenant: Tenant,
    pub(super) server: Name,
    pub(super) headers: Arc<[(HeaderName, Reference)]>,
    pub(super) credentials: Arc<dyn Credentials>,
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
        self.inner.post_message(uri, message, session, auth, headers).await
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
        self.inner.post_message_with_max_sse_event_size(uri, message, session, auth, headers, max).await
    }
    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        auth: Option<String>,
        headers: Headers,
    ) -> Result<(), Failure> {
        let headers = self.with_credentials(headers).await?;
        self.inner.delete_session(uri, session, auth, headers).await
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
        self.inner.get_stream(uri, session, last_event, auth, headers).await
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
        self.inner.get_stream_with_max_sse_event_size(uri, session, last_event, auth, headers, max).await
    }
}
