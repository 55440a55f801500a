//! The conformance suite of the `journal` port.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a step that fails is a test that fails"
)]

pub mod fixture;
mod projections;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aegis_core::{Body, Durability, Sha256, StreamId, Tenant, Timestamp};
use aegis_kernel::port::{BlobCopy, EventQuery, Journal, JournalError};

use fixture::Fixture;

/// Appenders at the same time.
const APPENDERS: u64 = 64;
/// Events each of them appends.
const EVENTS_EACH: u64 = 8;

/// Runs every test, each on a journal of its own.
///
/// # Panics
/// If the journal does not do what the port says.
pub async fn suite<F, Made>(make: F)
where
    F: Fn() -> Made,
    Made: Future<Output = Arc<dyn Journal>>,
{
    appended_events_are_read_back(make().await.as_ref()).await;
    a_conflict_fails_alone(make().await).await;
    concurrent_appends_are_dense(make().await).await;
    queries_filter_and_page(make().await.as_ref()).await;
    blobs_come_back_or_say_why(make().await.as_ref()).await;
    destroyed_working_copies_leave_the_evidence(make().await.as_ref()).await;
    commits_wake_up_subscribers(make().await.as_ref()).await;
    idempotency_keys_are_remembered_for_a_day(make().await.as_ref()).await;
    projections::agents_follow_their_events(make().await.as_ref()).await;
    projections::executions_follow_their_events(make().await.as_ref()).await;
    projections::ended_runs_with_working_copies_are_found(make().await.as_ref()).await;
    projections::executions_page_newest_first(make().await.as_ref()).await;
    projections::volumes_follow_their_events(make().await.as_ref()).await;
}

async fn appended_events_are_read_back(journal: &dyn Journal) {
    let fixture = Fixture::new(1);
    let stream = StreamId::Execution(fixture.execution());
    let append = fixture.append(stream, Some(0), vec![Body::ExecutionStarted {}, fixture.intended()]);
    let events = append.events.clone();
    let before = journal.head().await.unwrap();
    let appended = journal.append(append).await.unwrap();
    assert_eq!((appended.seq, appended.stream_seq), (before.size + 1, 2));
    let head = journal.head().await.unwrap();
    assert_eq!(head.size, before.size + 2);
    assert_ne!(head.root, before.root);

    let query = EventQuery { stream: Some(stream), limit: 10, ..EventQuery::default() };
    let read = journal.events(&query).await.unwrap();
    assert_eq!(read.iter().map(|event| event.stream_seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(read.iter().map(|event| event.seq).collect::<Vec<_>>(), [before.size, before.size + 1]);
    for (read, written) in read.iter().zip(&events) {
        assert_eq!((read.id, read.at, read.span), (written.id, written.at, written.span));
        assert_eq!((&read.actor, &read.body), (&written.actor, &written.body));
        assert_eq!((read.stream, &read.tenant), (stream, &Tenant::default_tenant()));
    }
    let empty = fixture.append(stream, None, Vec::new());
    assert!(matches!(journal.append(empty).await, Err(JournalError::Store(_))));
}

async fn a_conflict_fails_alone(journal: Arc<dyn Journal>) {
    let fixture = Fixture::new(2);
    let (contested, free) =
        (StreamId::Execution(fixture.execution()), StreamId::Execution(fixture.execution()));
    let first = fixture.append(contested, Some(0), vec![Body::ExecutionStarted {}]);
    assert_eq!(journal.append(first).await.unwrap().stream_seq, 1);
    let mut tasks = Vec::new();
    for place in 0..20 {
        let append = match place % 2 {
            0 => fixture.append(contested, Some(0), vec![Body::ExecutionStarted {}]),
            _ => fixture.append(free, None, vec![Body::ExecutionStarted {}]),
        };
        let journal = Arc::clone(&journal);
        tasks.push((place, tokio::spawn(async move { journal.append(append).await })));
    }
    for (place, task) in tasks {
        match (place % 2, task.await.unwrap()) {
            (0, Err(JournalError::Conflict { stream, expected: 0, actual: 1 })) => {
                assert_eq!(stream, contested.to_string());
            }
            (1, Ok(_)) => {}
            (_, other) => panic!("append {place} came back as {other:?}"),
        }
    }
    let query = EventQuery { stream: Some(free), limit: 100, ..EventQuery::default() };
    assert_eq!(journal.events(&query).await.unwrap().len(), 10);
}

async fn concurrent_appends_are_dense(journal: Arc<dyn Journal>) {
    let before = journal.head().await.unwrap().size;
    let tasks: Vec<_> = (0..APPENDERS)
        .map(|appender| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move {
                let fixture = Fixture::new(100 + appender);
                let stream = StreamId::Execution(fixture.execution());
                let mut seqs = Vec::new();
                for position in 0..EVENTS_EACH {
                    let mut append = fixture.append(stream, Some(position), vec![fixture.intended()]);
                    if position % 2 == 0 {
                        append.durability = Durability::Process;
                    }
                    let appended = journal.append(append).await.unwrap();
                    assert_eq!(appended.stream_seq, position + 1);
                    // Who appended reads its own write.
                    let query = EventQuery {
                        stream: Some(stream),
                        newest_first: true,
                        limit: 1,
                        ..EventQuery::default()
                    };
                    assert_eq!(journal.events(&query).await.unwrap()[0].seq, appended.seq);
                    seqs.push(appended.seq);
                }
                seqs
            })
        })
        .collect();
    let mut seqs = BTreeSet::new();
    for task in tasks {
        seqs.extend(task.await.unwrap());
    }
    let expected: BTreeSet<u64> = (before..before + APPENDERS * EVENTS_EACH).collect();
    assert_eq!(seqs, expected);
}

