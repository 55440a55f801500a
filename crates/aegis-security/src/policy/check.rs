//! Everything wrong with rules at once, for their authors.

use super::text::{Problem, Severity, read};
use super::{Authority, Layer, PolicyError};
use crate::constraint::{Capability, SecurityContext, ToolPattern};

/// Everything wrong with a text in Cedar, by place. It can be used if none of it is an error.
pub fn check_text(text: &str) -> Vec<Problem> {
    read(text).1
}

/// Everything wrong with a security context.
pub fn check_context(name: &str, capabilities: &[Capability], deny_list: &[String]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, capability) in capabilities.iter().enumerate() {
        let at = format!("capabilities[{index}]");
        // One field at a time, each beside a pattern that is right.
        for (field, part) in parts(capability) {
            if let Err(error) = SecurityContext::new(name, vec![part], &[]) {
                problems.push(Problem::error(format!("{at}.{field}"), error));
            }
        }
        let empty = [
            ("path_allowlist", capability.path_allowlist.as_ref().map(Vec::is_empty)),
            ("domain_allowlist", capability.domain_allowlist.as_ref().map(Vec::is_empty)),
            ("command_allowlist", capability.command_allowlist.as_ref().map(Vec::is_empty)),
        ];
        for (field, _) in empty.into_iter().filter(|(_, empty)| *empty == Some(true)) {
            let message = "an empty list permits nothing: leave it out if it should not constrain";
            let problem = Problem::error(format!("{at}.{field}"), message);
            problems.push(Problem { severity: Severity::Warning, ..problem });
        }
    }
    for (index, pattern) in deny_list.iter().enumerate() {
        if let Err(error) = ToolPattern::new(pattern) {
            problems.push(Problem::error(format!("deny_list[{index}]"), error));
        }
    }
    if problems.iter().all(|problem| problem.severity < Severity::Error) {
        let context = SecurityContext::new(name, capabilities.to_vec(), deny_list).map_err(PolicyError::from);
        whole(context.and_then(|context| Layer::from_context(&context)), &mut problems);
    }
    problems
}

/// A capability's fields, each entry alone, so that every wrong one is found.
fn parts(capability: &Capability) -> Vec<(String, Capability)> {
    let any = || Capability { tool_pattern: "*".to_owned(), ..Capability::default() };
    let mut parts = vec![
        ("tool_pattern".to_owned(), Capability { tool_pattern: capability.tool_pattern.clone(), ..any() }),
        ("rate_limit".to_owned(), Capability { rate_limit: capability.rate_limit, ..any() }),
    ];
    let mut entries = |field: &str, list: Option<&Vec<String>>, put: fn(&mut Capability, Vec<String>)| {
        for (index, entry) in list.into_iter().flatten().enumerate() {
            let mut part = any();
            put(&mut part, vec![entry.clone()]);
            parts.push((format!("{field}[{index}]"), part));
        }
    };
    entries("path_allowlist", capability.path_allowlist.as_ref(), |part, list| {
        part.path_allowlist = Some(list)
    });
    entries("domain_allowlist", capability.domain_allowlist.as_ref(), |part, list| {
        part.domain_allowlist = Some(list);
    });
    entries("command_allowlist", capability.command_allowlist.as_ref(), |part, list| {
        part.command_allowlist = Some(list);
    });
    for (program, arguments) in capability.subcommand_allowlist.iter().flatten() {
        let list = [(program.clone(), arguments.clone())].into();
        let part = Capability { subcommand_allowlist: Some(list), ..any() };
        parts.push((format!("subcommand_allowlist.{program}"), part));
    }
    parts
}

/// Everything wrong with a soul's authority.
pub fn check_authority(name: &str, authority: &Authority) -> Vec<Problem> {
    let mut problems = Vec::new();
    let lists = [
        ("autonomous", &authority.autonomous),
        ("review", &authority.review),
        ("forbidden", &authority.forbidden),
    ];
    for (field, list) in lists {
        for (index, pattern) in list.iter().enumerate() {
            if let Err(error) = ToolPattern::new(pattern) {
                problems.push(Problem::error(format!("authority.{field}[{index}]"), error));
            } else if field != "forbidden" && authority.forbidden.contains(pattern) {
                let message = format!("`{pattern}` is forbidden as well, which wins");
                let problem = Problem::error(format!("authority.{field}[{index}]"), message);
                problems.push(Problem { severity: Severity::Warning, ..problem });
            }
        }
    }
    if let Some(risk) = authority.max_risk.filter(|risk| !(0.0..=1.0).contains(risk)) {
        problems.push(Problem::error("authority.max_risk", PolicyError::Risk(risk)));
    }
    if problems.iter().all(|problem| problem.severity < Severity::Error) {
        whole(Layer::from_authority(name, authority), &mut problems);
    }
    problems
}

/// What is only seen when all rules are put together.
fn whole(layer: Result<Layer, PolicyError>, problems: &mut Vec<Problem>) {
    if let Err(error) = layer {
        problems.push(Problem {
            severity: Severity::Error,
            place: None,
            rule: None,
            message: error.to_string(),
        });
    }
}
