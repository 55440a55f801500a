//! Tunnels: TLS to the named host, unless the grant is raw.

use std::time::Duration;

use aegis_core::{Denial, DenialCode};
use aegis_kernel::port::EgressEnd;
use aegis_security::egress::{ClientHello, ClientHelloError, Host};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::progress::{Direction, Progress, broken};

/// How long a program may take to send its first bytes.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes read at once while the first message is not whole.
const CHUNK_BYTES: usize = 4096;
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
/// A fatal alert, unrecognized_name (RFC 8446, section 6): the only language a TLS program understands here.
const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// Carries a tunnel to its end. `early` are bytes that came with the request's head.
pub(super) async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
    mut inside: S,
    mut early: Vec<u8>,
    outside: TcpStream,
    host: &Host,
    raw: bool,
    progress: &Progress,
) -> EgressEnd {
    if let Err(error) = inside.write_all(ESTABLISHED).await {
        return broken(error);
    }
    if !raw {
        match tokio::time::timeout(FIRST_BYTES_TIMEOUT, first_bytes(&mut inside, &mut early, host)).await {
            Ok(Ok(())) => {}
            Ok(Err(end)) => {
                if matches!(end, EgressEnd::Denied(_)) {
                    let _ = inside.write_all(ALERT).await;
                    let _ = inside.shutdown().await;
                }
                return end;
            }
            Err(_) => return EgressEnd::Limit("first bytes"),
        }
    }
    let (mut from_inside, mut to_inside) = tokio::io::split(inside);
    let (mut from_outside, mut to_outside) = outside.into_split();
    let out = async {
        progress.pass(Direction::Sent, &early, &mut to_outside).await?;
        progress.copy(Direction::Sent, &mut from_inside, &mut to_outside, u64::MAX).await?;
        to_outside.shutdown().await.map_err(broken)
    };
    let back = async {
        progress.copy(Direction::Received, &mut from_outside, &mut to_inside, u64::MAX).await?;
        to_inside.shutdown().await.map_err(broken)
    };
    let both = async { tokio::try_join!(out, back) };
    tokio::select! {
        result = both => result.err().unwrap_or(EgressEnd::Done),
        end = progress.idle() => end,
    }
}

/// Reads until the ClientHello is whole and names the host. A program that goes away before is done.
async fn first_bytes(
    inside: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
    host: &Host,
) -> Result<(), EgressEnd> {
    loop {
        match ClientHello::parse(bytes) {
            Ok(Some(hello)) => return names(&hello, host).map_err(EgressEnd::Denied),
            Ok(None) => {}
            Err(error) => return Err(EgressEnd::Denied(not_tls(host, error))),
        }
        let mut chunk = [0; CHUNK_BYTES];
        match inside.read(&mut chunk).await.map_err(broken)? {
            0 => return Err(EgressEnd::Done),
            count => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
    }
}

/// A name must be said; an address cannot be (RFC 6066, section 3), so that nothing may be said then.
fn names(hello: &ClientHello, host: &Host) -> Result<(), Denial> {
    let expected = match host {
        Host::Name(_) => Some(host),
        Host::Address(_) => None,
    };
    if hello.server_name.as_ref() == expected {
        return Ok(());
    }
    let said = match &hello.server_name {
        Some(name) => format!("`{name}`"),
        None => "no name".to_owned(),
    };
    Err(denial(format!("the tunnel to `{host}` says {said} in its TLS ClientHello")))
}

fn not_tls(host: &Host, error: ClientHelloError) -> Denial {
    denial(format!("the tunnel to `{host}`: {error}"))
}

fn denial(message: String) -> Denial {
    Denial {
        code: DenialCode::DomainNotAllowed,
        rule: "egress/server_name".to_owned(),
        message,
        remedy: "speak TLS to the host that the tunnel names, or have a rule that permits `raw: true`"
            .to_owned(),
    }
}
