//! What a change of a security context or soul widens and narrows.

use aegis_security::constraint::{Capability, RateLimit};
use aegis_security::policy::{Authority, diff_authorities, diff_contexts};
use serde_json::json;

use super::{capability, list};

fn changes(before: (&[Capability], &[&str]), after: (&[Capability], &[&str])) -> Vec<String> {
    let (old, new) = (list(before.1), list(after.1));
    diff_contexts((before.0, &old), (after.0, &new)).iter().map(ToString::to_string).collect()
}

fn field(change: impl Fn(&mut Capability)) -> Capability {
    let mut capability = capability("fs.*");
    change(&mut capability);
    capability
}

#[test]
fn each_change_of_a_context_widens_or_narrows() {
    let plain = || field(|_| {});
    let paths = |paths: &[&str]| field(|capability| capability.path_allowlist = Some(list(paths)));
    let size = |size| field(move |capability| capability.max_response_size = size);
    let rate = |calls, per_seconds| {
        field(move |capability| capability.rate_limit = Some(RateLimit { calls, per_seconds }))
    };
    let schema = |text: &'static str| field(move |capability| capability.arguments = Some(json!(text)));
    for (before, after, expected) in [
        (plain(), plain(), None),
        (plain(), paths(&["/a"]), Some("narrows capabilities[0].path_allowlist: +[/a]")),
        (paths(&["/a"]), plain(), Some("widens capabilities[0].path_allowlist: -[/a]")),
        (paths(&["/a"]), paths(&["/a", "/b"]), Some("widens capabilities[0].path_allowlist: +/b")),
        (paths(&["/a", "/b"]), paths(&["/b"]), Some("narrows capabilities[0].path_allowlist: -/a")),
        (size(None), size(Some(5)), Some("narrows capabilities[0].max_response_size: +5")),
        (size(Some(5)), size(None), Some("widens capabilities[0].max_response_size: -5")),
        (size(Some(5)), size(Some(6)), Some("widens capabilities[0].max_response_size: 5 -> 6")),
        (size(Some(6)), size(Some(5)), Some("narrows capabilities[0].max_response_size: 6 -> 5")),
        (size(Some(5)), size(Some(5)), None),
        (plain(), rate(1, 1), Some("narrows capabilities[0].rate_limit: +1 per 1 s")),
        (rate(1, 1), plain(), Some("widens capabilities[0].rate_limit: -1 per 1 s")),
        (rate(5, 10), rate(5, 10), None),
        (rate(5, 10), rate(6, 10), Some("widens capabilities[0].rate_limit: 5 per 10 s -> 6 per 10 s")),
        (rate(5, 10), rate(5, 9), Some("widens capabilities[0].rate_limit: 5 per 10 s -> 5 per 9 s")),
        (rate(5, 10), rate(4, 10), Some("narrows capabilities[0].rate_limit: 5 per 10 s -> 4 per 10 s")),
        (rate(5, 10), rate(5, 11), Some("narrows capabilities[0].rate_limit: 5 per 10 s -> 5 per 11 s")),
        (rate(5, 10), rate(4, 11), Some("narrows capabilities[0].rate_limit: 5 per 10 s -> 4 per 11 s")),
        (rate(5, 10), rate(6, 11), Some("changes capabilities[0].rate_limit: 5 per 10 s -> 6 per 11 s")),
        (rate(5, 10), rate(4, 9), Some("changes capabilities[0].rate_limit: 5 per 10 s -> 4 per 9 s")),
        (plain(), schema("x"), Some("narrows capabilities[0].arguments: +\"x\"")),
        (schema("x"), plain(), Some("widens capabilities[0].arguments: -\"x\"")),
        (schema("x"), schema("x"), None),
        (schema("x"), schema("y"), Some("changes capabilities[0].arguments: \"x\" -> \"y\"")),
    ] {
        let found = changes((&[before], &[]), (&[after], &[]));
        assert_eq!(found, expected.map(str::to_owned).into_iter().collect::<Vec<_>>());
    }
    assert_eq!(
        changes((&[], &["a", "b"]), (&[], &["b", "c"])),
        ["narrows deny_list: +c", "widens deny_list: -a"]
    );
}

