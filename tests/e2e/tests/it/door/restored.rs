//! A journal that was put back to an earlier state: what was said before it may not be said on.

use std::path::Path;

use aegis_e2e::Node;
use serde_json::json;

use super::{LIMITS, Peer, expect, make_key, outside, read, silent};
use crate::evidence::{accept_restored, copy};
use crate::observe::{can_run, events};

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_voids_every_session() {
    let mut node = Node::with(silent()).config(LIMITS).start().await;
    if !can_run(&node, &outside("peer"), "a_restore_voids_every_session") {
        return;
    }
    node.deploy(&outside("peer"));
    let (_, key) = make_key(&node, "peer", "agent", Some("peer"));
    let peer = Peer::attest(&node, &key, 1);
    assert_eq!(peer.call(&node, 1, "fs.write", json!({"path": "/workspace/a", "content": "x"})).0, 200);
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup").display().to_string();
    node.run(&["journal", "backup", "--to", &backup]).ok();
    assert_eq!(peer.call(&node, 2, "fs.read", read()).0, 200);
    node.kill_daemon();

    // The keys of sessions and of tokens are the machine's still: only the journal is as it was.
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        let _ = std::fs::remove_file(node.home().join(name));
    }
    copy(Path::new(&backup), node.home());
    let refused = node.run(&["daemon", "start"]).expect_code(4);
    assert!(refused.stderr.contains("--accept-restored"), "{}", refused.stderr);
    accept_restored(&mut node);
    expect("after the restore", peer.call(&node, 3, "fs.read", read()), (401, 1005, "UNKNOWN_SESSION"));
    let sealed = peer.call(&node, 2, "fs.read", read());
    expect("said before it", sealed, (401, 1005, "UNKNOWN_SESSION"));
    assert_eq!(Peer::attest(&node, &key, 2).call(&node, 1, "fs.list", json!({})).0, 200, "and anew it may");
    assert_eq!(events(&node, "session.opened").len(), 2);
    assert!(node.run(&["audit", "verify"]).ok().stdout.contains("whole"));
}
