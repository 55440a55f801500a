//! Layers of policy and their epochs, from the attacker's side.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aegis_core::{Body, Denial, DenialCode, Tenant, ToolCall, ToolResult};
use aegis_manifest::{AgentManifest, NodeConfig};
use aegis_security::policy::Ruling;
use serde_json::{Value, json};

use super::speed::{Signing, event, read_tool, settings, waiting_ledger};
use super::{
    Action, Authority, Circumstances, Limiter, Member, Monitor, Performed, Permit, Proof, Settled, Target,
};
use crate::kernel::KernelSettings;
use crate::policy::{NodePolicy, Rules};
use crate::port::{JournalError, ToolFacts};
use crate::record::RecordError;
use crate::test_journal::TestJournal;

const PERMIT_ALL: &str = "permit(principal, action, resource);\n";

fn manifest(name: &str, rest: &str) -> Arc<AgentManifest> {
    let text = format!(
        "apiVersion: 100monkeys.ai/v1
kind: Agent
metadata: {{name: {name}, version: 1.0.0}}
spec:
  runtime: {{language: python}}
{rest}"
    );
    Arc::new(aegis_manifest::parse_agent(&text, "a.yaml").unwrap().document)
}

/// An agent that may read its workspace, with more lines.
fn reader(more: &str) -> Arc<AgentManifest> {
    manifest("a", &format!("  security: {{filesystem: {{read: [/workspace]}}}}\n  tools: [fs.read]\n{more}"))
}

fn config(contexts: &str) -> NodeConfig {
    let text = format!(
        "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: {{name: test}}\nspec:\n  security_contexts: [{contexts}]\n"
    );
    aegis_manifest::parse_node_config(&text, "c.yaml", &|_| None).unwrap().document
}

fn with_policies(policies: &[(&str, Option<&str>, &str)]) -> KernelSettings {
    let policies = policies.iter().map(|(name, tenant, text)| {
        NodePolicy::new(name, tenant.map(|tenant| tenant.parse().unwrap()), text).unwrap()
    });
    KernelSettings { policies: policies.collect(), ..settings(&config("")) }
}

fn member(tenant: &str, manifest: &Arc<AgentManifest>, execution: &str) -> Member {
    Member {
        execution: execution.to_owned(),
        tenant: tenant.parse().unwrap(),
        manifest: Arc::clone(manifest),
    }
}

fn authority(chain: Vec<Member>, settings: KernelSettings) -> Authority {
    Authority::compile(chain, &Rules::new(settings), &[Arc::new(read_tool())]).unwrap()
}

fn call(path: &str) -> ToolCall {
    ToolCall { id: "1".into(), name: "fs.read".into(), arguments: json!({"path": path}) }
}

fn decide_as(
    authority: &Authority,
    (call, facts): (&ToolCall, &ToolFacts),
    circumstances: &Circumstances,
) -> Result<Permit, Denial> {
    let target = Target::Tool { turn: 0, index: 0, call, facts: Some(facts), proof: Proof::Nobody };
    let survey = authority.constraints(&Action { target, generation: 1 })?;
    authority.authorise(survey, circumstances)
}

fn decide(authority: &Authority, path: &str) -> Result<Permit, Denial> {
    decide_as(authority, (&call(path), &read_tool()), &Circumstances::default())
}

fn alone(manifest: &Arc<AgentManifest>, settings: KernelSettings) -> Result<Permit, Denial> {
    decide(&authority(vec![member("acme", manifest, "e")], settings), "/workspace/a")
}

fn refused(decided: Result<Permit, Denial>) -> (DenialCode, String) {
    let denial = decided.unwrap_err();
    assert!(!denial.message.is_empty() && !denial.remedy.is_empty(), "{denial:?}");
    (denial.code, denial.rule)
}

