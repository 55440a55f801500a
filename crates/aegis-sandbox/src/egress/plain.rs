//! Plain HTTP: one request, written anew from what was read, and its response.

use aegis_kernel::port::EgressEnd;
use aegis_security::egress::{BodyLength, RequestHead};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use super::answer;
use super::progress::{Direction, Progress, broken};

/// Longest head of a response, in bytes.
const RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes read at once of a response's head.
const CHUNK_BYTES: usize = 8 * 1024;
/// Most hexadecimal digits of a chunk's size.
const CHUNK_SIZE_DIGITS_MAX: usize = 12;
/// Longest line with a chunk's size.
const SIZE_LINE_BYTES_MAX: u64 = 32;
const PORT_HTTP: u16 = 80;
const SWITCHING_PROTOCOLS: u16 = 101;

/// Sends the request and brings the response back. `early` are bytes of the body that came with the head.
pub(super) async fn forward<S: AsyncRead + AsyncWrite + Unpin>(
    inside: S,
    early: Vec<u8>,
    outside: TcpStream,
    head: &RequestHead,
    path: &str,
    progress: &Progress,
) -> EgressEnd {
    let (from_inside, mut to_inside) = tokio::io::split(inside);
    let (mut from_outside, mut to_outside) = outside.into_split();
    let request = async {
        progress.pass(Direction::Sent, &request_head(head, path), &mut to_outside).await?;
        let mut body = BufReader::new(early.as_slice().chain(from_inside));
        send_body(head.body, &mut body, &mut to_outside, progress).await?;
        // The far side may still speak: nothing more is sent, and nothing is shut.
        std::future::pending::<Result<(), EgressEnd>>().await
    };
    let response = respond(&mut from_outside, &mut to_inside, progress);
    tokio::select! {
        result = response => result.err().unwrap_or(EgressEnd::Done),
        result = request => result.err().unwrap_or(EgressEnd::Done),
        end = progress.idle() => end,
    }
}

fn request_head(head: &RequestHead, path: &str) -> Vec<u8> {
    let port = if head.port == PORT_HTTP { String::new() } else { format!(":{}", head.port) };
    let mut bytes = format!("{} {path} HTTP/1.1\r\nHost: {}{port}\r\n", head.method, head.host).into_bytes();
    for (name, value) in &head.headers {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"Connection: close\r\n\r\n");
    bytes
}

/// Sends exactly the body: what follows it would be a second request, which nobody has decided on.
async fn send_body(
    length: BodyLength,
    body: &mut (impl AsyncBufRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    progress: &Progress,
) -> Result<(), EgressEnd> {
    let short = || EgressEnd::Failed("the request's body ended early".to_owned());
    let wrong = || EgressEnd::Failed("the request's body has a malformed chunk".to_owned());
    if let BodyLength::Known(bytes) = length {
        let copied = progress.copy(Direction::Sent, body, to, bytes).await?;
        return if copied == bytes { Ok(()) } else { Err(short()) };
    }
    loop {
        let mut line = Vec::new();
        (&mut *body).take(SIZE_LINE_BYTES_MAX).read_until(b'\n', &mut line).await.map_err(broken)?;
        let digits = line.strip_suffix(b"\r\n").ok_or_else(wrong)?;
        let sound =
            (1..=CHUNK_SIZE_DIGITS_MAX).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(digits).ok().filter(|_| sound).ok_or_else(wrong)?;
        let size = u64::from_str_radix(text, 16).map_err(|_| wrong())?;
        progress.pass(Direction::Sent, &line, to).await?;
        if progress.copy(Direction::Sent, body, to, size).await? != size {
            return Err(short());
        }
        // After the last chunk there may be no trailer: its fields would be headers to some readers.
        let mut end = [0; 2];
        body.read_exact(&mut end).await.map_err(broken)?;
        if end != *b"\r\n" {
            return Err(wrong());
        }
        progress.pass(Direction::Sent, &end, to).await?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// Brings back interim responses and the final one, which ends with the connection.
async fn respond(
    from: &mut OwnedReadHalf,
    to: &mut (impl AsyncWrite + Unpin),
    progress: &Progress,
) -> Result<(), EgressEnd> {
    let mut bytes = Vec::new();
    loop {
        let Some((status, head, length)) = response_head(from, &mut bytes).await? else {
            answer::unreachable(to, "the far side did not answer with an HTTP/1.1 response").await;
            return Err(EgressEnd::Failed("no HTTP/1.1 response".to_owned()));
        };
        progress.pass(Direction::Received, &head, to).await?;
        bytes.drain(..length);
        if !(100..200).contains(&status) {
            break;
        }
    }
    progress.pass(Direction::Received, &bytes, to).await?;
    progress.copy(Direction::Received, from, to, u64::MAX).await?;
    to.shutdown().await.map_err(broken)
}

type Head = (u16, Vec<u8>, usize);

/// Reads until a head is whole: its status, the head as it is passed on, and its length as it came. `None` if there
/// is none.
async fn response_head(from: &mut OwnedReadHalf, bytes: &mut Vec<u8>) -> Result<Option<Head>, EgressEnd> {
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = bytes.get(..end).unwrap_or_default();
            return Ok(rewritten(head).map(|(status, head)| (status, head, end + 4)));
        }
        if bytes.len() > RESPONSE_HEAD_BYTES_MAX {
            return Ok(None);
        }
        let mut chunk = [0; CHUNK_BYTES];
        match from.read(&mut chunk).await.map_err(broken)? {
            0 => return Ok(None),
            count => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
    }
}

/// The head without what is meant for the proxy; the connection ends after a final response.
fn rewritten(head: &[u8]) -> Option<(u16, Vec<u8>)> {
    const DROPPED: [&[u8]; 5] =
        [b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"upgrade"];
    let mut lines = head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next()?;
    let digits = first.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    let status: u16 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    if status < 100 || status == SWITCHING_PROTOCOLS {
        return None;
    }
    let mut written = [first, b"\r\n"].concat();
    for line in lines {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default().trim_ascii();
        if !DROPPED.iter().any(|dropped| name.eq_ignore_ascii_case(dropped)) {
            written.extend_from_slice(line);
            written.extend_from_slice(b"\r\n");
        }
    }
    if status >= 200 {
        written.extend_from_slice(b"Connection: close\r\n");
    }
    written.extend_from_slice(b"\r\n");
    Some((status, written))
}
