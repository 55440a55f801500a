//! The conformance suite of the `volume` port.
//!
//! Each function is one property; [`all`] runs them on one store. They panic with what was expected.

use std::sync::Arc;

use aegis_core::{ExecutionId, Sha256, VolumeId};
use aegis_kernel::port::{FileKind, Files, Grant, PathRules, Volume, VolumeError, VolumeSpec};
use uuid::Uuid;

/// The limit of the suite's volumes.
const LIMIT: u64 = 1024 * 1024;

/// Runs the whole suite. `seed` keeps the ids of two runs on one store apart.
pub async fn all(store: &dyn Volume, seed: u128) {
    let mut next = seed;
    let mut volume = || {
        next += 1;
        VolumeId::from_uuid(Uuid::from_u128(next))
    };
    files_come_back_as_written(store, volume()).await;
    rules_hold_for_each_operation(store, volume()).await;
    paths_outside_are_refused(store, volume()).await;
    read_only_means_nothing_is_written(store, volume()).await;
    the_limit_is_exact(store, volume()).await;
    operations_are_recorded(store, volume()).await;
    removal_is_whole(store, volume()).await;
}

/// A grant with these rules, without a front.
pub fn grant(volume: VolumeId, read: &[&str], write: &[&str]) -> Grant {
    let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    Grant {
        volume,
        execution: ExecutionId::from_uuid(Uuid::from_u128(7)),
        mount_path: "/workspace".to_owned(),
        read_only: false,
        rules: PathRules { read: owned(read), write: owned(write) },
        size_limit: LIMIT,
        uid: 100_001,
        mount: false,
    }
}

async fn opened(store: &dyn Volume, grant: Grant) -> Arc<dyn Files> {
    let spec = VolumeSpec { id: grant.volume, size_limit: LIMIT };
    check(store.create(&spec).await, "create");
    check(store.open(grant).await, "open")
}

fn check<T>(result: Result<T, VolumeError>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => {
            assert_eq!(Err::<(), _>(error), Ok(()), "{what} should succeed");
            std::process::abort()
        }
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, VolumeError>, what: &str) {
    assert!(matches!(result, Err(VolumeError::NotAllowed(_))), "{what} should be refused, got {result:?}");
}

async fn files_come_back_as_written(store: &dyn Volume, volume: VolumeId) {
    let files = opened(store, grant(volume, &[], &["/workspace"])).await;
    check(files.write("/workspace/a/b/c.txt", b"hello"), "write makes missing directories");
    check(files.write("/workspace/a/b/c.txt", b"hello, world"), "write replaces");
    assert_eq!(check(files.read("/workspace/a/b/c.txt", 7, 100), "read"), b"world");
    assert_eq!(check(files.read("/workspace/a/b/c.txt", 100, 1), "read past the end"), b"");
    let meta = check(files.stat("/workspace/a/b/c.txt"), "stat");
    assert_eq!((meta.kind, meta.size), (FileKind::File, 12));
    check(files.create_dir("/workspace/a/b"), "an existing directory is fine");
    check(files.create_dir("/workspace/a/x/y"), "missing parents are made");
    let names: Vec<_> =
        check(files.list("/workspace/a"), "list").into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["b", "x"]);
    assert!(matches!(files.read("/workspace/none", 0, 1), Err(VolumeError::NotFound(_))));
    assert!(matches!(files.read("/workspace/a", 0, 1), Err(VolumeError::WrongKind(_))));
    assert!(matches!(files.write("/workspace/a", b""), Err(VolumeError::WrongKind(_))));
    let tree = check(files.tree(), "tree");
    let paths: Vec<_> = tree.entries.iter().map(|entry| (entry.path.as_str(), entry.size)).collect();
    assert_eq!(paths, [("a/b/c.txt", 12)]);
    // SHA-256 of "hello, world".
    let digest: Option<Sha256> =
        "09ca7e4eaa6e8ae9c7d261167129184883644d07dfba7cbfbc4c8a2e08360d5b".parse().ok();
    assert_eq!(tree.entries.first().map(|entry| entry.sha256), digest);
    assert_eq!(check(store.tree(volume).await, "the operator's tree"), tree);
    assert_eq!(check(store.read_file(volume, "a/b/c.txt").await, "the operator's read"), b"hello, world");
    assert!(store.read_file(volume, "../limit").await.is_err());
}

async fn rules_hold_for_each_operation(store: &dyn Volume, volume: VolumeId) {
    let all = opened(store, grant(volume, &[], &["/workspace"])).await;
    for path in ["secret/key", "docs/read.md", "out/old", "outside"] {
        check(all.write(&format!("/workspace/{path}"), b"x"), "write");
    }
    let files = opened(store, grant(volume, &["/workspace/docs"], &["/workspace/out"])).await;
    assert_eq!(check(files.read("/workspace/docs/read.md", 0, 9), "readable"), b"x");
    assert_eq!(check(files.read("/workspace/out/old", 0, 9), "what is writable is readable"), b"x");
    check(files.write("/workspace/out/new", b"y"), "writable");
    refused(files.write("/workspace/docs/read.md", b"y"), "write where only reading is permitted");
    refused(files.read("/workspace/secret/key", 0, 9), "read outside the rules");
    refused(files.stat("/workspace/secret"), "stat outside the rules");
    refused(files.list("/workspace/secret"), "list outside the rules");
    refused(files.write("/workspace/outside", b"y"), "a path of which a permitted one is a prefix");
    refused(files.create_dir("/workspace/other"), "make a directory outside the rules");
    refused(files.remove("/workspace/secret", true), "remove outside the rules");
    refused(files.remove("/workspace/docs/read.md", false), "remove where only reading is permitted");
    let names: Vec<_> =
        check(files.list("/workspace"), "on the way").into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["docs", "out"], "a directory on the way shows what is permitted only");
    let bad = PathRules { read: vec!["/a/../b".to_owned()], write: Vec::new() };
    assert!(store.open(Grant { rules: bad, ..grant(volume, &[], &[]) }).await.is_err());
}

