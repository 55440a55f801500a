//! Each field of a policy document, away from its default, and what is asked by it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aegis_security::egress::Host;
use serde_json::json;

use super::*;

fn manifest(spec: &str) -> AgentManifest {
    let text = format!(
        "apiVersion: 100monkeys.ai/v1\nkind: Agent\nmetadata: {{name: a, version: 1.2.3}}\nspec:\n  runtime: {{language: python, model: fast}}\n{spec}"
    );
    aegis_manifest::parse_agent(&text, "a.yaml").unwrap_or_else(|error| panic!("{error}")).document
}

#[test]
fn each_field_of_a_capability_is_asked_by() {
    let context: node::SecurityContext = serde_json::from_value(json!({
        "name": "narrow",
        "capabilities": [{
            "tool_pattern": "fs.*",
            "path_allowlist": ["/workspace"],
            "domain_allowlist": ["example.org"],
            "command_allowlist": ["git"],
            "subcommand_allowlist": {"git": ["status"]},
            "arguments": {"type": "object"},
            "max_response_size": "3Ki",
            "rate_limit": {"calls": 4, "per_seconds": 5},
            "max_concurrent": 6,
        }],
        "deny_list": ["fs.delete"],
    }))
    .unwrap();
    let texts = |text: &str| Some(vec![text.to_owned()]);
    let expected = Capability {
        tool_pattern: "fs.*".to_owned(),
        path_allowlist: texts("/workspace"),
        domain_allowlist: texts("example.org"),
        command_allowlist: texts("git"),
        subcommand_allowlist: Some(BTreeMap::from([("git".to_owned(), vec!["status".to_owned()])])),
        arguments: Some(json!({"type": "object"})),
        max_response_size: Some(3 << 10),
        rate_limit: Some(RateLimit { calls: 4, per_seconds: 5 }),
        max_concurrent: Some(6),
    };
    assert_eq!(capabilities(&context), [expected]);
    let compiled = security_context(&context).unwrap();
    assert_eq!(compiled.name(), "narrow");
    let denied = node::SecurityContext { deny_list: vec!["no such *".to_owned()], ..context };
    assert!(security_context(&denied).is_err(), "the deny list is read");
}

#[test]
fn each_part_of_an_authority_that_decides_is_asked_by() {
    let spec = "  soul: {intent: i, authority: {autonomous: [a.*], review: [b.*], forbidden: [c.*], max_risk: 0.4}}\n";
    let manifest = manifest(spec);
    let soul = inline_soul(&manifest).unwrap();
    let expected = Authority {
        autonomous: vec!["a.*".to_owned()],
        review: vec!["b.*".to_owned()],
        forbidden: vec!["c.*".to_owned()],
        max_risk: Some(0.4),
    };
    assert_eq!(soul_authority(&soul.authority), expected);
}

#[test]
fn what_a_manifest_lists_is_asked_by() {
    let spec = "  tools: [fs.read]\n  volumes: [{name: v, mount_path: /v}]\n";
    let network = |lists: &str| format!("{spec}  security: {{network: {{{lists}}}}}\n");
    let expected = ManifestRules {
        tools: vec!["fs.read".to_owned()],
        models: vec!["fast".to_owned()],
        judges: false,
        network: Network::None,
        volumes: vec!["v".to_owned()],
    };
    let rules = |spec: &str| manifest_rules(&manifest(spec));
    assert_eq!(rules(spec), expected);
    let allow = Network::Allow(vec!["a.org".to_owned()]);
    let allowed = rules(&network("mode: allow, allowlist: [a.org]"));
    assert_eq!(allowed, ManifestRules { network: allow, ..expected.clone() });
    let deny = Network::Deny(vec!["b.org".to_owned()]);
    let denied = rules(&network("mode: deny, denylist: [b.org]"));
    assert_eq!(denied, ManifestRules { network: deny, ..expected.clone() });
    let judged = format!("{spec}  execution: {{validation: [{{type: semantic, model: j, criteria: c}}]}}\n");
    assert_eq!(rules(&judged), ManifestRules { judges: true, ..expected });
}

/// The rule by which a manifest with this network permits or refuses a connection to port 443.
fn decided(network: &str, host: &str, address: &str) -> Result<String, String> {
    let manifest = manifest(&format!("  security: {{network: {{{network}}}}}\n"));
    let rules = egress_rules(&manifest, "ancestor:1/").unwrap();
    let host = Host::parse(host).unwrap();
    let permit = rules.permits_name(&host, 443).map_err(|denial| denial.rule)?;
    let address: IpAddr = address.parse().unwrap();
    rules.permits_addresses(&host, &[address], 443, &[]).map_err(|denial| denial.rule)?;
    Ok(permit.rule)
}

#[test]
fn each_mode_and_list_of_the_network_decides() {
    const LAYER: &str = "ancestor:1/manifest:a@1.2.3";
    let allow = "mode: allow, allowlist: [a.org, '10.0.0.0/8']";
    let deny = "mode: deny, denylist: [evil.org, '8.8.8.0/24']";
    for (network, host, address, rule) in [
        ("mode: none", "a.org", "1.1.1.1", Err("mode:none")),
        (allow, "a.org", "1.1.1.1", Ok("allowlist:0")),
        (allow, "a.org", "10.1.2.3", Ok("allowlist:0")),
        (allow, "a.org", "192.168.0.1", Err("address")),
        (allow, "b.org", "1.1.1.1", Err("allowlist")),
        (deny, "a.org", "1.1.1.1", Ok("mode:deny")),
        (deny, "evil.org", "1.1.1.1", Err("denylist:0")),
        (deny, "8.8.8.8", "8.8.8.8", Err("denylist:1")),
        (deny, "a.org", "8.8.8.8", Err("denylist:1")),
        (deny, "a.org", "10.1.2.3", Err("address")),
    ] {
        let full = |rule: &str| format!("{LAYER}/{rule}");
        assert_eq!(
            decided(network, host, address),
            rule.map(full).map_err(full),
            "{network}: {host} at {address}"
        );
    }
}
