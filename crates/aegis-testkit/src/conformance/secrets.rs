//! The conformance suite of the `SecretStore` port.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a step that fails is a test that fails")]

use std::sync::Arc;

use aegis_core::Tenant;
use aegis_kernel::port::{SECRET_BYTES_MAX, SecretError, SecretName, SecretStore};
use secrecy::{ExposeSecret, SecretString};

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn value(text: &str) -> SecretString {
    SecretString::from(text)
}

async fn read(store: &dyn SecretStore, tenant: &Tenant, text: &str) -> Result<(String, u64), SecretError> {
    let stored = store.read(tenant, &name(text)).await?;
    Ok((stored.value.expose_secret().to_owned(), stored.version))
}

async fn known(store: &dyn SecretStore, tenant: &Tenant) -> Vec<(String, String)> {
    let known = store.known(tenant).await.unwrap();
    let mut known: Vec<_> =
        known.into_iter().map(|known| (known.name, known.value.expose_secret().to_owned())).collect();
    known.sort();
    known
}

/// Runs the suite on an empty store.
///
/// # Panics
/// If the store does not do what the port says.
pub async fn suite(store: Arc<dyn SecretStore>) {
    let store = store.as_ref();
    versions_follow_each_other(store).await;
    former_values_are_known_after_a_rotation_alone(store).await;
    tenants_do_not_meet(store).await;
    values_are_kept_exactly_or_refused(store).await;
    what_is_missing_is_said_to_be(store).await;
}

async fn versions_follow_each_other(store: &dyn SecretStore) {
    let tenant = "suite-a".parse().unwrap();
    let github = name("github/token");
    assert_eq!(store.set(&tenant, &github, value("first-value")).await, Ok(1));
    assert_eq!(read(store, &tenant, "github/token").await, Ok(("first-value".to_owned(), 1)));
    assert_eq!(store.rotate(&tenant, &github, value("second-value")).await, Ok(2));
    assert_eq!(read(store, &tenant, "github/token").await, Ok(("second-value".to_owned(), 2)));
    assert_eq!(store.set(&tenant, &name("plain"), value("other-value")).await, Ok(1));
    let listed = store.list(&tenant).await.unwrap();
    let names: Vec<&str> = listed.iter().map(|record| record.name.as_str()).collect();
    assert_eq!(names, ["github/token", "plain"]);
    assert_eq!(listed[0].versions, [1, 2]);
    assert!(listed.iter().all(|record| record.updated_at.micros() > 0));
    assert!(!format!("{listed:?}").contains("value"), "a list shows no value");
    assert_eq!(store.set(&tenant, &github, value("third-value")).await, Ok(3));
    assert_eq!(
        store.list(&tenant).await.unwrap()[0].versions,
        [3],
        "what was set takes the place of all before"
    );
    store.delete(&tenant, &github).await.unwrap();
    assert!(read(store, &tenant, "github/token").await.is_err());
    assert_eq!(store.list(&tenant).await.unwrap().len(), 1);
}

async fn former_values_are_known_after_a_rotation_alone(store: &dyn SecretStore) {
    let tenant = "suite-b".parse().unwrap();
    let key = name("key");
    let pair = |value: &str| ("key".to_owned(), value.to_owned());
    let before = store.revision();
    store.set(&tenant, &key, value("value-one")).await.unwrap();
    assert_eq!(known(store, &tenant).await, [pair("value-one")]);
    assert_ne!(store.revision(), before, "what is known has changed");
    let before = store.revision();
    store.rotate(&tenant, &key, value("value-two")).await.unwrap();
    assert_eq!(known(store, &tenant).await, [pair("value-one"), pair("value-two")]);
    assert_ne!(store.revision(), before);
    let before = store.revision();
    drop(store.read(&tenant, &key).await.unwrap());
    assert_eq!(store.revision(), before, "reading what is known changes nothing");
    store.set(&tenant, &key, value("value-three")).await.unwrap();
    assert_eq!(known(store, &tenant).await, [pair("value-three")]);
    store.delete(&tenant, &key).await.unwrap();
    assert_eq!(known(store, &tenant).await, []);
}

async fn tenants_do_not_meet(store: &dyn SecretStore) {
    let (one, other) = ("suite-c".parse().unwrap(), "suite-d".parse().unwrap());
    store.set(&one, &name("shared"), value("value-of-one")).await.unwrap();
    assert_eq!(read(store, &other, "shared").await, Err(SecretError::Missing("secret:shared".to_owned())));
    assert!(store.list(&other).await.unwrap().is_empty());
    assert!(known(store, &other).await.is_empty());
    assert!(store.delete(&other, &name("shared")).await.is_err());
    assert!(store.rotate(&other, &name("shared"), value("value-of-other")).await.is_err());
    store.set(&other, &name("shared"), value("value-of-other")).await.unwrap();
    assert_eq!(read(store, &one, "shared").await.unwrap().0, "value-of-one");
}

async fn values_are_kept_exactly_or_refused(store: &dyn SecretStore) {
    let tenant = "suite-e".parse().unwrap();
    let odd = "-----BEGIN-----\n\"ä\\ö\"\t\u{0}\u{1f510} \r\n";
    store.set(&tenant, &name("odd"), value(odd)).await.unwrap();
    assert_eq!(read(store, &tenant, "odd").await.unwrap().0, odd);
    let longest = "é".repeat(SECRET_BYTES_MAX / 2);
    store.set(&tenant, &name("long"), value(&longest)).await.unwrap();
    assert_eq!(read(store, &tenant, "long").await.unwrap().0, longest);
    for refused in ["", "1234567", "has [secret:x] in it", &"x".repeat(SECRET_BYTES_MAX + 1)] {
        let error = store.set(&tenant, &name("refused"), value(refused)).await.unwrap_err();
        assert!(matches!(error, SecretError::Value { .. }), "{error}");
    }
    assert!(read(store, &tenant, "refused").await.is_err());
}

async fn what_is_missing_is_said_to_be(store: &dyn SecretStore) {
    let tenant = "suite-f".parse().unwrap();
    let gone = Err(SecretError::Missing("secret:no/such".to_owned()));
    assert_eq!(read(store, &tenant, "no/such").await.map(drop), gone);
    assert_eq!(store.delete(&tenant, &name("no/such")).await, gone);
    assert_eq!(store.rotate(&tenant, &name("no/such"), value("some-value")).await.map(drop), gone);
}