#[test]
fn a_tenants_permit_for_everything_cancels_nothing() {
    let all = with_policies(&[("base", None, PERMIT_ALL), ("own", Some("acme"), PERMIT_ALL)]);
    assert!(alone(&reader(""), all.clone()).is_ok());
    // Neither the manifest's default deny,
    let unlisted = manifest("a", "  security: {filesystem: {read: [/workspace]}}\n");
    assert_eq!(
        refused(alone(&unlisted, all.clone())),
        (DenialCode::ToolNotAllowed, "manifest:tools".to_owned())
    );
    // nor its file rules, nor the context's,
    let narrow = manifest("a", "  security: {filesystem: {read: [/workspace/b]}}\n  tools: [fs.read]\n");
    assert_eq!(refused(alone(&narrow, all.clone())).0, DenialCode::PathNotAllowed);
    let none = KernelSettings { config: Arc::new(config("{name: default, capabilities: []}")), ..all };
    assert_eq!(refused(alone(&reader(""), none)), (DenialCode::ToolNotAllowed, "context:default".to_owned()));
    // nor what the node forbids or does not permit.
    let forbid =
        format!("{PERMIT_ALL}@id(\"no\") forbid(principal, action, resource in Aegis::ToolGroup::\"fs.*\");");
    let node = with_policies(&[("base", None, &forbid), ("own", Some("acme"), PERMIT_ALL)]);
    assert_eq!(
        refused(alone(&reader(""), node)),
        (DenialCode::ToolExplicitlyDenied, "node:base/policy:no".to_owned())
    );
    let models = "permit(principal, action == Aegis::Action::\"ask_model\", resource);";
    let node = with_policies(&[("base", None, models), ("own", Some("acme"), PERMIT_ALL)]);
    assert_eq!(refused(alone(&reader(""), node)), (DenialCode::ToolNotAllowed, "node:base".to_owned()));
}

#[test]
fn a_tenants_policy_binds_that_tenant_alone_and_policies_of_one_scope_do_not_add_up() {
    let never = "permit(principal, action, resource);\nforbid(principal, action, resource);";
    let settings = with_policies(&[("never", Some("other"), never)]);
    assert!(alone(&reader(""), settings).is_ok());
    let settings = with_policies(&[("never", Some("acme"), never)]);
    assert_eq!(
        refused(alone(&reader(""), settings)),
        (DenialCode::ToolExplicitlyDenied, "tenant:acme:never/policy:1".to_owned())
    );
    let models = "permit(principal, action == Aegis::Action::\"ask_model\", resource);";
    let settings = with_policies(&[("models", None, models), ("all", None, PERMIT_ALL)]);
    assert_eq!(refused(alone(&reader(""), settings)).1, "node:models");
}

#[test]
fn a_policy_that_cannot_be_evaluated_denies() {
    let overflow = format!(
        "{PERMIT_ALL}@id(\"sum\") forbid(principal, action, resource) when {{ context.time + 9223372036854775807 > context.risk }};"
    );
    let authority =
        authority(vec![member("acme", &reader(""), "e")], with_policies(&[("sum", None, &overflow)]));
    let circumstances = Circumstances { time: 1, ..Circumstances::default() };
    let denied = decide_as(&authority, (&call("/workspace/a"), &read_tool()), &circumstances);
    let denial = denied.unwrap_err();
    assert_eq!((denial.code, denial.rule.as_str()), (DenialCode::ToolNotAllowed, "node:sum/policy:sum"));
    assert!(denial.message.contains("could not be evaluated"), "{}", denial.message);
}

#[test]
fn policies_see_arguments_paths_labels_risk_and_time() {
    for (condition, denied) in [
        ("context.labels.contains(\"untrusted\")", true),
        ("context.labels.contains(\"sensitive\")", false),
        ("context.risk > 399", true),
        ("context.risk > 400", false),
        ("context.time == 77", true),
        ("context.tenant == \"acme\"", true),
        ("context has path && context.path in Aegis::Path::\"/workspace/in\"", true),
        ("context has path && context.path in Aegis::Path::\"/workspace/i\"", false),
        ("context.arguments.hasTag(\"path\") && context.arguments.getTag(\"path\") like \"*secret*\"", true),
        ("context.matched.contains(\"context:default/capability:0\")", true),
        ("context.matched.contains(\"context:default/capability:1\")", false),
        ("principal in Aegis::Agent::\"a@1.0.0\"", true),
        ("principal in Aegis::Agent::\"a@1.0.1\"", false),
        ("principal in Aegis::Tenant::\"acme\"", true),
    ] {
        let text = format!("{PERMIT_ALL}forbid(principal, action, resource) when {{ {condition} }};");
        let authority =
            authority(vec![member("acme", &reader(""), "e")], with_policies(&[("p", None, &text)]));
        let circumstances = Circumstances { labels: vec!["untrusted".to_owned()], risk: 400, time: 77 };
        let call = call("/workspace/in/x/../secret.txt");
        let decided = decide_as(&authority, (&call, &read_tool()), &circumstances);
        assert_eq!(decided.is_err(), denied, "{condition}: {decided:?}");
    }
}

