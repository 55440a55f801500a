//! The head of a request to the proxy (RFC 9112), read more strictly than servers do: what two programs could read
//! differently is refused.

use std::str::FromStr;

use super::host::Host;

/// Longest head, in bytes, with its empty line.
pub const REQUEST_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most header lines.
pub const REQUEST_HEADERS_MAX: usize = 128;
/// The port of a plain URL that states none.
const PORT_HTTP: u16 = 80;
/// Most digits of a content length: more than any body.
const LENGTH_DIGITS_MAX: usize = 18;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestTarget {
    /// `CONNECT host:port`: a tunnel.
    Tunnel,
    /// `GET http://host:port/path`; the path and query as the server is to see them.
    Plain {
        /// Starts with `/`, or is `*` for `OPTIONS`.
        path: String,
    },
}

/// How many bytes of body follow the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// So many.
    Known(u64),
    /// In chunks, up to the last one.
    Chunked,
}

/// A request that can be forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// The method.
    pub method: String,
    /// The host of the target; the `Host` header says the same.
    pub host: Host,
    /// The port of the target.
    pub port: u16,
    /// What is asked for there.
    pub target: RequestTarget,
    /// The headers for the server, in order: without `Host` and without those that are meant for the proxy.
    pub headers: Vec<(String, Vec<u8>)>,
    /// What follows.
    pub body: BodyLength,
    /// Length of the head in bytes: the body starts there.
    pub bytes: usize,
}

/// A head that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not a request line and header lines.
    #[error("the request head is malformed")]
    Malformed,
    /// Longer than [`REQUEST_HEAD_BYTES_MAX`] or with more lines than [`REQUEST_HEADERS_MAX`].
    #[error("the request head is too long")]
    TooLong,
    /// No usable host, or two.
    #[error("the request must name one host, in the target and in `Host` alike")]
    Host,
    /// Lengths that contradict each other or cannot be read.
    #[error("the request must state the length of its body once, in one way")]
    Length,
    /// Not a form that a proxy serves.
    #[error("the target must be `CONNECT host:port` or `http://host/path`; TLS goes through `CONNECT`")]
    Target,
}

impl RequestHead {
    /// Reads a head; `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// On everything that is not certain to mean one thing.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, HeadError> {
        let searched = bytes.get(..REQUEST_HEAD_BYTES_MAX.min(bytes.len())).unwrap_or(bytes);
        let Some(end) = searched.windows(4).position(|four| four == b"\r\n\r\n") else {
            return if bytes.len() >= REQUEST_HEAD_BYTES_MAX { Err(HeadError::TooLong) } else { Ok(None) };
        };
        let head = searched.get(..end).unwrap_or_default();
        let mut lines = Vec::new();
        for line in split_lines(head) {
            // A lone CR or LF ends a line for some readers; other control bytes end a string.
            if line.iter().any(|&byte| byte != b'\t' && byte.is_ascii_control()) {
                return Err(HeadError::Malformed);
            }
            lines.push(line);
        }
        if lines.len() > REQUEST_HEADERS_MAX + 1 {
            return Err(HeadError::TooLong);
        }
        let (first, rest) = lines.split_first().ok_or(HeadError::Malformed)?;
        let (method, target, is_11) = request_line(first)?;
        let headers = rest.iter().map(|line| header(line)).collect::<Result<Vec<_>, _>>()?;
        let (host, port, target) = read_target(&method, &target)?;
        check_host(&headers, &host, port, is_11)?;
        let body = body_length(&headers, is_11)?;
        if target == RequestTarget::Tunnel && body != BodyLength::Known(0) {
            return Err(HeadError::Length);
        }
        let headers = forwarded(headers)?;
        Ok(Some(Self { method, host, port, target, headers, body, bytes: end + 4 }))
    }
}

fn split_lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let bytes = rest?;
        match bytes.windows(2).position(|two| two == b"\r\n") {
            Some(end) => {
                rest = bytes.get(end + 2..);
                bytes.get(..end)
            }
            None => rest.take(),
        }
    })
}

/// Method, target, and whether the version is 1.1.
fn request_line(line: &[u8]) -> Result<(String, String, bool), HeadError> {
    let text = std::str::from_utf8(line).map_err(|_| HeadError::Malformed)?;
    let mut parts = text.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(HeadError::Malformed);
    };
    let is_11 = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return Err(HeadError::Malformed),
    };
    let target_ok = !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_token(method.as_bytes()) || !target_ok {
        return Err(HeadError::Malformed);
    }
    Ok((method.to_owned(), target.to_owned(), is_11))
}

type Header = (String, Vec<u8>);

