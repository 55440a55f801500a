//! Signing in at a server behind an address: whole flows, and what a hostile one gets.

use std::sync::Arc;

use aegis_testkit::oauth::{OauthServer, OauthTricks};
use aegis_tools::mcp::{CallOptions, McpError, PinStore, PlainStarter, Revocation, ServerState};
use serde_json::{Value, json};

use super::bench::{Bench, Memory, WAIT, bench_with, settings, tenant};

const REDIRECT: &str = "http://127.0.0.1:7/callback";

fn node(far: &OauthServer, oauth: Value, memory: &Arc<Memory>) -> Bench {
    let server = settings(json!({"name": "far", "url": far.url(), "protocol": "2025-11-25", "oauth": oauth}));
    bench_with(vec![server], Arc::new(PlainStarter::default()), &PinStore::in_memory(), Arc::clone(memory))
}

async fn honest(oauth: Value) -> (OauthServer, Bench) {
    let far = OauthServer::start(OauthTricks::default()).await.unwrap();
    let bench = node(&far, oauth, &Arc::default());
    (far, bench)
}

impl Bench {
    async fn text(&self, tool: &str) -> Result<String, McpError> {
        let answer = self.servers.call(&tenant(), "far", tool, None, &CallOptions::default()).await?;
        Ok(answer.tool_result().content)
    }
    async fn begin(&self) -> String {
        self.servers.begin_login(&tenant(), "far", REDIRECT).await.unwrap()
    }
    async fn finish(&self, callback: &str) -> Result<(), McpError> {
        self.servers.finish_login(&tenant(), "far", callback).await
    }
    async fn sign_in(&self, far: &OauthServer) {
        let url = self.begin().await;
        self.finish(&far.browse(&url).unwrap()).await.unwrap();
        self.tools().await;
    }
    /// What the record holds, as text.
    fn record(&self) -> String {
        serde_json::to_string(&*self.events.lock().unwrap()).unwrap()
    }
}

fn reason(answer: Result<impl std::fmt::Debug, McpError>) -> String {
    answer.unwrap_err().to_string()
}

#[tokio::test]
async fn a_person_signs_in_once_and_tokens_are_renewed() {
    let (far, bench) = honest(json!({})).await;
    bench.tools().await;
    let before = reason(bench.text("scopes").await);
    assert!(before.contains("aegis server login far"), "{before}");
    bench.sign_in(&far).await;
    assert_eq!(bench.text("scopes").await.unwrap(), "read offline_access");

    far.end_access();
    assert_eq!(bench.text("scopes").await.unwrap(), "read offline_access", "a refused token is renewed");
    assert_eq!(far.exchanges(), ["authorization_code", "refresh_token"]);
    assert_eq!(
        bench.saw("server.signed_in"),
        1,
        "the sign-in itself is recorded with its person, by the node"
    );

    let again = node(&far, json!({}), &bench.memory);
    again.tools().await;
    assert_eq!(again.text("scopes").await.unwrap(), "read offline_access", "tokens outlive the daemon");
    assert_eq!(far.exchanges().len(), 2);

    let record = format!("{}{}", bench.record(), again.record());
    let memory = bench.memory.0.lock().unwrap();
    for token in far.issued().iter().filter(|token| !token.starts_with("code")) {
        assert!(!record.contains(token.as_str()), "{token} is on record");
    }
    let names: Vec<&str> = memory.keys().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["oauth/far/access_token", "oauth/far/grant", "oauth/far/refresh_token"]);
}

#[tokio::test]
async fn a_token_near_its_end_is_renewed_before_it_is_used() {
    let (far, bench) = honest(json!({})).await;
    far.turn(OauthTricks { life_seconds: Some(20), confidential: true, ..OauthTricks::default() });
    bench.sign_in(&far).await;
    bench.text("scopes").await.unwrap();
    assert_eq!(far.exchanges()[1], "refresh_token", "by the registered client's secret too");
    assert!(bench.memory.0.lock().unwrap().contains_key(&(tenant(), "oauth/far/client_secret".to_owned())));
}

#[tokio::test]
async fn a_grant_that_ended_is_forgotten_and_asks_for_a_person() {
    let (far, bench) = honest(json!({})).await;
    bench.sign_in(&far).await;
    bench.text("scopes").await.unwrap();
    far.end_access();
    far.end_refresh();
    let ended = reason(bench.text("scopes").await);
    assert!(ended.contains("aegis server login far"), "{ended}");
    assert_eq!(bench.saw("server.signed_out"), 1);
    assert!(bench.memory.0.lock().unwrap().is_empty());
    let view = bench.servers.show(&tenant(), "far").await.unwrap();
    if let ServerState::Down { reason, .. } = view.state {
        assert!(reason.contains("aegis server login"), "{reason}");
    }
    bench.sign_in(&far).await;
    assert_eq!(bench.text("scopes").await.unwrap(), "read offline_access");
}

