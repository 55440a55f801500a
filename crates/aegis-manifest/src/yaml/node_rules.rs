//! Rules between the fields of a node's configuration.

use std::collections::HashMap;
use std::net::IpAddr;

use aegis_core::{LABEL_RULES, PERSONAL_DATA_RULES};

use super::diagnostic::{Problem, quoted};
use super::git_rules;
use super::rules::{is_normal, once, path_pattern, rule};
use super::tree::Node;

/// Checks what the schema cannot say.
pub(super) fn check(root: &Node, problems: &mut Vec<Problem>) {
    let Some(spec) = root.get("spec") else { return };
    providers(spec, problems);
    aliases(spec, problems);
    contexts(spec, problems);
    policies(spec, problems);
    labels(spec, problems);
    redaction(spec, problems);
    listening(spec, problems);
    secrets(spec, problems);
    git_rules::check(spec, problems);
    for (index, path) in spec.at("storage.host_paths").into_iter().flat_map(Node::items).enumerate() {
        if path.text().is_some_and(|text| !is_normal(text)) {
            let message = format!("the path {} is not absolute and normalised", path.shown());
            let hint = "begin with `/` and leave out `.`, `..` and `//`";
            problems.push(rule(path, &format!("spec.storage.host_paths[{index}]"), message, hint));
        }
    }
    if spec.text_at("runtime.default_isolation") == Some("inherit")
        && let Some(node) = spec.at("runtime.default_isolation")
    {
        let message = "`inherit` is what manifests write; the node's default must be a kind of sandbox";
        problems.push(rule(node, "spec.runtime.default_isolation", message, "write `process`"));
    }
}

fn providers(spec: &Node, problems: &mut Vec<Problem>) {
    let mut names = HashMap::new();
    let list = spec.get("llm_providers").map(Node::items).unwrap_or_default();
    for (index, provider) in list.iter().enumerate() {
        let path = format!("spec.llm_providers[{index}]");
        if let Some(name) = provider.get("name") {
            once(&mut names, name, &format!("{path}.name"), "provider", problems);
        }
        let kind = provider.text_at("type").unwrap_or_default();
        match (kind, provider.get("recordings")) {
            ("replay", None) => {
                let hint = "add `recordings:` with a file or folder of recorded answers";
                problems.push(rule(provider, &path, "a `replay` provider needs `recordings`", hint));
            }
            ("openai" | "anthropic" | "ollama" | "openai-compatible", Some(node)) => {
                let message = format!("`recordings` does not go with `type: {kind}`");
                problems.push(rule(
                    node,
                    &format!("{path}.recordings"),
                    message,
                    "write `type: replay`, or remove it",
                ));
            }
            _ => {}
        }
        if kind == "openai-compatible" && provider.get("endpoint").is_none() {
            let hint = "add `endpoint:`, like `http://127.0.0.1:8000/v1`";
            problems.push(rule(provider, &path, "an `openai-compatible` provider needs an `endpoint`", hint));
        }
        let mut models = HashMap::new();
        for (place, model) in provider.get("models").into_iter().flat_map(Node::items).enumerate() {
            if let Some(alias) = model.get("alias") {
                once(&mut models, alias, &format!("{path}.models[{place}].alias"), "alias", problems);
            }
        }
    }
    for field in ["default_provider", "fallback_provider"] {
        if let Some(node) = spec.at("llm_selection").and_then(|selection| selection.get(field))
            && node.text().is_some_and(|name| !names.contains_key(name))
        {
            let message = format!("no provider is called {}", node.shown());
            let hint = "name one of `llm_providers`";
            problems.push(rule(node, &format!("spec.llm_selection.{field}"), message, hint));
        }
    }
}

fn aliases(spec: &Node, problems: &mut Vec<Problem>) {
    let providers = spec.get("llm_providers").map(Node::items).unwrap_or_default();
    for (key, target) in spec.at("llm.aliases").into_iter().flat_map(Node::entries) {
        let path = format!("spec.llm.aliases.{}", key.text().unwrap_or_default());
        let Some(text) = target.text() else { continue };
        match text.split_once('/') {
            Some((provider, model)) if !model.is_empty() => {
                if !providers.iter().any(|known| known.text_at("name") == Some(provider)) {
                    let message = format!("no provider is called {}", quoted(provider));
                    problems.push(rule(target, &path, message, "name one of `llm_providers` before the `/`"));
                }
            }
            _ => {
                let message = format!("{} is not `provider/model`", target.shown());
                problems.push(rule(target, &path, message, "write it like `local/smollm2`"));
            }
        }
    }
}

fn contexts(spec: &Node, problems: &mut Vec<Problem>) {
    let mut names = HashMap::new();
    for (index, context) in spec.get("security_contexts").into_iter().flat_map(Node::items).enumerate() {
        let path = format!("spec.security_contexts[{index}]");
        if let Some(name) = context.get("name") {
            once(&mut names, name, &format!("{path}.name"), "security context", problems);
        }
        for (place, denied) in context.get("deny_list").into_iter().flat_map(Node::items).enumerate() {
            tool_pattern(denied, &format!("{path}.deny_list[{place}]"), problems);
        }
        for (place, capability) in context.get("capabilities").into_iter().flat_map(Node::items).enumerate() {
            let path = format!("{path}.capabilities[{place}]");
            if let Some(pattern) = capability.get("tool_pattern") {
                tool_pattern(pattern, &format!("{path}.tool_pattern"), problems);
            }
            for (at, item) in capability.get("path_allowlist").into_iter().flat_map(Node::items).enumerate() {
                path_pattern(item, &format!("{path}.path_allowlist[{at}]"), problems);
            }
        }
    }
}