async fn queries_filter_and_page(journal: &dyn Journal) {
    let mut fixture = Fixture::new(3);
    let stream = StreamId::Execution(fixture.execution());
    let begin = fixture.at;
    let mut seqs = Vec::new();
    for _ in 0..5 {
        fixture.at = fixture.at.plus_millis(1000);
        let append = fixture.append(stream, None, vec![fixture.intended(), Body::ExecutionStarted {}]);
        seqs.push(journal.append(append).await.unwrap().seq);
    }
    let count = async |query: EventQuery| {
        journal.events(&EventQuery { limit: 100, stream: Some(stream), ..query }).await.unwrap().len()
    };
    let kinds = |kind: &str| EventQuery { kinds: vec![kind.to_owned()], ..EventQuery::default() };
    assert_eq!(count(EventQuery::default()).await, 10);
    assert_eq!(count(kinds("action.intended")).await, 5);
    assert_eq!(count(kinds("execution.*")).await, 5);
    assert_eq!(count(kinds("execution")).await, 0);
    assert_eq!(count(EventQuery { after: Some(seqs[1]), ..EventQuery::default() }).await, 6);
    assert_eq!(count(EventQuery { before: Some(seqs[1]), ..EventQuery::default() }).await, 3);
    assert_eq!(count(EventQuery { past: Some(7), ..EventQuery::default() }).await, 3);
    assert_eq!(count(EventQuery { past: Some(10), ..EventQuery::default() }).await, 0);
    assert_eq!(count(EventQuery { tenant: Some(Tenant::platform()), ..EventQuery::default() }).await, 0);
    let since = Some(begin.plus_millis(2000));
    let until = Some(begin.plus_millis(4000));
    assert_eq!(count(EventQuery { since, until, ..EventQuery::default() }).await, 4);
    let newest = EventQuery { stream: Some(stream), newest_first: true, limit: 3, ..EventQuery::default() };
    let newest = journal.events(&newest).await.unwrap();
    assert_eq!(newest.iter().map(|event| event.seq).collect::<Vec<_>>(), [seqs[4], seqs[4] - 1, seqs[3]]);
    let next = EventQuery { stream: Some(stream), past: Some(3), limit: 2, ..EventQuery::default() };
    let next = journal.events(&next).await.unwrap();
    assert_eq!(next.iter().map(|event| event.stream_seq).collect::<Vec<_>>(), [4, 5]);
    let of_trace = EventQuery { trace_id: Some(newest[0].span.trace_id), limit: 10, ..EventQuery::default() };
    assert_eq!(journal.events(&of_trace).await.unwrap(), newest[..1]);
}