#[tokio::test]
async fn more_scopes_are_asked_for_by_name_and_added_to_what_was_granted() {
    let (far, bench) = honest(json!({})).await;
    bench.sign_in(&far).await;
    let refused = reason(bench.text("write").await);
    assert!(refused.contains("`write`") && refused.contains("aegis server login far"), "{refused}");
    assert_eq!(bench.text("scopes").await.unwrap(), "read offline_access", "it serves on for the rest");
    bench.sign_in(&far).await;
    assert_eq!(bench.text("write").await.unwrap(), "read offline_access write");
}

#[tokio::test]
async fn a_node_signs_in_by_its_own_secret() {
    let secret = json!({"grant": "client_credentials", "client_id": OauthServer::CLIENT_ID,
        "client_secret": format!("literal:{}", OauthServer::CLIENT_SECRET), "scopes": ["read"]});
    let (far, bench) = honest(secret).await;
    bench.tools().await;
    assert_eq!(bench.text("scopes").await.unwrap(), "read");
    far.end_access();
    assert_eq!(bench.text("scopes").await.unwrap(), "read");
    assert_eq!(far.exchanges(), ["client_credentials", "client_credentials"]);
    assert_eq!(bench.saw("server.signed_in"), 2);
    let begun = reason(bench.servers.begin_login(&tenant(), "far", REDIRECT).await);
    assert!(begun.contains("by itself"), "{begun}");
}

#[tokio::test]
async fn another_tenant_has_no_part_in_a_sign_in() {
    let (far, bench) = honest(json!({})).await;
    bench.sign_in(&far).await;
    let other = "other".parse().unwrap();
    bench.servers.tools(&other, WAIT).await.unwrap();
    let answer = bench.servers.call(&other, "far", "scopes", None, &CallOptions::default()).await;
    assert!(reason(answer).contains("aegis server login"));
    let url = bench.begin().await;
    let callback = far.browse(&url).unwrap();
    let stolen = reason(bench.servers.finish_login(&other, "far", &callback).await);
    assert!(stolen.contains("no sign-in is under way"), "{stolen}");
}

#[tokio::test]
async fn a_forged_answer_ends_no_sign_in() {
    let (far, bench) = honest(json!({})).await;
    let nothing = reason(bench.finish("http://127.0.0.1:7/callback?code=a&state=b").await);
    assert!(nothing.contains("no sign-in is under way"), "{nothing}");
    let good = far.browse(&bench.begin().await).unwrap();
    for forged in [
        "http://127.0.0.1:7/callback?code=stolen&state=guessed".to_owned(),
        "http://127.0.0.1:8/callback?code=stolen&state=guessed".to_owned(),
        good.replace("&iss=", "&iss=https%3A%2F%2Fevil.example&was="),
        good.split("&iss=").next().unwrap().to_owned(),
    ] {
        assert!(bench.finish(&forged).await.is_err(), "{forged}");
    }
    assert_eq!(far.exchanges(), [""; 0], "no forged answer was exchanged");
    bench.finish(&good).await.unwrap();
    let twice = reason(bench.finish(&good).await);
    assert!(twice.contains("no sign-in is under way"), "{twice}");

    far.turn(OauthTricks { refuses: true, ..OauthTricks::default() });
    let refused = reason(bench.finish(&far.browse(&bench.begin().await).unwrap()).await);
    assert!(refused.contains("access_denied"), "{refused}");
    for bad in ["https://evil.example/callback", "http://127.0.0.1.evil.example:7/callback"] {
        assert!(bench.servers.begin_login(&tenant(), "far", bad).await.is_err(), "{bad}");
    }
}

/// Metadata is the server's word: it makes the node call nothing that the operator's address does not open.
#[tokio::test]
async fn hostile_metadata_reaches_no_other_place() {
    for (tricks, what) in [
        (
            OauthTricks {
                token_endpoint: Some("http://169.254.169.254/latest".to_owned()),
                ..OauthTricks::default()
            },
            "https",
        ),
        (
            OauthTricks {
                token_endpoint: Some("https://10.0.0.5/token".to_owned()),
                ..OauthTricks::default()
            },
            "public",
        ),
        (
            OauthTricks {
                authorization_server: Some("http://192.168.0.1".to_owned()),
                ..OauthTricks::default()
            },
            "192.168.0.1",
        ),
    ] {
        let far = OauthServer::start(tricks).await.unwrap();
        let bench = node(&far, json!({}), &Arc::default());
        let refused = reason(bench.servers.begin_login(&tenant(), "far", REDIRECT).await);
        assert!(refused.contains(what), "{refused}");
        assert!(
            !far.requests().iter().any(|request| request == "POST /register"),
            "it registered all the same"
        );
    }
}

