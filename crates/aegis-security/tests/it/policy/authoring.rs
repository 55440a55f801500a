//! Checking, explaining and testing rules.

use aegis_core::{Denial, DenialCode};
use aegis_security::constraint::{Capability, RateLimit};
use aegis_security::policy::{
    Authority, Cause, Expectation, Layer, Part, PolicyError, Problem, Question, Ruling, Severity,
    TEXT_BYTES_MAX, check_authority, check_context, check_text, diff_verdicts, explain, run_table,
};
use serde_json::json;

use super::{call, capability, context, link, list, path, text};

fn errors(problems: &[Problem]) -> Vec<&Problem> {
    problems.iter().filter(|problem| problem.severity == Severity::Error).collect()
}

#[test]
fn a_syntax_error_names_its_line_and_column() {
    let problems =
        check_text("permit(principal, action, resource);\n// é\n  forbid(principal action, resource);\n");
    assert_eq!(problems[0].place, Some((3, 20)), "{problems:?}");
    let refused = Layer::from_text("tenant:acme", "permit(").unwrap_err();
    assert!(
        matches!(&refused, PolicyError::Text { layer, problems } if layer == "tenant:acme" && !problems.is_empty())
    );
}

#[test]
fn all_problems_of_a_text_are_found_at_once() {
    let problems = check_text(
        r#"permit(principal, action, resource);
@id("twice") forbid(principal, action == Aegis::Action::"cal_tool", resource);
@id("twice") forbid(principal, action, resource) when { context.riks > 3 };
@aks("really?") permit(principal, action, resource);
@ask("no") forbid(principal, action, resource);
@id("a b") forbid(principal, action, resource) when { context.risk > "3" };
forbid(principal == ?principal, action, resource);
"#,
    );
    let found: Vec<_> = errors(&problems)
        .into_iter()
        .map(|problem| (problem.rule.clone().unwrap_or_default(), problem.place.map(|(line, _)| line)))
        .collect();
    for expected in [
        ("policy:twice", None),
        ("policy:twice", Some(2)),
        ("policy:twice", Some(3)),
        ("policy:3", None),
        ("policy:4", None),
        ("policy:a b", None),
        ("policy:a b", Some(6)),
        ("policy:policy6", None),
    ] {
        assert!(found.contains(&(expected.0.to_owned(), expected.1)), "{expected:?} {problems:#?}");
    }
    assert!(problems.iter().any(|problem| problem.message.contains("call_tool")), "{problems:#?}");
}

#[test]
fn a_problem_of_every_action_is_told_once() {
    let problems =
        check_text("permit(principal, action, resource) when { context.domain == context.domain };");
    let unsafe_reads = errors(&problems).into_iter().filter(|problem| problem.message.contains("`domain`"));
    assert_eq!(unsafe_reads.map(|problem| problem.place).collect::<Vec<_>>(), [Some((1, 44)), Some((1, 62))]);
}

#[test]
fn a_layer_that_only_forbids_is_refused_with_the_remedy() {
    for nothing in ["", "forbid(principal, action, resource);", "// permit(principal, action, resource);"] {
        let problems = check_text(nothing);
        assert_eq!(errors(&problems).len(), 1, "{problems:?}");
        assert!(problems[0].message.contains("begin with `permit(principal, action, resource);`"));
    }
    assert_eq!(check_text("permit(principal, action, resource);"), []);
}

#[test]
fn a_policy_says_what_its_author_says_of_it() {
    for (annotations, says) in [
        ("", "the policy `policy:1`"),
        ("@id(\"x\")", "the policy `policy:x`"),
        ("@reason(\"Not at night.\")", "Not at night."),
        ("@description(\"Nights.\")", "Nights."),
        ("@reason(\"Why.\") @description(\"What.\")", "Why."),
        ("@reason(\"\")", "the policy `policy:1`"),
    ] {
        let node = format!(
            "permit(principal, action, resource); {annotations} forbid(principal, action, resource);"
        );
        let said = explain(&[text(&node)], &call("fs.read"));
        assert_eq!(said.layers[0].reason, says, "{annotations}");
    }
}

