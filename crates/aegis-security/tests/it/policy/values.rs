//! Governed values, arguments, labels and errors, by policies in Cedar's words.

use aegis_security::policy::{Cause, PATH_COMPONENTS_MAX, Question, RESOURCE_BYTES_MAX, Ruling, evaluate};
use serde_json::{Value, json};

use super::{call, command, context, denial, domain, list, path, ruling, text, verdict};

const FOLDERS: &str = r#"
    permit(principal, action, resource);
    @id("outside")
    forbid(principal, action, resource) when { context has path && !(context.path in Aegis::Path::"/workspace/src") };
"#;

#[test]
fn every_governed_value_has_to_be_permitted() {
    let layer = text(FOLDERS);
    let (inside, outside, host) = (path("src/a.rs"), path("/etc/passwd"), domain("example.org"));
    for (governed, expected) in [
        (&[][..], Ruling::Permit),
        (std::slice::from_ref(&inside), Ruling::Permit),
        (&[path("/workspace/src")], Ruling::Permit),
        (&[path("/workspace/src/../src/./b")], Ruling::Permit),
        (&[host.clone(), inside.clone()], Ruling::Permit),
        (std::slice::from_ref(&outside), Ruling::Deny),
        (&[path("/workspace/src2/a")], Ruling::Deny),
        (&[path("/workspace")], Ruling::Deny),
        (&[path("/workspace/src/../secret")], Ruling::Deny),
        (&[inside.clone(), host.clone(), outside.clone()], Ruling::Deny),
        (&[outside.clone(), inside.clone()], Ruling::Deny),
    ] {
        assert_eq!(ruling(&layer, &Question { governed, ..call("fs.move") }), expected, "{governed:?}");
    }
    let governed = [inside, outside.clone()];
    let question = Question { governed: &governed, ..call("fs.move") };
    assert_eq!(denial(&layer, &question), ("node/policy:outside".to_owned(), "PATH_NOT_ALLOWED"));
    let said = verdict(&layer, &question);
    let refusal = said.layers[0].refusal.as_ref().unwrap();
    assert_eq!((refusal.cause, refusal.value.as_ref()), (Cause::Forbidden, Some(&outside)));
    assert!(refusal.denial.message.contains("/etc/passwd"));
}

#[test]
fn a_denial_that_is_not_about_a_value_blames_none() {
    let layer = text(&format!("{FOLDERS} forbid(principal, action, resource == Aegis::Tool::\"fs.move\");"));
    let governed = [path("/etc")];
    let question = Question { governed: &governed, ..call("fs.move") };
    let said = verdict(&layer, &question);
    let refusal = said.layers[0].refusal.as_ref().unwrap();
    assert_eq!((refusal.value.as_ref(), refusal.denial.code.name()), (None, "TOOL_EXPLICITLY_DENIED"));
}

#[test]
fn a_domain_is_in_its_parents_and_an_address_in_none() {
    let layer = text(
        r#"permit(principal, action, resource) when { if context has domain then context.domain in Aegis::Domain::"example.org" else true };"#,
    );
    for (host, expected) in [
        ("example.org", Ruling::Permit),
        ("A.B.Example.org.", Ruling::Permit),
        ("xexample.org", Ruling::Deny),
        ("example.org.evil", Ruling::Deny),
        ("10.0.0.1", Ruling::Deny),
        ("example.org:80", Ruling::Deny),
        ("", Ruling::Deny),
    ] {
        let governed = [domain(host)];
        let question = Question { governed: &governed, ..call("web.fetch") };
        assert_eq!(ruling(&layer, &question), expected, "{host}");
        if expected == Ruling::Deny {
            assert_eq!(denial(&layer, &question).1, "DOMAIN_NOT_ALLOWED", "{host}");
        }
    }
    let address = text(
        r#"permit(principal, action, resource); forbid(principal, action, resource) when { context has domain && context.domain in Aegis::Domain::"1" };"#,
    );
    let governed = [domain("10.0.0.1")];
    assert_eq!(ruling(&address, &Question { governed: &governed, ..call("web.fetch") }), Ruling::Permit);
}