#[test]
fn a_soul_forbids_and_asks_and_asking_is_refused() {
    let soul = |authority: &str| reader(&format!("  soul: {{intent: Read., authority: {{{authority}}}}}\n"));
    let settings = || settings(&config(""));
    assert!(alone(&soul("autonomous: [fs.*]"), settings()).unwrap().questions.is_empty());
    assert_eq!(
        refused(alone(&soul("autonomous: [fs.*], forbidden: [fs.read]"), settings())),
        (DenialCode::ToolExplicitlyDenied, "soul:a/forbidden:0".to_owned())
    );
    for (authority, rule) in [
        ("review: [fs.read]", "soul:a/review:0"),
        ("autonomous: [fs.*], review: [fs.read]", "soul:a/review:0"),
        ("autonomous: [fsadmin.*]", "soul:a/unlisted:0"),
    ] {
        let permit = alone(&soul(authority), settings()).unwrap();
        assert_eq!(permit.questions[0].0, rule, "{authority}");
        let denial = super::stages::judge(&permit).unwrap_err();
        assert_eq!((denial.code, denial.rule.as_str()), (DenialCode::ApprovalRequired, rule));
    }
    let bold = authority(vec![member("acme", &soul("autonomous: [fs.*], max_risk: 0.4"), "e")], settings());
    let at_risk = |risk| {
        let circumstances = Circumstances { risk, ..Circumstances::default() };
        decide_as(&bold, (&call("/workspace/a"), &read_tool()), &circumstances).unwrap().questions
    };
    assert!(at_risk(400).is_empty());
    assert_eq!(at_risk(401)[0].0, "soul:a/max_risk:0");
    let ask = "@ask(\"Really?\") permit(principal, action, resource);";
    let permit = alone(&reader(""), with_policies(&[("ask", None, ask)])).unwrap();
    assert_eq!(permit.questions, [("node:ask/policy:0".to_owned(), "Really?".to_owned())]);
}

#[test]
fn a_child_never_does_what_its_parent_could_not() {
    let parent = |rest: &str| manifest("parent", rest);
    let whole = parent("  security: {filesystem: {read: [/workspace]}}\n  tools: [fs.read]\n");
    let chain = |ancestors: &[&Arc<AgentManifest>]| {
        let mut chain = vec![member("acme", &reader(""), "child")];
        chain.extend(ancestors.iter().map(|ancestor| member("acme", ancestor, "ancestor")));
        chain
    };
    let contexts = "{name: narrow, capabilities: [{tool_pattern: fs.read, path_allowlist: [/workspace/b]}]}";
    let settings = || settings(&config(contexts));
    let decided =
        |ancestors: &[&Arc<AgentManifest>]| decide(&authority(chain(ancestors), settings()), "/workspace/a");
    assert!(decided(&[&whole, &whole]).is_ok());
    let unlisted = parent("  security: {filesystem: {read: [/workspace]}}\n");
    assert_eq!(
        refused(decided(&[&unlisted])),
        (DenialCode::ToolNotAllowed, "ancestor:1/manifest:parent@1.0.0".to_owned())
    );
    let files = parent("  tools: [fs.read]\n");
    assert_eq!(
        refused(decided(&[&whole, &files])),
        (DenialCode::PathNotAllowed, "ancestor:2/manifest:security.filesystem".to_owned())
    );
    let context = parent(
        "  security: {filesystem: {read: [/workspace]}}\n  tools: [fs.read]\n  security_context: narrow\n",
    );
    assert_eq!(
        refused(decided(&[&whole, &context])),
        (DenialCode::PathNotAllowed, "ancestor:2/context:narrow/capability:0".to_owned())
    );
    let soul = parent(
        "  security: {filesystem: {read: [/workspace]}}\n  tools: [fs.read]\n  soul: {intent: x, authority: {forbidden: [fs.*]}}\n",
    );
    assert_eq!(refused(decided(&[&soul])).1, "ancestor:1/soul:parent/forbidden:0");
    // A policy about the parent binds what it starts.
    let about =
        format!("{PERMIT_ALL}@id(\"p\") forbid(principal in Aegis::Agent::\"parent\", action, resource);");
    let about = authority(chain(&[&whole]), with_policies(&[("about", None, &about)]));
    assert_eq!(refused(decide(&about, "/workspace/a")).1, "ancestor:1/node:about/policy:p");
}

