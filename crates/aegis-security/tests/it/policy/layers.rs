//! What each kind of layer says.

use aegis_core::{Denial, DenialCode};
use aegis_security::policy::{
    ActionName, Authority, Layer, ManifestRules, Network, PolicyError, Question, Ruling, evaluate,
};

use super::{call, context, denial, link, list, ruling, text, verdict};

fn with<'a>(question: Question<'a>, action: ActionName, resource: &'a str) -> Question<'a> {
    Question { action, resource, ..question }
}

#[test]
fn a_capability_permits_what_matched_it() {
    let layer = context(&["git.*", "fs.*"], &["fs.delete", "mail.*"]);
    let matched = [list(&["context:ci/capability:1"]), list(&["context:ci/capability:0"])];
    let permitted = verdict(&layer, &Question { matched: &matched[0], ..call("fs.read") });
    assert_eq!(permitted.ruling, Ruling::Permit);
    assert_eq!(permitted.layers[0].rules, ["context:ci/capability:1"]);
    assert_eq!(permitted.layers[0].layer, "context:ci");
    assert!(permitted.denial().is_none());
    // Not without a match, not by a match of another capability, not by one of another context.
    let others = list(&["context:other/capability:1", "capability:1", "ancestor:1/context:ci/capability:1"]);
    for wrong in [&[][..], &matched[1], &others] {
        let question = Question { matched: wrong, ..call("fs.read") };
        assert_eq!(denial(&layer, &question), ("context:ci".to_owned(), "TOOL_NOT_ALLOWED"));
    }
    // Denied whatever matched.
    let all = list(&["context:ci/capability:0", "context:ci/capability:1"]);
    let denied = Question { matched: &all, ..call("fs.delete") };
    assert_eq!(denial(&layer, &denied), ("context:ci/deny_list:0".to_owned(), "TOOL_EXPLICITLY_DENIED"));
    let denied = Question { matched: &all, ..call("mail.send") };
    assert_eq!(denial(&layer, &denied), ("context:ci/deny_list:1".to_owned(), "TOOL_EXPLICITLY_DENIED"));
    assert_eq!(ruling(&layer, &with(call("x"), ActionName::AskModel, "default")), Ruling::Permit);
}

#[test]
fn a_deny_list_of_all_tools_denies_tools_alone() {
    let layer = context(&["*"], &["*"]);
    let matched = list(&["context:ci/capability:0"]);
    assert_eq!(ruling(&layer, &Question { matched: &matched, ..call("fs.read") }), Ruling::Deny);
    for action in ActionName::ALL.into_iter().filter(|action| *action != ActionName::CallTool) {
        assert_eq!(ruling(&layer, &with(call(""), action, "a.example")), Ruling::Permit, "{action}");
    }
}

#[test]
fn a_note_tells_why_a_capability_did_not_match() {
    let layer = context(&["fs.*"], &[]);
    let note = |rule: &str| Denial {
        code: DenialCode::PathNotAllowed,
        rule: rule.to_owned(),
        message: "`/etc` is not permitted by path_allowlist".to_owned(),
        remedy: "add it".to_owned(),
    };
    let notes = [note("context:other/capability:0"), note("context:ci/capability:0")];
    let said = verdict(&layer, &Question { notes: &notes, ..call("fs.read") });
    assert_eq!(said.denial(), Some(notes[1].clone()));
    let said = verdict(&layer, &Question { notes: &notes[..1], ..call("fs.read") });
    assert_eq!(said.denial().unwrap().code, DenialCode::ToolNotAllowed);
    // A note explains; it never denies what is permitted.
    let matched = list(&["context:ci/capability:0"]);
    assert_eq!(
        ruling(&layer, &Question { notes: &notes, matched: &matched, ..call("fs.read") }),
        Ruling::Permit
    );
}

fn soul() -> Layer {
    let authority = Authority {
        autonomous: list(&["fs.*", "git.push", "mail.send", "web.fetch"]),
        review: list(&["git.*", "db.write"]),
        forbidden: list(&["mail.*"]),
        max_risk: Some(0.4),
    };
    Layer::from_authority("writer", &authority).unwrap()
}