#[test]
fn a_problem_is_told_with_its_place_and_rule() {
    let problem = |place, rule: Option<&str>| Problem {
        severity: Severity::Error,
        place,
        rule: rule.map(str::to_owned),
        message: "it is wrong".to_owned(),
    };
    for (problem, told) in [
        (problem(None, None), "it is wrong"),
        (problem(Some((2, 7)), None), "2:7: it is wrong"),
        (problem(Some((2, 7)), Some("policy:hours")), "2:7: policy:hours: it is wrong"),
        (problem(None, Some("deny_list[1]")), "deny_list[1]: it is wrong"),
    ] {
        assert_eq!(problem.to_string(), told);
    }
}

#[test]
fn what_is_never_true_is_a_warning() {
    let problems = check_text(
        "permit(principal, action, resource);\nforbid(principal, action, resource) when { 1 == 2 };",
    );
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].severity, problems[0].rule.as_deref()), (Severity::Warning, Some("policy:1")));
    assert!(Layer::from_text("node", "permit(principal, action, resource) when { 1 == 2 };").is_ok());
}

#[test]
fn a_text_has_limits() {
    let base = "permit(principal, action, resource);";
    let most = format!("{base}{}", " ".repeat(TEXT_BYTES_MAX - base.len()));
    assert_eq!(check_text(&most), []);
    assert_eq!(errors(&check_text(&format!("{most} "))).len(), 1);
    let rules = aegis_security::policy::LAYER_RULES_MAX;
    assert_eq!(check_text(&base.repeat(rules)), []);
    assert_eq!(errors(&check_text(&base.repeat(rules + 1))).len(), 1);
    assert!(Layer::from_text("node", &base.repeat(rules + 1)).is_err());
}

#[test]
fn an_ask_without_words_still_asks() {
    let layer = text("@ask permit(principal, action, resource);");
    let said = explain(&[layer], &call("fs.read"));
    assert_eq!(said.ruling, Ruling::Ask);
    assert_eq!(said.layers[0].questions, ["the policy `policy:0` asks first"]);
}

#[test]
fn every_wrong_entry_of_a_context_is_named() {
    let wrong = Capability {
        path_allowlist: Some(list(&["/ok", "relative", "/a/../b"])),
        domain_allowlist: Some(list(&["exa mple", "ok.org"])),
        command_allowlist: Some(list(&["git", "rm -rf"])),
        subcommand_allowlist: Some([("a b".to_owned(), vec![]), ("git".to_owned(), vec![])].into()),
        rate_limit: Some(RateLimit { calls: 0, per_seconds: 1 }),
        ..capability("fs*")
    };
    let problems = check_context("ci", &[capability("*"), wrong], &list(&["x.*", "**"]));
    let places: Vec<_> =
        errors(&problems).into_iter().filter_map(|problem| problem.rule.as_deref()).collect();
    assert_eq!(
        places,
        [
            "capabilities[1].tool_pattern",
            "capabilities[1].rate_limit",
            "capabilities[1].path_allowlist[1]",
            "capabilities[1].path_allowlist[2]",
            "capabilities[1].domain_allowlist[0]",
            "capabilities[1].command_allowlist[1]",
            "capabilities[1].subcommand_allowlist.a b",
            "deny_list[1]",
        ]
    );
    assert_eq!(problems.len(), places.len(), "and nothing is said twice");
    assert_eq!(check_context("ci", &[capability("fs.*")], &list(&["x.*"])), []);
    let empty = Capability { path_allowlist: Some(vec![]), ..capability("*") };
    let problems = check_context("ci", &[empty], &[]);
    assert_eq!((problems.len(), problems[0].severity), (1, Severity::Warning));
    let many = vec![capability("*"); aegis_security::policy::LAYER_RULES_MAX];
    assert_eq!(errors(&check_context("ci", &many, &[])).len(), 1);
    // What only warns does not hide what is wrong with the whole.
    let warned = Capability { path_allowlist: Some(vec![]), ..capability("*") };
    let problems = check_context("ci", &[many, vec![warned]].concat(), &[]);
    assert_eq!((problems.len(), errors(&problems).len()), (2, 1));
}

