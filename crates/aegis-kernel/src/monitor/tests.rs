//! The deciding stages, from the attacker's side.

use std::sync::Arc;
use std::time::Duration;

use aegis_core::limits::TOOL_RESULT_BYTES_MAX;
use aegis_core::{Body, Denial, DenialCode, Intent, Outcome, Tenant, ToolCall, ToolResult, ToolSchema};
use aegis_manifest::AgentManifest;
use serde_json::{Value, json};

use super::limiter::Limits;
use super::speed::{Signing, authority, read_tool, rules, waiting_ledger};
use super::{Action, Circumstances, Limiter, Monitor, Performed, Permit, Proof, Settled, Target};
use crate::port::{Access, Governed, GovernedKind, ToolFacts};
use crate::test_journal::TestJournal;
use crate::tools::command_run_facts;

const CONTEXTS: &str = "apiVersion: 100monkeys.ai/v1
kind: NodeConfig
metadata: {name: test}
spec:
  security_contexts:
    - name: careful
      deny_list: [fs.delete]
      capabilities:
        - {tool_pattern: 'fs.*', path_allowlist: [/workspace/public]}
        - {tool_pattern: cmd.run, command_allowlist: [git, python3], subcommand_allowlist: {git: [status]}, max_response_size: 1Ki, rate_limit: {calls: 2, per_seconds: 60}}
    - name: limited
      capabilities:
        - {tool_pattern: cmd.run, max_concurrent: 1}
        - {tool_pattern: web.fetch, domain_allowlist: [example.org, '*.example.net']}
    - name: shaped
      capabilities:
        - {tool_pattern: 'fs.*', arguments: {properties: {path: {const: /workspace/a}}}}
        - {tool_pattern: fs.write, arguments: {properties: {path: {const: /workspace/b}}}}
";

fn manifest(context: &str, filesystem: &str) -> String {
    format!(
        "apiVersion: 100monkeys.ai/v1
kind: Agent
metadata: {{name: a, version: 1.0.0}}
spec:
  runtime: {{language: python}}
{context}
  security: {{filesystem: {filesystem}}}
  tools: [fs.read, fs.write, fs.delete, cmd.run, fsadmin.read, web.fetch]
"
    )
}

fn file_tool(name: &str, access: Access) -> Arc<ToolFacts> {
    Arc::new(ToolFacts {
        schema: ToolSchema {
            name: name.to_owned(),
            description: String::new(),
            parameters: json!({"type": "object", "properties": {"path": {"type": "string"}}, "additionalProperties": false}),
        },
        idempotent: true,
        foreign: false,
        governed: vec![Governed { argument: "path".into(), kind: GovernedKind::Path(access) }],
    })
}

fn fetch_tool() -> ToolFacts {
    let governed = vec![Governed { argument: "url".into(), kind: GovernedKind::Url }];
    let schema = ToolSchema {
        name: "web.fetch".to_owned(),
        description: String::new(),
        parameters: json!({"type": "object", "properties": {"url": {"type": "string"}}}),
    };
    ToolFacts { schema, governed, ..read_tool() }
}

fn tools() -> Vec<Arc<ToolFacts>> {
    vec![
        file_tool("fs.read", Access::Read),
        file_tool("fs.write", Access::Write),
        file_tool("fs.delete", Access::Write),
        file_tool("fs.list", Access::Read),
        file_tool("fsadmin.read", Access::Read),
        Arc::new(command_run_facts()),
        Arc::new(fetch_tool()),
    ]
}

/// What the deciding stages say of a call under a manifest.
fn decide(context: &str, filesystem: &str, tool: &str, arguments: Value) -> Result<Permit, Denial> {
    decide_by(&read(context, filesystem), tool, arguments)
}

fn read(context: &str, filesystem: &str) -> AgentManifest {
    aegis_manifest::parse_agent(&manifest(context, filesystem), "a.yaml").unwrap().document
}

fn decide_by(manifest: &AgentManifest, tool: &str, arguments: Value) -> Result<Permit, Denial> {
    let config = aegis_manifest::parse_node_config(CONTEXTS, "c.yaml", &|_| None).unwrap().document;
    let authority = authority(manifest, &config, &tools());
    let call = ToolCall { id: "1".into(), name: tool.into(), arguments };
    let facts = tools().into_iter().find(|facts| facts.schema.name == tool);
    let target =
        Target::Tool { turn: 0, index: 0, call: &call, facts: facts.as_deref(), proof: Proof::Nobody };
    let action = Action { target, generation: 1 };
    authority.constraints(&action).and_then(|survey| authority.authorise(survey, &Circumstances::default()))
}

