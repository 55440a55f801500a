//! Rules between the fields of an agent's manifest.

use std::collections::HashMap;

use super::diagnostic::{Problem, ProblemCode, nearest, quoted};
use super::node_rules::tool_pattern;
use super::tree::Node;
use super::validator_rules;

/// Checks what the schema cannot say.
pub(super) fn check(root: &Node, problems: &mut Vec<Problem>) {
    let Some(spec) = root.get("spec") else { return };
    runtime(spec, problems);
    paths(spec, problems);
    volumes(spec, problems);
    names_once(spec, problems);
    soul(spec, problems);
    environment(spec, problems);
    schedule(spec, problems);
    network(spec, problems);
    validator_rules::check(spec, problems);
}

pub(super) fn rule(node: &Node, path: &str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
    node.problem(ProblemCode::Rule, path, message).hint(hint)
}

/// Variables by which an author could make a permitted command another program; `LD_*` beside them.
const LOADER_VARIABLES: &[&str] =
    &["PATH", "GLIBC_TUNABLES", "GCONV_PATH", "LOCPATH", "BASH_ENV", "ENV", "IFS", "PYTHONHOME"];

fn runtime(spec: &Node, problems: &mut Vec<Problem>) {
    let Some(runtime) = spec.get("runtime") else { return };
    let path = "spec.runtime";
    match (runtime.get("language"), runtime.get("image")) {
        (None, None) => problems.push(rule(
            runtime,
            path,
            "neither `language` nor `image` is given",
            "add `language: python` for the stock runtime, or `image:` for a container of your own",
        )),
        (Some(_), Some(image)) => problems.push(rule(
            image,
            "spec.runtime.image",
            "`language` and `image` are both given",
            "keep one: `language` for the stock runtime, `image` for a container of your own",
        )),
        _ => {}
    }
    if let (Some(version), Some(_)) = (runtime.get("version"), runtime.get("image")) {
        let hint = "put the version into the image's tag";
        problems.push(rule(
            version,
            "spec.runtime.version",
            "`version` belongs to `language`, not to `image`",
            hint,
        ));
    }
    if let Some(version) = runtime.get("version").filter(|_| runtime.get("language").is_some())
        && let Some(text) = version.text()
        && !text
            .split('.')
            .all(|part| !part.is_empty() && part.len() < 6 && part.bytes().all(|b| b.is_ascii_digit()))
    {
        let message = format!("{} is not a version", version.shown());
        problems.push(rule(version, "spec.runtime.version", message, "write numbers and dots, like `3.11`"));
    }
    if let Some(image) = runtime.get("image")
        && image.text().is_some_and(|text| !is_qualified(text))
    {
        let message = format!("the image {} is not fully qualified", image.shown());
        let hint = "write the registry too, like `ghcr.io/acme/agent:1.2`";
        problems.push(rule(image, "spec.runtime.image", message, hint));
    }
    if let Some(model) = runtime.get("model").filter(|model| model.text() == Some("")) {
        problems.push(rule(
            model,
            "spec.runtime.model",
            "the model is empty",
            "name an alias of the node's configuration",
        ));
    }
}

/// Whether an image names its registry.
fn is_qualified(image: &str) -> bool {
    let registry = image.split_once('/').map(|(registry, _)| registry);
    let named = registry.is_some_and(|registry| registry.contains(['.', ':']) || registry == "localhost");
    named && !image.contains(char::is_whitespace)
}

