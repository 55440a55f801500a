//! One request through the way out: the proxy is asked as programs inside ask it.

use aegis_kernel::port::WayOut;
use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use reqwest::Url;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// Most bytes taken of a page.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Longest answer of the proxy to a tunnel.
const TUNNEL_HEAD_BYTES_MAX: usize = 16 * 1024;
/// The header by which the proxy marks its own refusals.
const REFUSED: &str = "x-aegis-code";

/// An answer.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) status: u16,
    /// The content type, in lower case; empty if none was said.
    pub(super) kind: String,
    pub(super) location: Option<String>,
    pub(super) body: Vec<u8>,
    /// Whether there was more.
    pub(super) cut: bool,
}

/// Asks for a page.
///
/// # Errors
/// The reason, for the model.
pub(super) async fn fetch(way: &dyn WayOut, connector: &TlsConnector, url: &Url) -> Result<Fetched, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{url} cannot be fetched: {error}");
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(format!("{url} has no host"));
    };
    let stream = way.connection().await.map_err(|error| failed(&error))?;
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    if url.scheme() == "http" {
        let mut whole = url.clone();
        whole.set_fragment(None);
        return exchange(stream, whole.as_str(), &authority).await.map_err(|error| failed(&error));
    }
    let stream = tunnel(stream, &format!("{host}:{port}")).await.map_err(|error| failed(&error))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned()).map_err(|error| failed(&error))?;
    let stream = connector.connect(name, stream).await.map_err(|error| failed(&error))?;
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    exchange(stream, &target, &authority).await.map_err(|error| failed(&error))
}

/// Has the proxy connect; what it says instead of 200 is the reason.
pub(crate) async fn tunnel(mut stream: UnixStream, target: &str) -> Result<UnixStream, String> {
    let asked = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(asked.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.map_err(|error| error.to_string())?;
        head.push(byte);
        if head.len() > TUNNEL_HEAD_BYTES_MAX {
            return Err("the proxy's answer is too long".to_owned());
        }
    }
    let head = String::from_utf8_lossy(&head);
    let line = head.lines().next().unwrap_or_default();
    let said = line.strip_prefix("HTTP/1.1 ").unwrap_or(line);
    if said.starts_with("200") { Ok(stream) } else { Err(said.to_owned()) }
}

async fn exchange<S>(stream: S, target: &str, authority: &str) -> Result<Fetched, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let wrong = |error: &dyn std::fmt::Display| error.to_string();
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| wrong(&error))?;
    let request = Request::get(target)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, concat!("aegis/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "text/html, text/*, application/json, application/xml, */*;q=0.1")
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| wrong(&error))?;
    let answering = async {
        let response = sender.send_request(request).await.map_err(|error| wrong(&error))?;
        let (parts, mut body) = response.into_parts();
        let mut fetched = Fetched {
            status: parts.status.as_u16(),
            kind: text_of(&parts.headers, header::CONTENT_TYPE.as_str()).unwrap_or_default().to_lowercase(),
            location: text_of(&parts.headers, header::LOCATION.as_str()),
            body: Vec::new(),
            cut: false,
        };
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| wrong(&error))?.into_data() else { continue };
            let room = BODY_BYTES_MAX.saturating_sub(fetched.body.len());
            fetched.body.extend(data.iter().take(room));
            if data.len() > room {
                fetched.cut = true;
                break;
            }
        }
        if parts.headers.contains_key(REFUSED) {
            return Err(String::from_utf8_lossy(&fetched.body).into_owned());
        }
        Ok(fetched)
    };
    let driving = async {
        // Its end shows in the answer.
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        fetched = answering => fetched,
        () = driving => Err("the connection ended".to_owned()),
    }
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}
