//! `aegis server login`: waits on this machine for what the person's browser comes back with.

use std::io::ErrorKind;
use std::time::Duration;

use aegis_core::{Diagnosis, ErrorCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};

use crate::args::Global;
use crate::failure::Failure;
use crate::output;

/// How long a person has, as the daemon counts it too.
const WAIT: Duration = Duration::from_secs(600);
/// How long a browser may take to send a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest head of a request that is read, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
const DONE: &str = "The answer was taken. You may close this window and go back to the terminal.\n";

pub(super) async fn login(global: &Global, server: &str, port: Option<u16>) -> Result<(), Failure> {
    let listener = TcpListener::bind(("127.0.0.1", port.unwrap_or(0))).await.map_err(|error| {
        let what = format!("the port for the answer cannot be opened: {error}");
        let hint = if error.kind() == ErrorKind::AddrInUse {
            "choose another with `--callback-port`"
        } else {
            "see above"
        };
        Diagnosis::new(ErrorCode::Conflict, what).hint(hint)
    })?;
    let client = global.client()?;
    let redirect = format!("http://{}/callback", listener.local_addr().map_err(port_failed)?);
    let begun = client.login_server(server, &redirect).await?;
    output::note(&format!("Open this address in a browser on this machine to sign in at server {server}:"));
    output::note(&begun.url);
    output::note("Waiting for its answer (10 minutes; Ctrl-C ends it) …");
    let state = parameter(&begun.url, "state").unwrap_or_default().to_owned();
    let target = answer(&listener, &state, Instant::now() + WAIT).await?;
    let origin = redirect.trim_end_matches("/callback");
    let shown = client.finish_login(server, &format!("{origin}{target}")).await?;
    output::show(global.output, &shown, |shown| format!("Signed in at server {}", shown.name))
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` gives the error")]
fn port_failed(error: std::io::Error) -> Diagnosis {
    Diagnosis::internal(format!("the port for the answer: {error}"))
}

/// The target of the request that answers this sign-in. Whatever else reaches the port is turned away.
async fn answer(listener: &TcpListener, state: &str, until: Instant) -> Result<String, Failure> {
    let late = |_| Diagnosis::new(ErrorCode::Overloaded, "nobody signed in in time").hint("run it again");
    loop {
        let (mut stream, _) =
            timeout_at(until, listener.accept()).await.map_err(late)?.map_err(port_failed)?;
        let Ok(Ok(target)) = timeout(REQUEST_TIMEOUT, target(&mut stream)).await else { continue };
        let is_answer = target.starts_with("/callback?") && parameter(&target, "state") == Some(state);
        let (status, text) =
            if is_answer { ("200 OK", DONE) } else { ("404 Not Found", "Not the answer.\n") };
        let length = text.len();
        let reply = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\ncache-control: no-store\r\n\
             referrer-policy: no-referrer\r\nconnection: close\r\n\r\n{text}"
        );
        let _ = timeout(REQUEST_TIMEOUT, stream.write_all(reply.as_bytes())).await;
        if is_answer {
            return Ok(target);
        }
    }
}

/// The target of a `GET` request.
async fn target(stream: &mut TcpStream) -> Result<String, std::io::Error> {
    let (mut head, mut chunk) = (Vec::new(), [0; 2048]);
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let count = stream.read(&mut chunk).await?;
        if count == 0 || head.len() > HEAD_BYTES_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        head.extend_from_slice(chunk.get(..count).unwrap_or_default());
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    match (words.next(), words.next()) {
        (Some("GET"), Some(target)) => Ok(target.to_owned()),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

/// A parameter of an address, as it stands there.
fn parameter<'url>(url: &'url str, name: &str) -> Option<&'url str> {
    let (_, query) = url.split_once('?')?;
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_answer_of_this_sign_in_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let browser = tokio::spawn(async move {
            let mut answers = Vec::new();
            for line in [
                "GET /favicon.ico",
                "POST /callback?code=1&state=s",
                "GET /callback?code=1&state=other",
                "GET /callback?code=2&state=s",
            ] {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(format!("{line} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
                let mut text = String::new();
                let _ = stream.read_to_string(&mut text).await;
                answers.push(text);
            }
            answers
        });
        let taken = answer(&listener, "s", Instant::now() + WAIT).await.unwrap();
        assert_eq!(taken, "/callback?code=2&state=s");
        let answers = browser.await.unwrap();
        assert!(
            answers[0].starts_with("HTTP/1.1 404")
                && answers[1].is_empty()
                && answers[2].starts_with("HTTP/1.1 404")
        );
        assert!(answers[3].ends_with(DONE));
    }
}