#[test]
fn an_explanation_is_the_verdict_with_its_reasons() {
    let policies = with_policies(&[("own", Some("acme"), PERMIT_ALL), ("base", None, PERMIT_ALL)]);
    let authority = authority(vec![member("acme", &reader(""), "e")], policies);
    let explain = |path: Value| {
        let call = ToolCall { id: "1".into(), name: "fs.read".into(), arguments: json!({"path": path}) };
        let facts = read_tool();
        let target =
            Target::Tool { turn: 0, index: 0, call: &call, facts: Some(&facts), proof: Proof::Nobody };
        let action = Action { target, generation: 0 };
        authority.explain(&action, &Circumstances::default()).unwrap()
    };
    let permitted = explain(json!("/workspace/a"));
    let layers: Vec<&str> = permitted.layers.iter().map(|layer| layer.layer.as_str()).collect();
    assert_eq!(layers, ["node:base", "tenant:acme:own", "context:default", "manifest:a@1.0.0"]);
    assert_eq!(permitted.ruling, Ruling::Permit);
    let outside = explain(json!("/etc/passwd"));
    assert_eq!((outside.ruling, outside.code.as_deref()), (Ruling::Deny, Some("PATH_NOT_ALLOWED")));
    assert_eq!(outside.layers[0].layer, "manifest:security.filesystem");
    assert!(outside.layers[0].remedy.as_deref().unwrap().contains("spec.security.filesystem"));
    assert_eq!(explain(json!(7)).code.as_deref(), Some("INVALID_ARGUMENTS"));
}

/// Passes one call of `fs.read`; gives what came of it.
async fn pass(
    monitor: &Monitor,
    authority: &mut Authority,
    index: u32,
    journal: &Arc<TestJournal>,
) -> Settled {
    try_pass(monitor, authority, index, journal).await.unwrap()
}

async fn try_pass(
    monitor: &Monitor,
    authority: &mut Authority,
    index: u32,
    journal: &Arc<TestJournal>,
) -> Result<Settled, RecordError> {
    let mut ledger = waiting_ledger(journal.clone());
    let (call, facts) = (call("/workspace/a"), read_tool());
    let (envelope, session) = Signing::new().sign(&ledger, &call);
    let proof = Proof::Kernel { envelope: envelope.as_ref(), session: &session };
    let target = Target::Tool { turn: 0, index, call: &call, facts: Some(&facts), proof };
    let perform = |_| async { Performed::Tool(Ok(ToolResult::ok("text"))) };
    monitor.pass(&mut ledger, authority, &Action { target, generation: 1 }, perform).await
}

fn narrowed() -> KernelSettings {
    settings(&config("{name: default, capabilities: [{tool_pattern: fs.list}]}"))
}

fn running() -> (Arc<Rules>, Monitor, Authority, Arc<TestJournal>) {
    let rules = Arc::new(Rules::new(settings(&config(""))));
    let monitor = Monitor::new(Limiter::default(), rules.clone(), Signing::new().tokens);
    let chain = vec![member(Tenant::default_tenant().as_str(), &reader(""), "e")];
    let authority = Authority::compile(chain, &rules, &[Arc::new(read_tool())]).unwrap();
    (rules, monitor, authority, Arc::new(TestJournal::starting_at(5)))
}

