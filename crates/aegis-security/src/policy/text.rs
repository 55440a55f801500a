//! Policies an operator writes in Cedar, for a node or a tenant.

use std::collections::BTreeSet;

use cedar_policy::{Effect, Policy, PolicyId, PolicySet, ValidationMode};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};

use super::layer::Rule;
use super::schema::Vocabulary;
use super::{LAYER_RULES_MAX, Layer, PolicyError};

/// Longest text of a layer, in bytes.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;

/// Annotations that mean something. Others are refused: `@aks` would turn a question into a permission.
const ANNOTATIONS: [&str; 4] = ["id", "ask", "reason", "description"];

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It can be used, and probably does not say what was meant.
    Warning,
    /// It cannot be used.
    Error,
}

/// Something wrong with rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where in a text: line and column (in characters), both from 1.
    pub place: Option<(usize, usize)>,
    /// Which rule or field, where that is known: `policy:confirm`, `capabilities[2].path_allowlist[0]`.
    pub rule: Option<String>,
    /// What is wrong, and how to mend it.
    pub message: String,
}

impl Problem {
    pub(super) fn error(rule: impl Into<String>, message: impl std::fmt::Display) -> Self {
        Self { severity: Severity::Error, place: None, rule: Some(rule.into()), message: message.to_string() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}: ")?;
        }
        if let Some(rule) = &self.rule {
            write!(f, "{rule}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl Layer {
    /// The layer called `name` (`node`, `tenant:NAME`) of policies written in Cedar. It only takes away: without a
    /// permit it denies everything, so its usual first line is `permit(principal, action, resource);`.
    ///
    /// # Errors
    ///
    /// Fails on a text that cannot be used, with everything that is wrong with it.
    pub fn from_text(name: &str, text: &str) -> Result<Self, PolicyError> {
        let (rules, problems) = read(text);
        if problems.iter().any(|problem| problem.severity == Severity::Error) {
            return Err(PolicyError::Text { layer: name.to_owned(), problems });
        }
        Self::assemble(name.to_owned(), rules)
    }
}

/// The rules of a text, and everything wrong with it.
pub(super) fn read(text: &str) -> (Vec<(Rule, Policy)>, Vec<Problem>) {
    let whole =
        |message: String| vec![Problem { severity: Severity::Error, place: None, rule: None, message }];
    if text.len() > TEXT_BYTES_MAX {
        return (Vec::new(), whole(format!("the text is longer than {TEXT_BYTES_MAX} bytes")));
    }
    let policies = match text.parse::<PolicySet>() {
        Ok(policies) => policies,
        Err(errors) => {
            return (Vec::new(), errors.iter().map(|error| located(text, error, error, None)).collect());
        }
    };
    let mut problems: Vec<Problem> = policies
        .templates()
        .map(|template| {
            let message =
                "a template cannot be used here: name the principal or resource instead of its slot";
            Problem::error(format!("policy:{}", template.id()), message)
        })
        .collect();
    let rules = rules(&policies, &mut problems);
    if rules.len() > LAYER_RULES_MAX {
        problems.extend(whole(format!(
            "there are {} policies, at most {LAYER_RULES_MAX} can be asked",
            rules.len()
        )));
        return (rules, problems);
    }
    if problems.is_empty() && !rules.iter().any(|(rule, _)| rule.permits) {
        problems.extend(whole(
            "no policy permits anything, so this layer would deny everything: begin with `permit(principal, action, resource);`"
                .to_owned(),
        ));
    }
    validate(text, &policies, &rules, &mut problems);
    (rules, problems)
}

/// The policies in the order of the text, named by `@id` or by their place.
fn rules(policies: &PolicySet, problems: &mut Vec<Problem>) -> Vec<(Rule, Policy)> {
    let mut ordered: Vec<&Policy> = policies.policies().collect();
    ordered.sort_by_key(|policy| place_of(policy.id()));
    let mut names = BTreeSet::new();
    let mut rules = Vec::with_capacity(ordered.len());
    for (index, policy) in ordered.into_iter().enumerate() {
        let name = policy.annotation("id").map_or_else(|| index.to_string(), str::to_owned);
        let id = format!("policy:{name}");
        let mut wrong = |message: String| problems.push(Problem::error(id.clone(), message));
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(is_name) {
            wrong("an @id is made of letters, digits, `-`, `_` and `.`".to_owned());
        }
        if !names.insert(name) {
            wrong("another policy has the same name: give each its own @id".to_owned());
        }
        for (annotation, _) in policy.annotations() {
            if !ANNOTATIONS.contains(&annotation) {
                wrong(format!("@{annotation} means nothing here: use one of @{}", ANNOTATIONS.join(", @")));
            }
        }
        let permits = policy.effect() == Effect::Permit;
        let ask = policy.annotation("ask").map(|question| match question {
            "" => format!("the policy `{id}` asks first"),
            question => question.to_owned(),
        });
        if ask.is_some() && !permits {
            wrong("a forbid cannot ask: annotate a permit, and do not forbid what it asks for".to_owned());
        }
        let json = match policy.to_json() {
            Ok(json) => json,
            Err(error) => {
                wrong(error.to_string());
                continue;
            }
        };
        let says = policy.annotation("reason").or_else(|| policy.annotation("description"));
        let says =
            says.filter(|says| !says.is_empty()).map_or_else(|| format!("the policy `{id}`"), str::to_owned);
        let remedy = format!("change the policy `{id}`, or ask for what it does not forbid");
        rules.push((
            Rule { id: id.clone(), permits, ask, says, remedy, json },
            policy.new_id(PolicyId::new(&id)),
        ));
    }
    rules
}

/// Cedar numbers policies by their place in the text: `policy0`, `policy1`.
fn place_of(id: &PolicyId) -> usize {
    let text: &str = id.as_ref();
    text.trim_start_matches("policy").parse().unwrap_or(usize::MAX)
}

fn validate(text: &str, policies: &PolicySet, rules: &[(Rule, Policy)], problems: &mut Vec<Problem>) {
    let vocabulary = match Vocabulary::get() {
        Ok(vocabulary) => vocabulary,
        Err(error) => {
            problems.push(Problem::error("schema", error));
            return;
        }
    };
    let name = |id: &PolicyId| rules.get(place_of(id)).map(|(rule, _)| rule.id.clone());
    let result = vocabulary.validator().validate(policies, ValidationMode::Strict);
    let mut found: Vec<Problem> = result
        .validation_errors()
        .map(|error| located(text, error, error, name(error.policy_id())))
        .collect();
    found.extend(result.validation_warnings().map(|warning| Problem {
        severity: Severity::Warning,
        ..located(text, warning, warning, name(warning.policy_id()))
    }));
    found.sort_by_key(|problem| problem.place);
    // A policy about any action is checked once for each: the same problem is told once.
    let told = |problem: &Problem| {
        let (what, _) = problem.message.split_once(" for Aegis::Action::").unwrap_or((&problem.message, ""));
        (problem.place, problem.rule.clone(), what.to_owned())
    };
    found.dedup_by_key(|problem| told(problem));
    problems.extend(found);
}

/// A problem Cedar found, with its place.
fn located(
    text: &str,
    diagnostic: &dyn Diagnostic,
    message: &dyn std::fmt::Display,
    rule: Option<String>,
) -> Problem {
    let label = diagnostic.labels().into_iter().flatten().next();
    let mut message = message.to_string();
    if let Some(said) = label.as_ref().and_then(miette::LabeledSpan::label) {
        message = format!("{message}: {said}");
    }
    if let Some(help) = diagnostic.help() {
        message = format!("{message} ({help})");
    }
    let place = label.map(|label| place(text, label.offset()));
    Problem { severity: Severity::Error, place, rule, message }
}

/// Line and column of a byte, both from 1.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    (line, column)
}
