//! The control door: one connection, from the sandbox's first process, and then no door at all.

use std::os::unix::net::UnixListener as StdListener;
use std::sync::atomic::Ordering;

use aegis_core::SandboxFacts;
use aegis_kernel::port::{ControlConnection, SandboxError};
use tokio::net::{UnixListener, UnixStream};

use crate::guardian::Guarded;

/// Accepts until the first process itself connects; then closes and unlinks the socket.
///
/// The kernel took the peer's ids when it connected. A child of the first process has another process id, and the
/// number cannot have passed to another process while the first one lives, which the caller watches.
pub(crate) async fn accept(
    listener: StdListener,
    guarded: &Guarded,
    facts: &SandboxFacts,
) -> Result<ControlConnection, SandboxError> {
    let io = |error: std::io::Error| SandboxError::Io(format!("control socket: {error}"));
    let listener = UnixListener::from_std(listener).map_err(io)?;
    let stream = loop {
        let (stream, _) = listener.accept().await.map_err(io)?;
        if is_first_process(&stream, facts) {
            break stream;
        }
        guarded.wrong_peers.fetch_add(1, Ordering::SeqCst);
    };
    guarded.unlink_socket().map_err(io)?;
    let listener = listener.into_std().map_err(io)?;
    while listener.accept().is_ok() {
        guarded.second_connections.fetch_add(1, Ordering::SeqCst);
    }
    Ok(ControlConnection { stream })
}

fn is_first_process(stream: &UnixStream, facts: &SandboxFacts) -> bool {
    stream.peer_cred().is_ok_and(|peer| {
        let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok());
        peer.uid() == facts.uid && pid == Some(facts.pid)
    })
}
