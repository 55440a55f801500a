//! Prompt templates.

use std::collections::BTreeMap;

use aegis_manifest::template::{self, TemplateError};
use proptest::prelude::*;
use serde_json::{Value, json};

fn names(values: Value) -> BTreeMap<String, Value> {
    values.as_object().unwrap().clone().into_iter().collect()
}

#[track_caller]
fn check(template: &str, values: Value, expected: &str) {
    let rendered =
        template::render(template, &names(values)).unwrap_or_else(|error| panic!("{template}: {error}"));
    assert_eq!(rendered.text, expected, "{template}");
}

#[test]
fn both_dialects_say_the_same() {
    check(template::DEFAULT, json!({"instruction": "Do.", "input": "{\"a\":1}"}), "Do.\n\nUser: {\"a\":1}");
    check("{% if e %}E{{e}}{% endif %}\n", json!({"e": "x"}), "Ex\n");
    check("{{#if e}}yes{{else}}no{{/if}}", json!({"e": ""}), "no");
    check("{{#if a}}1{{else if b}}2{{else}}3{{/if}}", json!({"a": false, "b": 1}), "2");
    check("{{#unless e}}none{{/unless}}", json!({"e": ""}), "none");
    check(
        "{{#each xs}}{{@index}}={{this.n}};{{else}}-{{/each}}",
        json!({"xs": [{"n": 1}, {"n": 2}]}),
        "0=1;1=2;",
    );
    check("{{#each xs}}{{this}} {{/each}}", json!({"xs": {"a": 1, "b": 2}}), "1 2 ");
    check("{% for x in xs %}{{x}},{% endfor %}", json!({"xs": [1, 2]}), "1,2,");
    check("{{json x}} {{x|json}}", json!({"x": {"a": [1, "<"]}}), "{\"a\":[1,\"<\"]} {\"a\":[1,\"<\"]}");
    check("{{upper x}}{{lower x}}{{length x}}", json!({"x": "aB"}), "ABab2");
    check("[{{trim x}}][{{first_line x}}]", json!({"x": " a\nb "}), "[a\nb][ a]");
    check("{{default x \"none\"}}{{y|default(\"-\")}}", json!({"x": ""}), "none-");
    check("{{{x}}}{{! note }}{{!-- {{x}} --}}", json!({"x": "<b>"}), "<b>");
    check("{% raw %}{{x}}{% endraw %}", json!({"x": 1}), "{{x}}");
    check("{{ length }}", json!({"length": 3}), "3");
    check("{{ x == \"}}\" }}", json!({"x": "}}"}), "true");
}

#[test]
fn undefined_is_empty_and_reported() {
    let rendered =
        template::render("a{{missing}}b{{x.y.z}}{{#if other}}c{{/if}}", &names(json!({"x": {}}))).unwrap();
    assert_eq!(rendered.text, "ab");
    assert_eq!(rendered.undefined, ["missing", "other"]);
    let rendered = template::render("{{#each xs}}{{this}}{{/each}}", &names(json!({"xs": [1]}))).unwrap();
    assert!(rendered.undefined.is_empty(), "{:?}", rendered.undefined);
}

#[test]
fn what_builds_values_is_refused_by_name() {
    for template in [
        "{% set x = 1 %}",
        "{% include 'x' %}",
        "{% macro m() %}{% endmacro %}",
        "{{ x ~ x }}",
        "{{ x + x }}",
        "{{ x * 1000 }}",
        "{% for a in [x, x] %}{% endfor %}",
        "{% for a in (x, x) %}{% endfor %}",
        "{{ {'a': x} }}",
        "{{> partial}}",
        "{{#with x}}{{/with}}",
        "{{x|replace('a', 'b')}}",
        "{{range(1000000)}}",
        "{{../x}}",
    ] {
        let refused = template::check(template);
        let rendered = template::render(template, &names(json!({"x": "aa"})));
        assert!(refused.is_err() && rendered.is_err(), "{template}: {rendered:?}, {refused:?}");
    }
}

#[test]
fn errors_name_the_line() {
    for (template, line) in
        [("a\n{{#if x}}b", 2), ("a\nb\n{{ x | nothing }}", 3), ("a\n{{ x", 2), ("{% if %}", 1)]
    {
        match template::check(template) {
            Err(
                TemplateError::Syntax { line: at, .. }
                | TemplateError::NotAvailable { line: at, .. }
                | TemplateError::Value { line: at, .. },
            ) => assert_eq!(at, line, "{template}"),
            other => panic!("{template}: {other:?}"),
        }
    }
}

#[test]
fn steps_and_output_are_bounded() {
    let list: Vec<u32> = (0..2_000).collect();
    let nested = "{% for a in xs %}{% for b in xs %}{{b}}{% endfor %}{% endfor %}";
    assert_eq!(template::render(nested, &names(json!({ "xs": list }))), Err(TemplateError::TooManySteps));
    let big = "x".repeat(1 << 20);
    assert_eq!(
        template::render("{{x}}{{x}}{{x}}{{x}}{{x}}", &names(json!({ "x": big }))),
        Err(TemplateError::TooLarge)
    );
}

proptest! {
    #[test]
    fn rendering_never_panics(template in "(\\{\\{|\\}\\}|\\{%|%\\}|#if|/if|else|#each|/each| |x|this|json|'|\"|~|@|[a-z(.)|\n]){0,30}", x in ".{0,20}") {
        let _ = template::render(&template, &names(json!({ "x": x })));
    }

    #[test]
    fn values_are_never_templates(value in "(\\{\\{x\\}\\}|\\{% if x %\\}|\\{\\{#if x\\}\\}|.){0,20}") {
        let rendered = template::render("<{{x}}>{{#if x}}{{{x}}}{{/if}}", &names(json!({ "x": value }))).unwrap();
        prop_assert_eq!(rendered.text, format!("<{value}>{value}"));
    }
}