#[tokio::test]
async fn a_running_execution_is_judged_by_new_rules_on_its_next_action() {
    let (rules, monitor, mut authority, journal) = running();
    assert!(matches!(pass(&monitor, &mut authority, 0, &journal).await, Settled::Tool { .. }));
    assert_eq!(rules.replace(settings(&config(""))).await, 1, "the same rules are no new epoch");
    assert_eq!(rules.replace(narrowed()).await, 2);
    let Settled::Denied(denial) = pass(&monitor, &mut authority, 0, &journal).await else { panic!() };
    assert_eq!(denial.code, DenialCode::ToolNotAllowed);
    // A context that is gone permits nothing either.
    let chain = vec![member("default", &reader("  security_context: gone\n"), "e")];
    let there = settings(&config("{name: gone, capabilities: [{tool_pattern: 'fs.*'}]}"));
    rules.replace(there).await;
    let mut other = Authority::compile(chain, &rules, &[Arc::new(read_tool())]).unwrap();
    assert!(matches!(pass(&monitor, &mut other, 0, &journal).await, Settled::Tool { .. }));
    rules.replace(settings(&config(""))).await;
    let Settled::Denied(denial) = pass(&monitor, &mut other, 0, &journal).await else { panic!() };
    assert!(denial.message.contains("no security context `gone`"), "{}", denial.message);
    // And what is permitted again is done again.
    assert!(matches!(pass(&monitor, &mut authority, 0, &journal).await, Settled::Tool { .. }));
}