/// One line: a name, a colon at once, a value. A line that starts with a space would continue the one before.
fn header(line: &[u8]) -> Result<Header, HeadError> {
    let colon = line.iter().position(|&byte| byte == b':').ok_or(HeadError::Malformed)?;
    let (name, value) = line.split_at_checked(colon).ok_or(HeadError::Malformed)?;
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    if !is_token(name) {
        return Err(HeadError::Malformed);
    }
    let name = String::from_utf8(name.to_vec()).map_err(|_| HeadError::Malformed)?;
    Ok((name, value.to_vec()))
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn read_target(method: &str, target: &str) -> Result<(Host, u16, RequestTarget), HeadError> {
    if method == "CONNECT" {
        let (host, port) = authority(target)?;
        return Ok((host, port.ok_or(HeadError::Target)?, RequestTarget::Tunnel));
    }
    let scheme = target.get(..7).ok_or(HeadError::Target)?;
    if !scheme.eq_ignore_ascii_case("http://") || target.contains('#') {
        return Err(HeadError::Target);
    }
    let rest = target.get(7..).unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (named, path) = rest.split_at_checked(end).ok_or(HeadError::Target)?;
    let (host, port) = authority(named)?;
    let path = match path {
        "" if method == "OPTIONS" => "*".to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    };
    Ok((host, port.unwrap_or(PORT_HTTP), RequestTarget::Plain { path }))
}

/// `host` or `host:port`; never with a user.
fn authority(text: &str) -> Result<(Host, Option<u16>), HeadError> {
    let colon = match text.rfind(']') {
        Some(bracket) => text.get(bracket..).and_then(|rest| rest.find(':')).map(|colon| bracket + colon),
        None => text.find(':'),
    };
    let (host, port) = match colon.and_then(|colon| text.split_at_checked(colon)) {
        Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or_default())),
        None => (text, None),
    };
    let number = |port: &str| match port.as_bytes() {
        [b'1'..=b'9', ..] => u16::from_str(port).map_err(|_| HeadError::Host),
        _ => Err(HeadError::Host),
    };
    // Percent signs would be decoded by some readers before they look at the name.
    let host = if host.contains('%') {
        Err(HeadError::Host)
    } else {
        Host::parse(host).map_err(|_| HeadError::Host)
    };
    Ok((host?, port.map(number).transpose()?))
}

/// Exactly one `Host` that says what the target says; HTTP/1.0 may leave it out.
fn check_host(headers: &[Header], host: &Host, port: u16, is_11: bool) -> Result<(), HeadError> {
    let mut named = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host"));
    let Some((_, value)) = named.next() else { return if is_11 { Err(HeadError::Host) } else { Ok(()) } };
    let text = std::str::from_utf8(value).map_err(|_| HeadError::Host)?;
    let (said, said_port) = authority(text)?;
    // Without a port it says the scheme's; many clients leave it out for a tunnel.
    let port_agrees = said_port.is_none_or(|said| said == port);
    if named.next().is_some() || said != *host || !port_agrees { Err(HeadError::Host) } else { Ok(()) }
}

fn body_length(headers: &[Header], is_11: bool) -> Result<BodyLength, HeadError> {
    let all = |wanted: &str| {
        let wanted = wanted.to_owned();
        headers.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(&wanted)).map(|(_, value)| value)
    };
    let mut codings = all("transfer-encoding");
    let mut lengths = all("content-length");
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(BodyLength::Known(0)),
        (Some(coding), None)
            if is_11 && codings.next().is_none() && coding.eq_ignore_ascii_case(b"chunked") =>
        {
            Ok(BodyLength::Chunked)
        }
        (None, Some(length)) if lengths.next().is_none() => {
            let digits = std::str::from_utf8(length).map_err(|_| HeadError::Length)?;
            let sound = (1..=LENGTH_DIGITS_MAX).contains(&digits.len())
                && digits.bytes().all(|byte| byte.is_ascii_digit());
            if !sound {
                return Err(HeadError::Length);
            }
            digits.parse().map(BodyLength::Known).map_err(|_| HeadError::Length)
        }
        _ => Err(HeadError::Length),
    }
}

/// Headers between the client and the proxy (RFC 9110, section 7.6.1). `Host` is written anew from the target.
const NOT_FORWARDED: [&str; 9] = [
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "te",
    "trailer",
    "upgrade",
];

/// What stays, without the headers that `Connection` names. It may not name those that say how long the body is.
fn forwarded(headers: Vec<Header>) -> Result<Vec<Header>, HeadError> {
    let mut dropped: Vec<String> = NOT_FORWARDED.map(str::to_owned).to_vec();
    for (_, value) in headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("connection")) {
        for option in value.split(|&byte| byte == b',') {
            dropped.push(String::from_utf8_lossy(option.trim_ascii()).to_ascii_lowercase());
        }
    }
    if dropped.iter().any(|name| name == "content-length" || name == "transfer-encoding") {
        return Err(HeadError::Length);
    }
    Ok(headers.into_iter().filter(|(name, _)| !dropped.contains(&name.to_ascii_lowercase())).collect())
}
