//! Each field of the node's rules on connections, away from its default, and what they keep from happening.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use aegis_core::{Body, DenialCode, Intent};

use super::*;
use crate::monitor::speed::{Signing, authority, rules, settings, waiting_ledger};
use crate::monitor::{Action, Limiter, Monitor, Performed, Settled, Target};
use crate::policy::Rules;
use crate::port::{EgressEnd, EgressOutcome, EgressRequest, EgressWay};
use crate::test_journal::TestJournal;

const EVERYTHING: &str = "allowlist: ['*.example.org', 'b.net', '10.1.0.0/16:5432'], \
     denylist: [evil.example.org, '8.8.8.0/24'], private: ['10.1.0.0/16:5432'], \
     trusted: [good.example.org, '10.1.0.0'], connections_per_minute: 2, bytes_per_execution: 3Ki";
const AGENT: &str = "apiVersion: 100monkeys.ai/v1
kind: Agent
metadata: {name: a, version: 1.0.0}
spec:
  runtime: {language: python}
  security: {network: {mode: deny}}
";

fn node(network: &str) -> NodeConfig {
    let text = format!(
        "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: {{name: n}}\nspec: {{governance: {{network: {{{network}}}}}}}\n"
    );
    aegis_manifest::parse_node_config(&text, "c.yaml", &|_| None)
        .unwrap_or_else(|error| panic!("{error}"))
        .document
}

fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

#[test]
fn each_list_of_the_node_decides() {
    let network = NodeNetwork::of(&node(EVERYTHING)).unwrap();
    let decided = |name: &str, address: &str, port: u16| {
        let address: IpAddr = address.parse().unwrap();
        let named = network.rules.permits_name(&host(name), port).map(|permit| permit.rule);
        let found = network.rules.permits_addresses(&host(name), &[address], port, &[]);
        named.and_then(|rule| found.map(|()| rule)).map_err(|denial| denial.rule)
    };
    for (name, address, port, rule) in [
        ("a.example.org", "1.1.1.1", 443, Ok("node/allowlist:0")),
        ("elsewhere.org", "1.1.1.1", 443, Err("node/allowlist")),
        ("evil.example.org", "1.1.1.1", 443, Err("node/denylist:0")),
        ("a.example.org", "8.8.8.8", 443, Err("node/denylist:1")),
        ("10.1.2.3", "10.1.2.3", 5432, Ok("node/allowlist:2")),
        ("a.example.org", "10.1.2.3", 443, Err("node/address")),
    ] {
        let rule = rule.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(decided(name, address, port), rule, "{name} at {address}:{port}");
    }
    assert!(network.trusts(&host("good.example.org")) && !network.trusts(&host("a.example.org")));
    assert!(!network.trusts(&host("10.1.0.0")), "who answers at an address may change");
    let limits = Limits { rate: Some((2, Duration::from_secs(60))), concurrent: Some(CONCURRENT_MAX) };
    assert_eq!(network.limits(), ("node/network:connections".to_owned(), limits));
    for wrong in ["allowlist: ['http://a/']", "denylist: ['*']", "private: [a.org]", "trusted: ['a b']"] {
        let text = format!(
            "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: {{name: n}}\nspec: {{governance: {{network: {{{wrong}}}}}}}\n"
        );
        let parsed = aegis_manifest::parse_node_config(&text, "c.yaml", &|_| None);
        assert!(parsed.is_err() || NodeNetwork::of(&parsed.unwrap().document).is_err(), "{wrong}");
    }
}

/// Connects to these one after another in one run: the code and rule of what refused each, and the record.
async fn connect(network: &str, names: &[&str]) -> (Vec<Option<(DenialCode, String)>>, Arc<TestJournal>) {
    let journal = Arc::new(TestJournal::default());
    let mut ledger = waiting_ledger(journal.clone());
    let manifest = aegis_manifest::parse_agent(AGENT, "a.yaml").unwrap().document;
    let config = node(network);
    let mut authority = authority(&manifest, &config, &[]);
    let monitor = Monitor::new(Limiter::default(), rules(&config), Signing::new().tokens);
    let mut refused = Vec::new();
    for name in names {
        let request = EgressRequest { host: host(name), port: 443, way: EgressWay::Tunnel };
        let opened = Mutex::new(None);
        let action = Action { target: Target::Connect { request: &request, opened: &opened }, generation: 1 };
        let perform = |_| async {
            Performed::Connection(EgressOutcome {
                address: None,
                bytes_sent: 0,
                bytes_received: 0,
                duration: Duration::ZERO,
                end: EgressEnd::Done,
            })
        };
        let settled = monitor.pass(&mut ledger, &mut authority, &action, perform).await.unwrap();
        refused.push(match settled {
            Settled::Denied(denial) => Some((denial.code, denial.rule)),
            _ => None,
        });
    }
    (refused, journal)
}

