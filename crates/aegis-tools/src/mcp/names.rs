//! What a server's tools are called here.

use std::collections::{BTreeMap, BTreeSet};

/// Longest tool name the protocol knows.
const NAME_LEN_MAX: usize = 128;

/// Whether a server's tool can be called by its name: 1 to 128 of letters, digits, `_`, `-` and `.`.
pub(super) fn is_callable(tool: &str) -> bool {
    (1..=NAME_LEN_MAX).contains(&tool.len())
        && tool.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// AEGIS names of the tools of `servers`, by (server, tool). A tool that one server alone has keeps its name; else it
/// is `server.tool`. Names of other tools (`reserved`) are never taken, and no name can be read in two ways: a name
/// that looks like another server's prefixed tool, or like one of the node's own families (`fs.`), is prefixed too.
pub(super) fn assign<'a>(
    servers: &[(&'a str, Vec<&'a str>)],
    reserved: &BTreeSet<String>,
) -> BTreeMap<(&'a str, &'a str), String> {
    let mut having: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, tools) in servers {
        for tool in tools.iter().collect::<BTreeSet<_>>() {
            *having.entry(tool).or_default() += 1;
        }
    }
    let is_prefixed = |name: &str| {
        let family = |other: &str, prefix| other.split_once('.').is_some_and(|(own, _)| own == prefix);
        name.split_once('.').is_some_and(|(prefix, _)| {
            servers.iter().any(|(server, _)| *server == prefix)
                || reserved.iter().any(|other| family(other, prefix))
        })
    };
    let mut names = BTreeMap::new();
    for (server, tools) in servers {
        for tool in tools {
            let alone = having.get(tool) == Some(&1) && !reserved.contains(*tool) && !is_prefixed(tool);
            let name = if alone { (*tool).to_owned() } else { format!("{server}.{tool}") };
            // A server called like a built-in family (`fs`) must not take that family's names.
            if !reserved.contains(&name) {
                names.insert((*server, *tool), name);
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sole_name_stays_and_a_shared_one_is_prefixed() {
        let servers =
            [("a", vec!["echo", "read"]), ("b", vec!["echo", "fs.read"]), ("fs", vec!["write", "echo"])];
        let reserved = ["fs.read", "fs.write", "fs.echo"].map(str::to_owned).into();
        let names = assign(&servers, &reserved);
        assert_eq!(names[&("a", "echo")], "a.echo");
        assert_eq!(names[&("b", "echo")], "b.echo");
        assert_eq!(names[&("a", "read")], "read");
        assert_eq!(names[&("b", "fs.read")], "b.fs.read");
        let peek = assign(&[("notes", vec!["fs.peek", "a.peek"])], &reserved);
        assert_eq!(peek[&("notes", "fs.peek")], "notes.fs.peek", "`fs.*` means the node's own");
        assert_eq!(peek[&("notes", "a.peek")], "a.peek");
        assert_eq!(names[&("fs", "write")], "write");
        assert!(!names.contains_key(&("fs", "echo")), "a reserved name was taken");
    }

    #[test]
    fn no_server_takes_the_prefixed_name_of_another() {
        let servers = [("a", vec!["x"]), ("b", vec!["a.x", "x"])];
        let names = assign(&servers, &BTreeSet::new());
        let all: BTreeSet<_> = names.values().collect();
        assert_eq!(all.len(), 3);
        assert_eq!(names[&("a", "x")], "a.x");
        assert_eq!(names[&("b", "a.x")], "b.a.x");
    }

    #[test]
    fn odd_names_cannot_be_called() {
        assert!(is_callable("git_log") && is_callable("a.b-c"));
        for odd in ["", "a b", "a\n", "é", &"x".repeat(129)] {
            assert!(!is_callable(odd), "{odd}");
        }
    }
}