#[test]
fn a_command_is_its_program() {
    let layer = text(
        r#"permit(principal, action, resource) when { context has command && ["git", "ls"].contains(context.command) };"#,
    );
    let ask = |argv: &[&str]| {
        let governed = [command(argv)];
        denial_or_permit(&layer, &Question { governed: &governed, ..call("cmd.run") })
    };
    assert_eq!(ask(&["git", "push"]), "permit");
    assert_eq!(ask(&["sh", "git"]), "TOOL_NOT_ALLOWED");
    assert_eq!(ask(&[]), "TOOL_NOT_ALLOWED");
    let forbids = text(
        r#"permit(principal, action, resource); forbid(principal, action, resource) when { context has command && context.command == "sh" };"#,
    );
    let governed = [command(&["sh"])];
    let question = Question { governed: &governed, ..call("cmd.run") };
    assert_eq!(denial_or_permit(&forbids, &question), "COMMAND_NOT_ALLOWED");
}

fn denial_or_permit(layer: &aegis_security::policy::Layer, question: &Question<'_>) -> &'static str {
    if ruling(layer, question) == Ruling::Deny { denial(layer, question).1 } else { "permit" }
}

#[test]
fn what_cannot_be_understood_is_denied_by_every_layer() {
    let layers = [text("permit(principal, action, resource);"), context(&["*"], &[])];
    let matched = list(&["context:ci/capability:0"]);
    let long_name = "x".repeat(RESOURCE_BYTES_MAX + 1);
    let deep = "/a".repeat(PATH_COMPONENTS_MAX + 1);
    let folder = |cwd: &str| aegis_security::constraint::GovernedValue::Command {
        argv: list(&["ls"]),
        cwd: Some(cwd.to_owned()),
    };
    for (tool, governed, code) in [
        ("", vec![], "TOOL_NOT_ALLOWED"),
        (long_name.as_str(), vec![], "TOOL_NOT_ALLOWED"),
        ("t", vec![path("")], "PATH_NOT_ALLOWED"),
        ("t", vec![path("a\0b")], "PATH_NOT_ALLOWED"),
        ("t", vec![path("../x")], "PATH_NOT_ALLOWED"),
        ("t", vec![path(&deep)], "PATH_NOT_ALLOWED"),
        ("t", vec![path("a"), domain("a b")], "DOMAIN_NOT_ALLOWED"),
        ("t", vec![folder("../x")], "PATH_NOT_ALLOWED"),
    ] {
        let question = Question { governed: &governed, matched: &matched, ..call(tool) };
        let said = evaluate(&layers, &question);
        assert!(said.layers.iter().all(|layer| layer.ruling == Ruling::Deny), "{tool} {governed:?}");
        assert_eq!(said.denial().unwrap().code.name(), code, "{tool} {governed:?}");
    }
    let most = "x".repeat(RESOURCE_BYTES_MAX);
    let governed = [path(&"/a".repeat(PATH_COMPONENTS_MAX)), folder("/")];
    let question = Question { governed: &governed, matched: &matched, ..call(&most) };
    assert_eq!(evaluate(&layers, &question).ruling, Ruling::Permit);
}

#[test]
fn so_many_arguments_so_deep_are_asked_about() {
    let layer = text(r#"permit(principal, action, resource) unless { context.arguments.hasTag("never") };"#);
    let many = |count: usize| Value::Array((0..count).map(|_| json!("a")).collect());
    let deep = |depth: usize| (0..depth).fold(json!("a"), |inner, _| json!({ "a": inner }));
    for (arguments, fits) in [
        (many(1000), true),
        (many(1001), false),
        (deep(32), true),
        (deep(33), false),
        (json!([]), true),
        (json!({"amount": -0.5}), true),
    ] {
        let question = Question { arguments: &arguments, ..call("pay") };
        let said = evaluate(std::slice::from_ref(&layer), &question);
        assert_eq!(said.ruling == Ruling::Permit, fits, "{said:?}");
        assert!(fits || said.denial().unwrap().code.name() == "INVALID_ARGUMENTS");
    }
    // Away from zero on either side of it.
    let least = text(
        "permit(principal, action, resource) when { context.numbers.hasTag(\"n\") && context.numbers.getTag(\"n\") <= -1 };",
    );
    for (number, fits) in [(json!(-0.5), true), (json!(-1), true), (json!(0.5), false), (json!(-0.0), false)]
    {
        let arguments = json!({ "n": number });
        let question = Question { arguments: &arguments, ..call("pay") };
        assert_eq!(ruling(&least, &question) == Ruling::Permit, fits, "{arguments}");
    }
}

#[test]
fn policies_see_texts_and_numbers_of_the_arguments() {
    let layer = text(
        r#"permit(principal, action, resource) when {
            context.arguments.hasTag("to.0") && context.arguments.getTag("to.0") like "*@acme.org" &&
            context.numbers.hasTag("amount") && context.numbers.getTag("amount") <= 100 };"#,
    );
    let ask = |arguments| ruling(&layer, &Question { arguments: &arguments, ..call("pay") });
    assert_eq!(ask(json!({"to": ["a@acme.org"], "amount": 100})), Ruling::Permit);
    assert_eq!(ask(json!({"to": ["a@acme.org"], "amount": 100.0001})), Ruling::Deny);
    assert_eq!(ask(json!({"to": ["a@acme.org"], "amount": "100"})), Ruling::Deny);
    assert_eq!(ask(json!({"to": ["a@evil.org"], "amount": 1})), Ruling::Deny);
    assert_eq!(ask(json!({"to.0": "a@acme.org", "amount": 1})), Ruling::Permit);
    let smuggled = json!({"to.0": "a@acme.org", "to": ["a@evil.org"], "amount": 1});
    let question = Question { arguments: &smuggled, ..call("pay") };
    assert_eq!(denial(&layer, &question).1, "INVALID_ARGUMENTS");
    // Where nobody looks at arguments, they are not prepared and cannot be wrong.
    assert_eq!(ruling(&text("permit(principal, action, resource);"), &question), Ruling::Permit);
}

#[test]
fn the_whole_context_shows_everything() {
    // The context is compared as a whole: what it holds must then be there.
    let layer = text(
        r#"permit(principal, action, resource) when { [context].contains(context) && (if context has path then context.path == Aegis::Path::"/a" else true) };"#,
    );
    let governed = [path("/a"), path("/b")];
    assert_eq!(ruling(&layer, &Question { governed: &governed, ..call("t") }), Ruling::Deny);
    assert_eq!(ruling(&layer, &Question { governed: &governed[..1], ..call("t") }), Ruling::Permit);
}

#[test]
fn labels_decide() {
    let layer = text(
        r#"permit(principal, action, resource); forbid(principal, action, resource in Aegis::ToolGroup::"mail.*") when { context.labels.containsAll(["untrusted", "sensitive"]) };"#,
    );
    for (labels, expected) in [
        (&[][..], Ruling::Permit),
        (&["untrusted"], Ruling::Permit),
        (&["sensitive", "egress"], Ruling::Permit),
        (&["sensitive", "egress", "untrusted"], Ruling::Deny),
    ] {
        let labels = list(labels);
        assert_eq!(
            ruling(&layer, &Question { labels: &labels, ..call("mail.send") }),
            expected,
            "{labels:?}"
        );
        assert_eq!(ruling(&layer, &Question { labels: &labels, ..call("fs.read") }), Ruling::Permit);
    }
}

#[test]
fn a_policy_error_denies() {
    // Passes validation, and overflows when it is asked.
    let layer = text(
        r#"permit(principal, action, resource);
           @id("sum") forbid(principal, action, resource) when { context.time + 9223372036854775807 < 0 };"#,
    );
    let said = verdict(&layer, &call("fs.read"));
    let refusal = said.layers[0].refusal.as_ref().unwrap();
    assert_eq!((said.ruling, refusal.cause), (Ruling::Deny, Cause::PolicyError));
    assert_eq!(refusal.denial.rule, "node/policy:sum");
    assert_eq!(ruling(&layer, &Question { time: -1, ..call("fs.read") }), Ruling::Permit);
    // Also an error in a permit, beside a permit that holds.
    let permit = text(
        r#"permit(principal, action, resource);
           permit(principal, action, resource) when { context.time + 9223372036854775807 < 0 };"#,
    );
    assert_eq!(ruling(&permit, &call("fs.read")), Ruling::Deny);
}

#[test]
fn questions_of_values_are_joined() {
    let layer = text(
        r#"permit(principal, action, resource);
           @id("etc") @ask("touch /etc?")
           permit(principal, action, resource) when { context has path && context.path in Aegis::Path::"/etc" };"#,
    );
    let governed = [path("/a"), path("/etc/x"), path("/etc/y"), path("/b")];
    let said = verdict(&layer, &Question { governed: &governed, ..call("fs.move") });
    assert_eq!(said.ruling, Ruling::Ask);
    let questions: Vec<_> = said.questions().collect();
    assert!(questions.iter().all(|(rule, asked)| rule == "node/policy:etc" && asked == "touch /etc?"));
    assert_eq!(questions.len(), 1);
    assert_eq!(said.layers[0].rules, ["node/policy:0", "node/policy:etc"]);
    assert_eq!(ruling(&layer, &Question { governed: &governed[..1], ..call("fs.move") }), Ruling::Permit);
}