fn policies(spec: &Node, problems: &mut Vec<Problem>) {
    let mut names = HashMap::new();
    for (index, policy) in spec.at("governance.policies").into_iter().flat_map(Node::items).enumerate() {
        let path = format!("spec.governance.policies[{index}]");
        if let Some(name) = policy.get("name") {
            once(&mut names, name, &format!("{path}.name"), "policy", problems);
        }
        if let Some(cedar) = policy.get("cedar").filter(|cedar| cedar.text().is_some_and(leads_out)) {
            let message = format!("{} does not lie below the configuration's folder", cedar.shown());
            let hint = "write a relative path without `..`";
            problems.push(rule(cedar, &format!("{path}.cedar"), message, hint));
        }
    }
}

fn labels(spec: &Node, problems: &mut Vec<Problem>) {
    for (index, entry) in spec.at("governance.tool_labels").into_iter().flat_map(Node::items).enumerate() {
        if let Some(pattern) = entry.get("tool_pattern") {
            let path = format!("spec.governance.tool_labels[{index}].tool_pattern");
            tool_pattern(pattern, &path, problems);
        }
    }
    for (name, _) in spec.at("governance.label_rules").into_iter().flat_map(Node::entries) {
        if name.text().is_some_and(|name| !LABEL_RULES.contains(&name)) {
            let message = format!("no rule on labels is called {}", name.shown());
            let path = "spec.governance.label_rules";
            problems.push(rule(name, path, message, format!("there is `{}`", LABEL_RULES.join("`, `"))));
        }
    }
}

fn redaction(spec: &Node, problems: &mut Vec<Problem>) {
    let rules = spec.at("governance.redaction.personal_data_rules");
    for (name, _) in rules.into_iter().flat_map(Node::entries) {
        if name.text().is_some_and(|name| !PERSONAL_DATA_RULES.contains(&name)) {
            let message = format!("no rule for personal data is called {}", name.shown());
            let hint = format!("there are `{}`", PERSONAL_DATA_RULES.join("`, `"));
            problems.push(rule(name, "spec.governance.redaction.personal_data_rules", message, hint));
        }
    }
}

/// Each kind of store has fields of its own, and no store's credential lies in itself.
fn secrets(spec: &Node, problems: &mut Vec<Problem>) {
    let Some(section) = spec.get("secrets") else { return };
    let path = "spec.secrets";
    let remote = section.text_at("backend") == Some("openbao");
    for field in ["address", "token", "approle", "mount", "prefix", "namespace"] {
        if let Some(node) = section.get(field).filter(|_| !remote) {
            let message = format!("`{field}` does not go with `backend: local`");
            problems.push(rule(node, &format!("{path}.{field}"), message, "write `backend: openbao`"));
        }
    }
    if remote && section.get("address").is_none() {
        let hint = "add `address:`, like `https://vault.example.org:8200`";
        problems.push(rule(section, path, "`openbao` needs an `address`", hint));
    }
    if remote && section.get("token").is_some() == section.get("approle").is_some() {
        let hint = "add one of `token: env:NAME` and `approle:`";
        problems.push(rule(section, path, "`openbao` needs either a `token` or an `approle`", hint));
    }
    for field in ["token", "approle.secret_id"] {
        if let Some(node) = section.at(field)
            && node.text().is_some_and(|text| text.starts_with("secret:"))
        {
            let message = "the store's own credential cannot lie in the store";
            problems.push(rule(node, &format!("{path}.{field}"), message, "give it by `env:NAME`"));
        }
    }
}

/// Whether a text is the path of a policy that leads out of the folder it starts from.
fn leads_out(text: &str) -> bool {
    let policy = crate::node::Policy { name: String::new(), tenant: None, cedar: text.to_owned() };
    policy.file().is_some_and(|path| path.starts_with('/') || path.split('/').any(|part| part == ".."))
}

/// `*`, a tool's name, or a name's beginning up to a dot with `*` behind it.
pub(super) fn tool_pattern(node: &Node, path: &str, problems: &mut Vec<Problem>) {
    let Some(text) = node.text() else { return };
    let stem = text.strip_suffix(".*").unwrap_or(text);
    let name = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'))
    };
    if text != "*" && !name(stem) {
        let message = format!("{} is not a tool pattern", node.shown());
        problems.push(rule(
            node,
            path,
            message,
            "write a name like `fs.read`, or `fs.*` for all that begin with `fs.`",
        ));
    }
}

fn listening(spec: &Node, problems: &mut Vec<Problem>) {
    let Some(node) = spec.at("network.bind_address") else { return };
    let Some(address) = node.text().and_then(|text| text.parse::<IpAddr>().ok()) else { return };
    let guarded = spec.at("network.tls").is_some() && spec.get("iam").is_some();
    let allowed = spec.text_at("allow_insecure_bind") == Some("true");
    if !address.is_loopback() && !guarded && !allowed {
        let message = format!("{} is not loopback, and there is no TLS and sign-in", node.shown());
        let hint = "add `network.tls` and `iam`, or write `allow_insecure_bind: true` if you accept that";
        problems.push(rule(node, "spec.network.bind_address", message, hint));
    }
}
