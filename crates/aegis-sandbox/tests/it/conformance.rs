//! The port's own suite.

use std::sync::Arc;

use aegis_core::ExitStatus;
use aegis_kernel::port::{Sandbox, SandboxError};
use aegis_testkit::conformance::sandbox as suite;

use crate::fixture::Fixture;

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_ports_suite() {
    let Some(fixture) = Fixture::new("passes_the_ports_suite").await else { return };
    suite::suite(&fixture.sandbox).await;
    let left: Vec<_> = std::fs::read_dir(fixture.run_folder()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_the_whole_tree() {
    let Some(fixture) = Fixture::new("limits_the_whole_tree").await else { return };
    if fixture.limits("limits_the_whole_tree") {
        suite::limits_suite(&fixture.sandbox).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explicit_limits_are_kept_or_refused() {
    let Some(fixture) = Fixture::new("explicit_limits_are_kept_or_refused").await else { return };
    let mut spec = suite::shell(&fixture.sandbox, 1, "true");
    spec.limits.explicit = true;
    let started = fixture.sandbox.start(spec).await.map(|_| ());
    match &fixture.sandbox.capabilities().limits_missing {
        Some(_) => assert!(matches!(started, Err(SandboxError::CapabilityMissing(_)))),
        None => assert_eq!(started, Ok(())),
    }
}

/// On a busy machine such a program has ended before the daemon comes round to look at it.
#[tokio::test(flavor = "multi_thread")]
async fn programs_that_end_at_once_are_seen_to_end_well() {
    let Some(fixture) = Fixture::new("programs_that_end_at_once_are_seen_to_end_well").await else { return };
    let fixture = Arc::new(fixture);
    let mut runs = tokio::task::JoinSet::new();
    for number in 0..48 {
        let fixture = Arc::clone(&fixture);
        runs.spawn(async move {
            let spec = suite::program(&fixture.sandbox, number, &["/usr/bin/true"]);
            fixture.run(spec).await.status
        });
    }
    for status in runs.join_all().await {
        assert_eq!(status, ExitStatus::Exited { code: 0 });
    }
}
