//! API keys, nonces, sessions and pins.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis_core::{ApiKeyId, Body, ExecutionId, KeyRole, Sha256, Tenant, Timestamp};
use aegis_kernel::port::{Claimed, SmcpSession};
use aegis_store::{Door, DoorError, NONCE_WINDOW, Observed};
use aegis_testkit::{SeededIds, TestClock};
use secrecy::ExposeSecret;
use uuid::Uuid;

const FOLDER: &str = "AEGIS_TEST_NONCE_FOLDER";

fn clock() -> Arc<TestClock> {
    Arc::new(TestClock::at(Timestamp::from_micros(1_771_840_800_000_000)))
}

async fn open_at(folder: &Path, clock: Arc<TestClock>) -> Door {
    Door::open(folder, clock, Arc::new(SeededIds::new(5))).await.unwrap()
}

async fn open(folder: &Path) -> Door {
    open_at(folder, clock()).await
}

fn tenant() -> Tenant {
    Tenant::default_tenant()
}

fn nonce(number: u64) -> Sha256 {
    aegis_security::commitment::sha256(&number.to_le_bytes())
}

#[tokio::test]
async fn a_key_opens_until_it_is_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let door = open_at(folder.path(), clock.clone()).await;
    let ci = "ci".parse().unwrap();
    let (key, text) = door.create_key(&tenant(), &ci, KeyRole::Operator, None).await.unwrap();
    let text = text.expose_secret().to_owned();
    assert!(text.starts_with("aegis_") && text.len() == 49, "{text}");
    let found = door.authenticate(&text).await.unwrap();
    assert_eq!((found.id, found.role, found.agent), (key.id, KeyRole::Operator, None));
    for wrong in
        ["", "aegis_", &text[6..], &format!("{text}x"), &text[..48], &format!("AEGIS_{}", &text[6..])]
    {
        assert!(door.authenticate(wrong).await.is_none(), "{wrong}");
    }
    door.close().await;
    let bytes = std::fs::read(folder.path().join("door.db")).unwrap();
    assert!(!bytes.windows(43).any(|window| window == &text.as_bytes()[6..]));

    let door = open_at(folder.path(), clock.clone()).await;
    let listed = door.keys(&tenant()).await.unwrap();
    assert_eq!(listed[0].last_used, Some(key.created_at), "its use is there after a restart");
    assert!(matches!(
        door.create_key(&tenant(), &ci, KeyRole::Viewer, None).await,
        Err(DoorError::Invalid(_))
    ));
    assert!(door.revoke_key(&"other".parse().unwrap(), key.id).await.unwrap().is_none());
    let revoked = door.revoke_key(&tenant(), key.id).await.unwrap().unwrap();
    assert!(revoked.revoked_at.is_some());
    assert_eq!(revoked.revoked_event(), Body::KeyRevoked { key: key.id });
    assert!(door.authenticate(&text).await.is_none());
    assert!(door.revoke_key(&tenant(), key.id).await.unwrap().is_none());
    door.create_key(&tenant(), &ci, KeyRole::Viewer, None).await.unwrap();
    door.close().await;
    assert!(open_at(folder.path(), clock).await.authenticate(&text).await.is_none());
}

#[tokio::test]
async fn only_keys_of_role_agent_name_an_agent() {
    let folder = tempfile::tempdir().unwrap();
    let door = open(folder.path()).await;
    let (name, agent) = ("a".parse().unwrap(), "writer".parse().unwrap());
    assert!(door.create_key(&tenant(), &name, KeyRole::Agent, None).await.is_err());
    assert!(door.create_key(&tenant(), &name, KeyRole::Viewer, Some(&agent)).await.is_err());
    let (key, text) = door.create_key(&tenant(), &name, KeyRole::Agent, Some(&agent)).await.unwrap();
    assert_eq!(door.authenticate(text.expose_secret()).await.unwrap().agent, Some(agent));
    let event = serde_json::to_string(&key.created_event()).unwrap();
    assert!(event.contains("key.created") && !event.contains(&text.expose_secret()[6..]), "{event}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_callers_with_one_nonce_one_gets_in() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let door = Arc::new(open_at(folder.path(), clock.clone()).await);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let door = Arc::clone(&door);
        callers.spawn(async move { door.claim_nonce(&nonce(1)).await.unwrap() });
    }
    assert_eq!(callers.join_all().await.into_iter().filter(|fresh| *fresh).count(), 1);
    door.close().await;
    let door = open_at(folder.path(), clock.clone()).await;
    assert!(!door.claim_nonce(&nonce(1)).await.unwrap(), "after a restart");
    clock.advance(NONCE_WINDOW - Duration::from_secs(1));
    assert!(!door.claim_nonce(&nonce(1)).await.unwrap(), "within the window");
    clock.advance(Duration::from_secs(12));
    assert!(door.claim_nonce(&nonce(2)).await.unwrap());
    assert!(door.claim_nonce(&nonce(1)).await.unwrap(), "its timestamp refuses it by now");
}