#[test]
fn a_soul_permits_asks_and_forbids() {
    let soul = soul();
    for (tool, risk, expected, rules) in [
        ("fs.read", 0, Ruling::Permit, &["soul:writer/autonomous:0"][..]),
        ("fs.read", 400, Ruling::Permit, &["soul:writer/autonomous:0"]),
        ("fs.read", 401, Ruling::Ask, &["soul:writer/autonomous:0", "soul:writer/max_risk:0"]),
        ("git.push", 0, Ruling::Ask, &["soul:writer/autonomous:1", "soul:writer/review:0"]),
        ("git.log", 0, Ruling::Ask, &["soul:writer/review:0"]),
        ("db.write", 0, Ruling::Ask, &["soul:writer/review:1"]),
        ("fsadmin.x", 0, Ruling::Ask, &["soul:writer/unlisted:0"]),
        ("web.fetch2", 0, Ruling::Ask, &["soul:writer/unlisted:0"]),
        ("mail.send", 0, Ruling::Deny, &["soul:writer/forbidden:0"]),
        ("mail.send", 900, Ruling::Deny, &["soul:writer/forbidden:0"]),
    ] {
        let said = verdict(&soul, &Question { risk, ..call(tool) });
        assert_eq!((said.ruling, &said.layers[0].rules[..]), (expected, &list(rules)[..]), "{tool} {risk}");
        let asked: Vec<_> = said.questions().map(|(rule, _)| rule.clone()).collect();
        let asking = |rule: &&String| expected == Ruling::Ask && !rule.contains("autonomous");
        assert_eq!(asked, said.layers[0].rules.iter().filter(asking).cloned().collect::<Vec<_>>());
    }
    let model = with(call(""), ActionName::AskModel, "default");
    assert_eq!(ruling(&soul, &model), Ruling::Permit);
    assert_eq!(ruling(&soul, &Question { risk: 500, ..model }), Ruling::Ask);
}

#[test]
fn a_soul_without_lists_asks_for_every_tool() {
    let soul = Layer::from_authority("new", &Authority::default()).unwrap();
    let said = verdict(&soul, &call("fs.read"));
    assert_eq!(said.ruling, Ruling::Ask);
    assert_eq!(said.layers[0].rules, ["soul:new/unlisted:0"]);
    assert_eq!(ruling(&soul, &Question { risk: 1000, ..call("fs.read") }), Ruling::Ask);
}

#[test]
fn a_soul_is_never_used_in_part() {
    for wrong in [
        Authority { autonomous: list(&["fs*"]), ..Authority::default() },
        Authority { review: list(&["fs.*", ""]), ..Authority::default() },
        Authority { forbidden: list(&["*.x"]), ..Authority::default() },
    ] {
        assert!(matches!(Layer::from_authority("x", &wrong), Err(PolicyError::Constraint(_))));
    }
    for risk in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let wrong = Authority { max_risk: Some(risk), ..Authority::default() };
        assert!(matches!(Layer::from_authority("x", &wrong), Err(PolicyError::Risk(_))), "{risk}");
    }
    for risk in [0.0, 1.0] {
        let right = Authority { max_risk: Some(risk), ..Authority::default() };
        assert!(Layer::from_authority("x", &right).is_ok(), "{risk}");
    }
}

fn manifest(network: Network) -> Layer {
    let rules = ManifestRules {
        tools: list(&["fs.read", "git.push"]),
        models: list(&["default"]),
        judges: true,
        network,
        volumes: list(&["work"]),
    };
    Layer::from_manifest("writer", "1.2.0", &rules).unwrap()
}

#[test]
fn a_manifest_permits_what_it_lists() {
    let layer = manifest(Network::None);
    let permitted = |action, resource| ruling(&layer, &with(call(""), action, resource)) == Ruling::Permit;
    assert!(permitted(ActionName::CallTool, "fs.read"));
    assert!(permitted(ActionName::CallTool, "git.push"));
    assert!(permitted(ActionName::AskModel, "default"));
    assert!(permitted(ActionName::Judge, "anything"));
    assert!(permitted(ActionName::UseSecret, "github"));
    assert!(permitted(ActionName::Mount, "work"));
    for (action, resource, code) in [
        (ActionName::CallTool, "fs.read2", "TOOL_NOT_ALLOWED"),
        (ActionName::CallTool, "default", "TOOL_NOT_ALLOWED"),
        (ActionName::AskModel, "fs.read", "TOOL_NOT_ALLOWED"),
        (ActionName::AskModel, "other", "TOOL_NOT_ALLOWED"),
        (ActionName::Mount, "other", "TOOL_NOT_ALLOWED"),
        (ActionName::Connect, "example.org", "DOMAIN_NOT_ALLOWED"),
    ] {
        let said = denial(&layer, &with(call(""), action, resource));
        assert_eq!(said, ("manifest:writer@1.2.0".to_owned(), code), "{action} {resource}");
    }
    let nothing = Layer::from_manifest("writer", "1.2.0", &ManifestRules::default()).unwrap();
    for action in ActionName::ALL.into_iter().filter(|action| *action != ActionName::UseSecret) {
        assert_eq!(ruling(&nothing, &with(call(""), action, "fs.read")), Ruling::Deny, "{action}");
    }
    let first = verdict(&layer, &call("git.push"));
    assert_eq!(first.layers[0].rules, ["manifest:writer@1.2.0/tools:1"]);
}