#[test]
fn capabilities_that_come_go_or_move_are_changes() {
    let (a, b) = (capability("a"), capability("b"));
    let (one, both, turned) = ([a.clone()], [a.clone(), b.clone()], [b.clone(), a.clone()]);
    assert_eq!(changes((&one, &[]), (&both, &[])), ["widens capabilities[1]: +b"]);
    assert_eq!(changes((&both, &[]), (&one, &[])), ["narrows capabilities[1]: -b"]);
    assert_eq!(changes((&both, &[]), (&turned, &[])), ["changes capabilities: [a, b] -> [b, a]"]);
    let doubled = [a.clone(), a];
    assert_eq!(changes((&one, &[]), (&doubled, &[])), ["widens capabilities[1]: +a"]);
}

#[test]
fn programs_of_a_subcommand_list_are_compared() {
    let programs = |programs: &[(&str, &[&str])], named: bool| {
        field(|capability| {
            let map = programs.iter().map(|(program, first)| ((*program).to_owned(), list(first))).collect();
            capability.subcommand_allowlist = Some(map);
            capability.command_allowlist = named.then(|| list(&["git"]));
        })
    };
    let git = programs(&[("git", &["log"])], false);
    for (before, after, expected) in [
        (field(|_| {}), git.clone(), "narrows capabilities[0].subcommand_allowlist: +[git]"),
        (git.clone(), field(|_| {}), "widens capabilities[0].subcommand_allowlist: -[git]"),
        (
            git.clone(),
            programs(&[("git", &["log", "push"])], false),
            "widens capabilities[0].subcommand_allowlist.git: +push",
        ),
        (
            git.clone(),
            programs(&[("git", &["log"]), ("ls", &["x"])], false),
            "widens capabilities[0].subcommand_allowlist.ls: +[x]",
        ),
        (
            programs(&[("git", &["log"]), ("ls", &["x"])], false),
            git,
            "narrows capabilities[0].subcommand_allowlist.ls: -[x]",
        ),
        (
            programs(&[], true),
            programs(&[("git", &["log"])], true),
            "changes capabilities[0].subcommand_allowlist.git: +[log]",
        ),
    ] {
        assert_eq!(changes((&[before], &[]), (&[after], &[])), [expected]);
    }
    let log: &[(&str, &[&str])] = &[("git", &["log"])];
    assert_eq!(
        changes((&[programs(&[], false)], &[]), (&[programs(log, true)], &[])),
        [
            "narrows capabilities[0].command_allowlist: +[git]",
            "changes capabilities[0].subcommand_allowlist.git: +[log]",
        ]
    );
    assert_eq!(
        changes((&[programs(&[], true)], &[]), (&[programs(log, false)], &[])),
        [
            "widens capabilities[0].command_allowlist: -[git]",
            "changes capabilities[0].subcommand_allowlist.git: +[log]",
        ]
    );
}

#[test]
fn each_change_of_a_soul_widens_or_narrows() {
    let soul = |autonomous: &[&str], review: &[&str], forbidden: &[&str], max_risk| Authority {
        autonomous: list(autonomous),
        review: list(review),
        forbidden: list(forbidden),
        max_risk,
    };
    for (before, after, expected) in [
        (soul(&["a"], &[], &[], None), soul(&["a", "b"], &[], &[], None), "widens authority.autonomous: +b"),
        (soul(&["a"], &[], &[], None), soul(&[], &[], &[], None), "narrows authority.autonomous: -a"),
        (soul(&[], &[], &[], None), soul(&[], &["a"], &[], None), "narrows authority.review: +a"),
        (soul(&[], &["a"], &[], None), soul(&[], &[], &[], None), "widens authority.review: -a"),
        (soul(&[], &[], &[], None), soul(&[], &[], &["a"], None), "narrows authority.forbidden: +a"),
        (soul(&[], &[], &["a"], None), soul(&[], &[], &[], None), "widens authority.forbidden: -a"),
        (soul(&[], &[], &[], None), soul(&[], &[], &[], Some(0.5)), "narrows authority.max_risk: +0.5"),
        (
            soul(&[], &[], &[], Some(0.5)),
            soul(&[], &[], &[], Some(0.6)),
            "widens authority.max_risk: 0.5 -> 0.6",
        ),
    ] {
        let found: Vec<_> = diff_authorities(&before, &after).iter().map(ToString::to_string).collect();
        assert_eq!(found, [expected]);
    }
    assert_eq!(
        diff_authorities(&soul(&["a"], &["b"], &["c"], Some(0.1)), &soul(&["a"], &["b"], &["c"], Some(0.1))),
        []
    );
}
