//! The file core: the single place where paths are resolved, rules asked, bytes counted and operations recorded.

mod fault;
mod file;
mod path;
mod record;
mod rules;
mod store;
mod tree;
mod view;
mod view_change;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use fault::Fault;
pub(crate) use file::OpenFile;
pub(crate) use path::VolumePath;
pub(crate) use record::Recorder;
pub(crate) use rules::Rules;
pub(crate) use store::{Attributes, Change, ENTRIES_MAX, INODE_CHARGE, Store, Watcher};
pub(crate) use view::{Mode, View};
pub(crate) use view_change::{NewAttributes, Rename, Stamp};

/// Locks, also after a thread panicked while holding it: what is guarded here is valid at every step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