#[test]
fn a_manifest_names_where_it_connects_to() {
    let entries = list(&["Example.org", "*.trusted.dev", "10.0.0.0/8", "192.0.2.1"]);
    let allow = manifest(Network::Allow(entries.clone()));
    let deny = manifest(Network::Deny(entries));
    let connect = |host| with(call(""), ActionName::Connect, host);
    for named in ["example.org", "EXAMPLE.org.", "a.trusted.dev", "a.b.trusted.dev"] {
        assert_eq!(ruling(&allow, &connect(named)), Ruling::Permit, "{named}");
        assert_eq!(ruling(&deny, &connect(named)), Ruling::Deny, "{named}");
    }
    for unnamed in ["a.example.org", "trusted.dev", "xtrusted.dev", "10.0.0.1", "192.0.2.1"] {
        assert_eq!(ruling(&allow, &connect(unnamed)), Ruling::Deny, "{unnamed}");
        assert_eq!(ruling(&deny, &connect(unnamed)), Ruling::Permit, "{unnamed}");
    }
    // Addresses are decided by the egress rules, which say what matched.
    for rule in ["manifest:writer@1.2.0/network:2", "manifest:writer@1.2.0/network:3"] {
        let matched = list(&[rule]);
        let question = Question { matched: &matched, ..connect("10.0.0.1") };
        assert_eq!(ruling(&allow, &question), Ruling::Permit);
        assert_eq!(denial(&deny, &question), (rule.to_owned(), "DOMAIN_NOT_ALLOWED"));
    }
    let matched = list(&["manifest:writer@1.2.0/network:0"]);
    assert_eq!(ruling(&allow, &Question { matched: &matched, ..connect("10.0.0.1") }), Ruling::Deny);
    for wrong in ["exa mple", "*", "10.0.0.0/x", "https://example.org"] {
        let rules = ManifestRules { network: Network::Allow(list(&[wrong])), ..ManifestRules::default() };
        assert!(Layer::from_manifest("a", "1.0.0", &rules).is_err(), "{wrong}");
    }
}

