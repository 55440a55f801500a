//! `web.fetch`: the daemon asks, under the rules of the execution.

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script};
use serde_json::json;

use super::server::Server;
use super::{connecting, is_root, kinds, loopback};
use crate::door::{Peer, expect, make_key};
use crate::observe::{can_run, events, follow, tool_results};

/// A model that fetches these, one after another.
pub(super) fn fetching(urls: &[String]) -> Script {
    let fetch = |(done, url): (usize, &String)| {
        Rule::always(Reply::call("web.fetch", &json!({"url": url}))).when_tool_results(done)
    };
    let mut rules: Vec<Rule> = urls.iter().enumerate().map(fetch).collect();
    rules.push(Rule::always(Reply::text("done")).when_tool_results(urls.len()));
    Script::rules(rules)
}

/// Configuration in which agents may fetch from these domains, and open these ranges.
pub(super) fn config(domains: &[String], ranges: &[String]) -> String {
    let (domains, ranges) = (serde_json::to_string(domains).unwrap(), serde_json::to_string(ranges).unwrap());
    format!(
        "  security_contexts:
    - {{name: default, capabilities: [{{tool_pattern: web.fetch, domain_allowlist: {domains}}}]}}
  governance:
    network: {{private: {ranges}}}
"
    )
}

/// An agent with that tool alone.
pub(super) fn fetcher(name: &str, allowlist: &[String]) -> String {
    let manifest = connecting(name, allowlist);
    let lines =
        manifest.lines().map(|line| if line.starts_with("  tools:") { "  tools: [web.fetch]" } else { line });
    lines.map(|line| format!("{line}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_fetched_under_the_rules_and_a_redirect_elsewhere_is_told() {
    let test = "a_page_is_fetched_under_the_rules_and_a_redirect_elsewhere_is_told";
    let (open, closed) = (Server::start().await, Server::start().await);
    let at = |path: &str| format!("http://localhost:{}{path}", open.port);
    let urls = [
        at("/ok"),
        at("/page"),
        at("/redirect"),
        at("/again"),
        format!("http://localhost:{}/ok", closed.port),
        "http://elsewhere.example/".to_owned(),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        format!("http://127.1:{}/ok", open.port),
        format!("http://localhost:{}@elsewhere.example/", open.port),
        "file:///etc/passwd".to_owned(),
    ];
    let domains = ["localhost", "elsewhere.example", "169.254.169.254", "127.1"].map(str::to_owned);
    let node = Node::with(fetching(&urls)).config(&config(&domains, &loopback(open.port))).start().await;
    let allowlist = [vec![format!("localhost:{}", open.port)], loopback(open.port)].concat();
    let manifest = fetcher("fetching", &allowlist);
    if !is_root(test) || !can_run(&node, &manifest, test) {
        return;
    }
    follow(&node, &manifest).ok();
    let said = tool_results(&node);
    assert!(said[0].contains("status 200") && said[0].contains("hello"), "{said:#?}");
    assert!(said[1].contains("A head\n\nand words") && !said[1].contains("evil"), "{said:#?}");
    assert!(said[2].contains("http://elsewhere.example/") && said[2].contains("not followed"), "{said:#?}");
    assert!(said[3].contains("hello"), "a redirect within the host is followed: {said:#?}");
    for refused in 4..7 {
        assert!(said[refused].contains("allowlist"), "{}: {}", urls[refused], said[refused]);
    }
    for (refused, url) in urls.iter().enumerate().skip(7) {
        assert!(
            !said[refused].contains("status 200") && !said[refused].contains("root:"),
            "{url}: {}",
            said[refused]
        );
    }
    assert!(closed.seen().is_empty(), "{:?}", closed.seen());
    assert_eq!(open.seen().len(), 5, "{:?}", open.seen());
    assert_eq!(kinds(&events(&node, "action.completed"), "connection"), 5);
    let grown = events(&node, "labels.grown").iter().map(ToString::to_string).collect::<String>();
    assert!(grown.contains("source:net/localhost") && grown.contains("source:web.fetch"), "{grown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_network_nothing_is_fetched() {
    let test = "without_a_network_nothing_is_fetched";
    let server = Server::start().await;
    let url = format!("http://localhost:{}/ok", server.port);
    let config = config(&["localhost".to_owned()], &loopback(server.port));
    let node = Node::with(fetching(&[url])).config(&config).start().await;
    let manifest = fetcher("shut", &[]);
    if !can_run(&node, &manifest, test) {
        return;
    }
    follow(&node, &manifest).ok();
    assert!(tool_results(&node)[0].contains("permits no connections"), "{:?}", tool_results(&node));
    assert!(server.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_call_to_a_host_that_is_not_permitted_has_its_code() {
    let domains = ["localhost".to_owned()];
    let node = Node::with(fetching(&[])).config(&config(&domains, &[])).start().await;
    let manifest = fetcher("peer", &domains);
    if !is_root("a_signed_call_to_a_host_that_is_not_permitted_has_its_code") {
        return;
    }
    node.deploy(&manifest);
    let (_, key) = make_key(&node, "peer", "agent", Some("peer"));
    let peer = Peer::attest(&node, &key, 1);
    for (id, url) in [(1, "http://elsewhere.example/"), (2, "http://169.254.169.254/latest/meta-data/")] {
        let answer = peer.call(&node, id, "web.fetch", json!({"url": url}));
        expect(url, answer, (403, 2003, "DOMAIN_NOT_ALLOWED"));
    }
    let denied = events(&node, "action.denied");
    assert_eq!(kinds(&denied, "DOMAIN_NOT_ALLOWED"), 2, "{denied:#?}");
}