/// Not a test of its own: what the killed process runs.
#[tokio::test]
async fn child_that_claims_nonces_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let door = open(Path::new(&folder)).await;
    for number in 0.. {
        assert!(door.claim_nonce(&nonce(number)).await.unwrap());
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nclaimed {number}").unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test]
async fn a_claimed_nonce_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["door::child_that_claims_nonces_until_killed", "--exact", "--nocapture"])
        .env(FOLDER, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut claimed = 0u64;
    let mut killed = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if let Some(number) = line.unwrap().strip_prefix("claimed ") {
            claimed = number.parse::<u64>().unwrap() + 1;
        }
        if claimed > 200 && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed);
    let door = open(folder.path()).await;
    for number in 0..claimed {
        assert!(!door.claim_nonce(&nonce(number)).await.unwrap(), "{number} of {claimed}");
    }
}

fn session(id: u128, execution: u128, generation: u32) -> SmcpSession {
    SmcpSession {
        id: Uuid::from_u128(id),
        tenant: tenant(),
        execution: ExecutionId::from_uuid(Uuid::from_u128(execution)),
        generation,
        public_key: [7; 32],
        scope: Some("tools".to_owned()),
        api_key: Some(ApiKeyId::from_uuid(Uuid::from_u128(3))),
        opened_at: Timestamp::from_micros(1_771_840_800_000_000),
        expires_at: Timestamp::from_micros(1_771_844_400_000_000),
        ended_at: None,
    }
}

#[tokio::test]
async fn a_generation_attests_once_and_its_session_ends() {
    let folder = tempfile::tempdir().unwrap();
    let door = open(folder.path()).await;
    let first = session(1, 1, 1);
    door.open_session(&first).await.unwrap();
    assert!(matches!(door.open_session(&session(2, 1, 1)).await, Err(DoorError::AttestedAlready(1))));
    door.open_session(&session(3, 1, 2)).await.unwrap();
    door.open_session(&session(4, 2, 1)).await.unwrap();
    door.close().await;
    let clock = clock();
    let door = open_at(folder.path(), clock.clone()).await;
    assert_eq!(door.session(first.id).await.unwrap(), Some(first.clone()));
    assert!(door.end_session(first.id).await.unwrap());
    assert!(!door.end_session(first.id).await.unwrap());
    let ended = door.session(first.id).await.unwrap().unwrap();
    assert!(!ended.is_active(first.opened_at) && first.is_active(first.opened_at));
    assert!(!first.is_active(first.expires_at));
    assert!(matches!(door.open_session(&session(5, 1, 1)).await, Err(DoorError::AttestedAlready(1))));
    assert_eq!(door.end_sessions_of(first.execution).await.unwrap(), 1);
    assert_eq!(door.end_sessions_by(ApiKeyId::from_uuid(Uuid::from_u128(3))).await.unwrap(), 1);
    door.open_session(&session(6, 6, 1)).await.unwrap();
    assert_eq!(door.end_all_sessions().await.unwrap(), 1);
    assert_eq!(door.sweep_sessions().await.unwrap(), 0);
    clock.advance(Duration::from_secs(8 * 24 * 3600));
    assert_eq!(door.sweep_sessions().await.unwrap(), 4);
}