#[test]
fn ancestors_are_asked_about_their_own_link() {
    let only_parent = text(r#"permit(principal in Aegis::Agent::"parent", action, resource);"#);
    let chain = [link("grand"), link("parent"), link("writer")];
    let question = Question { chain: &chain, ..call("fs.read") };
    for (ancestor, name, expected) in [
        (0, "node", Ruling::Deny),
        (1, "ancestor:1/node", Ruling::Permit),
        (2, "ancestor:2/node", Ruling::Deny),
    ] {
        let layer = only_parent.of_ancestor(ancestor);
        assert_eq!((layer.name(), layer.ancestor()), (name, ancestor));
        assert_eq!(ruling(&layer, &question), expected, "{ancestor}");
    }
    assert_eq!(only_parent.of_ancestor(1).of_ancestor(2).name(), "ancestor:2/node");
    let missing = denial(&only_parent.of_ancestor(3), &question);
    assert_eq!(missing, ("ancestor:3/node".to_owned(), "TOOL_NOT_ALLOWED"));
    assert_eq!(ruling(&only_parent, &Question { chain: &[], ..question }), Ruling::Deny);
}

#[test]
fn ancestors_match_their_own_capabilities() {
    let parent = context(&["fs.*"], &[]).of_ancestor(1);
    let chain = [link("parent"), link("writer")];
    let own = list(&["context:ci/capability:0"]);
    let theirs = list(&["ancestor:1/context:ci/capability:0"]);
    let question = |matched| Question { chain: &chain, matched, ..call("fs.read") };
    assert_eq!(ruling(&parent, &question(&own)), Ruling::Deny);
    let said = verdict(&parent, &question(&theirs));
    assert_eq!(said.ruling, Ruling::Permit);
    assert_eq!(said.layers[0].rules, ["ancestor:1/context:ci/capability:0"]);
    assert_eq!(parent.rules().last().unwrap(), "ancestor:1/context:ci/capability:0");
}

#[test]
fn an_agent_is_known_by_name_version_and_tenant() {
    for (policy, expected) in [
        (r#"permit(principal in Aegis::Agent::"writer@1.2.0", action, resource);"#, Ruling::Permit),
        (r#"permit(principal in Aegis::Agent::"writer@1.2.1", action, resource);"#, Ruling::Deny),
        (r#"permit(principal in Aegis::Tenant::"acme", action, resource);"#, Ruling::Permit),
        (r#"permit(principal in Aegis::Tenant::"evil", action, resource);"#, Ruling::Deny),
        (r#"permit(principal == Aegis::Execution::"writer-execution", action, resource);"#, Ruling::Permit),
        (r#"permit(principal, action, resource) when { context.tenant == "acme" };"#, Ruling::Permit),
        (r#"permit(principal, action, resource) when { context.time > 1700000000 };"#, Ruling::Deny),
        (r#"permit(principal, action, resource) when { context.time >= 1700000000 };"#, Ruling::Permit),
    ] {
        assert_eq!(ruling(&text(policy), &call("fs.read")), expected, "{policy}");
    }
}

#[test]
fn without_a_layer_nothing_is_permitted() {
    let said = evaluate(&[], &call("fs.read"));
    assert_eq!(said.ruling, Ruling::Deny);
    assert_eq!(said.denial().unwrap().code, DenialCode::ToolNotAllowed);
}

#[test]
fn a_layer_holds_only_so_many_rules() {
    let tools = |count: usize| ManifestRules {
        tools: (0..count).map(|index| format!("t.{index}")).collect(),
        ..ManifestRules::default()
    };
    // One rule is about secrets.
    let most = aegis_security::policy::LAYER_RULES_MAX - 1;
    assert!(Layer::from_manifest("a", "1.0.0", &tools(most)).is_ok());
    let refused = Layer::from_manifest("a", "1.0.0", &tools(most + 1));
    assert!(matches!(refused, Err(PolicyError::Rules { rules, .. }) if rules == most + 2));
}

#[test]
fn every_denial_says_what_would_permit_it_where() {
    let nothing = Layer::from_manifest("writer", "1.2.0", &ManifestRules::default()).unwrap();
    let blocked = manifest(Network::Deny(list(&["a.example"])));
    let models = "permit(principal, action == Aegis::Action::\"ask_model\", resource);";
    for (layer, action, resource, code, remedy) in [
        (&nothing, ActionName::CallTool, "fs.read", "TOOL_NOT_ALLOWED", "list `fs.read` in spec.tools"),
        (&nothing, ActionName::AskModel, "smart", "TOOL_NOT_ALLOWED", "name `smart` in spec.runtime.model"),
        (
            &nothing,
            ActionName::Connect,
            "a.example",
            "DOMAIN_NOT_ALLOWED",
            "add `a.example` to spec.security.network.allowlist, with mode allow",
        ),
        (&nothing, ActionName::Mount, "work", "TOOL_NOT_ALLOWED", "list `work` in spec.volumes"),
        (&nothing, ActionName::Judge, "fair", "TOOL_NOT_ALLOWED", "add a judge to spec.execution.validation"),
        (
            &blocked,
            ActionName::Connect,
            "a.example",
            "DOMAIN_NOT_ALLOWED",
            "remove `a.example` from spec.security.network.denylist",
        ),
        (
            &context(&["git.*"], &[]),
            ActionName::CallTool,
            "fs.read",
            "TOOL_NOT_ALLOWED",
            "add a capability with tool_pattern `fs.read` to security context `ci`",
        ),
        (
            &text(models),
            ActionName::Mount,
            "work",
            "TOOL_NOT_ALLOWED",
            "add a permit to the policy of `node`",
        ),
    ] {
        let denial = verdict(layer, &with(call(""), action, resource)).denial().unwrap();
        assert_eq!((denial.code.name(), denial.remedy.as_str()), (code, remedy), "{action} {resource}");
        assert!(denial.message.contains(resource), "{}", denial.message);
    }
}