/// A server that names another authorization server later is not given the tokens of the first.
#[tokio::test]
async fn tokens_of_one_issuer_are_not_shown_to_another() {
    let (far, bench) = honest(json!({})).await;
    bench.sign_in(&far).await;
    bench.text("scopes").await.unwrap();
    let thief = OauthServer::start(OauthTricks::default()).await.unwrap();
    far.turn(OauthTricks { authorization_server: Some(thief.base()), ..OauthTricks::default() });
    far.end_access();
    let again = node(&far, json!({}), &bench.memory);
    again.tools().await;
    let refused = reason(again.text("scopes").await);
    assert!(refused.contains("aegis server login"), "{refused}");
    assert_eq!(thief.exchanges(), [""; 0], "the refresh token went to the other one");
    assert!(again.memory.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_server_on_a_private_network_is_signed_in_at_by_the_operators_word_alone() {
    for (private_addresses, refused) in [(false, true), (true, false)] {
        let server =
            settings(json!({"name": "far", "url": "https://10.255.255.1/mcp", "protocol": "2025-11-25",
            "oauth": {"private_addresses": private_addresses}}));
        let starter = Arc::new(PlainStarter::default());
        let bench = bench_with(vec![server], starter, &PinStore::in_memory(), Arc::default());
        let tenant = tenant();
        let begun = bench.servers.begin_login(&tenant, "far", REDIRECT);
        // Nobody may answer there: then it was asked, and that is all there is to see.
        let said = match tokio::time::timeout(std::time::Duration::from_secs(2), begun).await {
            Ok(answer) => reason(answer),
            Err(_) => "it was asked".to_owned(),
        };
        assert_eq!(said.contains("a sign-in may not reach"), refused, "{private_addresses}: {said}");
    }
}

#[tokio::test]
async fn signing_out_revokes_what_was_granted() {
    for confidential in [false, true] {
        let (far, bench) = honest(json!({})).await;
        far.turn(OauthTricks { confidential, ..OauthTricks::default() });
        bench.sign_in(&far).await;
        assert!(far.has_live_tokens());
        let signed_out = bench.servers.logout(&tenant(), "far").await.unwrap();
        assert_eq!(signed_out, Revocation::Revoked);
        assert_eq!(far.revoked(), ["refresh_token", "access_token"]);
        assert!(!far.has_live_tokens() && bench.memory.0.lock().unwrap().is_empty());
        assert_eq!(bench.servers.logout(&tenant(), "far").await.unwrap(), Revocation::Nothing);
    }
}

/// Where to revoke is the far side's word too: it is given no token that it did not issue, at no place that it may not
/// name, and whatever it does the tokens are gone here.
#[tokio::test]
async fn what_cannot_be_revoked_is_gone_all_the_same_and_that_is_said() {
    let thief = OauthServer::start(OauthTricks::default()).await.unwrap();
    for (tricks, what) in [
        (OauthTricks { no_revocation: true, ..OauthTricks::default() }, "revokes no tokens"),
        (OauthTricks { revocation_fails: true, ..OauthTricks::default() }, "503"),
        (
            OauthTricks {
                revocation_endpoint: Some("http://169.254.169.254/latest".to_owned()),
                ..OauthTricks::default()
            },
            "https",
        ),
        (
            OauthTricks { authorization_server: Some(thief.base()), ..OauthTricks::default() },
            "another authorization server",
        ),
    ] {
        let (far, bench) = honest(json!({})).await;
        bench.sign_in(&far).await;
        far.turn(tricks);
        let Revocation::Failed(why) = bench.servers.logout(&tenant(), "far").await.unwrap() else {
            panic!("revoked: {what}");
        };
        assert!(why.contains(what), "{why}");
        assert!(bench.memory.0.lock().unwrap().is_empty(), "{what}");
    }
    assert!(!thief.requests().iter().any(|request| request == "POST /revoke"), "{:?}", thief.requests());
}

/// A server's name that leads to another address later gives that address nothing, though it names the same issuer.
#[tokio::test]
async fn tokens_of_one_address_are_not_shown_to_another() {
    let (far, bench) = honest(json!({})).await;
    bench.sign_in(&far).await;
    bench.text("scopes").await.unwrap();
    let thief = OauthServer::start(OauthTricks::default()).await.unwrap();
    thief.turn(OauthTricks { authorization_server: Some(far.base()), ..OauthTricks::default() });
    let elsewhere = node(&thief, json!({}), &bench.memory);
    elsewhere.tools().await;
    let refused = reason(elsewhere.text("echo_token").await);
    assert!(refused.contains("aegis server login"), "{refused}");
    assert!(elsewhere.record().contains("address_changed"), "{}", elsewhere.record());
    assert!(elsewhere.memory.0.lock().unwrap().is_empty());
}
