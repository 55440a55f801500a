//! What this machine has and lacks to build, run and test AEGIS.

mod machine;

use serde_json::json;

use crate::say;

/// What was found out about one part of the machine.
pub(crate) struct Finding {
    /// Short name, as `--require` takes it.
    name: &'static str,
    /// What needs the part.
    needed_for: &'static str,
    /// What is there, or what is missing.
    state: Result<String, Lack>,
}

/// A missing part, and how to get it.
pub(crate) struct Lack {
    reason: String,
    remedy: String,
}

impl Lack {
    fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into() }
    }
}

/// Prints the findings; fails when a part that `--require` names is missing.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    let mut as_json = false;
    let mut required: Vec<&str> = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match *word {
            "--json" => as_json = true,
            "--require" => {
                let names = words.next().ok_or("`--require` needs a list such as `fuse,bubblewrap`")?;
                required.extend(names.split(',').filter(|name| !name.is_empty()));
            }
            other => return Err(format!("unknown argument `{other}`; there are `--json` and `--require`")),
        }
    }
    let findings = machine::findings();
    if as_json {
        say(&json!(findings.iter().map(as_object).collect::<Vec<_>>()).to_string());
    } else {
        findings.iter().for_each(|finding| say(&as_line(finding)));
    }
    missing(&findings, &required)
}

fn missing(findings: &[Finding], required: &[&str]) -> Result<(), String> {
    let mut problems = Vec::new();
    for name in required {
        match findings.iter().find(|finding| finding.name == *name) {
            Some(Finding { state: Ok(_), .. }) => {}
            Some(Finding { state: Err(lack), .. }) => {
                problems.push(format!("`{name}` is required and missing: {}; {}", lack.reason, lack.remedy));
            }
            None => {
                let names: Vec<&str> = findings.iter().map(|finding| finding.name).collect();
                problems.push(format!("`{name}` is no part the probe knows; there are {}", names.join(", ")));
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

fn as_line(finding: &Finding) -> String {
    let Finding { name, needed_for, state } = finding;
    match state {
        Ok(detail) => format!("ok      {name:<16} {detail}"),
        Err(lack) => format!("MISSING {name:<16} {} (needed for {needed_for}); {}", lack.reason, lack.remedy),
    }
}

fn as_object(finding: &Finding) -> serde_json::Value {
    let Finding { name, needed_for, state } = finding;
    match state {
        Ok(detail) => json!({"name": name, "needed_for": needed_for, "present": true, "detail": detail}),
        Err(Lack { reason, remedy }) => {
            json!({"name": name, "needed_for": needed_for, "present": false, "detail": reason, "remedy": remedy})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> [Finding; 2] {
        [
            Finding { name: "jq", needed_for: "examples", state: Ok("jq 1.6".to_owned()) },
            Finding {
                name: "fuse",
                needed_for: "volumes",
                state: Err(Lack::new("no /dev/fuse", "load the module")),
            },
        ]
    }

    #[test]
    fn fails_only_for_what_is_required() {
        assert_eq!(missing(&findings(), &[]), Ok(()));
        assert_eq!(missing(&findings(), &["jq"]), Ok(()));
        assert!(missing(&findings(), &["jq", "fuse"]).unwrap_err().contains("load the module"));
        assert!(missing(&findings(), &["fuze"]).unwrap_err().contains("jq, fuse"));
    }

    #[test]
    fn a_lack_is_shown_with_its_remedy() {
        let [present, lacking] = findings();
        assert!(as_line(&present).starts_with("ok      jq"));
        assert!(as_line(&lacking).ends_with("no /dev/fuse (needed for volumes); load the module"));
        assert_eq!(as_object(&lacking)["remedy"], "load the module");
    }
}
