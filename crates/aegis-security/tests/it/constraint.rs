//! Security contexts from the attacker's side.

use std::collections::BTreeMap;

use aegis_core::DenialCode;
use aegis_security::constraint::{
    Capability, Decision, GovernedValue, PathPattern, RateLimit, Request, SecurityContext, evaluate,
    matching, normalise,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn list(entries: &[&str]) -> Vec<String> {
    entries.iter().map(|entry| (*entry).to_owned()).collect()
}

fn capability(tool_pattern: &str) -> Capability {
    Capability { tool_pattern: tool_pattern.to_owned(), ..Capability::default() }
}

fn context(capabilities: Vec<Capability>, deny: &[&str]) -> SecurityContext {
    SecurityContext::new("ci", capabilities, &list(deny)).unwrap()
}

/// Stands for a JSON Schema engine: the schema is the one value that is permitted.
fn equals(schema: &Value, arguments: &Value) -> Result<(), String> {
    if schema == arguments { Ok(()) } else { Err("another value".to_owned()) }
}

fn decide(context: &SecurityContext, tool: &str, governed: &[GovernedValue]) -> Decision {
    evaluate(context, Request { tool, governed, arguments: &json!({}) }, &equals)
}

/// The index of the capability that permits it, or code and rule of the refusal.
fn answer(
    context: &SecurityContext,
    tool: &str,
    governed: &[GovernedValue],
) -> Result<usize, (DenialCode, String)> {
    match decide(context, tool, governed) {
        Decision::Allow { capability_index } => Ok(capability_index),
        Decision::Deny(denial) => {
            assert!(!denial.message.is_empty() && !denial.remedy.is_empty());
            Err((denial.code, denial.rule))
        }
    }
}

fn path(path: &str) -> GovernedValue {
    GovernedValue::Path(path.to_owned())
}

fn command(argv: &[&str]) -> GovernedValue {
    GovernedValue::Command { argv: list(argv), cwd: None }
}

#[test]
fn what_no_rule_names_is_denied() {
    let denied = |rule: &str| Err((DenialCode::ToolNotAllowed, rule.to_owned()));
    assert_eq!(answer(&context(vec![], &[]), "fs.read", &[path("/workspace/a")]), denied("context:ci"));
    let fs = context(vec![capability("fs.*")], &[]);
    assert_eq!(answer(&fs, "fsadmin.x", &[]), denied("context:ci"));
    assert_eq!(answer(&fs, "fs", &[]), denied("context:ci"));
    assert_eq!(answer(&fs, "fs.read", &[path("/workspace/a")]), Ok(0));
}

#[test]
fn the_deny_list_comes_before_every_capability() {
    let context = context(vec![capability("*")], &["fs.delete", "git.*"]);
    let denied = || Err((DenialCode::ToolExplicitlyDenied, "context:ci/deny_list".to_owned()));
    assert_eq!(answer(&context, "fs.delete", &[path("/workspace/a")]), denied());
    assert_eq!(answer(&context, "git.push", &[]), denied());
    assert_eq!(answer(&context, "github.push", &[]), Ok(0));
}

#[test]
fn no_spelling_of_a_path_gets_out() {
    let rules = Capability {
        path_allowlist: Some(list(&["/workspace/src", "/workspace/docs/*.md"])),
        ..capability("fs.*")
    };
    let context = context(vec![rules], &[]);
    for inside in
        ["/workspace/src", "src/main.rs", "/workspace/docs/../src/a", "docs/a.md", "//workspace//src/./a"]
    {
        assert_eq!(answer(&context, "fs.read", &[path(inside)]), Ok(0), "{inside}");
    }
    for outside in [
        "/workspace/src/../secret",
        "/workspace/src/../../etc/passwd",
        "../etc/passwd",
        "src/../../workspace/src/x",
        "/workspace/src2",
        "/workspace/srcx/a",
        "/workspace2/src/a",
        "/workspace",
        "/",
        "",
        "/workspace/docs/deep/a.md",
        "/workspace/docs/a.md/b",
        "/workspace/src\0/../../etc",
        "file:///workspace/src/a",
        "/proc/self/cwd/src",
    ] {
        let denied = answer(&context, "fs.read", &[path(outside)]).unwrap_err();
        assert_eq!(denied.0, DenialCode::PathNotAllowed, "{outside:?}");
    }
}

#[test]
fn every_path_argument_counts() {
    let rules = Capability { path_allowlist: Some(list(&["/workspace"])), ..capability("fs.*") };
    let context = context(vec![rules], &[]);
    let (inside, outside) = (path("/workspace/a"), path("/etc/a"));
    assert_eq!(answer(&context, "fs.move", &[inside.clone(), inside.clone()]), Ok(0));
    for governed in [[inside.clone(), outside.clone()], [outside, inside]] {
        let denied = Err((DenialCode::PathNotAllowed, "context:ci/capability:0".to_owned()));
        assert_eq!(answer(&context, "fs.move", &governed), denied);
    }
}

#[test]
fn a_constraint_the_tool_does_not_declare_does_not_match() {
    let context = context(
        vec![
            Capability { path_allowlist: Some(list(&["/workspace"])), ..capability("*") },
            Capability { domain_allowlist: Some(list(&["example.org"])), ..capability("*") },
            Capability { command_allowlist: Some(list(&["git"])), ..capability("*") },
            Capability { subcommand_allowlist: Some(BTreeMap::new()), ..capability("*") },
        ],
        &[],
    );
    let denied = Err((DenialCode::ToolNotAllowed, "context:ci/capability:0".to_owned()));
    assert_eq!(answer(&context, "foreign.tool", &[]), denied);
    assert_eq!(answer(&context, "foreign.tool", &[GovernedValue::Domain("example.org".to_owned())]), Ok(1));
    assert_eq!(answer(&context, "foreign.tool", &[command(&["git"])]), Ok(2));
}

#[test]
fn absent_lists_do_not_constrain_and_empty_ones_permit_nothing() {
    let open = context(vec![capability("x.*")], &[]);
    let host = || GovernedValue::Domain("example.org".to_owned());
    for governed in [path("/anywhere"), command(&["anything"]), host()] {
        assert_eq!(answer(&open, "x.y", &[governed]), Ok(0));
    }
    for (closed, governed) in [
        (Capability { path_allowlist: Some(vec![]), ..capability("x.*") }, path("/workspace")),
        (Capability { domain_allowlist: Some(vec![]), ..capability("x.*") }, host()),
        (Capability { command_allowlist: Some(vec![]), ..capability("x.*") }, command(&["git"])),
        (Capability { subcommand_allowlist: Some(BTreeMap::new()), ..capability("x.*") }, command(&["git"])),
        (Capability { command_allowlist: Some(vec![]), ..capability("x.*") }, command(&[])),
    ] {
        assert!(answer(&context(vec![closed], &[]), "x.y", &[governed]).is_err());
    }
}

#[test]
fn shell_metacharacters_are_only_characters() {
    let rules = Capability {
        command_allowlist: Some(list(&["git"])),
        subcommand_allowlist: Some(BTreeMap::from([("git".to_owned(), list(&["status"]))])),
        ..capability("cmd.run")
    };
    let context = context(vec![rules], &[]);
    // As arguments of their own they reach the program as they are: no shell reads them.
    for inert in
        [&["git", "status", ";", "rm", "-rf", "/"][..], &["git", "status", "$(id)", "`id`", "&&", "|"]]
    {
        assert_eq!(answer(&context, "cmd.run", &[command(inert)]), Ok(0));
    }
    for (attack, code) in [
        (&["git status"][..], DenialCode::CommandNotAllowed),
        (&["git;id"], DenialCode::CommandNotAllowed),
        (&["sh", "-c", "git status"], DenialCode::CommandNotAllowed),
        (&["git", "status;id"], DenialCode::CommandNotAllowed),
        (&["git", "-c", "core.pager=id", "status"], DenialCode::CommandNotAllowed),
        (&["/tmp/git", "status"], DenialCode::CommandNotAllowed),
        (&["git"], DenialCode::CommandNotAllowed),
        (&[], DenialCode::CommandNotAllowed),
    ] {
        let denied = answer(&context, "cmd.run", &[command(attack)]).unwrap_err();
        assert_eq!(denied, (code, "context:ci/capability:0".to_owned()), "{attack:?}");
    }
}

#[test]
fn the_first_capability_that_holds_is_selected_and_the_closest_failure_told() {
    let context = context(
        vec![
            Capability { path_allowlist: Some(list(&["/a"])), ..capability("fs.*") },
            Capability {
                path_allowlist: Some(list(&["/b"])),
                arguments: Some(json!({"mode": "x"})),
                rate_limit: Some(RateLimit { calls: 2, per_seconds: 60 }),
                ..capability("fs.*")
            },
            capability("fs.stat"),
        ],
        &[],
    );
    assert_eq!(answer(&context, "fs.read", &[path("/a/x")]), Ok(0));
    let of = |arguments: Value| {
        evaluate(
            &context,
            Request { tool: "fs.read", governed: &[path("/b/x")], arguments: &arguments },
            &equals,
        )
    };
    assert_eq!(of(json!({"mode": "x"})), Decision::Allow { capability_index: 1 });
    let Decision::Deny(denial) = of(json!({})) else { panic!("permitted") };
    assert_eq!(denial.code, DenialCode::InvalidArguments);
    assert_eq!(denial.rule, "context:ci/capability:1");
    assert_eq!(
        answer(&context, "fs.read", &[path("/c")]),
        Err((DenialCode::PathNotAllowed, "context:ci/capability:0".to_owned()))
    );
    assert_eq!(answer(&context, "fs.stat", &[path("/c")]), Ok(2));
    assert_eq!(context.capability(1).unwrap().rate_limit.unwrap().calls, 2);
}

#[test]
fn all_capabilities_that_hold_are_found_and_the_closest_failure_first() {
    let paths =
        |tool: &str, list_: &[&str]| Capability { path_allowlist: Some(list(list_)), ..capability(tool) };
    let commands = Capability { command_allowlist: Some(list(&["git"])), ..capability("fs.read") };
    let rules = vec![
        commands,
        paths("fs.*", &["/workspace/b"]),
        paths("fs.read", &["/workspace/a"]),
        capability("cmd.run"),
        capability("*"),
    ];
    let request =
        |governed: &'static [GovernedValue]| Request { tool: "fs.read", governed, arguments: &Value::Null };
    // The deny list is not its business.
    let context = context(rules, &["*"]);
    let leaked: &'static [GovernedValue] = vec![path("/workspace/a/x")].leak();
    let found = matching(&context, request(leaked), &equals).unwrap();
    assert_eq!(found.capabilities, [2, 4]);
    let failed: Vec<_> = found.failed.iter().map(|denial| (denial.code, denial.rule.as_str())).collect();
    assert_eq!(
        failed,
        [
            (DenialCode::PathNotAllowed, "context:ci/capability:1"),
            (DenialCode::ToolNotAllowed, "context:ci/capability:0"),
        ]
    );
    let climbing: &'static [GovernedValue] = vec![path("../a")].leak();
    let refused = matching(&context, request(climbing), &equals).unwrap_err();
    assert_eq!((refused.code, refused.rule.as_str()), (DenialCode::PathNotAllowed, "context:ci/paths"));
}

#[test]
fn rules_that_cannot_be_understood_are_refused_whole() {
    for wrong in [
        capability("fs*"),
        capability(""),
        Capability { path_allowlist: Some(list(&["src"])), ..capability("*") },
        Capability { domain_allowlist: Some(list(&["*"])), ..capability("*") },
        Capability { command_allowlist: Some(list(&["git status"])), ..capability("*") },
        Capability { command_allowlist: Some(list(&["./run"])), ..capability("*") },
        Capability {
            subcommand_allowlist: Some(BTreeMap::from([(String::new(), vec![])])),
            ..capability("*")
        },
        Capability { rate_limit: Some(RateLimit { calls: 0, per_seconds: 1 }), ..capability("*") },
        Capability { rate_limit: Some(RateLimit { calls: 1, per_seconds: 0 }), ..capability("*") },
        Capability { rate_limit: Some(RateLimit { calls: 10_001, per_seconds: 1 }), ..capability("*") },
    ] {
        assert!(SecurityContext::new("ci", vec![capability("*"), wrong.clone()], &[]).is_err(), "{wrong:?}");
    }
    let most =
        Capability { rate_limit: Some(RateLimit { calls: 10_000, per_seconds: 1 }), ..capability("*") };
    assert!(SecurityContext::new("ci", vec![most], &[]).is_ok());
    assert!(SecurityContext::new("ci", vec![], &list(&["fs*"])).is_err());
}

/// Components an attacker would combine.
fn component() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("..".to_owned()),
        Just(".".to_owned()),
        Just(String::new()),
        Just("workspace".to_owned()),
        Just("src".to_owned()),
        Just("...".to_owned()),
        "[a-c*\\\\ é]{1,3}",
    ]
}

