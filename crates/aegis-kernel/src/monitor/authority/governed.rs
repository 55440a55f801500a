//! The values of a call that name something of the world: paths, commands, hosts.

mod uri;

use aegis_core::{Denial, DenialCode};
use aegis_security::constraint::{self, GovernedValue};
use serde_json::Value;

use crate::port::{Access, Governed, GovernedKind, ToolFacts};

use uri::Uri;

/// Every governed value of a call, and of the paths what they are used for.
#[derive(Debug, Default)]
pub(super) struct GovernedValues {
    pub(super) values: Vec<GovernedValue>,
    pub(super) paths: Vec<(String, Access)>,
}

/// Reads what a tool declares. An argument that is neither left out nor text is refused: it could not be checked.
pub(super) fn governed_values(facts: &ToolFacts, arguments: &Value) -> Result<GovernedValues, Denial> {
    let mut found = GovernedValues::default();
    for governed in &facts.governed {
        let refuse = |what: &str| Denial {
            code: DenialCode::InvalidArguments,
            rule: format!("tool:{}/schema", facts.schema.name),
            message: format!("`{}` {what}.", governed.argument),
            remedy: "call it with text there, or a list of texts".to_owned(),
        };
        let texts = governed.values(arguments).ok_or_else(|| refuse("is not text, nor a list of texts"))?;
        match governed.kind {
            GovernedKind::Path(access) => {
                // A path the model left out is the workspace, as for the tool itself.
                let paths = if texts.is_empty() { vec![constraint::WORKSPACE] } else { texts };
                for path in paths {
                    found.values.push(GovernedValue::Path(path.to_owned()));
                    found.paths.push((path.to_owned(), access));
                }
            }
            GovernedKind::Command => found.values.push(command(governed, &texts, arguments)),
            GovernedKind::Domain => {
                found.values.extend(texts.into_iter().map(|host| GovernedValue::Domain(host.to_owned())));
            }
            GovernedKind::Url => {
                for url in texts {
                    let host = host_of(url).ok_or_else(|| refuse("is no address with a host"))?;
                    found.values.push(GovernedValue::Domain(host.to_owned()));
                }
            }
            GovernedKind::Uri => {
                for uri in texts {
                    match Uri::read(uri).ok_or_else(|| refuse("is no URI that every reader reads alike"))? {
                        Uri::Host(host) => found.values.push(GovernedValue::Domain(host.to_owned())),
                        Uri::File(path) => {
                            found.values.push(GovernedValue::Path(path.clone()));
                            found.paths.push((path, Access::Read));
                        }
                        Uri::Other => {}
                    }
                }
            }
        }
    }
    Ok(found)
}

/// The command and its arguments: those of `args`, if it is a name.
fn command(governed: &Governed, texts: &[&str], arguments: &Value) -> GovernedValue {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut argv: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    if arguments.get(governed.argument.as_ref()).is_some_and(Value::is_string) {
        argv.extend(arguments.get("args").and_then(Value::as_array).into_iter().flatten().filter_map(text));
    }
    GovernedValue::Command { argv, cwd: arguments.get("cwd").and_then(text) }
}

/// The host of an address, where every reader finds the same one: no user before it, no white space, no `\`.
fn host_of(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    host_after_scheme(rest)
}

/// The host of what stands after `scheme://`.
fn host_after_scheme(rest: &str) -> Option<&str> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '\\';
    if rest.contains(odd) {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next().filter(|authority| !authority.contains(['@', '%']))?;
    let (host, after) = match authority.strip_prefix('[') {
        Some(inner) => {
            let end = inner.find(']')? + 2;
            authority.split_at_checked(end)?
        }
        None => authority.find(':').map_or((authority, ""), |colon| authority.split_at(colon)),
    };
    let port = after.is_empty() || after.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    (!host.is_empty() && port).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_address_is_the_one_everybody_reads() {
        for (url, host) in [
            ("https://example.org/a?b=http://evil", "example.org"),
            ("http://example.org:8080", "example.org"),
            ("https://[::1]:80/x", "[::1]"),
            ("https://example.org#@evil", "example.org"),
            ("https://10.0.0.1?x", "10.0.0.1"),
        ] {
            assert_eq!(host_of(url), Some(host), "{url}");
        }
        for odd in [
            "",
            "example.org",
            "https:///x",
            "https://",
            "://x",
            "file:/etc/passwd",
            "https://good@evil/",
            "https://good\\@evil",
            "https://good\\evil/",
            "https://good\u{1}evil/",
            "https://go od/",
            "https://good\t.evil/",
            "https://good:port/",
            "https://%65vil/",
            "https://[::1",
            "https://[::1]evil/",
            "ht tp://x",
            "https://good\u{a0}evil",
        ] {
            assert_eq!(host_of(odd), None, "{odd:?}");
        }
    }
}
