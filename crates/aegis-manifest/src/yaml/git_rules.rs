//! Rules on the repositories of a node's configuration.

use std::collections::HashMap;
use std::str::FromStr as _;

use super::diagnostic::Problem;
use super::rules::{once, rule};
use super::tree::Node;
use crate::node::Reference;
use crate::node::git::{PACK_BYTES_MAX, TIMEOUT_MAX, place};
use crate::quantity::{ByteSize, Millis};

/// Checks what the schema cannot say.
pub(super) fn check(spec: &Node, problems: &mut Vec<Problem>) {
    let mut names = HashMap::new();
    for (index, remote) in spec.at("git.remotes").into_iter().flat_map(Node::items).enumerate() {
        let path = format!("spec.git.remotes[{index}]");
        if let Some(name) = remote.get("name") {
            once(&mut names, name, &format!("{path}.name"), "repository", problems);
        }
        address(remote, &path, problems);
        signing_in(remote, &path, problems);
        limits(remote, &path, problems);
        for (place, pattern) in remote.get("push").into_iter().flat_map(Node::items).enumerate() {
            if pattern.text().is_some_and(|text| !is_pattern(text)) {
                let message = format!("{} means no branches", pattern.shown());
                let hint = "write a branch's name, `prefix/*` for all below it, or `*`";
                problems.push(rule(pattern, &format!("{path}.push[{place}]"), message, hint));
            }
        }
    }
}

fn address(remote: &Node, path: &str, problems: &mut Vec<Problem>) {
    let Some(url) = remote.get("url") else { return };
    if url.text().is_some_and(|text| place(text).is_none()) {
        let message = "the address is not a plain https one";
        let hint = "write `https://HOST/PATH`, with no user, `?`, `#` or `..`; what it signs in with is `credential`";
        problems.push(rule(url, &format!("{path}.url"), message, hint));
    }
}

fn signing_in(remote: &Node, path: &str, problems: &mut Vec<Problem>) {
    if let Some(node) = remote.get("credential")
        && let Some(Ok(Reference::Literal(_))) = node.text().map(Reference::from_str)
    {
        let message = "the credential stands in the configuration itself";
        let hint = "store it by `aegis secret set NAME`, and write `credential: secret:NAME`";
        problems.push(rule(node, &format!("{path}.credential"), message, hint));
    }
    if let Some(node) = remote.get("username")
        && node
            .text()
            .is_some_and(|text| text.is_empty() || text.contains(|c: char| c == ':' || c.is_control()))
    {
        let message = format!("{} is no name to sign in with", node.shown());
        problems.push(rule(
            node,
            &format!("{path}.username"),
            message,
            "leave out `:` and control characters",
        ));
    }
}

fn limits(remote: &Node, path: &str, problems: &mut Vec<Problem>) {
    if let Some(node) = remote.get("pack_size_max")
        && let Some(Ok(size)) = node.text().map(ByteSize::from_str)
        && !(1..=PACK_BYTES_MAX).contains(&size.bytes())
    {
        let message = format!("{} is more than a pack may have", node.shown());
        problems.push(rule(node, &format!("{path}.pack_size_max"), message, "write at most `512Mi`"));
    }
    if let Some(node) = remote.get("timeout")
        && let Some(Ok(time)) = node.text().map(Millis::from_str)
        && !(1..=TIMEOUT_MAX.millis()).contains(&time.millis())
    {
        let message = format!("{} is longer than a call may take", node.shown());
        problems.push(rule(node, &format!("{path}.timeout"), message, "write at most `280s`"));
    }
}

fn is_pattern(text: &str) -> bool {
    let stem = text.strip_suffix("/*").unwrap_or(text);
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
    text == "*" || (!stem.is_empty() && stem.bytes().all(letter) && !stem.starts_with(['-', '/', '.']))
}
