//! What the kernel holds open.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use aegis_kernel::port::FileKind;

use super::nodes::Nodes;
use crate::core::{OpenFile, lock};

/// A directory as it was when it was opened.
pub(super) type Listing = Arc<Vec<(String, FileKind)>>;

/// The front's tables.
#[derive(Default)]
pub(super) struct State {
    pub(super) nodes: Mutex<Nodes>,
    /// Answer nothing any more.
    pub(super) closed: AtomicBool,
    files: Mutex<Files>,
    listings: Mutex<HashMap<u64, Listing>>,
    last: AtomicU64,
}

#[derive(Default)]
struct Files {
    by_handle: HashMap<u64, Arc<OpenFile>>,
    /// For questions about a file without a name that come without a handle.
    by_node: HashMap<u64, Vec<u64>>,
}

impl State {
    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn add_file(&self, node: u64, file: OpenFile) -> u64 {
        let handle = self.next();
        let mut files = lock(&self.files);
        files.by_handle.insert(handle, Arc::new(file));
        files.by_node.entry(node).or_default().push(handle);
        handle
    }

    pub(super) fn file(&self, handle: u64) -> Option<Arc<OpenFile>> {
        lock(&self.files).by_handle.get(&handle).cloned()
    }

    /// Any open file of a node.
    pub(super) fn file_of(&self, node: u64) -> Option<Arc<OpenFile>> {
        let files = lock(&self.files);
        files.by_node.get(&node)?.first().and_then(|handle| files.by_handle.get(handle)).cloned()
    }

    pub(super) fn remove_file(&self, node: u64, handle: u64) {
        let removed = {
            let mut files = lock(&self.files);
            if let Some(handles) = files.by_node.get_mut(&node) {
                handles.retain(|other| *other != handle);
                if handles.is_empty() {
                    files.by_node.remove(&node);
                }
            }
            files.by_handle.remove(&handle)
        };
        // Closing takes the ledger's lock: not under the one above.
        drop(removed);
    }

    pub(super) fn add_listing(&self, listing: Vec<(String, FileKind)>) -> u64 {
        let handle = self.next();
        lock(&self.listings).insert(handle, Arc::new(listing));
        handle
    }

    pub(super) fn listing(&self, handle: u64) -> Option<Listing> {
        lock(&self.listings).get(&handle).cloned()
    }

    pub(super) fn remove_listing(&self, handle: u64) {
        lock(&self.listings).remove(&handle);
    }
}
