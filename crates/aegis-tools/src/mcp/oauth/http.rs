//! The requests of a sign-in: where they may go, and how much they may bring.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aegis_security::egress::{AddressClass, canonical_address, is_public};
use futures_util::StreamExt as _;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rmcp::transport::auth::{OAuthHttpClient, OAuthHttpClientError, OAuthHttpClientFuture, OAuthHttpRequest};

/// How long one request of a sign-in may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an authorization server's answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// EC2's metadata service, which lies among private addresses.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// A place a sign-in may not reach.
#[derive(Debug, thiserror::Error)]
#[error("a sign-in may not reach `{place}`: {why}")]
pub(super) struct Unreachable {
    place: String,
    why: &'static str,
}

/// Where a sign-in may go. What a server's metadata names is the server's word, not the operator's: it opens nothing
/// that the operator's own address of the server does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    /// This machine itself, because the server is on it.
    loopback: bool,
    /// Private networks, because the operator says so.
    private: bool,
}

impl Places {
    /// The places for a server at `url`.
    pub(super) fn of(url: &Url, private: bool) -> Self {
        Self { loopback: is_loopback(url), private }
    }

    /// Whether a request may be sent to `url`, as far as its text tells.
    pub(super) fn check(self, url: &Url) -> Result<(), Unreachable> {
        let refuse = |why| Err(Unreachable { place: url.host_str().unwrap_or_default().to_owned(), why });
        match url.scheme() {
            "https" => {}
            "http" if self.loopback && is_loopback(url) => {}
            _ => return refuse("only https is permitted"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("it carries a credential");
        }
        match literal(url) {
            Some(address) if !self.permits(address) => refuse("its address is not public"),
            _ => Ok(()),
        }
    }

    fn permits(self, address: IpAddr) -> bool {
        if is_public(address) {
            return true;
        }
        let address = canonical_address(address);
        match AddressClass::of(address).map(|class| class.name) {
            Some("loopback") => self.loopback,
            Some("private") => self.private && address != IpAddr::V6(METADATA_V6),
            _ => false,
        }
    }
}

/// The address that stands in `url` itself. A client resolves no name then, so no resolver sees it.
fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether `url` names this machine.
pub(in crate::mcp) fn is_loopback(url: &Url) -> bool {
    url.host_str() == Some("localhost")
        || literal(url).is_some_and(|address| canonical_address(address).is_loopback())
}

impl Resolve for Places {
    fn resolve(&self, name: Name) -> Resolving {
        let places = *self;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.is_empty() || !found.iter().all(|address| places.permits(address.ip())) {
                let why = "an address of that name is not public";
                return Err(Unreachable { place: name.as_str().to_owned(), why }.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Sends what the SDK asks for, to permitted places alone. It follows no redirect.
pub(super) struct SignInHttp {
    inner: reqwest::Client,
    places: Places,
}

impl SignInHttp {
    /// # Errors
    /// If TLS cannot be set up.
    pub(super) fn new(places: Places) -> Result<Self, reqwest::Error> {
        let inner = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(REQUEST_TIMEOUT)
            .dns_resolver(Arc::new(places))
            .build()?;
        Ok(Self { inner, places })
    }

    async fn send(
        &self,
        request: OAuthHttpRequest,
    ) -> Result<::http::Response<Vec<u8>>, OAuthHttpClientError> {
        let request = reqwest::Request::try_from(request.request)?;
        self.places.check(request.url())?;
        let answer = self.inner.execute(request).await?;
        let mut shown = ::http::Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            shown = shown.header(name, value);
        }
        let (mut body, mut stream) = (Vec::new(), answer.bytes_stream());
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(format!("the answer is larger than {ANSWER_BYTES_MAX} bytes").into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(shown.body(body)?)
    }
}

impl SignInHttp {
    /// Sends a request of our own and gives the answer's status.
    pub(super) async fn post(&self, request: reqwest::Request) -> Result<::http::StatusCode, String> {
        self.places.check(request.url()).map_err(|error| error.to_string())?;
        let answer = self.inner.execute(request).await;
        answer.map(|answer| answer.status()).map_err(|error| error.without_url().to_string())
    }
}

impl OAuthHttpClient for SignInHttp {
    fn execute(&self, request: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        Box::pin(self.send(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reaches(base: &str, private: bool, url: &str) -> bool {
        Places::of(&base.parse().unwrap(), private).check(&url.parse().unwrap()).is_ok()
    }

    #[test]
    fn metadata_leads_nowhere_that_the_servers_address_does_not() {
        let far = "https://mcp.example/mcp";
        assert!(reaches(far, false, "https://login.example/token"));
        for url in [
            "http://login.example/token",
            "https://127.0.0.1/",
            "http://127.0.0.1:9/",
            "http://localhost/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://10.0.0.5/",
            "https://169.254.169.254/latest",
            "https://[fd00:ec2::254]/",
            "https://user:pass@login.example/",
            "file:///etc/passwd",
        ] {
            assert!(!reaches(far, false, url), "{url}");
        }
        assert!(reaches(far, true, "https://10.0.0.5/"));
        for url in
            ["http://10.0.0.5/", "https://169.254.169.254/", "https://[fd00:ec2::254]/", "https://127.0.0.1/"]
        {
            assert!(!reaches(far, true, url), "{url}");
        }
        let near = "http://127.0.0.1:7/mcp";
        assert!(
            reaches(near, false, "http://localhost:9/token")
                && reaches(near, false, "https://login.example/")
        );
        assert!(!reaches(near, false, "http://login.example/") && !reaches(near, false, "https://10.0.0.5/"));
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_not_called() {
        let http = SignInHttp::new(Places { loopback: false, private: false }).unwrap();
        let named = |name: &str| http.places.resolve(name.parse().unwrap());
        assert!(named("localhost").await.is_err());
        assert!(
            Places { loopback: true, private: false }.resolve("localhost".parse().unwrap()).await.is_ok()
        );
    }
}
