use aegis_kernel::port::EventQuery;
use aegis_store::Store;
use secrecy::ExposeSecret as _;

use super::*;
use crate::logging::without_secrets;
use crate::system::{SystemClock, SystemIds};

async fn credentials(home: &Path) -> (NodeCredentials, Arc<Store>) {
    let (clock, ids): (Arc<dyn Clock>, Arc<dyn Ids>) = (Arc::new(SystemClock::new()), Arc::new(SystemIds));
    std::fs::create_dir_all(home.join("keys")).unwrap();
    let options = aegis_store::OpenOptions::new(home, clock.clone(), ids.clone());
    let store = Arc::new(Store::open(options).await.unwrap());
    let secrets = Arc::new(NodeSecrets::new(None));
    let out_of_log = Arc::new(OutOfLog::new(secrets.clone()));
    let journal = store.clone();
    (NodeCredentials { secrets, out_of_log, journal, clock, ids, told: Mutex::default() }, store)
}

fn named() -> (Tenant, Name) {
    ("acme".parse().unwrap(), "far".parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_handed_out_once_its_use_is_on_record() {
    let home = tempfile::tempdir().unwrap();
    let (credentials, store) = credentials(home.path()).await;
    let (tenant, server) = named();
    for _ in 0..3 {
        credentials.resolve(&tenant, &server, "env:PATH").await.unwrap();
        let wanted = EventQuery { tenant: Some(tenant.clone()), limit: 10, ..EventQuery::default() };
        let recorded = store.events(&wanted).await.unwrap();
        assert_eq!(recorded.len(), 1, "by the time it is given, and once");
        assert!(matches!(&recorded[0].body, Body::SecretUsed { reference, .. } if reference == "env:PATH"));
    }
    store.close().await.unwrap();
    let refused = credentials.resolve(&tenant, &server, "env:HOME").await;
    assert!(refused.is_err_and(|why| why.contains("cannot be recorded")));
    assert!(credentials.resolve(&tenant, &server, "env:PATH").await.is_ok(), "that use is on record");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_is_given_is_left_out_of_the_log_from_then_on() {
    let home = tempfile::tempdir().unwrap();
    let (credentials, _store) = credentials(home.path()).await;
    let (tenant, server) = named();
    let said = |value: &SecretString| without_secrets(format!("started with {}", value.expose_secret()));
    let value = SecretString::from("given-to-a-server-5521");
    assert!(said(&value).contains("5521"), "nobody was given it yet");
    let given = credentials.resolve(&tenant, &server, "literal:given-to-a-server-5521").await.unwrap();
    assert_eq!(said(&given), "started with [secret:literal]");
}