#[tokio::test]
async fn a_server_that_changes_is_held_until_what_was_seen_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let door = open(folder.path()).await;
    let (first, second, third) = (nonce(1), nonce(2), nonce(3));
    let observe = |hash, document| door_observe(&door, hash, document);
    assert_eq!(observe(first, "one").await, Observed::First);
    assert_eq!(observe(first, "one").await, Observed::Unchanged);
    let Observed::Held(accepted) = observe(second, "two").await else { panic!("not held") };
    assert_eq!((accepted.hash, accepted.document.as_str()), (first, "one"));
    assert!(matches!(observe(third, "three").await, Observed::Held(_)));
    // What the person saw is not what is held any more.
    assert!(matches!(door.accept_server(&tenant(), "git", &second).await, Err(DoorError::NotHeld(_))));
    assert!(matches!(door.accept_server(&tenant(), "git", &first).await, Err(DoorError::NotHeld(_))));
    assert_eq!(door.accept_server(&tenant(), "git", &third).await.unwrap().hash, first);
    let (accepted, held) = door.server_pins(&tenant(), "git").await.unwrap();
    assert_eq!((accepted.unwrap().document.as_str(), held), ("three", None));
    assert!(matches!(observe(first, "one").await, Observed::Held(_)));
    assert_eq!(observe(third, "three").await, Observed::Unchanged);
    assert!(door.server_pins(&tenant(), "git").await.unwrap().1.is_none(), "what it took back is not held");
    assert_eq!(door.server_pins(&"other".parse().unwrap(), "git").await.unwrap(), (None, None));
    door.forget_server(&tenant(), "git").await.unwrap();
    assert_eq!(observe(first, "one").await, Observed::First);
}

async fn door_observe(door: &Door, hash: Sha256, document: &str) -> Observed {
    door.observe_server(&tenant(), "git", &hash, document).await.unwrap()
}

/// Prints what one call's nonce and key cost; the bound only catches a wrong order of magnitude.
#[tokio::test]
async fn nonces_and_keys_are_fast() {
    const COUNT: u64 = 2000;
    let folder = tempfile::tempdir().unwrap();
    let door = open(folder.path()).await;
    let (_, text) = door.create_key(&tenant(), &"a".parse().unwrap(), KeyRole::Viewer, None).await.unwrap();
    let begun = Instant::now();
    for number in 0..COUNT {
        assert!(door.claim_nonce(&nonce(number)).await.unwrap());
    }
    let nonces = begun.elapsed() / u32::try_from(COUNT).unwrap();
    let begun = Instant::now();
    for _ in 0..COUNT {
        assert!(door.authenticate(text.expose_secret()).await.is_some());
    }
    let keys = begun.elapsed() / u32::try_from(COUNT).unwrap();
    eprintln!("a nonce takes {nonces:?}, a key {keys:?}");
    assert!(nonces < Duration::from_millis(20) && keys < Duration::from_millis(5), "{nonces:?} {keys:?}");
}

#[tokio::test]
async fn a_call_is_taken_once_by_nonce_and_by_request_and_after_a_refusal_nothing_stays() {
    let folder = tempfile::tempdir().unwrap();
    let session = Uuid::from_u128(1);
    {
        let door = open(folder.path()).await;
        assert_eq!(door.claim_call(session, &nonce(1), "1").await.unwrap(), Claimed::New);
        assert_eq!(door.claim_call(session, &nonce(1), "2").await.unwrap(), Claimed::NonceSeen);
        assert_eq!(door.claim_call(session, &nonce(2), "1").await.unwrap(), Claimed::RequestSeen);
        assert_eq!(door.claim_call(session, &nonce(2), "2").await.unwrap(), Claimed::New, "it was not taken");
        door.close().await;
    }
    let door = open(folder.path()).await;
    assert_eq!(door.claim_call(session, &nonce(1), "9").await.unwrap(), Claimed::NonceSeen);
    assert_eq!(door.claim_call(session, &nonce(9), "2").await.unwrap(), Claimed::RequestSeen);
    assert_eq!(door.claim_call(Uuid::from_u128(2), &nonce(9), "2").await.unwrap(), Claimed::New);
}