/// Whether a path is absolute and has no `.`, `..`, empty part or trailing slash.
pub(super) fn is_normal(path: &str) -> bool {
    path == "/"
        || path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

pub(super) fn path_pattern(item: &Node, path: &str, problems: &mut Vec<Problem>) {
    let Some(text) = item.text() else { return };
    if !is_normal(text.trim_end_matches('/')) && text != "/" {
        let message = format!("the path {} is not absolute and normalised", item.shown());
        problems.push(rule(item, path, message, "begin with `/` and leave out `.`, `..` and `//`"));
    } else if let Err(error) = globset::GlobBuilder::new(text).literal_separator(true).build() {
        let message = format!("{} is not a glob: {}", item.shown(), error.kind());
        problems.push(rule(
            item,
            path,
            message,
            "write `*`, `**`, `?`, `[abc]` or `{a,b}`; a plain path means all below it",
        ));
    }
}

fn paths(spec: &Node, problems: &mut Vec<Problem>) {
    for list in ["read", "write"] {
        let path = format!("security.filesystem.{list}");
        for (index, item) in spec.at(&path).into_iter().flat_map(Node::items).enumerate() {
            path_pattern(item, &format!("spec.{path}[{index}]"), problems);
        }
    }
    let files = spec.at("security.filesystem");
    let written = files.and_then(|files| files.get("write")).filter(|write| !write.items().is_empty());
    if let (Some(write), Some("true")) = (written, spec.text_at("security.filesystem.read_only")) {
        let hint = "remove `write` or `read_only`";
        problems.push(rule(
            write,
            "spec.security.filesystem.write",
            "`write` and `read_only: true` contradict each other",
            hint,
        ));
    }
}

fn volumes(spec: &Node, problems: &mut Vec<Problem>) {
    let mut names = HashMap::new();
    let mut mounts: HashMap<&str, usize> = HashMap::new();
    for (index, volume) in spec.get("volumes").into_iter().flat_map(Node::items).enumerate() {
        let path = format!("spec.volumes[{index}]");
        if let Some(name) = volume.get("name") {
            once(&mut names, name, &format!("{path}.name"), "volume", problems);
            if name.text().is_some_and(|text| text.parse::<aegis_core::Name>().is_err()) {
                let message = format!("{} is not a name", name.shown());
                let hint = "use 1 to 63 of `a-z`, `0-9` and `-`, not starting with `-`";
                problems.push(rule(name, &format!("{path}.name"), message, hint));
            }
        }
        if let Some(mount) = volume.get("mount_path") {
            mount_path(mount, &format!("{path}.mount_path"), &mut mounts, problems);
        }
        storage(volume, &path, problems);
    }
}

fn mount_path<'t>(
    mount: &'t Node,
    path: &str,
    mounts: &mut HashMap<&'t str, usize>,
    problems: &mut Vec<Problem>,
) {
    const OWN: [&str; 9] = ["/proc", "/sys", "/dev", "/usr", "/bin", "/lib", "/etc", "/run", "/tmp"];
    let Some(text) = mount.text() else { return };
    let within = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if !is_normal(text) || text == "/" {
        let message = format!("the mount path {} is not absolute and normalised", mount.shown());
        problems.push(rule(
            mount,
            path,
            message,
            "write a path like `/workspace`, without `.`, `..`, `//` and trailing `/`",
        ));
    } else if OWN.iter().any(|own| within(own, text)) {
        let message = format!("the mount path {} belongs to the sandbox itself", mount.shown());
        problems.push(rule(
            mount,
            path,
            message,
            "mount it below `/workspace` or another directory of its own",
        ));
    } else if let Some((other, line)) =
        mounts.iter().find(|(other, _)| within(other, text) || within(text, other))
    {
        let message = format!("the mount path {} overlaps {} of line {line}", mount.shown(), quoted(other));
        problems.push(rule(mount, path, message, "give each volume a directory of its own"));
    }
    mounts.entry(text).or_insert(mount.line);
}

fn storage(volume: &Node, path: &str, problems: &mut Vec<Problem>) {
    let persistent = volume.text_at("storage_class") == Some("persistent");
    if let (true, Some(ttl)) = (persistent, volume.get("ttl_hours")) {
        let hint = "remove it, or write `storage_class: ephemeral`";
        problems.push(rule(
            ttl,
            &format!("{path}.ttl_hours"),
            "a persistent volume has no `ttl_hours`",
            hint,
        ));
    }
    if let (false, Some(source)) = (persistent, volume.get("source")) {
        let hint = "write `storage_class: persistent`, or remove `source`";
        problems.push(rule(
            source,
            &format!("{path}.source"),
            "only a persistent volume has a `source`",
            hint,
        ));
    }
    if volume.text_at("type") == Some("hostPath") {
        let host = volume.at("config.path");
        if !host.and_then(Node::text).is_some_and(is_normal) {
            let message = "a `hostPath` volume needs `config.path`, absolute and normalised";
            let hint =
                "write the directory of the host; it must lie below one of the node's `storage.host_paths`";
            problems.push(rule(host.unwrap_or(volume), &format!("{path}.config.path"), message, hint));
        }
    }
}

pub(super) fn once<'t>(
    seen: &mut HashMap<&'t str, usize>,
    node: &'t Node,
    path: &str,
    what: &str,
    problems: &mut Vec<Problem>,
) {
    let Some(text) = node.text() else { return };
    match seen.get(text) {
        Some(line) => {
            let message = format!("the {what} {} is given twice; first in line {line}", node.shown());
            problems.push(rule(node, path, message, "keep one of them"));
        }
        None => {
            seen.insert(text, node.line);
        }
    }
}

fn soul(spec: &Node, problems: &mut Vec<Problem>) {
    for list in ["autonomous", "review", "forbidden"] {
        let path = format!("soul.authority.{list}");
        for (index, item) in spec.at(&path).into_iter().flat_map(Node::items).enumerate() {
            tool_pattern(item, &format!("spec.{path}[{index}]"), problems);
        }
    }
}