async fn paths_outside_are_refused(store: &dyn Volume, volume: VolumeId) {
    let files = opened(store, grant(volume, &[], &["/"])).await;
    for path in
        ["/workspace/../etc/passwd", "/workspace2/a", "/etc/passwd", "workspace/a", "", "/workspace/a\0"]
    {
        refused(files.read(path, 0, 1), path);
        refused(files.write(path, b""), path);
        refused(files.create_dir(path), path);
        refused(files.remove(path, true), path);
        refused(files.list(path), path);
    }
}

async fn read_only_means_nothing_is_written(store: &dyn Volume, volume: VolumeId) {
    let all = opened(store, grant(volume, &[], &["/workspace"])).await;
    check(all.write("/workspace/a", b"x"), "write");
    let files = opened(store, Grant { read_only: true, ..grant(volume, &[], &["/workspace"]) }).await;
    assert_eq!(check(files.read("/workspace/a", 0, 9), "read"), b"x");
    refused(files.write("/workspace/a", b"y"), "write");
    refused(files.create_dir("/workspace/d"), "create_dir");
    refused(files.remove("/workspace/a", false), "remove");
}

async fn the_limit_is_exact(store: &dyn Volume, volume: VolumeId) {
    let files = opened(store, grant(volume, &[], &["/workspace"])).await;
    let other = opened(store, grant(volume, &[], &["/workspace"])).await;
    let full = |result| assert_eq!(result, Err(VolumeError::QuotaExceeded(LIMIT)));
    let half = vec![0; usize::try_from(LIMIT / 2).unwrap_or(0)];
    full(files.write("/workspace/a", &vec![0; usize::try_from(LIMIT).unwrap_or(0) + 1]));
    check(files.write("/workspace/a", &half), "half of the limit");
    check(files.write("/workspace/a", &half), "replacing needs no more than the new file");
    full(other.write("/workspace/b", &half));
    assert!(matches!(other.stat("/workspace/b"), Err(VolumeError::NotFound(_))), "whole or not at all");
    for _ in 0..3 {
        check(files.remove("/workspace/a", false), "remove");
        check(other.write("/workspace/a", &half), "what was removed is free again");
    }
    let mut count = 0_u64;
    let ended = loop {
        match files.write(&format!("/workspace/empty-{count}"), b"") {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
        assert!(count < LIMIT, "empty files are bounded too");
    };
    assert_eq!(ended, VolumeError::QuotaExceeded(LIMIT));
}

async fn operations_are_recorded(store: &dyn Volume, volume: VolumeId) {
    let files = opened(store, grant(volume, &[], &["/workspace/out"])).await;
    assert_eq!(files.take_records(), None);
    check(files.write("/workspace/out/a", b"0123456789"), "write");
    for at in 0..10 {
        check(files.read("/workspace/out/a", at, 1), "read");
    }
    refused(files.read("/workspace/secret", 0, 1), "read outside");
    let Some(records) = files.take_records() else {
        assert!(files.take_records().is_some(), "operations are recorded");
        return;
    };
    assert_eq!((records.reads, records.read_bytes, records.refused), (10, 10, 1));
    assert_eq!(records.written_bytes, 10);
    let reads: Vec<_> = records.ranges.iter().filter(|range| range.op == "read").collect();
    assert!(
        matches!(reads.as_slice(), [range] if range.path == "/workspace/out/a" && (range.offset, range.bytes) == (0, 10)),
        "neighbouring reads are one range: {reads:?}"
    );
    assert!(records.ranges.iter().any(|range| range.op == "refused" && range.path == "/workspace/secret"));
    check(files.tree(), "tree");
    assert_eq!(files.take_records(), None, "the recorded tree is not a read");
}

async fn removal_is_whole(store: &dyn Volume, volume: VolumeId) {
    let files = opened(store, grant(volume, &[], &["/workspace"])).await;
    check(files.write("/workspace/d/e/f", b"x"), "write");
    assert!(matches!(files.remove("/workspace/d", false), Err(VolumeError::WrongKind(_))));
    check(files.remove("/workspace/d", true), "remove with content");
    assert!(matches!(files.stat("/workspace/d"), Err(VolumeError::NotFound(_))));
    assert!(matches!(files.remove("/workspace/d", true), Err(VolumeError::NotFound(_))));
    drop(files);
    check(store.remove(volume).await, "remove the volume");
    check(store.remove(volume).await, "one that is gone is fine");
    assert!(store.open(grant(volume, &[], &[])).await.is_err(), "a removed volume cannot be opened");
    assert!(store.tree(volume).await.is_err());
}
