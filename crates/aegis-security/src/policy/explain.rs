//! Why each layer says what it says, and what would change it.

use aegis_core::DenialCode;
use cedar_policy::{Authorizer, Decision, Policy, PolicyId, PolicySet, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::evaluate::{Cause, LayerVerdict, Ruling, prepare, values};
use super::layer::Rule;
use super::question::{Prepared, Question};
use super::{Layer, evaluate};

/// What a rule did not find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// It is about another action.
    Action,
    /// It is about another principal.
    Principal,
    /// It is about another resource.
    Resource,
    /// One of its conditions does not hold.
    Condition,
}

/// A rule that would have permitted, and what was missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmet {
    /// Its name.
    pub rule: String,
    /// Which part of it.
    pub part: Part,
    /// The condition that failed, in Cedar or, where the monitor decided it, in words.
    pub condition: String,
    /// What would meet it.
    pub remedy: String,
}

/// What one layer says, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerExplanation {
    /// The layer's name.
    pub layer: String,
    /// What it says.
    pub ruling: Ruling,
    /// If it denies: whether a rule forbids, none permits, or one failed.
    pub cause: Option<Cause>,
    /// The rules that decided.
    pub rules: Vec<String>,
    /// In words.
    pub reason: String,
    /// What a person is asked.
    pub questions: Vec<String>,
    /// The rules that came closest, where none permits; those whose conditions failed, if there are any.
    pub unmet: Vec<Unmet>,
    /// What would make it permit without asking; `None` where it does.
    pub remedy: Option<String>,
}

impl std::fmt::Display for LayerExplanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verb = match self.ruling {
            Ruling::Permit => "permits",
            Ruling::Ask => "asks",
            Ruling::Deny => "denies",
        };
        write!(f, "`{}` {verb}", self.layer)?;
        if !self.rules.is_empty() {
            write!(f, " by {}", self.rules.join(", "))?;
        }
        write!(f, ": {}", self.reason)?;
        self.remedy.as_ref().map_or(Ok(()), |remedy| write!(f, "; to change it: {remedy}"))
    }
}

/// What all layers say, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// What they say together.
    pub ruling: Ruling,
    /// The code of the denial, if it is one (`TOOL_NOT_ALLOWED`).
    pub code: Option<String>,
    /// Each layer, in order.
    pub layers: Vec<LayerExplanation>,
}

impl Explanation {
    /// The layers that decide: those that say what all say together.
    pub fn deciding(&self) -> impl Iterator<Item = &LayerExplanation> {
        self.layers.iter().filter(|layer| layer.ruling == self.ruling)
    }
}

/// Asks every layer as [`evaluate`] does, and says why. The verdicts are the same.
pub fn explain(layers: &[Layer], question: &Question<'_>) -> Explanation {
    let verdict = evaluate(layers, question);
    let code = verdict.denial().map(|denial| denial.code).map(DenialCode::name).map(str::to_owned);
    // Without preparation there is nothing to look into: every layer says so itself.
    let with_arguments = layers.iter().any(|layer| layer.compiled().uses.arguments);
    let prepared = prepare(question, with_arguments).ok();
    let explained = layers.iter().zip(verdict.layers);
    Explanation {
        ruling: verdict.ruling,
        code,
        layers: explained.map(|(layer, said)| layer_explanation(layer, said, prepared.as_ref())).collect(),
    }
}

fn layer_explanation(layer: &Layer, said: LayerVerdict, prepared: Option<&Prepared<'_>>) -> LayerExplanation {
    let deciding = |rule: &&Rule| said.rules.contains(&layer.rule_name(rule));
    let rules: Vec<&Rule> = layer.compiled().rules.iter().filter(deciding).collect();
    let says = |rules: &[&Rule]| rules.iter().map(|rule| rule.says.as_str()).collect::<Vec<_>>().join("; ");
    let mut unmet = Vec::new();
    let (cause, reason, remedy) = match &said.refusal {
        Some(refusal) => {
            if refusal.cause == Cause::NotPermitted
                && let Some(prepared) = prepared
            {
                unmet = closest(layer, prepared, refusal.value.is_some());
            }
            (Some(refusal.cause), refusal.denial.message.clone(), Some(refusal.denial.remedy.clone()))
        }
        None => {
            let asking: Vec<&Rule> = rules.iter().copied().filter(|rule| rule.ask.is_some()).collect();
            let remedies: Vec<&str> = asking.iter().map(|rule| rule.remedy.as_str()).collect();
            let remedy = (!asking.is_empty()).then(|| remedies.join("; and "));
            (None, says(if asking.is_empty() { &rules } else { &asking }), remedy)
        }
    };
    LayerExplanation {
        layer: said.layer,
        ruling: said.ruling,
        cause,
        rules: said.rules,
        reason,
        questions: said.questions.into_iter().map(|(_, question)| question).collect(),
        unmet,
        remedy,
    }
}