#[test]
fn only_what_the_manifest_lists_and_the_node_has_is_permitted() {
    let all = "{read: [/workspace], write: [/workspace]}";
    for (tool, code) in [
        ("fs.list", DenialCode::ToolNotAllowed),
        ("fs.read.evil", DenialCode::ToolNotAllowed),
        ("FS.READ", DenialCode::ToolNotAllowed),
        ("aegis.spawn_child", DenialCode::ToolNotAllowed),
        // Listed, and even offered by a host, but `fs.*` of the context does not mean it.
        ("fsadmin.read", DenialCode::ToolNotAllowed),
    ] {
        let denied = decide("", all, tool, json!({"path": "/workspace/a"})).unwrap_err();
        assert_eq!(denied.code, code, "{tool}");
        assert!(!denied.remedy.is_empty() && !denied.rule.is_empty());
    }
    assert!(decide("", all, "fs.read", json!({"path": "/workspace/a"})).is_ok());
}

#[test]
fn paths_are_compared_as_they_are_not_as_they_are_written() {
    let rules = "{read: [/workspace/in], write: [/workspace/out]}";
    for (tool, path, permitted) in [
        ("fs.read", "/workspace/in/a", true),
        ("fs.read", "/workspace/out/a", true),
        ("fs.read", "in/a", true),
        ("fs.read", "/workspace/in/../in/a", true),
        ("fs.read", "/workspace/in/../secret", false),
        ("fs.read", "/workspace/inner/a", false),
        // On the way to what may be read, and beside it.
        ("fs.read", "/workspace", true),
        ("fs.write", "/workspace", false),
        ("fs.read", "/workspace/other", false),
        ("fs.read", "/etc/passwd", false),
        ("fs.read", "../etc/passwd", false),
        ("fs.read", "/workspace/in/../../etc/passwd", false),
        ("fs.write", "/workspace/out/a", true),
        ("fs.write", "/workspace/in/a", false),
        ("fs.write", "/workspace/out/../in/a", false),
        ("fs.write", "/workspace/out2/a", false),
    ] {
        let decided = decide("", rules, tool, json!({"path": path}));
        assert_eq!(decided.is_ok(), permitted, "{tool} {path}: {decided:?}");
        if let Err(denial) = decided {
            assert_eq!(denial.code, DenialCode::PathNotAllowed, "{tool} {path}");
        }
    }
}

#[test]
fn a_manifest_without_file_rules_and_a_read_only_one_permit_no_writing() {
    for rules in ["{}", "{read: [/workspace]}", "{read: [/workspace], read_only: true}"] {
        let denied = decide("", rules, "fs.write", json!({"path": "/workspace/a"})).unwrap_err();
        assert_eq!(denied.code, DenialCode::PathNotAllowed, "{rules}");
        assert!(denied.message.starts_with("writing `/workspace/a`"), "{}", denied.message);
    }
    // The two words together are refused where manifests are read; here the narrower one holds all the same.
    let mut both = read("", "{read: [/workspace], write: [/workspace]}");
    assert!(decide_by(&both, "fs.write", json!({"path": "/workspace/a"})).is_ok());
    both.spec.security.filesystem.read_only = true;
    let denied = decide_by(&both, "fs.write", json!({"path": "/workspace/a"})).unwrap_err();
    assert_eq!(denied.code, DenialCode::PathNotAllowed);
    let denied = decide("", "{}", "fs.read", json!({"path": "/workspace/a"})).unwrap_err();
    assert!(denied.message.starts_with("reading `/workspace/a`"), "{}", denied.message);
}

#[test]
fn arguments_outside_the_schema_are_refused_before_anything_looks_at_them() {
    let all = "{read: [/workspace], write: [/workspace]}";
    for arguments in
        [json!({"path": 7}), json!({"path": "/workspace/a", "mode": "0777"}), json!("text"), json!([])]
    {
        let denied = decide("", all, "fs.read", arguments).unwrap_err();
        assert_eq!(denied.code, DenialCode::InvalidArguments);
    }
}