#[tokio::test]
async fn what_was_decided_under_rules_that_are_over_is_decided_anew() {
    let (rules, monitor, mut authority, journal) = running();
    // An intent of somebody else is being recorded; a reload waits for it, and what comes later for the reload.
    let recording = rules.hold(1).await.unwrap();
    let reloading = tokio::spawn({
        let rules = rules.clone();
        async move { rules.replace(narrowed()).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(rules.epoch(), 1, "the reload waits");
    let passing = tokio::spawn({
        let journal = journal.clone();
        async move { pass(&monitor, &mut authority, 0, &journal).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!passing.is_finished() && journal.bodies().is_empty(), "it was decided, and is not recorded");
    drop(recording);
    assert_eq!(reloading.await.unwrap(), 2);
    assert!(matches!(passing.await.unwrap(), Settled::Denied(_)));
    assert!(matches!(journal.bodies()[..], [Body::ActionDenied { .. }]), "{journal:?}");
}

#[tokio::test]
async fn a_reload_returns_when_no_intent_of_the_former_rules_can_follow() {
    let (rules, monitor, mut authority, journal) = running();
    let recording = rules.hold(1).await.unwrap();
    // The pass comes first: its intent is recorded under the rules it was decided by.
    assert!(matches!(pass(&monitor, &mut authority, 0, &journal).await, Settled::Tool { .. }));
    let reloading = tokio::spawn({
        let rules = rules.clone();
        async move { rules.replace(narrowed()).await }
    });
    tokio::task::yield_now().await;
    assert!(!reloading.is_finished());
    drop(recording);
    reloading.await.unwrap();
    assert!(rules.hold(1).await.is_none(), "the former epoch is over");
    assert!(rules.hold(2).await.is_some());
}

#[tokio::test]
async fn an_intent_gives_way_to_others_so_often_and_no_more() {
    for (conflicts, performed) in [(0, true), (1, true), (64, true), (65, false), (66, false)] {
        let (_rules, monitor, mut authority, journal) = running();
        journal.conflicts.store(conflicts, Ordering::Relaxed);
        let passed = try_pass(&monitor, &mut authority, 0, &journal).await;
        assert_eq!(matches!(passed, Ok(Settled::Tool { .. })), performed, "{conflicts}");
        if !performed {
            assert_eq!(passed.unwrap_err(), RecordError::Journal(JournalError::Overloaded), "{conflicts}");
            assert!(journal.bodies().is_empty(), "nothing is performed that is not on record");
        }
    }
}

#[tokio::test]
async fn what_is_open_is_judged_by_the_rules_of_now() {
    let (rules, monitor, mut authority, journal) = running();
    let mut ledger = waiting_ledger(journal.clone());
    let (call, facts) = (call("/workspace/a"), read_tool());
    let (envelope, session) = Signing::new().sign(&ledger, &call);
    let proof = Proof::Kernel { envelope: envelope.as_ref(), session: &session };
    let target = Target::Tool { turn: 0, index: 0, call: &call, facts: Some(&facts), proof };
    let action = Action { target, generation: 1 };
    assert_eq!(monitor.stands(&mut ledger, &mut authority, &action).await, Ok(()));
    let mut changes = monitor.changes();
    assert!(!changes.has_changed().unwrap());
    rules.replace(narrowed()).await;
    monitor.changed();
    assert!(changes.has_changed().unwrap(), "who keeps something open is told");
    changes.mark_unchanged();
    let denial = monitor.stands(&mut ledger, &mut authority, &action).await.unwrap_err();
    assert_eq!(denial.code, DenialCode::ToolNotAllowed);
    // Nor does anything stay open of a generation that is over.
    let over = Action { generation: 2, ..action };
    rules.replace(settings(&config(""))).await;
    let denial = monitor.stands(&mut ledger, &mut authority, &over).await.unwrap_err();
    assert_eq!(denial.code, DenialCode::ExecutionNotActive);
    // Nor of a run that somebody cancels, though this ledger has not heard of it.
    assert_eq!(monitor.stands(&mut ledger, &mut authority, &action).await, Ok(()));
    let asked = event(ledger.state.position + 1, Body::CancelRequested { forced: false });
    journal.others.lock().unwrap().push(asked);
    let denial = monitor.stands(&mut ledger, &mut authority, &action).await.unwrap_err();
    assert_eq!(denial.code, DenialCode::ExecutionNotActive);
}

#[tokio::test]
async fn a_denial_is_judged_by_all_that_is_on_record() {
    for (generation, heard) in [(1, true), (2, false)] {
        let (_rules, monitor, mut authority, journal) = running();
        let mut ledger = waiting_ledger(journal.clone());
        let Some(sandbox) = ledger.state.sandbox.take() else { panic!() };
        ledger.state.generation = 0;
        let position = ledger.state.position + 1;
        let begun = Body::GenerationStarted { generation: 1, iteration: 1, sandbox, signer: None };
        journal.others.lock().unwrap().push(event(position, begun));
        let (call, facts) = (call("/workspace/a"), read_tool());
        let (envelope, session) = Signing::new().sign(&ledger, &call);
        let proof = Proof::Kernel { envelope: envelope.as_ref(), session: &session };
        let target = Target::Tool { turn: 0, index: 0, call: &call, facts: Some(&facts), proof };
        let perform = |_| async { Performed::Tool(Ok(ToolResult::ok("text"))) };
        let action = Action { target, generation };
        let passed = monitor.pass(&mut ledger, &mut authority, &action, perform).await.unwrap();
        assert_eq!(matches!(passed, Settled::Tool { .. }), heard, "{passed:?}");
    }
}

#[test]
fn rules_of_the_node_that_nobody_can_follow_are_told_by_their_field() {
    let governed = |governance: &str| {
        let text = format!(
            "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: {{name: test}}\nspec:\n  governance: {governance}\n"
        );
        super::check_rules(&aegis_manifest::parse_node_config(&text, "c.yaml", &|_| None).unwrap().document)
    };
    assert_eq!(governed("{network: {allowlist: [pypi.org]}}"), Ok(()));
    let problem = governed("{network: {allowlist: ['10.1.2.3/8']}}").unwrap_err();
    assert!(problem.starts_with("spec.governance.network: ") && problem.contains("10.1.2.3/8"), "{problem}");
}

#[tokio::test]
async fn policies_of_another_name_or_text_are_other_rules() {
    let forbid = format!("{PERMIT_ALL}forbid(principal, action, resource);");
    let rules = Rules::new(with_policies(&[("a", None, PERMIT_ALL)]));
    for (name, text, epoch) in
        [("a", PERMIT_ALL, 1), ("a", &forbid, 2), ("a", &forbid, 2), ("b", &forbid, 3), ("b", PERMIT_ALL, 4)]
    {
        assert_eq!(rules.replace(with_policies(&[(name, None, text)])).await, epoch, "{name}: {text}");
    }
}
