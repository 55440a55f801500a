//! Rules between the fields of validators.

use super::diagnostic::Problem;
use super::rules::rule;
use super::tree::{Kind, Node};

pub(super) fn check(spec: &Node, problems: &mut Vec<Problem>) {
    let Some(validation) = spec.at("execution.validation") else { return };
    let path = "spec.execution.validation";
    for (index, validator) in validation.items().iter().enumerate() {
        let path = format!("{path}[{index}]");
        match validator.text_at("type") {
            Some("semantic") => one_judge(validator, &path, problems),
            Some("multi_judge") => judges(validator, &path, problems),
            Some("exit_code" | "script") => command(validator, &path, problems),
            _ => {}
        }
    }
    if let Some(semantic) = validation.get("semantic") {
        one_judge(semantic, &format!("{path}.semantic"), problems);
    }
    if let Some(output) = validation.get("output")
        && output.text_at("format") == Some("text")
        && let Some(schema) = output.get("schema")
    {
        let hint = "write `format: json`, or remove the schema";
        problems.push(rule(
            schema,
            &format!("{path}.output.schema"),
            "`schema` does not go with `format: text`",
            hint,
        ));
    }
}

fn one_judge(validator: &Node, path: &str, problems: &mut Vec<Problem>) {
    if !matches!(validator.kind, Kind::Map(_)) {
        return;
    }
    match (validator.get("model"), validator.get("judge_agent")) {
        (None, None) => {
            let hint = "add `model:` with an alias, or `judge_agent:` with the name of an agent";
            problems.push(rule(
                validator,
                path,
                "nobody judges: neither `model` nor `judge_agent` is given",
                hint,
            ));
        }
        (Some(_), Some(agent)) => {
            let path = format!("{path}.judge_agent");
            problems.push(rule(agent, &path, "`model` and `judge_agent` are both given", "keep one of them"));
        }
        _ => {}
    }
}

fn judges(validator: &Node, path: &str, problems: &mut Vec<Problem>) {
    let shared = validator.get("criteria").is_some();
    for (index, judge) in validator.get("judges").into_iter().flat_map(Node::items).enumerate() {
        let path = format!("{path}.judges[{index}]");
        one_judge(judge, &path, problems);
        if !shared && judge.get("criteria").is_none() && matches!(judge.kind, Kind::Map(_)) {
            let hint = "add `criteria:` to the validator or to the judge";
            problems.push(rule(judge, &path, "the judge has no `criteria`", hint));
        }
        let number = judge.text_at("weight").and_then(|text| text.parse::<f64>().ok());
        if let (Some(weight), Some(number)) = (judge.get("weight"), number)
            && !(number > 0.0 && number <= 1e6)
        {
            let message = format!("the weight {} is out of range", weight.shown());
            problems.push(rule(
                weight,
                &format!("{path}.weight"),
                message,
                "write a number above 0, at most 1000000",
            ));
        }
    }
}

fn command(validator: &Node, path: &str, problems: &mut Vec<Problem>) {
    let Some(command) = validator.get("command") else { return };
    let first = command.items().first();
    if first.is_some_and(|first| first.text() == Some("")) {
        let hint = "write the program first, like `[python3, check.py]`";
        problems.push(rule(command, &format!("{path}.command"), "the command names no program", hint));
    }
}