/// The permits that came closest: of those that failed latest, each with what it did not find.
fn closest(layer: &Layer, prepared: &Prepared<'_>, about_value: bool) -> Vec<Unmet> {
    let mut all: Vec<Unmet> = Vec::new();
    for value in values(layer, prepared.question()) {
        let Ok(request) = prepared.request(layer.ancestor(), value) else { continue };
        let probe = Probe { prepared, request, authorizer: Authorizer::new() };
        let found: Vec<Unmet> = layer
            .compiled()
            .rules
            .iter()
            .filter(|rule| rule.permits)
            .filter_map(|rule| probe.unmet(layer, rule))
            .collect();
        let permits = layer.compiled().rules.iter().filter(|rule| rule.permits).count();
        // A value for which some rule permits is not what was denied.
        if found.len() == permits || !about_value {
            all.extend(found);
        }
    }
    let latest = all.iter().map(|unmet| unmet.part).max();
    all.retain(|unmet| Some(unmet.part) == latest && unmet.part > Part::Action);
    all.dedup();
    all
}

/// Asks Cedar about parts of rules.
struct Probe<'a, 'call> {
    prepared: &'a Prepared<'call>,
    request: Request,
    authorizer: Authorizer,
}

impl Probe<'_, '_> {
    /// What a permit did not find; `None` if it permits.
    fn unmet(&self, layer: &Layer, rule: &Rule) -> Option<Unmet> {
        let name = layer.rule_name(rule);
        let scopes = [(Part::Action, "action"), (Part::Principal, "principal"), (Part::Resource, "resource")];
        for (part, field) in scopes {
            let scope = rule.json.get(field)?;
            if !self.holds(&with(field, scope.clone())) {
                let condition = text_of(&with(field, scope.clone()));
                let remedy = format!("this rule is about another {field}");
                return Some(Unmet { rule: name, part, condition, remedy });
            }
        }
        for condition in rule.json.get("conditions").and_then(Value::as_array).into_iter().flatten() {
            for single in singles(condition) {
                let policy = with("conditions", json!([single]));
                if self.holds(&policy) {
                    continue;
                }
                // A capability's constraints were decided by the monitor: its note says more than `matched`.
                let notes = self.prepared.question().notes;
                return Some(match notes.iter().find(|note| note.rule == name) {
                    Some(note) => Unmet {
                        rule: name,
                        part: Part::Condition,
                        condition: note.message.clone(),
                        remedy: note.remedy.clone(),
                    },
                    None => Unmet {
                        rule: name,
                        part: Part::Condition,
                        condition: text_of(&policy),
                        remedy: rule.remedy.clone(),
                    },
                });
            }
        }
        None
    }
    fn holds(&self, policy: &Value) -> bool {
        let mut policies = PolicySet::new();
        let added = Policy::from_json(Some(PolicyId::new("part")), policy.clone())
            .is_ok_and(|policy| policies.add(policy).is_ok());
        let response = self.authorizer.is_authorized(&self.request, &policies, &self.prepared.entities);
        added && response.decision() == Decision::Allow
    }
}

/// A permit for everything, but with one field of another policy.
fn with(field: &str, value: Value) -> Value {
    let all = json!({ "op": "All" });
    let mut policy =
        json!({ "effect": "permit", "principal": all, "action": all, "resource": all, "conditions": [] });
    if let Some(fields) = policy.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
    policy
}

/// A condition's parts, each of which must hold: `when { a && b }` is `when { a } when { b }`, `unless { a || b }`
/// is `unless { a } unless { b }`.
fn singles(condition: &Value) -> Vec<Value> {
    let kind = condition.get("kind").and_then(Value::as_str).unwrap_or("when");
    let operator = if kind == "unless" { "||" } else { "&&" };
    let mut parts = Vec::new();
    if let Some(body) = condition.get("body") {
        split(body, operator, &mut parts);
    }
    // A part may rely on an earlier one (`context has path && context.path in …`): the first that fails is shown, so
    // those before it hold.
    parts.into_iter().map(|part| json!({ "kind": kind, "body": part })).collect()
}

fn split(body: &Value, operator: &str, parts: &mut Vec<Value>) {
    match body.get(operator) {
        Some(sides) => {
            for side in ["left", "right"] {
                if let Some(side) = sides.get(side) {
                    split(side, operator, parts);
                }
            }
        }
        None => parts.push(body.clone()),
    }
}

/// A part of a policy in Cedar's own words: what it adds to `permit(principal, action, resource);`.
fn text_of(policy: &Value) -> String {
    let Ok(policy) = Policy::from_json(None, policy.clone()) else { return String::new() };
    let text = policy.to_string();
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (scope, conditions) = match flat.split_once(") when").or_else(|| flat.split_once(") unless")) {
        Some((scope, _)) => (scope, flat.get(scope.len() + 1..).unwrap_or_default()),
        None => (flat.trim_end_matches([';', ')']), ""),
    };
    if !conditions.is_empty() {
        return conditions.trim().trim_end_matches(';').to_owned();
    }
    let parts = scope.split_once('(').map_or(scope, |(_, parts)| parts);
    let constrained = |part: &&str| !["principal", "action", "resource"].contains(part);
    parts.split(", ").map(str::trim).find(constrained).unwrap_or(parts).to_owned()
}
