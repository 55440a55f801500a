//! The one thread from which sandboxes are started.
//!
//! The kernel's "signal at the parent's death" is tied to the thread that forked. A pool thread may end at any time
//! and would take its sandboxes along; this one lives as long as anything that was started from it is held.

use std::io;
use std::process::Child;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use crate::sys::{self, Launch};

/// How many starts may wait for the thread; further ones wait for a place.
const QUEUE_LENGTH: usize = 64;

type Reply = SyncSender<io::Result<Child>>;

/// Starts programs that die with this.
#[derive(Debug)]
pub(crate) struct Spawner {
    jobs: SyncSender<(Launch, Reply)>,
}

impl Spawner {
    /// Starts the thread.
    pub(crate) fn new() -> io::Result<Self> {
        let (jobs, queue) = sync_channel::<(Launch, Reply)>(QUEUE_LENGTH);
        thread::Builder::new().name("aegis-spawner".to_owned()).spawn(move || {
            while let Ok((launch, reply)) = queue.recv() {
                if let Err(orphan) = reply.send(sys::spawn(launch))
                    && let Ok(mut child) = orphan.0
                {
                    // Whoever asked is gone: nobody would ever reap it.
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        })?;
        Ok(Self { jobs })
    }

    /// Starts a program from the thread. Blocks for the length of a fork and exec.
    pub(crate) fn spawn(&self, launch: Launch) -> io::Result<Child> {
        let (reply, answer) = sync_channel(1);
        let gone = || io::Error::other("the thread that starts sandboxes has ended");
        self.jobs.send((launch, reply)).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }
}
