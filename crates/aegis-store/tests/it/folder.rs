//! Folders to open stores in.

use std::path::Path;
use std::sync::Arc;

use aegis_core::Timestamp;
use aegis_store::{OpenOptions, Store};
use aegis_testkit::{SeededIds, TestClock};

/// Options for a store in `folder`.
pub(crate) fn options(folder: &Path, seed: u64) -> OpenOptions {
    let clock = Arc::new(TestClock::at(Timestamp::from_micros(1_771_840_800_000_000)));
    OpenOptions { disk_floor_bytes: 0, ..OpenOptions::new(folder, clock, Arc::new(SeededIds::new(seed))) }
}

/// A store in `folder`.
pub(crate) async fn open(folder: &Path) -> Store {
    Store::open(options(folder, 7)).await.unwrap()
}
