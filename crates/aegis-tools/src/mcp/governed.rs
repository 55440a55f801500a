//! Which arguments of a server's tools the monitor checks.

use std::collections::BTreeMap;

use aegis_kernel::port::{Access, Governed, GovernedKind};
use serde_json::{Map, Value};

/// The annotation of an argument's schema: `path`, `read_path`, `url`, `command` or `domain`.
const ANNOTATION: &str = "x-aegis-governed";

const READ: GovernedKind = GovernedKind::Path(Access::Read);
const WRITE: GovernedKind = GovernedKind::Path(Access::Write);

type Row = (&'static str, &'static [(&'static str, GovernedKind)]);

/// The official servers' arguments, by package.
const FILESYSTEM: &[Row] = &[
    ("read_file", &[("path", READ)]),
    ("read_text_file", &[("path", READ)]),
    ("read_media_file", &[("path", READ)]),
    ("read_multiple_files", &[("paths", READ)]),
    ("write_file", &[("path", WRITE)]),
    ("edit_file", &[("path", WRITE)]),
    ("create_directory", &[("path", WRITE)]),
    ("list_directory", &[("path", READ)]),
    ("list_directory_with_sizes", &[("path", READ)]),
    ("directory_tree", &[("path", READ)]),
    ("move_file", &[("source", WRITE), ("destination", WRITE)]),
    ("search_files", &[("path", READ)]),
    ("get_file_info", &[("path", READ)]),
];
const GIT: &[Row] = &[
    ("git_status", &[("repo_path", READ)]),
    ("git_diff_unstaged", &[("repo_path", READ)]),
    ("git_diff_staged", &[("repo_path", READ)]),
    ("git_diff", &[("repo_path", READ)]),
    ("git_commit", &[("repo_path", WRITE)]),
    ("git_add", &[("repo_path", WRITE)]),
    ("git_reset", &[("repo_path", WRITE)]),
    ("git_log", &[("repo_path", READ)]),
    ("git_create_branch", &[("repo_path", WRITE)]),
    ("git_checkout", &[("repo_path", WRITE)]),
    ("git_show", &[("repo_path", READ)]),
    ("git_init", &[("repo_path", WRITE)]),
    ("git_branch", &[("repo_path", READ)]),
];
const FETCH: &[Row] = &[("fetch", &[("url", GovernedKind::Url)])];
/// By a word of the command line that names the package.
const PACKAGES: &[(&str, &[Row])] = &[
    ("server-filesystem", FILESYSTEM),
    ("mcp-server-filesystem", FILESYSTEM),
    ("mcp-server-git", GIT),
    ("mcp_server_git", GIT),
    ("mcp-server-fetch", FETCH),
    ("mcp_server_fetch", FETCH),
];

/// What is known of the server that a command line starts: the official ones, by their packages' names.
pub(super) fn known(program: Option<&str>, args: &[String]) -> BTreeMap<String, Vec<Governed>> {
    let words = program.into_iter().chain(args.iter().map(String::as_str));
    let parts = words.flat_map(|word| word.split('/')).map(|part| part.split('@').next().unwrap_or(part));
    let rows = parts
        .filter_map(|part| PACKAGES.iter().find(|(package, _)| *package == part))
        .map(|(_, rows)| *rows)
        .next();
    let governed = |arguments: &[(&'static str, GovernedKind)]| {
        arguments
            .iter()
            .map(|(argument, kind)| Governed { argument: (*argument).into(), kind: *kind })
            .collect()
    };
    rows.unwrap_or_default()
        .iter()
        .map(|(tool, arguments)| ((*tool).to_owned(), governed(arguments)))
        .collect()
}

/// What a tool's schema says is governed, at the top level of the arguments. The schema is pinned, so that it was
/// accepted with the annotation.
fn annotated(schema: &Map<String, Value>) -> impl Iterator<Item = Governed> {
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    properties.filter_map(|(argument, schema)| {
        let kind = match schema.get(ANNOTATION).and_then(Value::as_str)? {
            "read_path" => READ,
            "url" => GovernedKind::Url,
            "command" => GovernedKind::Command,
            "domain" => GovernedKind::Domain,
            // A word that is not known is checked as the strictest: nothing a server writes makes an argument free.
            _ => WRITE,
        };
        Some(Governed { argument: argument.clone().into(), kind })
    })
}

/// The governed arguments of a tool: what the operator states or is known, and what the schema adds to it. An
/// argument the tool does not take is left out.
pub(super) fn of_tool(stated: Option<&Vec<Governed>>, schema: &Map<String, Value>) -> Vec<Governed> {
    let takes = |governed: &Governed| {
        let properties = schema.get("properties").and_then(Value::as_object);
        properties.is_some_and(|properties| properties.contains_key(governed.argument.as_ref()))
    };
    let mut all: Vec<Governed> =
        stated.into_iter().flatten().filter(|governed| takes(governed)).cloned().collect();
    for governed in annotated(schema) {
        if all.iter().all(|other| other.argument != governed.argument) {
            all.push(governed);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn official_servers_are_known_by_their_package() {
        let args = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let npx =
            known(Some("npx"), &args("-y @modelcontextprotocol/server-filesystem@2026.8.31 /workspace"));
        assert_eq!(npx["move_file"].len(), 2);
        assert!(known(Some("/opt/bin/mcp-server-git"), &[]).contains_key("git_commit"));
        assert!(known(Some("python3"), &args("-m mcp_server_fetch")).contains_key("fetch"));
        assert!(known(Some("my-mcp-server-git-like"), &[]).is_empty());
    }

    #[test]
    fn annotations_add_and_never_replace() {
        let schema = json!({"properties": {
            "where": {"type": "string", "x-aegis-governed": "url"},
            "odd": {"x-aegis-governed": "nothing"},
            "free": {"type": "string"},
        }});
        let stated = vec![
            Governed { argument: "where".into(), kind: GovernedKind::Domain },
            Governed { argument: "gone".into(), kind: GovernedKind::Command },
        ];
        let all = of_tool(Some(&stated), schema.as_object().unwrap());
        assert_eq!(
            all,
            [
                Governed { argument: "where".into(), kind: GovernedKind::Domain },
                Governed { argument: "odd".into(), kind: WRITE },
            ]
        );
    }
}
