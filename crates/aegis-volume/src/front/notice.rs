//! Tells the kernel what changed behind its back.
//!
//! One thread per front does it: an invalidation waits for locks of the kernel that may be held by a process whose
//! request another front's server is just answering, so a server's thread must never wait for one.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use fuser::{INodeNo, Notifier};

use super::handles::State;
use super::nodes::ROOT;
use crate::core::{Change, Watcher, lock};

/// Most changes waiting. When there are more, the kernel finds out when its attributes expire.
const PENDING_MAX: usize = 1024;
/// How long a tool waits until a change is visible in the mount.
const VISIBLE_WAIT: Duration = Duration::from_secs(1);

struct Notice {
    change: Change,
    done: Option<SyncSender<()>>,
}

/// The way to a front's thread of invalidations; the thread ends when this is dropped.
pub(super) struct Notices {
    sender: SyncSender<Notice>,
}

impl Notices {
    pub(super) fn start(notifier: Notifier, state: Arc<State>) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(PENDING_MAX);
        thread::Builder::new()
            .name("volume-notice".to_owned())
            .spawn(move || run(&receiver, &notifier, &state))?;
        Ok(Self { sender })
    }
}

impl Watcher for Notices {
    fn changed(&self, change: &Change, wait: bool) {
        let (done, visible) = sync_channel(1);
        let notice = Notice { change: change.clone(), done: wait.then_some(done) };
        if self.sender.try_send(notice).is_ok() && wait {
            // Late is not wrong: attributes expire within their time to live.
            let _ = visible.recv_timeout(VISIBLE_WAIT);
        }
    }
}

fn run(receiver: &Receiver<Notice>, notifier: &Notifier, state: &State) {
    for notice in receiver {
        invalidate(&notice.change, notifier, state);
        if let Some(done) = notice.done {
            let _ = done.try_send(());
        }
    }
}

fn invalidate(change: &Change, notifier: &Notifier, state: &State) {
    // Failures mean that the kernel knows nothing of it, or that the mount is gone.
    match change {
        Change::Entry(path) => {
            let found = {
                let mut nodes = lock(&state.nodes);
                let found = nodes.find(path);
                if let Some((parent, name)) = found {
                    nodes.detach(parent, name);
                }
                found
            };
            if let Some((parent, name)) = found {
                let _ = notifier.inval_entry(INodeNo(parent), OsStr::new(name));
                let _ = notifier.inval_inode(INodeNo(parent), 0, 0);
            }
        }
        Change::Content(path) => {
            let number = {
                let nodes = lock(&state.nodes);
                match nodes.find(path) {
                    Some((parent, name)) => nodes.child(parent, name),
                    None => path.is_root().then_some(ROOT),
                }
            };
            if let Some(number) = number {
                let _ = notifier.inval_inode(INodeNo(number), 0, 0);
            }
        }
    }
}
