//! From text to typed documents: every problem of a file at once, each with its place. The only module that knows the
//! YAML parser.
//!
//! Text becomes a tree with positions, the tree is checked against the schema that is generated from the types and
//! against the rules between fields, and what passed is decoded into the types.

mod decode;
mod diagnostic;
mod form;
mod git_rules;
mod node_rules;
mod rules;
mod tree;
mod validator_rules;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use diagnostic::{Diagnostics, Problem, ProblemCode, nearest};

use crate::node::McpServer;
use crate::{AgentManifest, NodeConfig};
use tree::{Node, Variables};

/// A document that has been read, with the places of its fields.
#[derive(Debug, Clone)]
pub struct Parsed<T> {
    /// The document.
    pub document: T,
    tree: Node,
}

impl<T> Parsed<T> {
    /// Line and column, from 1, of the field at `path`, like `spec.volumes[0].name`.
    pub fn position(&self, path: &str) -> Option<(usize, usize)> {
        let mut node = &self.tree;
        for part in path.split('.') {
            let (key, indices) = part.split_once('[').map_or((part, None), |(key, rest)| (key, Some(rest)));
            node = node.get(key)?;
            for index in indices.into_iter().flat_map(|rest| rest.split('[')) {
                node = node.items().get(index.trim_end_matches(']').parse::<usize>().ok()?)?;
            }
        }
        Some((node.line, node.column))
    }
}

/// Reads an agent's manifest, YAML or JSON. `${…}` is not replaced: an author is not the operator.
pub fn parse_agent(text: &str, file: &str) -> Result<Parsed<AgentManifest>, Diagnostics> {
    parse(text, file, &Variables::Off, "agent", rules::check)
}

/// Reads a node's configuration, YAML or JSON, replacing `${NAME}` and `${NAME:-default}` by what `variable` answers.
pub fn parse_node_config(
    text: &str,
    file: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Parsed<NodeConfig>, Diagnostics> {
    parse(text, file, &Variables::Of(variable), "node-config", node_rules::check)
}

/// Reads one tool server, as an entry of `spec.mcp_servers` writes it, YAML or JSON. `${…}` is not replaced: what is given
/// to a running daemon has no part in its environment.
pub fn parse_mcp_server(text: &str, file: &str) -> Result<Parsed<McpServer>, Diagnostics> {
    parse(text, file, &Variables::Off, "mcp-server", |_, _| {})
}

/// Reads data of no kind, YAML or JSON, within the same bounds. `${…}` is not replaced.
pub fn parse_data(text: &str, file: &str) -> Result<Value, Diagnostics> {
    parse::<Value>(text, file, &Variables::Off, "", |_, _| {}).map(|parsed| parsed.document)
}

fn parse<T: DeserializeOwned>(
    text: &str,
    file: &str,
    variables: &Variables<'_>,
    kind: &str,
    rules: fn(&Node, &mut Vec<Problem>),
) -> Result<Parsed<T>, Diagnostics> {
    let fail = |problems| Err(Diagnostics::new(file, text, problems));
    let mut problems = Vec::new();
    let tree = match tree::read(text, variables, &mut problems) {
        Ok(tree) => tree,
        Err(problem) => {
            problems.push(problem);
            return fail(problems);
        }
    };
    let schema = crate::explain::schema(kind).unwrap_or(&Value::Bool(true));
    let value = decode::decode(&tree, schema, &mut problems);
    rules(&tree, &mut problems);
    if !problems.is_empty() {
        return fail(problems);
    }
    match serde_json::from_value(value) {
        Ok(document) => Ok(Parsed { document, tree }),
        Err(error) => fail(vec![tree.problem(ProblemCode::WrongValue, "", error.to_string())]),
    }
}
