//! What the journal's projections must answer.

use aegis_core::execution::FailureReason;
use aegis_core::{AgentId, Body, MicroUsd, Name, Sha256, StreamId, Tenant};
use aegis_kernel::port::{AgentState, ExecutionQuery, ExecutionStatus, Journal};

use super::fixture::Fixture;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(super) async fn agents_follow_their_events(journal: &dyn Journal) {
    let mut fixture = Fixture::new(20);
    let tenant = Tenant::default_tenant();
    for text in ["gamma", "alpha", "beta"] {
        let id = AgentId::of(&tenant, &name(text));
        let deployed = fixture.deployed(&name(text), "1.0.0");
        journal.append(fixture.append(StreamId::Agent(id), Some(0), vec![deployed])).await.unwrap();
    }
    let platform_id = AgentId::of(&Tenant::platform(), &name("beta"));
    let mut platform =
        fixture.append(StreamId::Agent(platform_id), Some(0), vec![fixture.deployed(&name("beta"), "7")]);
    platform.tenant = Tenant::platform();
    journal.append(platform).await.unwrap();

    let id = AgentId::of(&tenant, &name("alpha"));
    let stream = StreamId::Agent(id);
    let created_at = fixture.at;
    fixture.at = fixture.at.plus_millis(5000);
    let next = vec![fixture.deployed(&name("alpha"), "1.1.0"), Body::AgentPaused {}];
    journal.append(fixture.append(stream, Some(1), next)).await.unwrap();
    let record = journal.agent(id).await.unwrap().unwrap();
    assert_eq!((record.version.as_str(), record.state), ("1.1.0", AgentState::Paused));
    assert_eq!((record.created_at, record.updated_at), (created_at, fixture.at));
    assert_eq!((record.stream_seq, record.digest), (3, Sha256::from_bytes([2; 32])));
    let versions = journal.agent_versions(id).await.unwrap();
    assert_eq!(versions.iter().map(|v| v.version.as_str()).collect::<Vec<_>>(), ["1.1.0", "1.0.0"]);

    let mut names = Vec::new();
    let mut cursor = None;
    loop {
        let page = journal.agents(&tenant, cursor.as_deref(), 1).await.unwrap();
        names.extend(page.items.iter().map(|agent| agent.name.to_string()));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(names, ["alpha", "beta", "beta", "gamma"]);

    journal
        .append(fixture.append(stream, Some(3), vec![Body::AgentResumed {}, Body::AgentRemoved {}]))
        .await
        .unwrap();
    assert_eq!(journal.agent(id).await.unwrap().unwrap().state, AgentState::Removed);
    assert_eq!(journal.agents(&tenant, None, 10).await.unwrap().items.len(), 3);
    assert!(journal.agent(fixture.agent()).await.unwrap().is_none());
}

pub(super) async fn executions_follow_their_events(journal: &dyn Journal) {
    let fixture = Fixture::new(21);
    let (agent, id) = (fixture.agent(), fixture.execution());
    let stream = StreamId::Execution(id);
    let run = fixture.run(agent, &name("reviewer"));
    for (position, body) in (0..).zip(run) {
        journal.append(fixture.append(stream, Some(position), vec![body])).await.unwrap();
    }
    let record = journal.execution(id).await.unwrap().unwrap();
    assert_eq!((record.agent, record.name.as_str(), record.status.name()), (agent, "reviewer", "completed"));
    assert_eq!((record.total_iterations, record.stream_seq, record.removed), (2, 12, false));
    assert_eq!((record.usage.cost, record.usage.input_tokens), (MicroUsd::from_micros(1000), 20));
    assert!(record.answer.is_some() && record.failure.is_none());
    assert_eq!((record.started_at, record.ended_at), (Some(fixture.at), Some(fixture.at)));

    let iterations = journal.iterations(id).await.unwrap();
    assert_eq!(iterations.len(), 2);
    assert_eq!((iterations[0].number, iterations[0].status.as_str()), (1, "failed"));
    assert_eq!(iterations[0].error.map(|(reason, _)| reason), Some(FailureReason::ModelFailed));
    assert_eq!((iterations[1].number, iterations[1].status.as_str()), (2, "completed"));
    assert_eq!(iterations[1].validation.len(), 1);
    assert_eq!(iterations[1].score.unwrap().millionths(), 900_000);
    assert!(iterations[1].output.is_some() && iterations[1].ended_at.is_some());

    let tenant = Tenant::default_tenant();
    assert_eq!(journal.cost_since(&tenant, fixture.at).await.unwrap(), MicroUsd::from_micros(1000));
    let later = fixture.at.plus_millis(1);
    assert_eq!(journal.cost_since(&tenant, later).await.unwrap(), MicroUsd::default());
}

pub(super) async fn ended_runs_with_working_copies_are_found(journal: &dyn Journal) {
    let fixture = Fixture::new(25);
    let (ended, running, plain) = (fixture.execution(), fixture.execution(), fixture.execution());
    for (id, bodies, exact) in [
        (ended, fixture.run(fixture.agent(), &name("ended")), true),
        (running, vec![fixture.created(fixture.agent(), &name("running"))], true),
        (plain, fixture.run(fixture.agent(), &name("plain")), false),
    ] {
        let mut append = fixture.append(StreamId::Execution(id), Some(0), bodies);
        if exact {
            append.blobs = fixture.two_copies("my name is [name]", "my name is Ada").0;
        }
        journal.append(append).await.unwrap();
    }
    let found = async |before| {
        let found = journal.ended_with_working_copies(before, 10).await.unwrap();
        found.into_iter().map(|execution| execution.id).collect::<Vec<_>>()
    };
    assert!(found(fixture.at.minus_millis(1)).await.is_empty());
    assert_eq!(found(fixture.at).await, [ended]);
    journal.destroy_working_copies(StreamId::Execution(ended)).await.unwrap();
    assert!(found(fixture.at).await.is_empty());
}

pub(super) async fn executions_page_newest_first(journal: &dyn Journal) {
    let fixture = Fixture::new(22);
    let agent = fixture.agent();
    let mut made = Vec::new();
    for _ in 0..5 {
        let id = fixture.execution();
        let created = fixture.created(agent, &name("pager"));
        journal.append(fixture.append(StreamId::Execution(id), Some(0), vec![created])).await.unwrap();
        made.push(id);
    }
    made.reverse();
    let stream = StreamId::Execution(made[1]);
    journal.append(fixture.append(stream, Some(1), vec![Body::ExecutionRemoved {}])).await.unwrap();
    let stream = StreamId::Execution(made[0]);
    journal.append(fixture.append(stream, Some(1), vec![Body::ExecutionStarted {}])).await.unwrap();
    let mut seen = Vec::new();
    let mut query = ExecutionQuery { agent: Some(agent), limit: 2, ..ExecutionQuery::default() };
    loop {
        let page = journal.executions(&query).await.unwrap();
        seen.extend(page.items.iter().map(|execution| execution.id));
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, [made[0], made[2], made[3], made[4]]);
    assert!(journal.execution(made[1]).await.unwrap().unwrap().removed);
    query.limit = 10;
    query.statuses = vec![ExecutionStatus::Running, ExecutionStatus::Waiting];
    let running = journal.executions(&query).await.unwrap().items;
    assert_eq!(running.iter().map(|execution| execution.id).collect::<Vec<_>>(), [made[0]]);
    query.tenant = Some(Tenant::platform());
    assert!(journal.executions(&query).await.unwrap().items.is_empty());
}

pub(super) async fn volumes_follow_their_events(journal: &dyn Journal) {
    let fixture = Fixture::new(23);
    let tenant = Tenant::default_tenant();
    let (execution, volume) = (fixture.execution(), fixture.volume());
    let runs = StreamId::Execution(execution);
    let created = fixture.created(fixture.agent(), &name("keeper"));
    journal.append(fixture.append(runs, Some(0), vec![created])).await.unwrap();
    let stream = StreamId::Volume(volume);
    let expires = fixture.at.plus_millis(60_000);
    let tree = Body::VolumeTreeRecorded {
        execution,
        iteration: 1,
        root: Sha256::from_bytes([3; 32]),
        files: 4,
        bytes: 99,
        tree: fixture.unstored(),
    };
    let bodies = vec![fixture.volume_created(Some(execution), Some(expires)), tree];
    journal.append(fixture.append(stream, Some(0), bodies)).await.unwrap();
    let record = journal.volume(volume).await.unwrap().unwrap();
    assert_eq!((record.last_tree, record.execution), (Some((4, 99)), Some(execution)));
    assert_eq!((record.size_limit, record.stream_seq, record.removed), (1 << 20, 2, false));

    let expired = async |now| journal.expired_volumes(now, 10).await.unwrap().len();
    assert_eq!(expired(expires).await, 0, "its execution is not over");
    let over = Body::ExecutionCancelled { total_iterations: 0 };
    let mut ending = fixture.append(runs, Some(1), vec![over]);
    for event in &mut ending.events {
        event.at = fixture.at.plus_millis(60_000);
    }
    journal.append(ending).await.unwrap();
    assert_eq!(expired(fixture.at).await, 0, "its time has not come");
    assert_eq!(expired(expires).await, 0, "its time is counted from the end of its execution");
    let expires = expires.plus_millis(60_000);
    assert_eq!(expired(expires).await, 1);
    let removed = Body::VolumeRemoved { reason: "expired".to_owned() };
    journal.append(fixture.append(stream, Some(2), vec![removed])).await.unwrap();
    assert_eq!(expired(expires).await, 0);
    assert_eq!(journal.volumes(&tenant, false, 10).await.unwrap().len(), 0);
    assert_eq!(journal.volumes(&tenant, true, 10).await.unwrap()[0].id, volume);
}
