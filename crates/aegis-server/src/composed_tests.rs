//! What a whole node does by its configuration and its clock, with the real adapters.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aegis_core::{
    Actor, Body, Durability, EventId, ExecutionId, NewEvent, SpanContext, SpanId, StreamId, Tenant,
    Timestamp, TraceId, VolumeId,
};
use aegis_kernel::port::{Append, EventQuery, Grant, Model as _, PathRules, VolumeSpec};
use aegis_testkit::TestClock;
use tokio_util::sync::CancellationToken;

use crate::compose::{self, Composed};
use crate::folder::Folder;
use crate::{LoadedConfig, load_config, serve};

const HOUR: Duration = Duration::from_secs(3600);

fn config(home: &Path, spec: &str) -> LoadedConfig {
    let file = home.join("config.yaml");
    let text =
        format!("apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: {{name: n}}\nspec:\n{spec}");
    std::fs::write(&file, text).unwrap();
    load_config(Some(&file)).unwrap()
}

/// A volume with a file, on record as one that expires at `expires_at`.
async fn volume_with_a_file(composed: &Composed, expires_at: Timestamp) -> VolumeId {
    let (kernel, ids) = (&composed.kernel, &composed.ids);
    let id = VolumeId::from_uuid(ids.uuid());
    kernel.volumes().create(&VolumeSpec { id, size_limit: 1 << 20 }).await.unwrap();
    let all = || vec!["/workspace".to_owned()];
    let grant = Grant {
        volume: id,
        execution: ExecutionId::from_uuid(ids.uuid()),
        mount_path: "/workspace".to_owned(),
        read_only: false,
        rules: PathRules { read: all(), write: all() },
        size_limit: 1 << 20,
        uid: 0,
        mount: false,
    };
    let files = kernel.volumes().open(grant).await.unwrap();
    tokio::task::spawn_blocking(move || files.write("/workspace/a", b"x").unwrap()).await.unwrap();
    let body = Body::VolumeCreated {
        name: "workspace".to_owned(),
        execution: None,
        size_limit: 1 << 20,
        expires_at: Some(expires_at),
    };
    let span = SpanContext {
        trace_id: TraceId::from_bytes([3; 16]),
        span_id: SpanId::from_bytes([4; 8]),
        parent_span_id: None,
    };
    let event = NewEvent {
        id: EventId::from_uuid(ids.uuid()),
        at: composed.clock.now(),
        span,
        actor: Actor::daemon(),
        body,
    };
    let append = Append {
        tenant: Tenant::default_tenant(),
        stream: StreamId::Volume(id),
        expected: Some(0),
        events: vec![event],
        blobs: Vec::new(),
        durability: Durability::Process,
    };
    kernel.journal().append(append).await.unwrap();
    id
}

#[tokio::test]
async fn a_volume_is_removed_when_its_time_has_come_and_not_before() {
    let home = tempfile::tempdir().unwrap();
    let folder = Folder::take(home.path()).unwrap();
    let config = load_config(None).unwrap();
    let clock = Arc::new(TestClock::at(Timestamp::parse("2026-11-21T10:00:00Z").unwrap()));
    let composed = compose::compose_at(home.path(), &config, false, clock.clone()).await.unwrap();
    let stop = CancellationToken::new();
    let app = serve::app(&config, &folder, "127.0.0.1:1".parse().unwrap(), &composed, &stop).unwrap();
    app.ready.store(true, Ordering::Release);
    let id = volume_with_a_file(&composed, composed.clock.now().plus_millis(7_200_000)).await;
    let kernel = &composed.kernel;
    let file = || kernel.volumes().read_file(id, "a");
    clock.advance(HOUR + HOUR - Duration::from_secs(1));
    assert_eq!(kernel.sweep_volumes().await.unwrap(), 0);
    assert_eq!(file().await.unwrap(), b"x", "its time has not come");
    clock.advance(Duration::from_secs(1));
    // The daemon's own look.
    let sweeping = tokio::spawn(serve::sweep_volumes(Arc::new(app), stop.clone(), Duration::from_millis(10)));
    for _ in 0..1000 {
        if kernel.journal().volume(id).await.unwrap().unwrap().removed {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    sweeping.await.unwrap();
    assert!(file().await.is_err(), "the file is gone");
    let query = EventQuery { stream: Some(StreamId::Volume(id)), limit: 9, ..EventQuery::default() };
    let events = kernel.journal().events(&query).await.unwrap();
    let last = events.last().unwrap();
    assert_eq!(
        (&last.body, &last.actor),
        (&Body::VolumeRemoved { reason: "expired".to_owned() }, &Actor::daemon())
    );
    assert_eq!(kernel.sweep_volumes().await.unwrap(), 0, "once");
}

#[tokio::test]
async fn what_is_switched_off_is_not_there() {
    let home = tempfile::tempdir().unwrap();
    let config = config(
        home.path(),
        "  llm_providers:
    - {name: off, type: openai-compatible, endpoint: 'http://127.0.0.1:9/v1', enabled: false, api_key: 'env:AEGIS_NO_SUCH', models: [{alias: gone, model: m}]}
    - {name: on, type: openai-compatible, endpoint: 'http://127.0.0.1:9/v1', models: [{alias: there, model: m}]}
  mcp_servers:
    - {name: off, executable: /bin/false, enabled: false}
    - {name: on, executable: /bin/false}
",
    );
    let composed = compose::compose(home.path(), &config, false).await.unwrap();
    let aliases = composed.router.aliases();
    assert!(aliases.contains(&"there".to_owned()) && !aliases.contains(&"gone".to_owned()), "{aliases:?}");
    let listed = composed.servers.list(&Tenant::default_tenant()).await.unwrap();
    let names: Vec<String> = listed.iter().map(|server| server.key.server.to_string()).collect();
    assert_eq!(names, ["on"]);
    composed.servers.stop().await;
}

#[tokio::test]
async fn the_journal_is_as_durable_as_the_configuration_says() {
    let home = tempfile::tempdir().unwrap();
    let of = |spec: &str| {
        let config = config(home.path(), spec);
        let (clock, ids) = (crate::system::SystemClock::new(), crate::system::SystemIds);
        compose::store_options(home.path(), config.node(), Arc::new(clock), Arc::new(ids)).always_power
    };
    assert!(of("  journal: {durability: power}\n"));
    assert!(!of("  journal: {durability: process}\n"));
}