#[test]
fn every_wrong_entry_of_a_soul_is_named() {
    let wrong = Authority {
        autonomous: list(&["fs*", "ok", "both.*"]),
        review: list(&[""]),
        forbidden: list(&["both.*", "*.x"]),
        max_risk: Some(2.0),
    };
    let found: Vec<_> = check_authority("w", &wrong)
        .into_iter()
        .map(|problem| (problem.severity, problem.rule.unwrap()))
        .collect();
    let expected = [
        (Severity::Error, "authority.autonomous[0]"),
        (Severity::Warning, "authority.autonomous[2]"),
        (Severity::Error, "authority.review[0]"),
        (Severity::Error, "authority.forbidden[1]"),
        (Severity::Error, "authority.max_risk"),
    ];
    assert_eq!(found, expected.map(|(severity, rule)| (severity, rule.to_owned())));
    assert_eq!(check_authority("w", &Authority { max_risk: Some(1.0), ..Authority::default() }), []);
    let many = list(&vec!["x.*"; aegis_security::policy::LAYER_RULES_MAX]);
    let warned = Authority { autonomous: many.clone(), forbidden: list(&["x.*"]), ..Authority::default() };
    let problems = check_authority("w", &warned);
    assert_eq!(
        (problems.len(), errors(&problems).len()),
        (many.len() + 1, 1),
        "the whole is too much as well"
    );
}

#[test]
fn an_explanation_names_rule_condition_and_remedy() {
    let node = text(
        r#"@id("hours") permit(principal, action == Aegis::Action::"call_tool", resource)
             when { context.risk <= 300 && context.labels.contains("reviewed") };
           permit(principal, action == Aegis::Action::"connect", resource);"#,
    );
    let said = explain(std::slice::from_ref(&node), &call("fs.read"));
    let layer = &said.layers[0];
    assert_eq!((said.ruling, said.code.as_deref()), (Ruling::Deny, Some("TOOL_NOT_ALLOWED")));
    assert_eq!((layer.cause, layer.unmet.len()), (Some(Cause::NotPermitted), 1));
    let unmet = &layer.unmet[0];
    assert_eq!((unmet.rule.as_str(), unmet.part), ("node/policy:hours", Part::Condition));
    assert!(unmet.condition.contains("labels") && !unmet.condition.contains("risk"), "{}", unmet.condition);
    let labels = list(&["reviewed"]);
    let risky = Question { risk: 301, labels: &labels, ..call("fs.read") };
    let said = explain(std::slice::from_ref(&node), &risky);
    assert!(said.layers[0].unmet[0].condition.contains("risk"), "{:?}", said.layers[0].unmet);
    let said = explain(&[node], &Question { labels: &labels, ..call("fs.read") });
    assert_eq!((said.ruling, said.code, &said.layers[0].remedy), (Ruling::Permit, None, &None));
    assert_eq!(said.layers[0].to_string(), "`node` permits by node/policy:hours: the policy `policy:hours`");
}