fn names_once(spec: &Node, problems: &mut Vec<Problem>) {
    let mut seen = HashMap::new();
    for (index, tool) in spec.get("tools").into_iter().flat_map(Node::items).enumerate() {
        let name = tool.get("name").unwrap_or(tool);
        let path = format!("spec.tools[{index}]");
        once(&mut seen, name, &path, "tool", problems);
        let formed = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'))
        };
        if name.text().is_some_and(|text| !formed(text)) {
            let message = format!("{} is not the name of a tool", name.shown());
            problems.push(rule(
                name,
                &path,
                message,
                "write a name like `fs.read`; patterns belong into a security context",
            ));
        }
    }
    let mut skills = HashMap::new();
    for (index, skill) in spec.at("task.agentskills").into_iter().flat_map(Node::items).enumerate() {
        once(&mut skills, skill, &format!("spec.task.agentskills[{index}]"), "skill", problems);
    }
}

fn environment(spec: &Node, problems: &mut Vec<Problem>) {
    for (key, value) in spec.get("env").into_iter().flat_map(Node::entries) {
        let name = key.text().unwrap_or_default();
        let path = format!("spec.env.{name}");
        let formed = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.is_empty();
        if !formed {
            let message = format!("{} is not the name of an environment variable", quoted(name));
            problems.push(rule(
                key,
                &path,
                message,
                "use letters, digits and `_`, not starting with a digit",
            ));
        }
        if name.starts_with("AEGIS_") {
            let message = format!("the variable {} is set by AEGIS itself", quoted(name));
            problems.push(rule(key, &path, message, "choose a name that does not begin with `AEGIS_`"));
        }
        if LOADER_VARIABLES.contains(&name) || name.starts_with("LD_") {
            let message =
                format!("the variable {} decides which programs or libraries are loaded", quoted(name));
            let hint = "remove it: commands are looked up in /usr/bin and /bin, and permitted by their names";
            problems.push(rule(key, &path, message, hint));
        }
        if value.text().is_some_and(|text| text.starts_with("secret:")) {
            let message = format!(
                "{} would bring a secret into the sandbox, and secrets never enter one",
                value.shown()
            );
            let hint = "store it as the credential of a tool: the daemon uses it, the agent never sees it";
            problems.push(rule(value, &path, message, hint));
        }
    }
}

fn schedule(spec: &Node, problems: &mut Vec<Problem>) {
    let Some(schedule) = spec.get("schedule") else { return };
    let kind = schedule.text_at("type").unwrap_or_default();
    for field in ["cron", "interval"] {
        match (kind == field, schedule.get(field)) {
            (true, None) => {
                let message = format!("`type: {field}` needs the field `{field}`");
                let hint =
                    if field == "cron" { "write `cron: \"0 * * * *\"`" } else { "write `interval: 1h`" };
                problems.push(rule(schedule, "spec.schedule", message, hint));
            }
            (false, Some(node)) if matches!(kind, "cron" | "interval" | "manual") => {
                let message = format!("`{field}` does not go with `type: {kind}`");
                problems.push(rule(node, &format!("spec.schedule.{field}"), message, "remove one of them"));
            }
            _ => {}
        }
    }
    if let Some(cron) = schedule.get("cron")
        && cron.text().is_some_and(|text| !is_cron(text))
    {
        let message = format!("{} is not a cron expression", cron.shown());
        let hint = "write five fields: minute, hour, day of month, month, day of week, like `0 9 * * 1-5`";
        problems.push(rule(cron, "spec.schedule.cron", message, hint));
    }
}

/// Five fields of numbers, names, `*`, `,`, `-` and `/`, the numbers within the field's range.
fn is_cron(text: &str) -> bool {
    const RANGES: [(u32, u32); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
    const NAMES: [&str; 19] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "sun", "mon",
        "tue", "wed", "thu", "fri", "sat",
    ];
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let bound = |part: &str, (least, most): (u32, u32)| {
        part.parse::<u32>().map_or_else(
            |_| most <= 12 && NAMES.contains(&part.to_ascii_lowercase().as_str()),
            |number| (least..=most).contains(&number),
        )
    };
    let field = |text: &str, range: (u32, u32)| {
        text.split(',').all(|part| {
            let (span, step) = part.split_once('/').map_or((part, None), |(span, step)| (span, Some(step)));
            let stepped = step.is_none_or(|step| step.parse::<u32>().is_ok_and(|step| step > 0));
            stepped
                && (span == "*"
                    || span.split('-').count() <= 2 && span.split('-').all(|part| bound(part, range)))
        })
    };
    fields.len() == RANGES.len() && fields.iter().zip(RANGES).all(|(text, range)| field(text, range))
}

fn network(spec: &Node, problems: &mut Vec<Problem>) {
    let Some(network) = spec.at("security.network") else { return };
    let mode = network.text_at("mode").unwrap_or("none");
    for (list, wanted) in [("allowlist", "allow"), ("denylist", "deny")] {
        let filled = network.get(list).filter(|node| !node.items().is_empty());
        if let Some(node) =
            filled.filter(|_| mode != wanted && nearest(mode, ["none", "allow", "deny"]) == Some(mode))
        {
            let message = format!("`{list}` does not go with `mode: {mode}`");
            let path = format!("spec.security.network.{list}");
            problems.push(rule(node, &path, message, format!("write `mode: {wanted}`, or remove the list")));
        }
    }
}