#[test]
fn a_security_context_only_takes_away() {
    let context = "  security_context: careful";
    let all = "{read: [/workspace], write: [/workspace]}";
    let code =
        |tool: &str, arguments: Value| decide(context, all, tool, arguments).map_err(|denial| denial.code);
    assert!(code("fs.read", json!({"path": "/workspace/public/a"})).is_ok());
    assert_eq!(code("fs.read", json!({"path": "/workspace/a"})).unwrap_err(), DenialCode::PathNotAllowed);
    let explicit = code("fs.delete", json!({"path": "/workspace/public/a"})).unwrap_err();
    assert_eq!(explicit, DenialCode::ToolExplicitlyDenied);
    // The context would permit it, the manifest does not.
    let narrow =
        decide(context, "{read: [/workspace/other]}", "fs.read", json!({"path": "/workspace/public/a"}));
    assert_eq!(narrow.unwrap_err().code, DenialCode::PathNotAllowed);
    let run = |command: &str, args: Value| code("cmd.run", json!({"command": command, "args": args}));
    assert!(run("git", json!(["status"])).is_ok());
    for (command, args) in [
        ("git", json!(["push"])),
        ("sh", json!(["-c", "git status"])),
        ("git; rm", json!(["status"])),
        ("/bin/git", json!(["status"])),
    ] {
        assert_eq!(run(command, args).unwrap_err(), DenialCode::CommandNotAllowed, "{command}");
    }
}

#[test]
fn limits_come_with_the_capability_and_hold() {
    let all = "{read: [/workspace], write: [/workspace]}";
    let arguments = json!({"command": "git", "args": ["status"]});
    let permit = decide("  security_context: careful", all, "cmd.run", arguments).unwrap();
    assert_eq!(permit.max_response_bytes, Some(1024));
    let limiter = Limiter::default();
    let at = Duration::from_secs;
    assert!(limiter.reserve(&permit, at(0)).is_ok());
    assert!(limiter.reserve(&permit, at(1)).is_ok());
    assert_eq!(limiter.reserve(&permit, at(2)).err().unwrap().code, DenialCode::RateLimitExceeded);
    assert!(limiter.reserve(&permit, at(60)).is_ok(), "the window moved on");
    let other = Permit { tenant: "other".parse().unwrap(), ..permit };
    assert!(limiter.reserve(&other, at(2)).is_ok(), "limits are each tenant's own");
}

#[test]
fn concurrency_is_given_back_when_a_call_ends() {
    let limits = Limits { rate: None, concurrent: Some(1) };
    let permit = Permit {
        tenant: Tenant::default_tenant(),
        rule: "r".into(),
        limits: vec![("r".into(), limits)],
        max_response_bytes: None,
        questions: Vec::new(),
        egress: None,
    };
    let limiter = Limiter::default();
    let held = limiter.reserve(&permit, Duration::ZERO).ok().unwrap();
    assert!(limiter.reserve(&permit, Duration::ZERO).is_err());
    drop(held);
    assert!(limiter.reserve(&permit, Duration::ZERO).is_ok());
}

#[test]
fn as_many_calls_run_at_once_as_the_capability_says() {
    let permit = decide("  security_context: limited", "{}", "cmd.run", json!({"command": "git"})).unwrap();
    let limiter = Limiter::default();
    let first = limiter.reserve(&permit, Duration::ZERO).ok().unwrap();
    let denial = limiter.reserve(&permit, Duration::ZERO).err().unwrap();
    assert_eq!(
        (denial.code, denial.rule.as_str()),
        (DenialCode::RateLimitExceeded, "context:limited/capability:0")
    );
    drop(first);
    assert!(limiter.reserve(&permit, Duration::ZERO).is_ok());
}

#[test]
fn a_capability_reaches_no_domain_beyond_its_list() {
    for (url, code) in [
        ("https://example.org/a", None),
        ("https://a.example.net", None),
        ("https://a.example.org/", Some(DenialCode::DomainNotAllowed)),
        ("https://example.org.evil.net/", Some(DenialCode::DomainNotAllowed)),
    ] {
        let decided = decide("  security_context: limited", "{}", "web.fetch", json!({"url": url}));
        assert_eq!(decided.err().map(|denial| denial.code), code, "{url}");
    }
}