#[test]
fn a_scope_that_is_another_is_shown() {
    let node =
        text(r#"permit(principal in Aegis::Agent::"editor", action, resource in Aegis::ToolGroup::"fs.*");"#);
    let said = explain(std::slice::from_ref(&node), &call("fs.read"));
    let unmet = &said.layers[0].unmet[0];
    assert_eq!(
        (unmet.part, unmet.condition.as_str()),
        (Part::Principal, r#"principal in Aegis::Agent::"editor""#)
    );
    let chain = [link("editor")];
    let said = explain(&[node], &Question { chain: &chain, ..call("git.push") });
    let unmet = &said.layers[0].unmet[0];
    assert_eq!(
        (unmet.part, unmet.condition.as_str()),
        (Part::Resource, r#"resource in Aegis::ToolGroup::"fs.*""#)
    );
}

#[test]
fn a_permit_of_another_action_came_not_close() {
    let node = text("permit(principal, action == Aegis::Action::\"ask_model\", resource);");
    let said = explain(&[node], &call("fs.read"));
    assert_eq!((said.ruling, said.layers[0].unmet.len()), (Ruling::Deny, 0), "{:?}", said.layers[0].unmet);
}

#[test]
fn a_failed_unless_is_shown() {
    let node = text(
        r#"permit(principal, action, resource) unless { context.risk > 100 || context.tenant == "acme" };"#,
    );
    let said = explain(&[node], &call("fs.read"));
    let unmet = &said.layers[0].unmet;
    assert_eq!(unmet.len(), 1);
    assert!(unmet[0].condition.starts_with("unless") && unmet[0].condition.contains("acme"), "{unmet:?}");
    assert!(!unmet[0].condition.contains("risk"));
}

#[test]
fn a_context_is_explained_by_its_constraints() {
    let layer = context(&["git.*", "fs.*"], &["fs.delete"]);
    let notes = [Denial {
        code: DenialCode::PathNotAllowed,
        rule: "context:ci/capability:1".to_owned(),
        message: "`/etc` is not permitted by path_allowlist".to_owned(),
        remedy: "add `/etc` to path_allowlist".to_owned(),
    }];
    let governed = [path("/etc")];
    let question = Question { notes: &notes, governed: &governed, ..call("fs.read") };
    let said = explain(std::slice::from_ref(&layer), &question);
    assert_eq!(said.code.as_deref(), Some("PATH_NOT_ALLOWED"));
    assert_eq!(said.layers[0].unmet.len(), 1);
    let unmet = &said.layers[0].unmet[0];
    assert_eq!(
        (unmet.rule.as_str(), unmet.condition.as_str()),
        ("context:ci/capability:1", notes[0].message.as_str())
    );
    assert_eq!(said.layers[0].remedy.as_deref(), Some("add `/etc` to path_allowlist"));
    let said = explain(std::slice::from_ref(&layer), &call("fs.read"));
    assert_eq!(
        said.layers[0].unmet[0].remedy,
        "call within the constraints of capability 1 (`fs.*`) of security context `ci`, or widen it"
    );
    let said = explain(&[layer], &call("fs.delete"));
    assert_eq!(
        (said.layers[0].cause, &said.layers[0].rules[..]),
        (Some(Cause::Forbidden), &list(&["context:ci/deny_list:0"])[..])
    );
    let sentence = said.layers[0].to_string();
    assert_eq!(
        sentence,
        "`context:ci` denies by context:ci/deny_list:0: `fs.delete` is denied; to change it: remove `fs.delete` from the deny_list of security context `ci`"
    );
}

#[test]
fn a_soul_that_asks_says_what_would_permit() {
    let soul = Authority { review: list(&["git.*"]), max_risk: Some(0.2), ..Authority::default() };
    let layer = Layer::from_authority("w", &soul).unwrap();
    let said = explain(&[layer], &Question { risk: 300, ..call("git.push") });
    let layer = &said.layers[0];
    assert_eq!(layer.rules, ["soul:w/review:0", "soul:w/max_risk:0"]);
    assert_eq!(layer.questions.len(), 2);
    let remedy = layer.remedy.as_deref().unwrap();
    assert!(remedy.contains("authority.autonomous") && remedy.contains("max_risk"), "{remedy}");
}

#[test]
fn only_the_value_that_was_denied_is_explained() {
    let node = text(
        r#"permit(principal, action, resource) when { context has path && context.path in Aegis::Path::"/a" };
           permit(principal, action, resource) when { !(context has path) };"#,
    );
    let governed = [path("/a/x"), path("/b")];
    let said = explain(&[node], &Question { governed: &governed, ..call("fs.move") });
    let layer = &said.layers[0];
    assert_eq!(said.code.as_deref(), Some("PATH_NOT_ALLOWED"));
    let rules: Vec<_> = layer.unmet.iter().map(|unmet| unmet.rule.as_str()).collect();
    assert_eq!(rules, ["node/policy:0", "node/policy:1"], "{:?}", layer.unmet);
}

fn row(tool: &str, expect: Ruling, rule: Option<&str>) -> Expectation {
    let written = json!({"agent": "writer", "tool": tool, "expect": expect, "rule": rule, "risk": 0.5});
    serde_json::from_value(written).unwrap()
}

#[test]
fn a_table_passes_row_by_row() {
    let layers = [context(&["*"], &["mail.*"])];
    let matched = list(&["context:ci/capability:0"]);
    let rows = [
        row("fs.read", Ruling::Permit, None),
        row("fs.read", Ruling::Permit, Some("context:ci/capability:0")),
        row("fs.read", Ruling::Permit, Some("context:ci")),
        row("fs.read", Ruling::Permit, Some("context:ci/capability:1")),
        row("fs.read", Ruling::Ask, None),
        row("mail.send", Ruling::Deny, Some("context:ci/deny_list:0")),
        row("unknown", Ruling::Deny, None),
    ];
    let results = run_table(&rows, |row| {
        assert_eq!(row.risk_thousandths(), Ok(500));
        if row.tool == "unknown" {
            return Err("no such tool".to_owned());
        }
        Ok(explain(&layers, &Question { matched: &matched, ..call(&row.tool) }))
    });
    let passed: Vec<_> = results.iter().map(|result| result.passed).collect();
    assert_eq!(passed, [true, true, true, false, false, true, false]);
    assert!(results.iter().all(|result| result.passed == result.failure.is_none()));
    assert!(results[3].failure.as_ref().unwrap().contains("context:ci/capability:1"));
    assert!(results[4].failure.as_ref().unwrap().starts_with("expected ask, but policy says permit"));
    assert_eq!(results[6].failure.as_deref(), Some("no such tool"));
    assert!(results[6].explanation.is_none() && results[0].explanation.is_some());
    let unknown = json!({"agent": "a", "tool": "t", "expect": "permit", "rules": "x"});
    assert!(serde_json::from_value::<Expectation>(unknown).is_err());
    assert!(Expectation { risk: Some(1.5), ..rows[0].clone() }.risk_thousandths().is_err());
    assert_eq!(Expectation { risk: None, ..rows[0].clone() }.risk_thousandths(), Ok(0));
}

#[test]
fn verdicts_that_differ_are_listed() {
    let rows = [
        row("fs.read", Ruling::Permit, None),
        row("mail.send", Ruling::Permit, None),
        row("x", Ruling::Permit, None),
    ];
    let run = |layer: &Layer| {
        let matched = list(&["context:ci/capability:0"]);
        run_table(&rows, |row| {
            if row.tool == "x" {
                return Err("no such tool".to_owned());
            }
            Ok(explain(std::slice::from_ref(layer), &Question { matched: &matched, ..call(&row.tool) }))
        })
    };
    let (open, closed) = (run(&context(&["*"], &[])), run(&context(&["*"], &["mail.*"])));
    let shown = |changes: Vec<aegis_security::policy::VerdictChange>| {
        let shown: Vec<_> = changes
            .iter()
            .map(|change| json!([change.row, change.direction, change.before, change.after]))
            .collect();
        assert!(changes.iter().all(|change| !change.reason.is_empty()));
        serde_json::Value::Array(shown)
    };
    assert_eq!(shown(diff_verdicts(&open, &closed)), json!([[1, "narrows", "permit", "deny"]]));
    assert_eq!(shown(diff_verdicts(&closed, &open)), json!([[1, "widens", "deny", "permit"]]));
    assert_eq!(shown(diff_verdicts(&open, &open)), json!([]));
    let mut broken = open.clone();
    broken[0].explanation = None;
    broken[0].failure = Some("gone".to_owned());
    assert_eq!(shown(diff_verdicts(&open, &broken)), json!([[0, "unclear", "permit", null]]));
}

#[test]
fn the_examples_of_the_documentation_are_right() {
    let page = include_str!("../../../../../docs/concepts/policy.md");
    let (before, after) = page.split_once("### Vocabulary").unwrap();
    let code = |page: &str| {
        let (prose, _) = page.split_once("## Working on policy").unwrap_or((page, ""));
        // Fenced blocks are not Cedar; they are every second part between fences.
        let unfenced = prose.split("```").step_by(2).collect::<String>();
        unfenced.lines().filter_map(|line| line.strip_prefix("    ")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(check_text(&code(before)), []);
    assert_eq!(check_text(&format!("permit(principal, action, resource);\n{}", code(after))), []);
    let layer = text(&code(before));
    let pay = |amount: f64| {
        let arguments = json!({ "amount": amount });
        explain(std::slice::from_ref(&layer), &Question { arguments: &arguments, ..call("bank.pay") })
    };
    assert_eq!(pay(100.0).ruling, Ruling::Permit);
    assert_eq!(pay(100.5).layers[0].questions, ["Pay more than 100?"]);
}
