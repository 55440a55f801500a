//! The store passes the suite of its port.

use std::sync::{Arc, Mutex};

use aegis_kernel::port::Journal;
use aegis_testkit::conformance::journal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_passes_the_suite_of_the_journal_port() {
    let folders = Mutex::new(Vec::new());
    journal::suite(|| async {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::folder::open(folder.path()).await;
        folders.lock().unwrap().push(folder);
        Arc::new(store) as Arc<dyn Journal>
    })
    .await;
}
