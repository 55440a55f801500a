//! The doors of one sandbox: a socket in its folder, and ports on the loopback of its own network.
//!
//! The ports are listened on by the daemon itself: a socket belongs to the network namespace it was made in, so one
//! made by a thread that has entered the sandbox's is reached from there alone, and accepted from here. No program
//! inside carries the bytes: there is none that an agent could end, replace or read.

use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, TcpListener as StdTcpListener};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use aegis_core::{ExecutionId, SandboxFacts};
use aegis_kernel::port::{
    API_PORT, Door, DoorConnection, DoorStream, EGRESS_PORT, SandboxError, SandboxSpec,
};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::guardian::Guarded;
use crate::process::ProcessHandle;
use crate::run_folder::RunFolder;

/// Most connections of one sandbox at a time; further ones wait.
const CONNECTIONS_MAX: usize = 128;
/// Stack of the thread that makes the ports.
const STACK_BYTES: usize = 128 * 1024;
/// How long to wait when no connection can be taken, such as for want of descriptors.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Why a daemon that is not root gives no doors: only root may enter the network namespace of another user namespace
/// from a process with several threads.
pub(crate) const DOORS_MISSING: &str = "a daemon that is not root cannot listen in a sandbox's network, which \
     `runtime.inner_api` and `security.network` need; run it as root";

/// Where a sandbox is listened to.
#[derive(Debug)]
pub(crate) struct Doors {
    execution: ExecutionId,
    generation: u32,
    socket: Option<UnixListener>,
    api: Option<TcpListener>,
    egress: Option<TcpListener>,
    places: Arc<Semaphore>,
}

impl Doors {
    /// Opens the spec's doors while the first process, which has its namespaces, waits to become the program; `None`
    /// if there are none. Must be called in the context of a runtime.
    pub(crate) fn open(
        spec: &SandboxSpec,
        folder: &RunFolder,
        first: &ProcessHandle,
    ) -> io::Result<Option<Self>> {
        if !spec.doors.api && !spec.doors.egress {
            return Ok(None);
        }
        let socket = if spec.doors.api { Some(folder.listen_api()?) } else { None };
        let wanted = [(spec.doors.api, API_PORT), (spec.doors.egress, EGRESS_PORT)];
        let [api, egress] = listen_inside(first, wanted)?;
        let tcp = |listener: Option<StdTcpListener>| listener.map(TcpListener::from_std).transpose();
        Ok(Some(Self {
            execution: spec.execution,
            generation: spec.generation,
            socket: socket.map(UnixListener::from_std).transpose()?,
            api: tcp(api)?,
            egress: tcp(egress)?,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        }))
    }

    /// The next connection.
    pub(crate) async fn accept(
        &self,
        guarded: &Guarded,
        facts: &SandboxFacts,
    ) -> Result<DoorConnection, SandboxError> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|error| SandboxError::Io(error.to_string()))?;
        let connection = |door, stream| DoorConnection {
            door,
            execution: self.execution,
            generation: self.generation,
            stream,
        };
        loop {
            let accepted = tokio::select! {
                stream = unix(self.socket.as_ref()) => stream.map(Accepted::Socket),
                stream = tcp(self.api.as_ref()) => stream.map(|stream| Accepted::Port(Door::Api, stream)),
                stream = tcp(self.egress.as_ref()) => stream.map(|stream| Accepted::Port(Door::Egress, stream)),
            };
            match accepted {
                Ok(Accepted::Socket(stream))
                    if stream.peer_cred().is_ok_and(|peer| peer.uid() == facts.uid) =>
                {
                    return Ok(connection(Door::Api, DoorStream::unix(stream, place)));
                }
                Ok(Accepted::Socket(_)) => {
                    guarded.wrong_api_peers.fetch_add(1, Ordering::SeqCst);
                }
                Ok(Accepted::Port(door, stream)) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(connection(door, DoorStream::tcp(stream, place)));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection from a sandbox could not be taken");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }
}

enum Accepted {
    Socket(UnixStream),
    Port(Door, TcpStream),
}

async fn unix(listener: Option<&UnixListener>) -> io::Result<UnixStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => pending().await,
    }
}

async fn tcp(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => pending().await,
    }
}

/// Listens on the wanted ports in the network namespace of `first`. A network namespace is a thread's own: the thread
/// that enters ends with this, and nothing else ever runs on it.
///
/// All addresses, since loopback has none until bubblewrap has brought it up, and there is no other interface.
fn listen_inside(first: &ProcessHandle, wanted: [(bool, u16); 2]) -> io::Result<[Option<StdTcpListener>; 2]> {
    let enter_and_listen = || -> io::Result<[Option<StdTcpListener>; 2]> {
        move_into_thread_name_spaces(first.as_fd(), ThreadNameSpaceType::NETWORK)?;
        let mut made = [None, None];
        for (place, (_, port)) in made.iter_mut().zip(wanted).filter(|(_, (is_wanted, _))| *is_wanted) {
            let listener = StdTcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
            listener.set_nonblocking(true)?;
            *place = Some(listener);
        }
        Ok(made)
    };
    thread::scope(|scope| {
        let name = "aegis-doors".to_owned();
        let entered = thread::Builder::new()
            .name(name)
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, enter_and_listen)?;
        entered.join().map_err(|_| io::Error::other("the thread that makes the ports has panicked"))?
    })
}