#[tokio::test]
async fn connections_are_counted_judged_and_labelled_by_the_nodes_word() {
    let labels = |journal: &TestJournal| -> Vec<String> {
        let grown = journal.bodies().into_iter().filter_map(|body| match body {
            Body::LabelsGrown { labels, .. } => Some(labels.into_iter().collect::<Vec<_>>().join(" ")),
            _ => None,
        });
        grown.collect()
    };
    let (refused, journal) = connect(EVERYTHING, &["good.example.org", "good.example.org", "b.net"]).await;
    let limited = (DenialCode::RateLimitExceeded, "node/network:connections".to_owned());
    assert_eq!(refused, [None, None, Some(limited)], "two a minute");
    assert_eq!(labels(&journal), [""; 0], "somebody vouches for it");
    let (refused, journal) = connect(EVERYTHING, &["evil.example.org", "elsewhere.org", "b.net"]).await;
    let denied = |rule: &str| Some((DenialCode::DomainNotAllowed, rule.to_owned()));
    assert_eq!(refused, [denied("node/denylist:0"), denied("node/allowlist"), None]);
    assert_eq!(labels(&journal), ["source:net/b.net untrusted"]);
}

#[tokio::test]
async fn an_execution_may_move_as_many_bytes_as_the_node_says_and_a_reload_is_heard() {
    let of = |network: &str| settings(&node(network));
    let rules = Arc::new(Rules::new(of(EVERYTHING)));
    let monitor = Monitor::new(Limiter::default(), rules.clone(), Signing::new().tokens);
    assert_eq!(monitor.egress_bytes_max(), 3 << 10);
    assert_eq!(rules.replace(of(EVERYTHING)).await, 1, "the same rules");
    assert_eq!(rules.replace(of("")).await, 2, "other rules on connections are other rules");
    assert_eq!(monitor.egress_bytes_max(), 16 << 30);
    let governed = |governance: &str| {
        let text = format!(
            "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: {{name: n}}\nspec: {{governance: {{{governance}}}}}\n"
        );
        settings(&aegis_manifest::parse_node_config(&text, "c.yaml", &|_| None).unwrap().document)
    };
    assert_eq!(rules.replace(governed("tool_labels: [{tool_pattern: x, sensitive: true}]")).await, 3);
    assert_eq!(rules.replace(governed("label_rules: {untrusted-sensitive-egress: false}")).await, 4);
}

/// Asks for one connection and gives what stands on record of it first, with the texts of its blobs.
async fn asked(name: &str, way: EgressWay, secret: &str) -> (Body, Arc<TestJournal>, Option<bool>) {
    let journal = Arc::new(TestJournal::default());
    let mut ledger = waiting_ledger(journal.clone());
    let redactor = aegis_security::redact::Redactor::new([("key", secret)]).unwrap();
    ledger.scribe.redaction = crate::redaction::Redaction::knowing(redactor);
    let manifest = aegis_manifest::parse_agent(AGENT, "a.yaml").unwrap().document;
    let config = node(EVERYTHING);
    let mut authority = authority(&manifest, &config, &[]);
    let monitor = Monitor::new(Limiter::default(), rules(&config), Signing::new().tokens);
    let request = EgressRequest { host: host(name), port: 443, way };
    let opened = Mutex::new(None);
    let action = Action { target: Target::Connect { request: &request, opened: &opened }, generation: 1 };
    let perform = |_| async { Performed::Interrupted };
    monitor.pass(&mut ledger, &mut authority, &action, perform).await.unwrap();
    let raw = opened.lock().unwrap().as_ref().map(|opened| opened.raw);
    (journal.bodies().remove(0), journal, raw)
}

#[tokio::test]
async fn what_was_asked_for_is_on_record_whether_it_was_permitted_or_not() {
    let plain = || EgressWay::Plain { method: "GET".to_owned(), path: "/a?b".to_owned() };
    for (way, request) in [
        (EgressWay::Tunnel, r#"{"host":"evil.example.org","port":443}"#),
        (plain(), r#"{"host":"evil.example.org","port":443,"method":"GET","path":"/a?b"}"#),
    ] {
        let (body, journal, _) = asked("evil.example.org", way, "correct-horse").await;
        let Body::ActionDenied { name, arguments, .. } = body else { panic!("{body:?}") };
        assert_eq!((name.as_str(), journal.text(&arguments).as_str()), ("evil.example.org:443", request));
    }
    let (body, journal, raw) = asked("a.example.org", plain(), "correct-horse").await;
    assert_eq!(raw, Some(false), "a tunnel carries TLS to the host it names: no layer says otherwise");
    let Body::ActionIntended { intent: Intent::Connect { host, port: 443, request: Some(blob), .. }, .. } =
        body
    else {
        panic!("{body:?}")
    };
    assert_eq!(
        (host.as_str(), journal.text(&blob).as_str()),
        ("a.example.org", r#"{"method":"GET","path":"/a?b"}"#)
    );
    // A secret is in no column either.
    let (body, ..) = asked("correct-horse.example.org", EgressWay::Tunnel, "correct-horse").await;
    let Body::ActionIntended { intent: Intent::Connect { host, request: None, .. }, .. } = body else {
        panic!("{body:?}")
    };
    assert_eq!(host, "[secret:key].example.org");
    let (body, ..) = asked("correct-horse.net", EgressWay::Tunnel, "correct-horse").await;
    let Body::ActionDenied { name, .. } = body else { panic!("{body:?}") };
    assert_eq!(name, "[secret:key].net:443");
}