async fn blobs_come_back_or_say_why(journal: &dyn Journal) {
    let fixture = Fixture::new(4);
    let (stream, other) =
        (StreamId::Execution(fixture.execution()), StreamId::Execution(fixture.execution()));
    let texts = ["", "one line", &"x".repeat(300_000)];
    let (blobs, references): (Vec<_>, Vec<_>) =
        texts.iter().map(|text| fixture.blob(text, BlobCopy::Evidence)).unzip();
    let mut append = fixture.append(stream, None, vec![Body::ExecutionStarted {}]);
    append.blobs = blobs;
    journal.append(append).await.unwrap();
    for (text, reference) in texts.iter().zip(&references) {
        assert_eq!(journal.blob(stream, reference).await.unwrap(), text.as_bytes());
        assert_eq!(
            journal.blob(other, reference).await,
            Err(JournalError::BlobDamaged(reference.id)),
            "a blob opens only in its own stream"
        );
        let mut lied = *reference;
        lied.commitment = Sha256::from_bytes([9; 32]);
        assert_eq!(journal.blob(stream, &lied).await, Err(JournalError::BlobDamaged(reference.id)));
    }
    let unstored = fixture.unstored();
    assert_eq!(journal.blob(stream, &unstored).await, Err(JournalError::BlobDamaged(unstored.id)));
}

async fn destroyed_working_copies_leave_the_evidence(journal: &dyn Journal) {
    let fixture = Fixture::new(5);
    let stream = StreamId::Execution(fixture.execution());
    let (blobs, both) = fixture.two_copies("my name is [name]", "my name is Ada");
    let (only_working, working) = fixture.blob("exact alone", BlobCopy::Working);
    let mut append = fixture.append(stream, None, vec![Body::ExecutionStarted {}]);
    append.blobs = blobs;
    append.blobs.push(only_working);
    journal.append(append).await.unwrap();
    assert_eq!(journal.blob(stream, &both).await.unwrap(), "my name is Ada");
    assert_eq!(journal.blob(stream, &working).await.unwrap(), "exact alone");
    for _twice in 0..2 {
        journal.destroy_working_copies(stream).await.unwrap();
        assert_eq!(journal.blob(stream, &both).await.unwrap(), "my name is [name]");
        assert_eq!(journal.blob(stream, &working).await, Err(JournalError::BlobDestroyed(working.id)));
    }
}

async fn commits_wake_up_subscribers(journal: &dyn Journal) {
    let fixture = Fixture::new(6);
    let mut committed = journal.committed();
    let before = *committed.borrow_and_update();
    let stream = StreamId::Execution(fixture.execution());
    let mut append = fixture.append(stream, None, vec![Body::ExecutionStarted {}]);
    append.durability = Durability::Process;
    let appended = journal.append(append).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), committed.changed()).await.unwrap().unwrap();
    assert_eq!(*committed.borrow(), appended.seq + 1);
    assert_eq!(appended.seq, before);
}

async fn idempotency_keys_are_remembered_for_a_day(journal: &dyn Journal) {
    let tenant = Tenant::default_tenant();
    let now = Timestamp::from_micros(1_771_840_800_000_000);
    let (one, two) = (Sha256::from_bytes([1; 32]), Sha256::from_bytes([2; 32]));
    assert_eq!(journal.idempotent(&tenant, "key", one, "first", now).await.unwrap(), None);
    let known = Some((one, "first".to_owned()));
    assert_eq!(journal.idempotent(&tenant, "key", two, "second", now).await.unwrap(), known);
    let platform = Tenant::platform();
    assert_eq!(journal.idempotent(&platform, "key", two, "other", now).await.unwrap(), None);
    let almost = now.plus_millis(23 * 3_600_000);
    assert_eq!(journal.idempotent(&tenant, "key", one, "third", almost).await.unwrap(), known);
    let later = now.plus_millis(25 * 3_600_000);
    assert_eq!(journal.idempotent(&tenant, "key", two, "fourth", later).await.unwrap(), None);
}