#[test]
fn each_capability_holds_calls_to_its_own_schema() {
    let all = "{read: [/workspace], write: [/workspace]}";
    let rule = |tool: &str, path: &str| {
        decide("  security_context: shaped", all, tool, json!({"path": path})).map(|permit| permit.rule)
    };
    assert_eq!(rule("fs.read", "/workspace/a").unwrap(), "context:shaped/capability:0");
    assert_eq!(rule("fs.write", "/workspace/b").unwrap(), "context:shaped/capability:1");
    assert_eq!(rule("fs.read", "/workspace/b").unwrap_err().code, DenialCode::InvalidArguments);
}

/// Passes one call of `fs.read` whose tool answers `content`; gives what the journal took.
async fn pass(arguments: Value, content: String) -> (Settled, Arc<TestJournal>) {
    let journal = Arc::new(TestJournal::starting_at(5));
    let mut ledger = waiting_ledger(journal.clone());
    let text = manifest("", "{read: [/workspace]}");
    let manifest = aegis_manifest::parse_agent(&text, "a.yaml").unwrap().document;
    let config = aegis_manifest::parse_node_config(CONTEXTS, "c.yaml", &|_| None).unwrap().document;
    let facts = Arc::new(read_tool());
    let tools = std::slice::from_ref(&facts);
    let mut authority = authority(&manifest, &config, tools);
    let call = ToolCall { id: "1".into(), name: "fs.read".into(), arguments };
    let signing = Signing::new();
    let (envelope, session) = signing.sign(&ledger, &call);
    let proof = Proof::Kernel { envelope: envelope.as_ref(), session: &session };
    let target = Target::Tool { turn: 0, index: 0, call: &call, facts: Some(&facts), proof };
    let monitor = Monitor::new(Limiter::default(), rules(&config), Arc::clone(&signing.tokens));
    let perform = |_| async { Performed::Tool(Ok(ToolResult::ok(content))) };
    let action = Action { target, generation: 1 };
    (monitor.pass(&mut ledger, &mut authority, &action, perform).await.unwrap(), journal)
}

#[tokio::test]
async fn arguments_are_recorded_in_their_canonical_form() {
    let (settled, journal) = pass(json!({"path": 7.0}), String::new()).await;
    assert!(matches!(settled, Settled::Denied(_)), "{settled:?}");
    let [Body::ActionDenied { arguments, .. }] = &journal.bodies()[..] else { panic!("{journal:?}") };
    assert_eq!(journal.text(arguments), "{\"path\":7}");
    let (settled, _) = pass(json!({"path": 9_007_199_254_740_993_u64}), String::new()).await;
    let Settled::Denied(denial) = settled else { panic!("{settled:?}") };
    assert_eq!(denial.code, DenialCode::InvalidArguments);
    assert!(denial.message.contains("send it as a string"), "{}", denial.message);
}

#[tokio::test]
async fn no_result_is_told_beyond_the_limit_whatever_the_tool_does() {
    let (_, journal) = pass(json!({"path": "/workspace/a"}), "x".repeat(4 * TOOL_RESULT_BYTES_MAX)).await;
    let bodies = journal.bodies();
    let [Body::ActionIntended { intent: Intent::Tool { arguments, .. }, .. }, completed] = &bodies[..] else {
        panic!("{bodies:?}")
    };
    assert_eq!(journal.text(arguments), "{\"path\":\"/workspace/a\"}");
    let Body::ActionCompleted { outcome: Outcome::Tool { result, .. }, .. } = completed else {
        panic!("{completed:?}")
    };
    let told = journal.text(result);
    assert!(told.len() <= TOOL_RESULT_BYTES_MAX && told.contains("(only the first"), "{}", told.len());
}

#[test]
fn a_layer_that_refuses_gives_back_what_another_let_through() {
    let one = Limits { rate: None, concurrent: Some(1) };
    let none = Limits { rate: None, concurrent: Some(0) };
    let permit = |limits: &[(&str, Limits)]| Permit {
        tenant: Tenant::default_tenant(),
        rule: "r".into(),
        limits: limits.iter().map(|(rule, limits)| ((*rule).to_owned(), *limits)).collect(),
        max_response_bytes: None,
        questions: Vec::new(),
        egress: None,
    };
    let limiter = Limiter::default();
    assert!(limiter.reserve(&permit(&[("outer", one), ("inner", none)]), Duration::ZERO).is_err());
    assert!(limiter.reserve(&permit(&[("outer", one)]), Duration::ZERO).is_ok(), "it is not under way");
}