fn any_path() -> impl Strategy<Value = String> {
    (any::<bool>(), proptest::collection::vec(component(), 0..8))
        .prop_map(|(absolute, parts)| format!("{}{}", if absolute { "/" } else { "" }, parts.join("/")))
}

fn tools() -> impl Strategy<Value = String> {
    proptest::sample::select(list(&["fs.read", "fs.write", "cmd.run", "fsadmin.x"]))
}

fn some_of(entries: &[&str]) -> impl Strategy<Value = Option<Vec<String>>> {
    proptest::option::of(proptest::sample::subsequence(list(entries), 0..=entries.len()))
}

fn any_capability() -> impl Strategy<Value = Capability> {
    (
        proptest::sample::select(list(&["*", "fs.*", "fs.read", "cmd.*"])),
        some_of(&["/workspace", "/workspace/src/*", "/etc", "/**/a"]),
        some_of(&["git", "ls", "/bin/sh"]),
    )
        .prop_map(|(tool_pattern, path_allowlist, command_allowlist)| Capability {
            tool_pattern,
            path_allowlist,
            command_allowlist,
            ..Capability::default()
        })
}

/// The same capability with entries taken away, and constraints added.
fn narrowed(wide: &Capability, keep: &[bool]) -> Capability {
    let thin = |entries: &Option<Vec<String>>| {
        let entries = entries.clone().unwrap_or_else(|| list(&["/workspace", "git"]));
        Some(
            entries
                .into_iter()
                .zip(keep.iter().cycle())
                .filter(|(_, keep)| **keep)
                .map(|(entry, _)| entry)
                .collect(),
        )
    };
    let constrain = |entries: &Option<Vec<String>>, at: usize| {
        if entries.is_some() || keep[at] { thin(entries) } else { None }
    };
    Capability {
        path_allowlist: constrain(&wide.path_allowlist, 0)
            .map(|paths: Vec<String>| paths.into_iter().filter(|path| path.starts_with('/')).collect()),
        command_allowlist: constrain(&wide.command_allowlist, 1),
        ..wide.clone()
    }
}

