//! The forms that texts and lists must have, by the `format` that the types put into the schema.

use std::net::IpAddr;
use std::str::FromStr;

use aegis_core::Name;
use regex::Regex;
use serde_json::Value;

use super::diagnostic::{Problem, ProblemCode, quoted};
use super::tree::{Kind, Node};
use crate::agent::{CommandLine, Target};
use crate::quantity::{ByteSize, Millis};

/// Checks the form the schema asks for.
pub(super) fn check(node: &Node, schema: &Value, path: &str, problems: &mut Vec<Problem>) {
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    match (format, node.text()) {
        ("destinations", None) => {
            for (index, item) in node.items().iter().enumerate() {
                if let Some(Err((message, hint))) = item.text().map(|text| destination(text, &item.shown())) {
                    let path = format!("{path}[{index}]");
                    problems.push(item.problem(ProblemCode::WrongValue, &path, message).hint(hint));
                }
            }
        }
        ("json-schema", None) => json_schema(node, path, problems),
        (_, Some(text)) => {
            if let Err((message, hint)) = text_form(format, text, node) {
                problems.push(node.problem(ProblemCode::WrongValue, path, message).hint(hint));
            }
        }
        _ => {}
    }
}

type Wrong = (String, String);

fn text_form(format: &str, text: &str, node: &Node) -> Result<(), Wrong> {
    let wrong = |what: &str, hint: &str| (format!("{} is not {what}", node.shown()), hint.to_owned());
    match format {
        "name" => Name::from_str(text)
            .map(drop)
            .map_err(|_| wrong("a name", "use 1 to 63 of `a-z`, `0-9` and `-`, not starting with `-`")),
        "semver" => semver(text)
            .then_some(())
            .ok_or_else(|| wrong("a semantic version", "write three numbers, like `1.0.0`")),
        "byte-size" => ByteSize::from_str(text)
            .map(drop)
            .map_err(|_| wrong("a size", "write a whole number with Ki, Mi, Gi or Ti, like `512Mi`")),
        "duration" => Millis::from_str(text).map(drop).map_err(|_| {
            wrong("a duration", "write a whole number with ms, s, m, h or d, like `30s`, `5m` or `1h30m`")
        }),
        "target" => Target::from_str(text)
            .map(drop)
            .map_err(|_| wrong("a target", "write `answer`, `stdout` or `file:PATH`")),
        "ip" => IpAddr::from_str(text)
            .map(drop)
            .map_err(|_| wrong("an IP address", "write one like `127.0.0.1` or `::1`")),
        "regex" => Regex::new(text).map(drop).map_err(|error| {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let hint = "write linear-time syntax, without look-around and back-references";
            (format!("the pattern {} does not compile: {reason}", node.shown()), hint.to_owned())
        }),
        "command" => CommandLine::from_str(text).map(drop).map_err(|_| {
            let hint = "write a list of program and arguments, like `[python3, check.py]`; no shell reads it";
            (format!("{} is not a plain command", node.shown()), hint.to_owned())
        }),
        "template" => crate::template::check(text).map_err(|error| {
            let hint = "see the documentation of templates; `{{` begins an expression, `{%` a statement";
            (format!("the template does not compile: {error}"), hint.to_owned())
        }),
        _ => Ok(()),
    }
}

/// `MAJOR.MINOR.PATCH`, with a pre-release and build part (semver.org, 2.0.0).
fn semver(text: &str) -> bool {
    let identifiers = |part: &str| {
        part.split('.').all(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    };
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let number = |part: &str| {
        let leading_zero = part.len() > 1 && part.starts_with('0');
        (1..=19).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit()) && !leading_zero
    };
    let three = core.split('.').count() == 3 && core.split('.').all(number);
    text.len() <= 128 && three && build.is_none_or(identifiers) && pre.is_none_or(identifiers)
}

/// A domain, `*.domain` or a CIDR range.
/// The entry without its port; `None` if what stands there is none.
fn without_port(text: &str) -> Option<&str> {
    let is_port = |port: &str| !port.starts_with(['0', '+']) && port.parse::<u16>().is_ok();
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, port) = rest.split_once(']')?;
        return (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(inside);
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => Some(text),
        Some((place, port)) => is_port(port).then_some(place),
        None => Some(text),
    }
}

fn destination(text: &str, shown: &str) -> Result<(), Wrong> {
    const HINT: &str = "write a domain like `api.github.com`, `*.example.org`, or a range like `10.0.0.0/8`";
    let wrong = |hint: &str| Err((format!("{shown} is not a domain or CIDR range"), hint.to_owned()));
    if text.contains("://") {
        return wrong("write the domain alone, without `https://` and path");
    }
    let Some(text) = without_port(text) else {
        return wrong(
            "write a port from 1 to 65535, and an IPv6 range with one in brackets: `[fd00::/8]:8443`",
        );
    };
    if let Some((address, bits)) = text.split_once('/') {
        let most = match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return wrong(HINT),
        };
        return if bits.parse::<u8>().is_ok_and(|bits| bits <= most) { Ok(()) } else { wrong(HINT) };
    }
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let domain = text.strip_prefix("*.").unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if domain.len() <= 253 && domain.split('.').all(label) { Ok(()) } else { wrong(HINT) }
}

/// A light look at a JSON Schema: the words that are there have their types. Whoever runs it compiles it whole.
fn json_schema(node: &Node, path: &str, problems: &mut Vec<Problem>) {
    const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];
    for (key, value) in node.entries() {
        let name = key.text().unwrap_or_default();
        let below = format!("{path}.{name}");
        let types: Vec<&Node> =
            if value.text().is_some() { vec![value] } else { value.items().iter().collect() };
        let mut wrong = |node: &Node, message: String, hint: &str| {
            problems.push(node.problem(ProblemCode::WrongValue, &below, message).hint(hint));
        };
        match (name, &value.kind) {
            ("type", _) => {
                for written in
                    types.into_iter().filter(|n| !n.text().is_some_and(|text| TYPES.contains(&text)))
                {
                    let message = format!("{} is not a type of JSON Schema", written.shown());
                    wrong(written, message, "write array, boolean, integer, null, number, object or string");
                }
            }
            ("properties" | "$defs" | "patternProperties", Kind::Map(entries)) => {
                for (key, value) in entries {
                    let below = format!("{below}.{}", key.text().unwrap_or_default());
                    subschema(value, &below, problems);
                }
            }
            ("properties" | "$defs" | "patternProperties", _) => {
                wrong(
                    value,
                    format!("{} must be a mapping, not {}", quoted(name), value.shown()),
                    "see JSON Schema",
                );
            }
            ("required" | "enum", kind) if !matches!(kind, Kind::List(_)) => {
                wrong(
                    value,
                    format!("{} must be a list, not {}", quoted(name), value.shown()),
                    "see JSON Schema",
                );
            }
            ("items" | "not" | "additionalProperties", _) => subschema(value, &below, problems),
            _ => {}
        }
    }
}

fn subschema(node: &Node, path: &str, problems: &mut Vec<Problem>) {
    match &node.kind {
        Kind::Map(_) => json_schema(node, path, problems),
        Kind::Scalar { text, plain: true, .. } if super::decode::truth_of(text).is_some() => {}
        _ => {
            let message = format!("a schema is expected here, not {}", node.shown());
            problems.push(
                node.problem(ProblemCode::WrongType, path, message)
                    .hint("write a mapping, like `{type: string}`"),
            );
        }
    }
}