proptest! {
    #[test]
    fn normal_paths_stay_as_they_are_and_never_climb(path in any_path()) {
        if let Ok(normal) = normalise(&path) {
            prop_assert!(normal.starts_with('/'));
            prop_assert!(normal == "/" || !normal.ends_with('/'));
            prop_assert!(normal.split('/').skip(1).all(|part| part != ".." && part != "." && (normal == "/" || !part.is_empty())));
            prop_assert_eq!(normalise(&normal), Ok(normal));
        }
    }

    #[test]
    fn relative_paths_stay_in_the_workspace(path in any_path()) {
        if !path.starts_with('/') && let Ok(normal) = normalise(&path) {
            prop_assert!(PathPattern::new("/workspace").unwrap().matches(&normal), "{}", normal);
        }
    }

    #[test]
    fn a_folder_on_the_way_to_a_match_may_be_walked_through(
        pattern in proptest::collection::vec(proptest::sample::select(list(&["a", "b", "*", "**", "a*"])), 1..6),
        path in proptest::collection::vec(proptest::sample::select(list(&["a", "b", "ab"])), 1..7),
    ) {
        let compiled = PathPattern::new(&format!("/{}", pattern.join("/"))).unwrap();
        if compiled.matches(&format!("/{}", path.join("/"))) {
            for depth in 0..path.len() {
                let way = format!("/{}", path[..depth].join("/"));
                prop_assert!(compiled.leads_below(&way), "{:?} {}", pattern, way);
            }
        }
    }

    #[test]
    fn a_narrower_context_never_permits_more(
        wide in proptest::collection::vec(any_capability(), 1..4),
        keep in proptest::collection::vec(any::<bool>(), 4),
        dropped in 0usize..4,
        deny in proptest::option::of(tools()),
        tool in tools(),
        path in any_path(),
        program in proptest::sample::select(list(&["git", "ls", "/bin/sh", "sh"])),
        with_path in any::<bool>(),
        with_command in any::<bool>(),
    ) {
        let narrow = wide.iter().enumerate().filter(|(at, _)| *at != dropped).map(|(_, c)| narrowed(c, &keep)).collect();
        let deny: Vec<&str> = deny.iter().map(String::as_str).collect();
        let mut governed = Vec::new();
        if with_path {
            governed.push(GovernedValue::Path(path));
        }
        if with_command {
            governed.push(GovernedValue::Command { argv: vec![program], cwd: None });
        }
        if answer(&context(narrow, &deny), &tool, &governed).is_ok() {
            prop_assert!(answer(&context(wide, &[]), &tool, &governed).is_ok());
        }
    }
}
